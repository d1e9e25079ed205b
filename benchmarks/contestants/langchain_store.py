"""langchain-postgres: `PGVectorStore` on a `PGEngine`, which is a SQLAlchemy engine in a thread of its own.

Set up as in https://docs.langchain.com/oss/python/integrations/vectorstores/pgvectorstore and, for the index,
https://github.com/langchain-ai/langchain-postgres/blob/main/examples/pg_vectorstore_how_to.ipynb. It documents no
warm-up; `create`, which asks for the table's columns, leaves one connection open. Its bulk way is `aadd_embeddings`.
A search of it brings the vectors along too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import PGEngine, PGVectorStore
from langchain_postgres.v2.indexes import HNSWIndex
from sqlalchemy import make_url

from benchmarks.contestants import tables
from benchmarks.data.vectors import Vectors
from benchmarks.runner.jobs import POOL_SIZE, Job, K


def table(job: Job) -> str:
    return f"langchain_{job.collection}"


@asynccontextmanager
async def _engine(job: Job) -> AsyncGenerator[PGEngine]:
    url = make_url(job.dsn).set(drivername="postgresql+asyncpg", query={"ssl": "disable"})
    engine = PGEngine.from_connection_string(url, pool_size=POOL_SIZE, max_overflow=0)
    try:
        yield engine
    finally:
        await engine.close()


async def _store(engine: PGEngine, job: Job) -> PGVectorStore:
    nobody = DeterministicFakeEmbedding(size=job.dimensions)  # it is never asked: vectors come ready-made
    return await PGVectorStore.create(engine=engine, table_name=table(job), embedding_service=nobody)


class Opened:
    def __init__(self, job: Job, engine: PGEngine, store: PGVectorStore | None) -> None:
        self._job = job
        self._engine = engine
        self._store = store

    async def warm(self, connections: int) -> None:
        """There is none."""

    async def search(self, vector: Vectors) -> list[str]:
        assert self._store is not None
        found = await self._store.asimilarity_search_by_vector(vector.tolist(), k=K)
        return [str(document.id) for document in found]

    async def create(self) -> None:
        await self._engine.ainit_vectorstore_table(table_name=table(self._job), vector_size=self._job.dimensions)
        self._store = await _store(self._engine, self._job)

    async def ingest(self, texts: Sequence[str], vectors: Vectors) -> None:
        assert self._store is not None
        await self._store.aadd_embeddings(list(texts), vectors.tolist(), metadatas=[tables.METADATA] * len(texts))


@asynccontextmanager
async def opened(job: Job) -> AsyncGenerator[Opened]:
    async with _engine(job) as engine:
        # A store cannot be made before its table: an ingest makes both.
        yield Opened(job, engine, await _store(engine, job) if job.kind == "search" else None)


async def prepare(job: Job) -> None:
    """Its own table by its own function, the rows by SQL, its own index by its own function."""
    async with _engine(job) as engine:
        await engine.ainit_vectorstore_table(table_name=table(job), vector_size=job.dimensions)
        connection = await asyncpg.connect(job.dsn)
        await connection.execute(
            f'INSERT INTO "{table(job)}" (langchain_id, content, embedding, langchain_metadata) '
            f'SELECT id::uuid, text, embedding, metadata::json FROM "{tables.name(job)}" ORDER BY id'
        )
        await connection.close()
        store = await _store(engine, job)
        await store.aapply_vector_index(HNSWIndex())  # by default m=16, ef_construction=64, cosine
