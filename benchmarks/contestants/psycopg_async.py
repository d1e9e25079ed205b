"""psycopg's async pool, with pgvector's types: it opens `min_size` connections in the background, and `wait` waits.

Set up as in https://www.psycopg.org/psycopg3/docs/advanced/pool.html ("Pool startup check") and
https://github.com/pgvector/pgvector-python#psycopg-3 (`configure` registers the types). `connection()` begins and
commits a transaction, as that page says. Its bulk way is binary COPY, as in
https://github.com/pgvector/pgvector-python/blob/master/examples/loading/example.py.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pgvector import Vector
from pgvector.psycopg import register_vector_async
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from benchmarks.contestants import tables
from benchmarks.data.vectors import Vectors
from benchmarks.runner.jobs import POOL_SIZE, Job

TYPES = ("text", "text", "int4", "text", "jsonb", "vector")


class Opened:
    def __init__(self, job: Job, pool: AsyncConnectionPool[Any]) -> None:
        self._job = job
        self._pool = pool
        self._search = tables.search(job, "%(vector)s")

    async def warm(self, connections: int) -> None:
        assert connections == self._pool.min_size
        await self._pool.wait()

    async def search(self, vector: Vectors) -> list[str]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._search, {"vector": vector})
            return [id for id, _text, _metadata, _distance in await cursor.fetchall()]

    async def create(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(tables.create(self._job))

    async def ingest(self, texts: Sequence[str], vectors: Vectors) -> None:
        columns = ", ".join(tables.COLUMNS)
        copying = f'COPY "{tables.name(self._job)}" ({columns}) FROM STDIN WITH (FORMAT BINARY)'
        metadata = Jsonb(tables.METADATA)
        async with (
            self._pool.connection() as connection,
            connection.cursor() as cursor,
            cursor.copy(copying) as copy,
        ):
            copy.set_types(TYPES)
            for id, document, position, text, _, vector in tables.rows(texts, vectors):
                await copy.write_row((id, document, position, text, metadata, Vector(vector)))


@asynccontextmanager
async def opened(job: Job) -> AsyncGenerator[Opened]:
    async with AsyncConnectionPool(
        job.dsn, min_size=job.connections, max_size=POOL_SIZE, configure=register_vector_async
    ) as pool:
        yield Opened(job, pool)
