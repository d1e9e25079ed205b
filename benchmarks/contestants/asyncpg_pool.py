"""asyncpg's pool, with pgvector's codec, which opens its connections when they are first needed: `min_size=0`.

Set up as in https://github.com/pgvector/pgvector-python#asyncpg (`init` registers the types) and
https://magicstack.github.io/asyncpg/current/usage.html#connection-pools. It has no warm-up. Its bulk way here is
`executemany`; COPY is measured by itself, as `bare COPY`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pgvector.asyncpg import register_vector

from benchmarks.contestants import tables
from benchmarks.data.vectors import Vectors
from benchmarks.runner.jobs import POOL_SIZE, Job


class Opened:
    def __init__(self, job: Job, pool: Any) -> None:
        self._job = job
        self._pool = pool
        self._search = tables.search(job)

    async def warm(self, connections: int) -> None:
        """There is none."""

    async def search(self, vector: Vectors) -> list[str]:
        return tables.ids(await self._pool.fetch(self._search, vector))

    async def create(self) -> None:
        await self._pool.execute(tables.create(self._job))

    async def ingest(self, texts: Sequence[str], vectors: Vectors) -> None:
        await self._pool.executemany(tables.insert(self._job), tables.rows(texts, vectors))


@asynccontextmanager
async def opened(job: Job, min_size: int = 0) -> AsyncGenerator[Opened]:
    async with asyncpg.create_pool(job.dsn, min_size=min_size, max_size=POOL_SIZE, init=register_vector) as pool:
        yield Opened(job, pool)
