"""preheat on any backend: a `VectorStorage` that opens its own pool and is warmed by `warm_pool`.

Its documentation: docs/how-to/service-start-up.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from benchmarks.contestants.tables import METADATA
from benchmarks.data.vectors import Vectors
from benchmarks.runner.jobs import POOL_SIZE, Job, K
from preheat import Chunk, VectorStorage


class Opened:
    def __init__(self, connections: int, storage: VectorStorage) -> None:
        self._connections = connections
        self._storage = storage

    async def warm(self, connections: int) -> None:
        assert connections == self._connections
        if not await self._storage.warm_pool():
            raise RuntimeError(f"not all of {connections} connections are hot: {self._storage.warm_report}")

    async def search(self, vector: Vectors) -> list[str]:
        return [hit.id for hit in await self._storage.search(vector, k=K)]

    async def create(self) -> None:
        await self._storage.create()

    async def ingest(self, texts: Sequence[str], vectors: Vectors) -> None:
        await self._storage.add(
            Chunk(text, vector, METADATA, "benchmark", position)
            for position, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        )


@asynccontextmanager
async def opened(job: Job) -> AsyncGenerator[Opened]:
    async with VectorStorage(
        job.dsn,
        job.collection,
        job.dimensions,
        index=job.kind != "ingest",
        size=POOL_SIZE,
        warm="never",
        warm_connections=job.connections,
    ) as storage:
        yield Opened(job.connections, storage)
