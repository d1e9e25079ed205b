"""Vectors in PostgreSQL: one collection, stored and searched through a pool that is warmed once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from ..pools import SQLPool
from ..warming import WarmOnce, WarmReport
from . import indexing
from .answers.table import AnswerTable
from .executor import Executor
from .filters.tree import FilterLike
from .indexing import IndexProgress
from .models import Chunk, DocumentInfo, Hit, Hits, Metric, OnConflict, Upserted, VectorLike, VectorType
from .schema.collection import Collection
from .schema.sql import HNSW
from .search import read
from .search.find import find, plan
from .search.options import IterativeScan, SearchOptions
from .search.plan import Plan
from .search.probe import Probe
from .session import Session, WarmPolicy
from .validation import check_text
from .write import store
from .write.loading import Embed

__all__ = ("VectorStorage",)


class VectorStorage:
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
            index=index,
            schema=schema,
            vector_type=vector_type,
            language=language,
        )
        session = Session(
            pool,
            size=size,
            warm=warm,
            warm_connections=warm_connections,
            warm_timeout=warm_timeout,
            probe=Probe(described, embedder),
        )
        self.executor: Executor = Executor(session, described, embedder)
        """Runs statements on the collection; for preheat itself, and not a part of its interface."""
        self.answer_table: AnswerTable = AnswerTable(self.executor)
        """The answers that are kept with the collection; see :meth:`preheat.ResearchRetriever.retrieve_or_research`."""

    def __repr__(self) -> str:
        return f"<VectorStorage {self.collection!r} dimensions={self.dimensions}>"

    def bound_to(self, embedder: str) -> Self:
        """This storage for callers who use one model: the same pool, the same warm-ups and the same collection.

        Its searches and writes check that the collection's vectors come from this model, and the first of its writes
        records the model if the collection has none yet. The storage itself stays as it was opened, and other models
        may be bound to it. Opening or closing one of them opens or closes the other.

        Args:
            embedder: the name of the model.

        Raises:
            EmbedderError: if the storage was opened for another model.
        """
        bound = copy(self)
        bound.executor = self.executor.bound_to(embedder)
        return bound

    # What it is

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self.executor.collection.name

    @property
    def dimensions(self) -> int | None:
        """The number of dimensions of its vectors; None while it was not given and the database was not asked."""
        return self.executor.collection.dimensions

    @property
    def metric(self) -> Metric | None:
        """The metric of its index; None while it was not given and the database was not asked."""
        return self.executor.collection.metric

    @property
    def schema(self) -> str | None:
        """The schema that its tables are in; None for what the search path says."""
        return self.executor.collection.identifiers.schema

    @property
    def vector_type(self) -> VectorType | None:
        """How its vectors are stored; None while it was not given and the database was not asked."""
        return self.executor.collection.type

    @property
    def embedder(self) -> str | None:
        """The name of the model that its vectors come from; None if the storage was opened without."""
        return self.executor.embedder

    @property
    def indexed(self) -> bool:
        """Whether the collection gets indexes without being asked for them: unless opened with `index=False`."""
        return self.executor.collection.indexed

    # Open, warm, close

    async def open(self) -> Self:
        """Do what entering the `async with` does, for code that cannot hold one; :meth:`close` does what leaving does.

        On asyncio the two may be called from different tasks.

        Raises:
            PreheatError: if the storage is open already.

        Cancellation: leaves when everything is closed again.
        """
        await self.executor.session.open()
        return self

    async def close(self) -> None:
        """End a warm-up that is under way and close the pool if it was opened from a DSN.

        Nothing happens if the storage is not open.

        Raises:
            PreheatError: in another event loop than that in which it was opened; on trio in another task, too.

        Cancellation: does all of its work even when it is cancelled.
        """
        await self.executor.session.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pool(self) -> SQLPool:
        """The pool in use.

        Raises:
            PreheatError: if the storage is not open.
        """
        return self.executor.session.pool

    @property
    def warm_policy(self) -> WarmPolicy:
        """When the pool is warmed."""
        return self.executor.session.warm_policy

    @property
    def warm_once(self) -> WarmOnce[WarmReport]:
        """The guard that all retrievers on this storage share, a new one each time the storage is entered; see
        :class:`preheat.WarmOnce`."""
        return self.executor.session.warm_once

    @property
    def warm_report(self) -> WarmReport | None:
        """The report of the latest warm-up; None before the first."""
        return self.executor.session.warm_report

    async def warm_pool(self) -> bool:
        """Warm the pool now: run this storage's own search once on each of several connections at the same time.

        The first time this is the warm-up that retrievers wait for, or joins it if it is under way. Later calls warm
        again while others use the pool; calls that come together share one warm-up.

        Returns:
            Whether every connection asked for is hot. False, not an error, for a database that is down or slow; the
            cause is logged and in `warm_report`.

        Cancellation: leaves promptly; a first warm-up goes on in the background until the storage is closed.
        """
        return await self.executor.session.warm_pool()

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

    # Search

    async def search(
        self,
        vector: VectorLike,
        k: int = 5,
        *,
        text: str | None = None,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        min_score: float | None = None,
    ) -> Hits:
        """The `k` chunks nearest to `vector`, nearest first: one statement, one round trip, whatever is asked for.

        Those that are equally near are in the order of their ids. By cosine a zero vector is near to nothing: one that
        is stored is passed over.

        With a filter all of `k` are found if so many chunks pass it. Where the index is no guide to them all that pass
        are compared, in the same statement; if they are more than 50,000, and fewer than `k` were found, in a second
        one, with a second round trip. The first filter of a shape on a connection is prepared: that is one more, too.

        A hybrid search, one with a `text`, looks for chunks by their words as well. Of both ways it takes some
        candidates, `max(20, 4 * k)`, and orders them by the sum of their reciprocal ranks, `1 / (60 + rank)`, which is
        the score then. Chunks need not have all of the words, and nothing in the text is an operator: quotation marks,
        `OR` or `-word` are looked for like all else. What no hit may have goes into `without`.

        With `mmr` the hits are chosen among so many candidates one after the other, each for its maximal marginal
        relevance: the greatest `mmr * relevance - (1 - mmr) * similarity`, where the latter is its cosine similarity to
        the nearest of those chosen before. The relevance is the score, if it is not a cosine itself as a share of the
        best one. The hits are in the order of choosing. It needs pgvector 0.7 or later.

        Args:
            vector: shape `(dimensions,)`.
            k: how many; at least 1. More than 1,000 are found by a scan of the table, unless it is iterative.
            text: makes it hybrid: the words to look for, of its first 4,000 characters. If it holds only stop words the
                vectors alone decide.
            without: words that no hit has, however near its vector is, together at most 4,000 characters; more than
                one in a string are a phrase. It needs no `text`.
            mmr: how much relevance counts beside novelty: 1 relevance alone, 0 novelty alone.
            metric: another metric than the collection's; it scans the table, as the index does not serve it.
            ef_search: how many candidates the index scan keeps, 1 to 1,000: more find better, slower. By default
                `2 * k`, and no less than 100 or the server's own; with a filter `20 * k`, and no less than 200. A scan
                yields at most so many hits, unless it is iterative.
            iterative_scan: whether a scan that has run out of candidates goes on; pgvector 0.8 or later. By default it
                does so if there is a filter and the collection has more than 100,000 chunks.
            filter: which chunks to look at, by their metadata: an expression of :class:`preheat.F`, or a dict.
            min_score: the least score of a hit. It is applied to the `k` that are found, and costs the server nothing;
                with `mmr` to the candidates.

        Returns:
            At most `k` hits, a list; none if nothing is stored yet. If there are fewer, its `is_complete` tells whether
            that is all there is.

        Raises:
            ArgumentError: if `k` is below 1, the vector holds a NaN, or is zero where the metric is cosine, a setting
                is none of pgvector's, `min_score` is no number, the filter is none, the text holds a NUL character,
                `without` holds something without a word, or `mmr` is outside 0 to 1.
            DimensionError: if the vector has another number of dimensions than the collection.
            CollectionError: if the collection is missing and the storage was opened without `dimensions`; or if it has
                no index of its words for a search with `text` or `without`, see :meth:`create_index`.
            EmbedderError: if the storage has an embedder and the collection's vectors come from another one.
            ConnectError: if there is no connection.
        """
        options = SearchOptions.checked(
            k,
            text=text,
            without=without,
            mmr=mmr,
            metric=metric,
            ef_search=ef_search,
            iterative_scan=iterative_scan,
            filter=filter,
            min_score=min_score,
        )
        return await find(self.executor, options, vector=vector)

    async def more_like(
        self,
        id: str | UUID,
        k: int = 5,
        *,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        min_score: float | None = None,
    ) -> Hits:
        """The `k` chunks nearest to a stored one, nearest first, itself left out: one statement, one round trip.

        Args:
            id: the identity of the chunk, such as that of a hit.
            k: how many; at least 1. This and all that follows is as in :meth:`search`.

        Returns:
            At most `k` hits.

        Raises:
            CollectionError: if there is no chunk with this id.
            PreheatError: whatever else :meth:`search` raises.
        """
        options = SearchOptions.checked(
            k,
            without=without,
            mmr=mmr,
            metric=metric,
            ef_search=ef_search,
            iterative_scan=iterative_scan,
            filter=filter,
            min_score=min_score,
        )
        like = check_text("id", str(id) if isinstance(id, UUID) else id).decode()
        return await find(self.executor, options, like=like)

    async def explain(
        self,
        vector: VectorLike,
        k: int = 5,
        *,
        text: str | None = None,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        min_score: float | None = None,
    ) -> Plan:
        """How PostgreSQL runs a search: the statement of :meth:`search` with the same arguments, run and explained.

        It is one round trip, as the search is; one more, once, if nobody has said the collection's metric. What it does
        not show is the second statement of a search whose first one found too few.

        Returns:
            The plan, with the names of the indexes that served.

        Raises:
            CollectionError: if nothing is stored yet.
            PreheatError: whatever else :meth:`search` raises.
        """
        options = SearchOptions.checked(
            k,
            text=text,
            without=without,
            mmr=mmr,
            metric=metric,
            ef_search=ef_search,
            iterative_scan=iterative_scan,
            filter=filter,
            min_score=min_score,
        )
        return await plan(self.executor, vector, options)

    # Read

    async def get(self, ids: Sequence[str | UUID]) -> list[Chunk]:
        """The chunks with these ids, in the order of document and position; those that are not there are left out."""
        return await read.get(self.executor, ids)

    async def count(self, *, document: str | None = None, filter: FilterLike | None = None) -> int:
        """How many chunks are stored.

        Args:
            document: the key of a document, to count its chunks alone.
            filter: which chunks to count, by their metadata; see :meth:`search`.

        Raises:
            ArgumentError: if the filter is none.
        """
        return await read.count(self.executor, document, filter)

    def documents(self, prefix: str = "") -> AsyncGenerator[DocumentInfo]:
        """All documents, in the order of their keys: an async iterator, to be used with `async for`.

        They come in pages, and no connection is held between these; see :meth:`chunks`.

        Args:
            prefix: what their keys begin with, such as a folder.
        """
        return read.documents(self.executor, prefix)

    def chunks(
        self,
        *,
        document: str | None = None,
        filter: FilterLike | None = None,
        batch_size: int = 1000,
        embeddings: bool = True,
    ) -> AsyncGenerator[Chunk]:
        """All chunks, in the order of their ids, or those of one document in its own order: an async iterator, to be
        used with `async for`.

        The chunks are fetched in pages of `batch_size`. Each page is one statement that continues after the previous
        one. No connection and no transaction is held between pages, so the caller may take any time over a chunk,
        change the collection meanwhile, or stop half-way. A chunk that is stored all the time comes exactly once.

        Args:
            document: the key of a document, to go through its chunks alone.
            filter: which chunks to go through, by their metadata; see :meth:`search`.
            batch_size: how many chunks are fetched at a time, at least 1.
            embeddings: False leaves them out, which are most of what is fetched.

        Raises:
            ArgumentError: if `batch_size` is below 1 or the filter is none.
        """
        return read.chunks(self.executor, document, filter, batch_size, embeddings=embeddings)

    async def neighbors(self, chunk: Hit | Chunk, before: int = 1, after: int = 1) -> list[Chunk]:
        """The chunks that stand beside one in its document, in order, so that a hit can be shown in its context.

        The chunk itself is not among them, and they come without their embeddings.

        Args:
            chunk: a hit, or a chunk that is stored.
            before: how many before it, at most.
            after: how many after it, at most.

        Raises:
            ArgumentError: if `before` or `after` is below 0.
        """
        return await read.neighbors(self.executor, chunk, before, after)

    # Write

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
        return await self.executor.create()

    async def add(self, chunks: Iterable[Chunk], *, on_conflict: OnConflict = "replace") -> int:
        """Store chunks, all of them or none, whatever their number.

        The first call creates the collection if it is missing.

        Args:
            chunks: what to store, each with its embedding.
            on_conflict: what to do with a chunk whose id is stored already, or is the id of an earlier chunk of the
                batch. `"replace"` replaces the earlier one, with its embedding. `"skip"` leaves the earlier one as it
                is. `"error"` stores nothing of the batch and raises an error.

        Returns:
            How many chunks were written: with `"replace"` the number of ids in the batch, with `"skip"` the number of
            ids that were new, with `"error"` the number of chunks.

        Raises:
            ChunkExistsError: if `on_conflict` is `"error"` and an id is stored already; it names the chunk.
            DimensionError: if an embedding has another number of dimensions than the collection.
            ArgumentError: if an embedding is missing, or holds a NaN or infinity, or a text or metadata cannot be
                stored; or if `on_conflict` is `"error"` and two chunks have the same id.
            CollectionError: if the collection is not what the storage was opened for.
            EmbedderError: if the collection's vectors come from another model.
            ExtensionError: if pgvector is missing and cannot be added.
            ConnectError: if there is no connection.
        """
        return await store.add(self.executor, chunks, on_conflict)

    async def upsert(self, chunks: Iterable[Chunk], embed: Embed | None = None) -> Upserted:
        """Store chunks where they have changed, all of them or none: what is stored as it is costs a look-up only.

        A chunk is unchanged if what is stored under its id has the same text, metadata, document and position. The
        server compares a hash of the text, so that no text goes over the wire. If the text alone is the same, the rest
        is written and the embedding stays, as it belongs to the text; :meth:`add` replaces that, too.

        The look-up is one statement outside of any transaction, and nothing is locked while texts are embedded. The
        transaction that writes looks again, under locks of the documents that it shares with all other calls of
        `upsert` and `replace_document`: what another writer has changed meanwhile is written, too, and embedded first
        if need be. Of two writers who store different texts under one id, the later one counts.

        Args:
            chunks: what to store; of two with the same id the later one counts.
            embed: an async function that gives each text its vector, in order. It is called with the texts that have
                changed and whose chunks have no embedding, all of them at once, and not at all if there are none.
                :meth:`preheat.ResearchRetriever.upsert` gives the retriever's model.

        Returns:
            How many chunks were added, changed and left alone.

        Raises:
            ArgumentError: if a chunk has to be embedded and there is no `embed`, or whatever else :meth:`add` raises.
            PreheatError: whatever else :meth:`add` raises.
        """
        return await store.upsert(self.executor, chunks, embed)

    async def replace_document(self, document: str, chunks: Iterable[Chunk], embed: Embed | None = None) -> int:
        """Store the chunks of a document in place of all that is stored under its key, in one transaction.

        Args:
            document: the key of the document.
            chunks: its chunks now; none deletes the document.
            embed: with it chunks are stored as :meth:`upsert` does, so that those that have not changed are neither
                embedded nor written.

        Returns:
            How many chunks the document has now.

        Raises:
            ArgumentError: if a chunk belongs to another document.
            PreheatError: whatever else :meth:`add` raises.
        """
        return await store.replace_document(self.executor, document, chunks, embed)

    async def delete(
        self,
        ids: Sequence[str | UUID] | None = None,
        *,
        document: str | None = None,
        filter: FilterLike | None = None,
    ) -> int:
        """Delete chunks by id, all chunks of a document, or those that pass a filter; :meth:`clear` deletes all.

        A filter that passes every chunk whatever metadata it has is refused, in whatever form it is written:
        `{}`, `{"$and": [{}]}`, `{"lang": {"$nin": []}}`, `F("lang").exists() | F("lang").missing()`. One that passes
        every chunk only because of what is stored is not refused: `{"lang": {"$exists": False}}` deletes everything
        where no chunk has a `lang`. No ids, or a filter that passes nothing, delete nothing and ask nothing of the
        server.

        Args:
            ids: the ids of the chunks to delete; those that are not there are passed over.
            document: the key of the document whose chunks to delete.
            filter: which chunks to delete, by their metadata: an expression of :class:`preheat.F`, or a dict.

        Returns:
            How many chunks were deleted.

        Raises:
            ArgumentError: unless exactly one of the three is given, or if the filter is invalid, or passes everything.
        """
        return await store.delete(self.executor, ids, document, filter)

    async def clear(self) -> int:
        """Delete all chunks. The collection stays, with its model and its indexes, and so do the answers that are kept
        beside it, which :meth:`answer_table.clear() <preheat.storage.AnswerTable.clear>` deletes.

        All of them go in one transaction, in which nobody else writes. If this role may truncate the table, that is
        quick however many chunks there are, and searches wait for it; otherwise each chunk is deleted.

        Returns:
            How many chunks were deleted; 0 for a collection that has not been made yet.

        Raises:
            AccessError: if this role may not delete chunks.
            CollectionNotFoundError: if the collection is missing and the storage was opened without `dimensions`.
            ConnectError: if there is no connection.
        """
        return await store.clear(self.executor)

    async def drop(self) -> bool:
        """Drop the collection: its chunks and their table, its answers, and its entry in the list of collections, in
        one transaction. Searches and writers wait for it.

        The storage stays open, and :meth:`add` makes the collection again, empty, as this storage was opened for it.

        Returns:
            Whether there was a collection; False if nothing has been stored yet.

        Raises:
            AccessError: if this role does not own the tables.
            CollectionError: if something else depends on them, such as a view.
            ConnectError: if there is no connection.
        """
        return await store.drop(self.executor)

    # Index

    async def create_index(self, *, progress: Callable[[IndexProgress], object] | None = None) -> None:
        """Make the indexes of the collection's vectors, metadata and words if they are missing: after a first bulk
        load, for `index=False`, or for a collection from a time when there was none of its metadata or words.

        First the words are written, for which nobody can use the table; then the indexes are made, for which writers
        wait and readers do not: minutes for a million rows. The server's `maintenance_work_mem` should hold the whole
        index of the vectors.

        Args:
            progress: is called, in the event loop, when something else is made and about five times a second meanwhile.
                It is looked up on another connection of the pool; with a pool of one it is told what is made, no more.

        Raises:
            CollectionError: if the collection is missing and the storage was opened without `dimensions`.

        Cancellation: the server stops. What was being made is not there; run it again.
        """
        await indexing.create_index(self.executor, progress)

    async def lacks_index(self) -> bool:
        """Whether the collection is there without the index of its vectors, so that a search scans its table."""
        return await indexing.lacks_index(self.executor)
