"""SQLAlchemy's async engine on asyncpg, with pgvector's column type.

Set up as in https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html and
https://github.com/pgvector/pgvector-python#sqlalchemy. SQLAlchemy documents no warm-up; what people do is to open the
connections with `SELECT 1` at the same time when they start. Its bulk way is `execute(insert(table), rows)`,
https://docs.sqlalchemy.org/en/20/tutorial/data_insert.html.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, make_url, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.contestants import tables
from benchmarks.data.vectors import Vectors
from benchmarks.runner.jobs import POOL_SIZE, Job, K


def async_url(dsn: str) -> str:
    """The DSN as SQLAlchemy's asyncpg dialect takes it: asyncpg calls `sslmode` `ssl`."""
    url = make_url(dsn).set(drivername="postgresql+asyncpg", query={"ssl": "disable"})
    return url.render_as_string(hide_password=False)


class Opened:
    def __init__(self, job: Job, engine: AsyncEngine) -> None:
        self._engine = engine
        self._table = Table(
            tables.name(job),
            MetaData(),
            Column("id", Text, primary_key=True),
            Column("document", Text, nullable=False),
            Column("position", Integer, nullable=False),
            Column("text", Text, nullable=False),
            Column("metadata", JSONB, nullable=False),
            Column("embedding", VECTOR(job.dimensions), nullable=False),
        )

    async def warm(self, connections: int) -> None:
        opened = asyncio.Barrier(connections)

        async def one() -> None:
            async with self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
                await opened.wait()  # held, so that no two are the same connection

        await asyncio.gather(*(one() for _ in range(connections)))

    async def search(self, vector: Vectors) -> list[str]:
        columns = self._table.c
        distance = columns.embedding.cosine_distance(vector)
        statement = (
            select(columns.id, columns.text, columns.metadata, distance.label("distance")).order_by(distance).limit(K)
        )
        async with self._engine.connect() as connection:
            return [row.id for row in await connection.execute(statement)]

    async def create(self) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(self._table.create)

    async def ingest(self, texts: Sequence[str], vectors: Vectors) -> None:
        rows = [
            dict(zip(tables.COLUMNS, row, strict=True)) | {"metadata": tables.METADATA}
            for row in tables.rows(texts, vectors)
        ]
        async with self._engine.begin() as connection:
            await connection.execute(insert(self._table), rows)


@asynccontextmanager
async def opened(job: Job) -> AsyncGenerator[Opened]:
    engine = create_async_engine(async_url(job.dsn), pool_size=POOL_SIZE, max_overflow=0)
    try:
        yield Opened(job, engine)
    finally:
        await engine.dispose()
