"""Steady searches as the table grows, beside the same statement on a bare connection, and what halfvec would change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import asyncpg
from tests.support.server import Server

from benchmarks.data.collection import COLLECTION, DIMENSIONS, K, fill, questions
from benchmarks.report.records import Series
from benchmarks.runner.timing import run, timed
from benchmarks.scenarios.costs import beside_bare
from preheat.storage.encoding.vectors import vector_text

HALFVEC_FROM = 100_000
"""Rows from which a halfvec index is measured, too: smaller tables fit any cache."""


def measure(server: Server, *, sizes: tuple[int, ...], searches: int) -> Iterator[Series]:
    """One collection of each size."""
    for rows in sizes:
        name = f"{COLLECTION}_{rows}"
        run("asyncio", fill, server, rows, name)
        taken = run("asyncio", beside_bare, server.dsn(), name, searches)
        yield Series("growth", "preheat on asyncio", "steady search", "ms", taken["preheat"], at=rows)
        yield Series("growth", "bare asyncpg", "steady search", "ms", taken["bare"], at=rows)
        if rows >= HALFVEC_FROM:
            sizes_of, samples = run("asyncio", _halfvec, server.dsn(), name, searches)
            yield Series("growth", "bare asyncpg, halfvec", "steady search", "ms", samples, at=rows)
            for who, size in sizes_of.items():
                yield Series("growth", who, "index", "MiB", (size / 2**20,), at=rows)
        server.sql(f"DROP TABLE \"preheat_{name}\"; DELETE FROM preheat_collections WHERE name = '{name}'")


async def _halfvec(dsn: str, name: str, searches: int) -> tuple[dict[str, int], tuple[float, ...]]:
    """The same search through an index on half precision in place of the other: index sizes in bytes, milliseconds."""
    vectors, samples = questions(seed=3), []
    connection: Any = await asyncpg.connect(dsn)
    try:
        size = "SELECT pg_relation_size($1::text::regclass)"
        sizes = {"vector": await connection.fetchval(size, f'"preheat_{name}.embedding"')}
        cast = f"embedding::halfvec({DIMENSIONS})"
        await connection.execute(f'DROP INDEX "preheat_{name}.embedding"')
        await connection.execute(f'CREATE INDEX half ON "preheat_{name}" USING hnsw (({cast}) halfvec_cosine_ops)')
        sizes["halfvec"] = await connection.fetchval(size, "half")
        await connection.execute("SET hnsw.ef_search = 100")  # as the others search
        statement = (
            f'SELECT id, document, position, text, metadata FROM "preheat_{name}" '
            f"ORDER BY {cast} <=> $1::text::halfvec({DIMENSIONS}) LIMIT $2"
        )
        for number in range(searches + 10):
            text = vector_text(next(vectors))
            await connection.fetch(statement, text, K)  # as beside_bare() does: the pages are at hand
            seconds = await timed(lambda text=text: connection.fetch(statement, text, K))
            if number >= 10:
                samples.append(1000 * seconds)
    finally:
        await connection.close()
    return sizes, tuple(samples)
