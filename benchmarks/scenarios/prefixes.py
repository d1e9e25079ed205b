"""The documents with a prefix: ten of many, beside the same question without a range of an index."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

from tests.support.server import Server

from benchmarks.report.records import Series
from benchmarks.runner.server_cpu import ServerCPU
from benchmarks.runner.timing import run
from preheat import VectorStorage

CHUNKS = 10
"""Of a document."""
WHOLE = """
SELECT document AS key, count(*) AS chunks FROM {table} WHERE starts_with(document || '', $1) GROUP BY document ORDER BY
document LIMIT 1000
"""

Samples = dict[tuple[str, str], list[float]]


def measure(server: Server, *, sizes: tuple[int, ...], rounds: int) -> Iterator[Series]:
    """One collection of each number of rows."""
    for rows in sizes:
        for (who, what), samples in run("asyncio", _measured, server, rows, rounds).items():
            yield Series("prefixes", who, what, "ms", tuple(samples), at=rows)


async def _measured(server: Server, rows: int, rounds: int) -> Samples:
    """Ten documents are found in each round; the rows are made by the server, as only their keys matter."""
    found: Samples = {}
    async with VectorStorage(server.dsn(), "prefixes", 2, index=False, warm="never", size=1) as storage:
        await storage.create()
        table = storage.executor.collection.identifiers.table
        async with storage.get_connection() as connection:
            await connection.execute(
                f"INSERT INTO {table} (id, document, position, text, metadata, embedding) "
                f"SELECT n::text, to_char(n / {CHUNKS}, 'FM0000000') || '.md', n % {CHUNKS}, '', '{{}}', '[1,0]' "
                f"FROM generate_series(0, {rows - 1}) AS n"
            )
            await connection.execute(f"VACUUM ANALYZE {table}")
        meter, documents = ServerCPU(server), rows // CHUNKS
        for number in range(3 * rounds):
            prefix = f"{number * documents // (3 * rounds):07}"[:6]
            for who in ("preheat", "without a range"):
                meter.restart()
                started = perf_counter()
                if who == "preheat":
                    keys = [one.key async for one in storage.documents(prefix=prefix)]
                else:
                    keys = [row["key"] for row in await storage.pool.fetch(WHOLE.format(table=table), prefix)]
                found.setdefault((who, "time"), []).append(1000 * (perf_counter() - started))
                found.setdefault((who, "server CPU"), []).append(meter.milliseconds())
                assert len(keys) == 10
        await storage.drop()
    return found
