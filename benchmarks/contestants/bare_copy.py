"""For reference: COPY in binary on one plain connection of asyncpg, with nothing around it.

https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.connection.Connection.copy_records_to_table
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pgvector.asyncpg import register_vector

from benchmarks.contestants import tables
from benchmarks.data.vectors import Vectors
from benchmarks.runner.jobs import Job


class Opened:
    def __init__(self, job: Job, connection: Any) -> None:
        self._job = job
        self._connection = connection

    async def create(self) -> None:
        await self._connection.execute(tables.create(self._job))

    async def ingest(self, texts: Sequence[str], vectors: Vectors) -> None:
        await self._connection.copy_records_to_table(
            tables.name(self._job), records=tables.rows(texts, vectors), columns=tables.COLUMNS
        )


@asynccontextmanager
async def opened(job: Job) -> AsyncGenerator[Opened]:
    connection = await asyncpg.connect(job.dsn)
    try:
        await register_vector(connection)
        yield Opened(job, connection)
    finally:
        await connection.close()
