"""Vectors in PostgreSQL: one collection, stored and searched through a pool that is warmed once."""

from __future__ import annotations

from typing import Any

from ..pools import SQLPool
from .answers.table import AnswerTable
from .collection import Collection
from .models import Metric, VectorType
from .schema.indexing import Indexing
from .schema.sql import HNSW
from .search.reading import Reading
from .search.searching import Searching
from .session import WarmPolicy
from .write.writing import Writing

__all__ = ("VectorStorage",)


class VectorStorage(Searching, Reading, Writing, Indexing):
    """One collection of chunks in PostgreSQL with pgvector.

    Use it as an async context manager. Entering it opens no connection, so it succeeds even for a server that is
    down; the schema is made when something is first stored. Leaving it ends a warm-up that is under way, and closes
    the pool if the storage opened it.

    A search is one statement and one round trip. A batch is stored whole or not at all.

    Args:
        pool: a DSN, a pool from :func:`preheat.open_pool`, or on asyncio an :class:`asyncpg.Pool`.
        collection: the collection's name: up to 40 letters, digits, underscores and hyphens.
        dimensions: the number of dimensions of its vectors, at most 4,000. None opens a collection that must exist.
        metric: `"cosine"`, `"l2"` or `"inner_product"`; by default the collection's own, cosine for a new one.
        embedder: the name of the model that the vectors come from; remembered by the collection and checked.
        index: whether a new collection is made with the indexes of its vectors, metadata and words, and how that of the
            vectors is built. Without them a first bulk load is many times faster; :meth:`create_index` makes them
            afterwards, and until then a search scans the table.
        schema: the schema that its tables are in, made if it is missing; by default what the search path says.
        vector_type: `"vector"` stores float32, `"halfvec"` float16 in half the room; by default the collection's own,
            for a new one `"vector"` up to 2,000 dimensions and `"halfvec"` above, which no other index holds.
        language: the server's configuration for full text; by default the collection's own, `"english"` for a new one.
        size: the most connections of a pool that the storage opens itself from a DSN.
        warm: when the pool is warmed; setting `PREHEAT_WARM`, by default `"first-use"`.
        warm_connections: how many connections are warmed; setting `PREHEAT_WARM_CONNECTIONS`, by default 3, or as
            many as the pool has.
        warm_timeout: seconds for a whole warm-up; setting `PREHEAT_WARM_TIMEOUT`, by default 5.

    Raises:
        ArgumentError: if an argument cannot be right, before any input or output.

    Cancellation: every method can be cancelled at every await. A cancelled `add` or `delete` has done all of its work
    or nothing; the connection it used goes back to the pool or is closed before the cancellation goes on.
    """

    def __init__(
        self,
        pool: str | SQLPool | Any,
        collection: str = "documents",
        dimensions: int | None = None,
        *,
        metric: Metric | None = None,
        embedder: str | None = None,
        index: bool | HNSW = True,
        schema: str | None = None,
        vector_type: VectorType | None = None,
        language: str | None = None,
        size: int = 10,
        warm: WarmPolicy | None = None,
        warm_connections: int | None = None,
        warm_timeout: float | None = None,
    ) -> None:
        described = Collection(
            collection,
            dimensions,
            metric,
            embedder,
            index=index,
            schema=schema,
            vector_type=vector_type,
            language=language,
        )
        super().__init__(
            pool,
            described,
            size=size,
            warm=warm,
            warm_connections=warm_connections,
            warm_timeout=warm_timeout,
        )
        self.answer_table: AnswerTable = AnswerTable(self, described)
        """The answers that are kept beside it; see :meth:`preheat.ResearchRetriever.retrieve_or_research`."""

    def __repr__(self) -> str:
        return f"<VectorStorage {self.collection!r} dimensions={self.dimensions}>"
