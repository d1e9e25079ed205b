"""The collection that preheat's own parts measure, and the questions for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.support.server import Server

from benchmarks.data.vectors import query_vectors, texts, vectors
from preheat import Chunk, VectorStorage

DIMENSIONS = 384
COLLECTION = "bench"
K = 5
BATCH = 1000

_FIRST_STREAM = 1000  # of the rows, one for each batch


def rows(count: int, dimensions: int = DIMENSIONS) -> Iterator[list[Chunk]]:
    """`count` chunks in batches, made as they are wanted: a million would not fit."""
    for number, start in enumerate(range(0, count, BATCH)):
        size = min(BATCH, count - start)
        batch = zip(texts(size, number), vectors(size, dimensions, stream=_FIRST_STREAM + number), strict=True)
        yield [Chunk(text, vector, {}, "bench", start + at) for at, (text, vector) in enumerate(batch)]


def questions(dimensions: int = DIMENSIONS, seed: int = 1) -> Iterator[Any]:
    """Another vector each time: asking one twice would only show how well it is cached."""
    return itertools.cycle(query_vectors(dimensions, seed))


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
