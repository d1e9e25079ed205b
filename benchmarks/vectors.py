"""The rows and the questions of every measurement: random, and the same in each run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from tests.support.server import Server

from preheat import Chunk, VectorStorage

DIMENSIONS = 384
COLLECTION = "bench"
K = 5
BATCH = 1000


def rows(count: int, dimensions: int = DIMENSIONS) -> Iterator[list[Chunk]]:
    """`count` chunks in batches."""
    random = np.random.default_rng(0)
    for start in range(0, count, BATCH):
        vectors = random.standard_normal((min(BATCH, count - start), dimensions), dtype=np.float32)
        yield [Chunk(f"text {start + at}", vector, {}, "bench", start + at) for at, vector in enumerate(vectors)]


def questions(dimensions: int = DIMENSIONS, seed: int = 1) -> Iterator[Any]:
    """Another vector each time: asking one twice would only show how well it is cached."""
    return itertools.cycle(np.random.default_rng(seed).standard_normal((200, dimensions), dtype=np.float32))


async def fill(server: Server, count: int, collection: str = COLLECTION, dimensions: int = DIMENSIONS) -> None:
    """Store `count` rows in a collection, and index it afterwards."""
    async with VectorStorage(
        server.dsn(), collection, dimensions, embedder="instant", index=False, warm="never"
    ) as storage:
        for batch in rows(count, dimensions):
            await storage.add(batch)
        await storage.create_index()
        async with storage.get_connection() as connection:
            await connection.execute("VACUUM ANALYZE")


class Instant:
    """An embedder that costs next to nothing, so that what is measured is the rest."""

    name = "instant"

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        self.dimensions = dimensions
        self._vectors = questions(dimensions)

    async def embed(self, texts: Any) -> Any:
        return [next(self._vectors) for _ in texts]
