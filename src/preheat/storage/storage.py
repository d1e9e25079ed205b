"""Vectors in PostgreSQL: one collection, stored and searched through a pool that is warmed once."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from pgvector import Vector

from ..errors import ArgumentError, CollectionError, DimensionError, EmbedderError
from ..pools import Operation, Row, SQLPool
from . import statements
from .answers import AnswerTable
from .collection import Collection
from .conditions import condition
from .encoding import check_k, check_min_score, check_text, copy_rows, query_text
from .filters import FilterLike, as_filter
from .lifecycle import WarmedPool, WarmPolicy
from .records import Chunk, Hit, Metric, VectorLike
from .scan import DEFAULT_SCAN, IterativeScan, Scan
from .schema import (
    DATA_EXCEPTION,
    INSUFFICIENT_PRIVILEGE,
    NOTHING_STORED,
    OFF_THE_SEARCH_PATH,
    UNDEFINED_TABLE,
    check_search_path,
    sqlstate,
    unknown_collection,
)

__all__ = ("VectorStorage",)

T = TypeVar("T")


class VectorStorage(WarmedPool):
    """One collection of chunks in PostgreSQL with pgvector.

    Use it as an async context manager. Entering it opens no connection, so it succeeds even for a server that is
    down; the schema is made when something is first stored. Leaving it ends a warm-up that is under way, and closes
    the pool if the storage opened it.

    A search is one statement and one round trip. A batch is stored whole or not at all.

    Args:
        pool: a DSN, a pool from :func:`preheat.open_pool`, or on asyncio an :class:`asyncpg.Pool`.
        collection: the collection's name: up to 40 letters, digits, underscores and hyphens.
        dimensions: the number of dimensions of its vectors, at most 2,000. None opens a collection that must exist.
        metric: `"cosine"`, `"l2"` or `"inner_product"`; by default the collection's own, cosine for a new one.
        embedder: the name of the model that the vectors come from; remembered by the collection and checked.
        index: whether a new collection is made with the indexes of its vectors and metadata. Without them a first bulk
            load is many times faster; :meth:`create_index` makes them afterwards, and until then a search scans the
            table.
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
        index: bool = True,
        size: int = 10,
        warm: WarmPolicy | None = None,
        warm_connections: int | None = None,
        warm_timeout: float | None = None,
    ) -> None:
        self._collection = Collection(collection, dimensions, metric, embedder, index)
        super().__init__(
            pool,
            size=size,
            warm=warm,
            warm_connections=warm_connections,
            warm_timeout=warm_timeout,
            probe=self._collection.probe,
        )
        self.answer_table = AnswerTable(self, self._collection.name)
        """The answers that are kept beside it; see :meth:`preheat.ResearchRetriever.retrieve_or_research`."""

    def __repr__(self) -> str:
        return f"<VectorStorage {self.collection!r} dimensions={self.dimensions}>"

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self._collection.name

    @property
    def dimensions(self) -> int | None:
        """The number of dimensions of its vectors; None while nobody has said it and the database was not asked."""
        return self._collection.dimensions

    @property
    def metric(self) -> Metric | None:
        """The metric of its index; None while nobody has said it and the database was not asked."""
        return self._collection.metric

    @property
    def embedder(self) -> str | None:
        """The name of the model that its vectors come from; None if nobody has said it. It can be set once."""
        return self._collection.embedder

    @embedder.setter
    def embedder(self, name: str) -> None:
        if self._collection.embedder not in (None, name):
            raise EmbedderError(self.collection, str(self._collection.embedder), name)
        self._collection.embedder = name
        self._collection.is_known = False

    # Storing

    async def add(self, chunks: Iterable[Chunk]) -> int:
        """Store chunks, all of them or none; one with the id of a stored one replaces it.

        The first time it makes the collection if it is missing.

        Args:
            chunks: what to store; of two with the same id the later one counts.

        Returns:
            How many chunks were stored.

        Raises:
            DimensionError: if an embedding has another number of dimensions than the collection.
            ArgumentError: if an embedding holds a NaN or infinity, or a text or metadata cannot be stored.
            CollectionError: if the collection is not what the storage was opened for.
            EmbedderError: if the collection's vectors come from another model.
            ExtensionError: if pgvector is missing and cannot be added.
            ConnectError: if there is no connection.
        """
        return await self._store(chunks, replacing=None)

    async def replace_document(self, document: str, chunks: Iterable[Chunk]) -> int:
        """Store the chunks of a document in place of all that is stored under its key, in one transaction.

        Args:
            document: the key of the document.
            chunks: its chunks now; none deletes the document.

        Returns:
            How many chunks were stored.

        Raises:
            ArgumentError: if a chunk belongs to another document.
            PreheatError: whatever else :meth:`add` raises.
        """
        batch = list(chunks)
        for chunk in batch:
            if chunk.document != document:
                raise ArgumentError(
                    f"chunk {chunk.id!r} belongs to document {chunk.document!r}, not to {document!r}; "
                    "replace each document by its own chunks"
                )
        return await self._store(batch, replacing=document)

    async def _store(self, chunks: Iterable[Chunk], replacing: str | None) -> int:
        # In one order for everybody, so that two batches with the same ids never wait for each other.
        batch = sorted({chunk.id: chunk for chunk in chunks}.values(), key=attrgetter("id"))
        if not batch:
            if replacing is not None:
                await self.delete(document=replacing)
            return 0
        dimensions = self.dimensions or await self.create()
        rows = partial(copy_rows, batch, dimensions)
        if not self._collection.is_known:
            packed = list(rows())  # whatever cannot be stored is found here, before anything is made
            rows = partial(iter, packed)
            await self.create()
        merge = partial(self._collection.merge, rows=rows, replacing=replacing)
        try:
            await self._run(merge)
        except Exception as error:
            if sqlstate(error) != UNDEFINED_TABLE:
                raise
            self._collection.is_known = False  # somebody has dropped it meanwhile
            await self.create()
            await self._run(merge)
        return len(batch)

    async def create(self) -> int:
        """Make the collection if it is missing, and check that it is what this storage was opened for.

        `add` does it by itself, the first time.

        Returns:
            The number of dimensions of the collection's vectors.

        Raises:
            CollectionError: if the collection is missing and the storage was opened without `dimensions`, or if it
                has another metric.
            DimensionError: if it has another number of dimensions.
            EmbedderError: if the collection's vectors come from another model.
            ExtensionError: if pgvector is missing and cannot be added.
            ConnectError: if there is no connection.
        """
        if not self._collection.is_known:
            await self._run(self._collection.ensure)
        return self._collection.dimensions or 0

    async def create_index(self) -> None:
        """Make the indexes of the collection's vectors and metadata if they are missing: after a first bulk load, for
        `index=False`, or for a collection from a time when there was none of its metadata.

        Writers wait while they are being made, minutes for a million rows; the server's `maintenance_work_mem` should
        hold the whole index.

        Raises:
            CollectionError: if the collection is missing and the storage was opened without `dimensions`.

        Cancellation: the server stops, and no index is made.
        """
        await self.create()
        sql = statements.create_indexes(self.collection, self._collection.metric or "cosine")
        await self._run(lambda connection: connection.execute(sql))

    async def delete(self, ids: Sequence[str] | None = None, *, document: str | None = None) -> int:
        """Delete chunks by id, or all chunks of a document.

        Args:
            ids: the ids of the chunks to delete; those that are not there are passed over.
            document: the key of the document whose chunks to delete.

        Returns:
            How many chunks were deleted.

        Raises:
            ArgumentError: unless exactly one of the two is given.
        """
        if (ids is None) == (document is None):
            raise ArgumentError("delete takes either ids or document; give one of them")
        if ids is not None:
            column, values = "id", _strings(ids)
        else:
            column, values = "document", _strings([document])
        rows = await self._fetch(statements.delete(self.collection, column), values)
        return int(rows[0]["gone"]) if rows else 0

    # Reading

    async def search(
        self,
        vector: VectorLike,
        k: int = 5,
        *,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """The `k` chunks nearest to `vector`, nearest first: one statement, one round trip, whatever is asked for.

        With a filter all of `k` are found if so many chunks pass it. If a scan of the index gave up before it had found
        them, which the answer tells, the table is scanned: a second statement, and a second round trip. The first
        filter of a shape on a connection is prepared: that is one more, too.

        Args:
            vector: shape `(dimensions,)`.
            k: how many; at least 1. More than 1,000 are found by a scan of the table, unless it is iterative.
            metric: another metric than the collection's; it scans the table, as the index does not serve it.
            ef_search: how many candidates the index scan keeps, 1 to 1,000: more find better, slower. By default `k`,
                and no less than the server's own, 40. A scan yields at most so many hits, unless it is iterative.
            iterative_scan: whether a scan that has run out of candidates goes on; pgvector 0.8 or later. By default it
                does so if there is a filter.
            filter: which chunks to look at, by their metadata: an expression of :class:`preheat.F`, or a dict.
            min_score: the least score of a hit. It is applied to the `k` that are found, and costs the server nothing.

        Returns:
            At most `k` hits; none if nothing is stored yet.

        Raises:
            ArgumentError: if `k` is below 1, the vector holds a NaN, a setting is none of pgvector's, `min_score` is no
                number or the filter is none.
            DimensionError: if the vector has another number of dimensions than the collection.
            CollectionError: if the collection is missing and the storage was opened without `dimensions`.
            EmbedderError: if the storage has an embedder and the collection's vectors come from another one.
            ConnectError: if there is no connection.
        """
        check_k(k)
        scan = DEFAULT_SCAN if ef_search is None and iterative_scan is None else Scan(ef_search, iterative_scan)
        where = None if filter is None else condition(as_filter(filter), statements.FIRST_OF_CONDITION)
        if min_score is not None:
            check_min_score(min_score)
        text = query_text(vector, self.dimensions)
        try:
            hits = await self._collection.nearest(self._fetch, text, k, metric, scan, where)
        except Exception as error:
            if sqlstate(error) == DATA_EXCEPTION:
                stored = await self._fetch(statements.collection_row(), self.collection)
                if stored and stored[0]["dimensions"] != len(vector):
                    raise DimensionError(stored[0]["dimensions"], len(vector)) from error
            raise
        return hits if min_score is None else [hit for hit in hits if hit.score >= min_score]

    async def get(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in the order of document and position; those that are not there are left out."""
        return [
            Chunk(
                text=row["text"],
                embedding=Vector.from_text(row["embedding"]).to_list(),
                metadata=json.loads(row["metadata"]),
                document=row["document"],
                position=row["position"],
                id=row["id"],
            )
            for row in await self._fetch(statements.get(self.collection), _strings(ids))
        ]

    async def count(self) -> int:
        """How many chunks are stored."""
        rows = await self._fetch(statements.count(self.collection))
        return int(rows[0]["chunks"]) if rows else 0

    @asynccontextmanager
    async def get_connection(self) -> AsyncGenerator[Any]:
        """A connection of the pool, for statements of your own; its session is reset when it goes back.

        On asyncio it is the :class:`asyncpg.Connection`; on trio a thin wrapper of it whose methods can be awaited
        from trio, with the asyncpg connection as its attribute `asyncpg`.

        Raises:
            ConnectError: if there is no connection.
        """
        async with self.pool.lease() as lease:
            yield lease.connection

    # The way down

    async def _fetch(self, sql: str, *args: Any) -> Sequence[Row]:
        """One statement on this collection, in one crossing; no rows if nothing is stored yet."""
        try:
            return await self.pool.fetch(sql, *args)
        except Exception as error:
            await self._explain(error)
            if sqlstate(error) not in NOTHING_STORED:
                raise
            if self.dimensions is None:
                raise await self.pool.run(partial(unknown_collection, name=self.collection)) from error
            return []

    async def _run(self, operation: Operation[T]) -> T:
        """An operation on this collection."""
        try:
            return await self.pool.run(operation)
        except Exception as error:
            await self._explain(error)
            raise

    async def _explain(self, error: Exception) -> None:
        """Tell in a sentence what an administrator must put right; return for every other error."""
        if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            tables = f"{statements.table(self.collection)}, preheat_collections"
            grant = f"SELECT, INSERT, UPDATE, DELETE ON {tables}"
            if "temporary" in str(error):
                grant = "TEMPORARY ON DATABASE (this one)"
            raise CollectionError(
                f"this role may not do that with collection {self.collection!r} ({error}); "
                f"let an owner run: GRANT {grant} TO this role"
            ) from error
        if sqlstate(error) in OFF_THE_SEARCH_PATH:
            await self.pool.run(check_search_path)


def _strings(values: Sequence[Any]) -> list[str]:
    if isinstance(values, str):
        raise ArgumentError("ids are strings; give a list of them")
    for value in values:
        check_text("id", value)
    return list(values)
