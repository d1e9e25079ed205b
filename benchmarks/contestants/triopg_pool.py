"""triopg, asyncpg's pool on trio through trio-asyncio.

Set up as in https://github.com/python-trio/triopg#api-basics: like asyncpg, so with pgvector's codec and `min_size`,
whose connections opening the pool opens; that is its warm-up. Its bulk way is `executemany`.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pgvector.asyncpg import register_vector

from benchmarks.contestants import tables
from benchmarks.data.vectors import Vectors
from benchmarks.runner.jobs import POOL_SIZE, Job

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import trio_asyncio
    import triopg


class Opened:
    def __init__(self, job: Job, pool: Any) -> None:
        self._job = job
        self._pool = pool
        self._search = tables.search(job)

    async def warm(self, connections: int) -> None:
        """Opening has opened them."""

    async def search(self, vector: Vectors) -> list[str]:
        return tables.ids(await self._pool.fetch(self._search, vector))

    async def create(self) -> None:
        await self._pool.execute(tables.create(self._job))

    async def ingest(self, texts: Sequence[str], vectors: Vectors) -> None:
        await self._pool.executemany(tables.insert(self._job), tables.rows(texts, vectors))


@asynccontextmanager
async def opened(job: Job) -> AsyncGenerator[Opened]:
    async with trio_asyncio.open_loop():
        pool = triopg.create_pool(job.dsn, min_size=job.connections, max_size=POOL_SIZE, init=register_vector)
        async with pool:
            yield Opened(job, pool)
