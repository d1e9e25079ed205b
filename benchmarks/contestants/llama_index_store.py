"""llama-index: `PGVectorStore`, which has a psycopg2 engine for its set-up and an asyncpg engine for `aquery`.

Set up as in the description of its package, llama-index-vector-stores-postgres (`from_params`), with the `hnsw_kwargs`
that the constructor's docstring asks for; they make each search set `hnsw.ef_search` first. It documents no warm-up,
and does its set-up, with blocking calls, in the first query. Its bulk way is `async_add`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from llama_index.vector_stores.postgres import PGVectorStore
from sqlalchemy import make_url

from benchmarks.contestants import tables
from benchmarks.data.vectors import Vectors
from benchmarks.runner.jobs import POOL_SIZE, Job, K

HNSW = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40, "hnsw_dist_method": "vector_cosine_ops"}


def _store(job: Job, *, indexed: bool) -> PGVectorStore:
    url = make_url(job.dsn)
    sync = url.set(drivername="postgresql+psycopg2", query={"sslmode": "disable"})
    background = url.set(drivername="postgresql+asyncpg", query={"ssl": "disable"})
    return PGVectorStore.from_params(
        connection_string=sync.render_as_string(hide_password=False),
        async_connection_string=background.render_as_string(hide_password=False),
        table_name=f"llama_index_{job.collection}",  # the table's name is this after `data_`
        embed_dim=job.dimensions,
        hnsw_kwargs=dict(HNSW) if indexed else None,  # it takes two of them out
        create_engine_kwargs={"pool_size": POOL_SIZE, "max_overflow": 0},
    )


class Opened:
    def __init__(self, store: PGVectorStore) -> None:
        self._store = store

    async def warm(self, connections: int) -> None:
        """There is none."""

    async def search(self, vector: Vectors) -> list[str]:
        found = await self._store.aquery(VectorStoreQuery(query_embedding=vector.tolist(), similarity_top_k=K))
        return [node.node_id for node in found.nodes or ()]

    async def create(self) -> None:
        await self._store.async_add([])  # the first call of any kind makes the table

    async def ingest(self, texts: Sequence[str], vectors: Vectors) -> None:
        nodes = [
            TextNode(text=text, embedding=vector, metadata=dict(tables.METADATA))
            for text, vector in zip(texts, vectors.tolist(), strict=True)
        ]
        await self._store.async_add(nodes)


@asynccontextmanager
async def opened(job: Job) -> AsyncGenerator[Opened]:
    store = _store(job, indexed=job.kind != "ingest")
    try:
        yield Opened(store)
    finally:
        await store.close()


async def prepare(job: Job) -> None:
    """Its own table by its own function, the rows by SQL, its own index by its own function."""
    unindexed = _store(job, indexed=False)
    await unindexed.async_add([])
    await unindexed.close()
    connection = await asyncpg.connect(job.dsn)
    await connection.execute(
        f'INSERT INTO "data_llama_index_{job.collection}" (node_id, text, metadata_, embedding) '
        f"SELECT id, text, replace($${_metadata('@id@')}$$, '@id@', id)::json, embedding "
        f'FROM "{tables.name(job)}" ORDER BY id'
    )
    await connection.close()
    indexed = _store(job, indexed=True)
    await indexed.async_add([])  # the set-up makes the index too
    await indexed.close()


def _metadata(id: str) -> str:
    """What it stores beside a node's text: metadata, and all else that makes the node again."""
    node = TextNode(id_=id, text="", metadata=dict(tables.METADATA))
    return json.dumps(node_to_metadata_dict(node, remove_text=True, flat_metadata=False))
