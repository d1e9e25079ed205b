"""Hybrid searches for rare, middling and common words, beside the same searches with every word ranked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tests.support.server import Server

from benchmarks.report.records import Series
from benchmarks.runner.server_cpu import ServerCPU
from benchmarks.runner.timing import run
from preheat import Chunk, VectorStorage
from preheat.storage.search import sql

NAME, DIMENSIONS, BATCH = "words", 8, 5000
VOCABULARY, LENGTH = 20_000, 30
"""How many words there are, and how many a text has; the n-th word is as frequent as 1 / n."""
ASKED = {"two rare words": (9_000, 12_000), "four middling words": (40, 60, 80, 100), "six common words": range(1, 7)}


def measure(server: Server, *, sizes: tuple[int, ...], searches: int) -> Iterator[Series]:
    """One collection of each size."""
    for rows in sizes:
        for who, cpu in run("asyncio", _measured, server, rows, searches).items():
            yield Series("words", who, "server CPU", "ms", tuple(cpu), at=rows)


@contextmanager
def _every_word(ranked: bool) -> Iterator[None]:
    """Rank the rows of every word, as if every table were small."""
    before = sql.RANKED
    if ranked:
        sql.RANKED = 10**9
    sql.ranked_search.cache_clear()
    try:
        yield
    finally:
        sql.RANKED = before
        sql.ranked_search.cache_clear()


async def _measured(server: Server, rows: int, searches: int) -> dict[str, list[float]]:
    random: Any = np.random.default_rng(8)
    shares = 1 / np.arange(1, VOCABULARY + 1)
    shares /= shares.sum()
    found: dict[str, list[float]] = {}
    async with VectorStorage(server.dsn(), NAME, DIMENSIONS, index=False, warm="never", size=1) as storage:
        for start in range(0, rows, BATCH):
            words = random.choice(VOCABULARY, size=(BATCH, LENGTH), p=shares)
            vectors = random.standard_normal((BATCH, DIMENSIONS), dtype=np.float32)
            await storage.add(
                Chunk(" ".join(f"w{word}" for word in text), vector, {}, "d", start + n, id=str(start + n))
                for n, (text, vector) in enumerate(zip(words, vectors, strict=True))
            )
        await storage.create_index()
        async with storage.get_connection() as connection:
            await connection.execute("VACUUM ANALYZE")
        meter = ServerCPU(server)
        for who in ("preheat", "every word ranked"):
            with _every_word(who != "preheat"):
                for what, words in ASKED.items():
                    text = " ".join(f"w{word}" for word in words)
                    for _ in range(searches):
                        vector = random.standard_normal(DIMENSIONS, dtype=np.float32)
                        await storage.search(vector, 5, text=text)
                        meter.restart()
                        await storage.search(vector, 5, text=text)
                        found.setdefault(f"{who}, {what}", []).append(meter.milliseconds())
        await storage.drop()
    return found
