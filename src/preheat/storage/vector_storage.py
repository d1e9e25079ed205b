"""The storage: one collection in PostgreSQL, on a pool that is warmed once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from ..pools import Prepare, SQLPool
from ..warming import WarmOnce, WarmReport
from . import indexing
from .answers.table import AnswerTable
from .executor import Executor
from .filters.tree import FilterLike
from .indexing import IndexProgress
from .models import Chunk, DocumentInfo, Hit, Hits, Metric, OnConflict, Upserted, ValueCount, VectorLike, VectorType
from .schema.collection import Collection
from .schema.sql import HNSW
from .search import read
from .search.find import find, plan
from .search.options import IterativeScan, SearchOptions
from .search.plan import Plan
from .search.probe import Probe
from .session import PoolState, ReadFrom, Session, WarmPolicy
from .validation import check_text
from .write import store
from .write.embedding import embed_missing
from .write.loading import Embed


class VectorStorage:
    """One collection of chunks in PostgreSQL with pgvector.

    Use it as an async context manager. Entering it opens no connection, so it succeeds even for a server that is
    down. The tables are created when something is first stored. Leaving it ends a warm-up that is under way, and closes
    the pool if the storage opened it.

    A search is one statement and one round trip. A batch is stored whole or not at all.

    Args:
        pool: a DSN, a pool from :func:`preheat.open_pool`, or on asyncio an :class:`asyncpg.Pool`.
        collection: the collection's name: up to 40 letters, digits, underscores and hyphens.
        dimensions: the number of dimensions of its vectors, at most 4,000. None opens a collection that must exist.
        metric: `"cosine"`, `"l2"` or `"inner_product"`; by default the collection's own, cosine for a new one.
        embedder: the name of the model that the vectors come from. The collection records it, and each use is checked
            against the record. See :meth:`bound_to` for a storage with several callers.
        index: whether a new collection gets the indexes of its vectors, metadata and words, and how the index of the
            vectors is built. Without them a first bulk load is many times faster. :meth:`create_index` creates them
            afterwards, and until then a search scans the table.
        schema: the schema that its tables are in, created if it is missing; by default that of the search path.
        vector_type: `"vector"` stores float32, `"halfvec"` float16 in half the room; by default the collection's own,
            for a new one `"vector"` up to 2,000 dimensions and `"halfvec"` above, which no other index holds.
        language: the server's configuration for full text; by default the collection's own, `"english"` for a new one.
        size: the most connections of a pool that the storage opens itself from a DSN.
        warm: when the pool is warmed; setting `PREHEAT_WARM`, by default `"first-use"`.
        warm_connections: how many connections are warmed; setting `PREHEAT_WARM_CONNECTIONS`, by default 3, or as
            many as the pool has.
        warm_timeout: seconds for a whole warm-up; setting `PREHEAT_WARM_TIMEOUT`, by default 5.
        keep_warm: whether a task of the storage warms the pool again, after the first warm-up, whenever one has failed
            or a connection was lost. It sleeps otherwise.
        read_from: where searches go; setting `PREHEAT_READ_FROM`, by default `"primary"`: to the server that the DSN
            leads to. With `"replica"` the storage opens two pools of `size` connections each, and warms both:
            :meth:`search`, :meth:`more_like`, :meth:`explain` and :meth:`neighbors` go to standbys among the hosts of
            the DSN, or to the primary while no standby can be used. Everything else goes to the primary, because it
            writes or must see what was written a moment ago, such as the answers that were stored.
        max_replica_lag: seconds by which a search may be behind, at least 1; as of :func:`preheat.open_pool`.
        connect_timeout: as of :func:`preheat.open_pool`, for a pool that the storage opens itself from a DSN. So are
            `acquire_timeout`, `statement_timeout`, `max_waiting` and `prepare`.

    Raises:
        ArgumentError: if an argument is invalid; raised before any I/O.

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
        keep_warm: bool = False,
        read_from: ReadFrom | None = None,
        max_replica_lag: float | None = None,
        connect_timeout: float | None = None,
        acquire_timeout: float | None = None,
        statement_timeout: float | None = None,
        max_waiting: int | None = None,
        prepare: Prepare | None = None,
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
            keep_warm=keep_warm,
            read_from=read_from,
            max_replica_lag=max_replica_lag,
            probe=Probe(described, embedder),
            connect_timeout=connect_timeout,
            acquire_timeout=acquire_timeout,
            statement_timeout=statement_timeout,
            max_waiting=max_waiting,
            prepare=prepare,
        )
        # Public inside the package alone: retrieval gives it to what storage exports.
        self.executor: Executor = Executor(session, described, embedder)
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
    def read_pool(self) -> SQLPool:
        """The pool that searches use: the one of connections to replicas with `read_from="replica"`, else :attr:`pool`.

        Raises:
            PreheatError: if the storage is not open.
        """
        return self.executor.session.read_pool

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

    @property
    def state(self) -> PoolState:
        """How the pool is now: `"cold"`, `"warming"`, `"warm"`, `"degraded"` or `"closed"`.

        It is `"warm"` while all connections asked for are hot, `"degraded"` after a warm-up that failed or a lost
        connection until the pool is warm again, `"cold"` before the first warm-up, and `"closed"` if the storage is
        not open.
        """
        return self.executor.session.state

    async def wait_warm(self, timeout: float) -> bool:
        """Wait until the pool is warm. This starts no warm-up.

        Args:
            timeout: seconds.

        Returns:
            Whether it is warm now; False if the time has passed or the storage is closed.
        """
        return await self.executor.session.wait_warm(timeout)

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
        vector: VectorLike | None = None,
        k: int = 5,
        *,
        text: str | None = None,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        ids: Sequence[str | UUID] | None = None,
        document: str | None = None,
        min_score: float | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Hits:
        """Find the `k` chunks nearest to `vector`, nearest first, with one statement and one round trip.

        Chunks with equal distances are in the order of their ids. By cosine a stored zero vector is never found, and by
        a vector alone no chunk without an embedding is.

        With a filter the search finds `k` chunks if so many pass it. Where the index does not lead to them, all chunks
        that pass are compared, in the same statement. If more than 50,000 pass, and fewer than `k` were found, a second
        statement compares them, with a second round trip. On each connection the first filter of a shape is prepared,
        which is one more round trip, too.

        With a `text` the search is hybrid: it looks for chunks by their words, too. From each of the two ways it takes
        `max(20, 4 * k)` candidates, and orders all of them by the sum of their reciprocal ranks, `1 / (60 + rank)`,
        which becomes the score. A chunk need not have all of the words. The text has no operators: quotation marks,
        `OR` and `-word` are words like others. `without` takes the words that no hit may have.

        With a `text` and no vector it is a search by words alone, best first by PostgreSQL's `ts_rank`, which is the
        score. It finds chunks without an embedding, too, as a hybrid search does; their distance is a NaN.

        With `mmr` the hits are chosen among as many candidates, one after the other, by their maximal marginal
        relevance: the greatest `mmr * relevance - (1 - mmr) * similarity`, where the similarity is the greatest cosine
        to a hit that is chosen already. The relevance is the score; a score that is not a cosine is divided by the best
        one. The hits are in the order of choosing. It needs pgvector 0.7 or later.

        Args:
            vector: shape `(dimensions,)`; None for a search by the words of `text` alone.
            k: how many hits, at least 1. For more than 1,000 the table is scanned, unless the scan is iterative.
            text: the words to look for, of its first 4,000 characters. If they are all stop words, the vectors alone
                decide.
            without: words that no hit has, however near its vector is, together at most 4,000 characters. Several words
                in one string are a phrase. It does not need a `text`.
            mmr: how much relevance counts compared with novelty: 1 is relevance alone, 0 is novelty alone.
            metric: another metric than the collection's. The index does not serve it, so the table is scanned.
            ef_search: how many candidates the index scan keeps, 1 to 1,000. More candidates find more of the nearest
                chunks, and take longer. By default `2 * k`, at least 100 and at least the server's own setting; with a
                filter as many as hold `2 * k` that pass, 200 to 1,000. A scan that is not iterative yields at most so
                many hits.
            iterative_scan: whether a scan that has run out of candidates goes on; pgvector 0.8 or later. By default it
                does if more than 50,000 chunks pass the filter.
            filter: the chunks to look at, by their metadata, ids, documents or texts: an expression of
                :class:`preheat.F`, or a dict.
            ids: the ids of the chunks to look at; with `document` or `filter` a chunk must pass all of them.
            document: the key of the document to look at.
            min_score: the least score of a hit. It is applied to the `k` hits that were found, with `mmr` to the
                candidates, and costs the server nothing.
            settings: settings of the server for this statement alone, such as `{"app.tenant": "a"}`, which policies
                for row-level security read. They are set in the same round trip, and no session keeps them.

        Returns:
            A list of at most `k` hits; empty if nothing is stored yet. If there are fewer than `k`, its `is_complete`
            tells whether there are no others.

        Raises:
            ArgumentError: if there is neither a vector nor a text, `k` is below 1, the vector holds a NaN, or is zero
                where the metric is cosine, pgvector does not know a setting, `min_score` is not a number, the filter
                is invalid, the text holds a NUL character, an item of `without` has no word, `mmr` is outside 0 to
                1, or the name of a setting has no dot.
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
            ids=ids,
            document=document,
            min_score=min_score,
            settings=settings,
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
        ids: Sequence[str | UUID] | None = None,
        document: str | None = None,
        min_score: float | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Hits:
        """Find the `k` chunks nearest to a stored chunk, without that chunk, with one statement and one round trip.

        Args:
            id: the id of the chunk, such as that of a hit.
            k: how many hits, at least 1. This and the other arguments are those of :meth:`search`.

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
            ids=ids,
            document=document,
            min_score=min_score,
            settings=settings,
        )
        like = check_text("id", str(id) if isinstance(id, UUID) else id).decode()
        return await find(self.executor, options, like=like)

    async def explain(
        self,
        vector: VectorLike | None = None,
        k: int = 5,
        *,
        text: str | None = None,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        ids: Sequence[str | UUID] | None = None,
        document: str | None = None,
        min_score: float | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Plan:
        """Run the statement of :meth:`search` with the same arguments, and return its plan.

        It takes one round trip, and a second one if the collection's metric is not known yet. The second statement of a
        search whose first one found too few chunks is not shown.

        Returns:
            The plan, with the names of the indexes that were used.

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
            ids=ids,
            document=document,
            min_score=min_score,
            settings=settings,
        )
        return await plan(self.executor, vector, options)

    # Read

    async def get(self, ids: Sequence[str | UUID]) -> list[Chunk]:
        """The chunks with these ids, in the order of document and position. Ids that are not stored are left out."""
        return await read.get(self.executor, ids)

    async def count(self, *, document: str | None = None, filter: FilterLike | None = None) -> int:
        """How many chunks are stored.

        Args:
            document: the key of a document, to count its chunks alone.
            filter: which chunks to count, by their metadata; see :meth:`search`.

        Raises:
            ArgumentError: if the filter is invalid.
        """
        return await read.count(self.executor, document, filter)

    async def metadata_values(
        self, *path: str, document: str | None = None, filter: FilterLike | None = None, limit: int = 1000
    ) -> list[ValueCount]:
        """The distinct values of a key of the metadata, the most frequent first, and how many chunks have each. A list
        is one value as a whole, and `1` and `1.0` are two values. All chunks are read.

        Args:
            path: the key, or the keys that lead into nested objects, as of :class:`preheat.F`.
            document: the key of a document, to look at its chunks alone.
            filter: the chunks to look at; see :meth:`search`.
            limit: the most values, at least 1.

        Raises:
            ArgumentError: if a key or the filter is invalid, or `limit` is below 1.
        """
        return await read.metadata_values(self.executor, path, document, filter, limit)

    async def metadata_keys(self) -> dict[str, frozenset[str]]:
        """The keys of the metadata of all chunks, in order, each with the JSON types of its values: `"string"`,
        `"number"`, `"boolean"`, `"null"`, `"array"` or `"object"`. All chunks are read."""
        return await read.metadata_keys(self.executor)

    def documents(self, prefix: str = "") -> AsyncGenerator[DocumentInfo]:
        """All documents, in the order of their keys, as an async iterator for `async for`.

        They are fetched in pages, and no connection is held between pages; see :meth:`chunks`.

        Args:
            prefix: the beginning of their keys, such as a folder. An index serves it.
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
        """All chunks in the order of their ids, or those of one document in its own order, as an async iterator for
        `async for`.

        The chunks are fetched in pages of `batch_size`. Each page is one statement that continues after the previous
        one. No connection and no transaction is held between pages, so the caller may take any time over a chunk,
        change the collection meanwhile, or stop half-way. A chunk that is stored all the time comes exactly once.

        Args:
            document: the key of a document, to fetch its chunks alone.
            filter: the chunks to fetch, by their metadata; see :meth:`search`.
            batch_size: how many chunks are fetched at a time, at least 1.
            embeddings: False leaves out the embeddings, which are most of the data.

        Raises:
            ArgumentError: if `batch_size` is below 1 or the filter is invalid.
        """
        return read.chunks(self.executor, document, filter, batch_size, embeddings=embeddings)

    async def neighbors(self, chunk: Hit | Chunk, before: int = 1, after: int = 1) -> list[Chunk]:
        """The chunks before and after a chunk in its document, in order, to show a hit in its context.

        The chunk itself is not among them, and they have no embeddings.

        Args:
            chunk: a hit, or a chunk that is stored.
            before: at most how many chunks before it.
            after: at most how many chunks after it.

        Raises:
            ArgumentError: if `before` or `after` is below 0.
        """
        return await read.neighbors(self.executor, chunk, before, after)

    # Write

    async def create(self) -> int:
        """Create the collection if it is missing, and check that its definition is the one this storage was opened for.

        The first :meth:`add` does it by itself.

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
            chunks: what to store. A chunk without an embedding is stored as it is. Only searches by words find it,
                until :meth:`embed_missing` or :func:`preheat.reembed` embeds it.
            on_conflict: what to do with a chunk whose id is stored already, or is the id of an earlier chunk of the
                batch. `"replace"` replaces the earlier one, with its embedding. `"skip"` leaves the earlier one as it
                is. `"error"` stores nothing of the batch and raises an error.

        Returns:
            How many chunks were written. With `"replace"` it is the number of ids in the batch, with `"skip"` the
            number of ids that were new, with `"error"` the number of chunks.

        Raises:
            ChunkExistsError: if `on_conflict` is `"error"` and an id is stored already; it names the chunk.
            DimensionError: if an embedding has another number of dimensions than the collection.
            ArgumentError: if an embedding holds a NaN or infinity, or a text or metadata cannot be stored; or if
                `on_conflict` is `"error"` and two chunks have the same id.
            CollectionError: if the collection is not what the storage was opened for.
            EmbedderError: if the collection's vectors come from another model.
            ExtensionError: if pgvector is missing and cannot be added.
            ConnectError: if there is no connection.
        """
        return await store.add(self.executor, chunks, on_conflict)

    async def upsert(self, chunks: Iterable[Chunk], embed: Embed | None = None) -> Upserted:
        """Store the chunks that have changed, all of them or none. An unchanged chunk costs a look-up only.

        A chunk is unchanged if the stored chunk with its id has the same text, metadata, document and position. The
        server compares a hash of the text, so that no text goes over the wire. If only the text is the same, the rest
        is written and the stored embedding stays, as it belongs to the text; :meth:`add` replaces the embedding, too. A
        chunk that is stored without an embedding counts as changed if it gets one now.

        The look-up is one statement outside of any transaction, and nothing is locked while texts are embedded. The
        transaction that writes looks again, under the locks of the documents, which all calls of `upsert` and
        `replace_document` take. So a chunk that another writer has changed since the look-up is written, too, and
        embedded first if it has to be. Of two writers who store different texts under one id, the later one wins.

        Args:
            chunks: what to store; of two with the same id the later one is stored.
            embed: an async function that returns the vector of each text, in order. It is called once with all texts
                that have changed and whose chunks have no embedding, and not at all if there are none. Without `embed`
                these chunks are stored without an embedding; see :meth:`embed_missing`.
                :meth:`preheat.ResearchRetriever.upsert` uses the retriever's model.

        Returns:
            How many chunks were added, changed and left alone.

        Raises:
            PreheatError: whatever :meth:`add` raises.
        """
        return await store.upsert(self.executor, chunks, embed)

    async def embed_missing(self, embed: Embed, *, batch_size: int = 256) -> int:
        """Embed the chunks that were stored without an embedding, in the order of their ids.

        Nothing is locked while texts are embedded. A chunk that is changed or deleted meanwhile is left as it is then.
        If the run is interrupted, the batches that were written stay, and the next run goes on from there.

        Args:
            embed: an async function that returns the vector of each text, in order.
                :meth:`preheat.ResearchRetriever.embed_missing` uses the retriever's model.
            batch_size: how many texts it is given at a time, at least 1.

        Returns:
            How many chunks got an embedding.

        Raises:
            ArgumentError: if `batch_size` is below 1, or a vector cannot be stored; it names the chunk.
            CollectionError: if the collection is missing and the storage was opened without `dimensions`.
            EmbedderError: if the collection's vectors come from another model.
            ConnectError: if there is no connection.
        """
        return await embed_missing(self.executor, embed, batch_size)

    async def replace_document(self, document: str, chunks: Iterable[Chunk], embed: Embed | None = None) -> int:
        """Replace all chunks of a document, in one transaction.

        Args:
            document: the key of the document.
            chunks: its new chunks; an empty list deletes the document.
            embed: if given, the chunks are stored as :meth:`upsert` does it: unchanged ones are neither embedded nor
                written.

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

        A filter that passes every chunk whatever its metadata is refused, however it is written: `{}`,
        `{"$and": [{}]}`, `{"lang": {"$nin": []}}`, `F("lang").exists() | F("lang").missing()`. A filter that passes
        every chunk only because of what is stored is not refused: `{"lang": {"$exists": False}}` deletes everything
        where no chunk has a `lang`. An empty list of ids, or a filter that passes nothing, deletes nothing, without a
        round trip.

        Args:
            ids: the ids of the chunks to delete. Ids that are not stored are ignored.
            document: the key of the document whose chunks to delete.
            filter: the chunks to delete, by their metadata: an expression of :class:`preheat.F`, or a dict.

        Returns:
            How many chunks were deleted.

        Raises:
            ArgumentError: unless exactly one of the three is given, or if the filter is invalid, or passes everything.
        """
        return await store.delete(self.executor, ids, document, filter)

    async def update_metadata(
        self,
        metadata: Mapping[str, Any],
        *,
        ids: Sequence[str | UUID] | None = None,
        document: str | None = None,
        filter: FilterLike | None = None,
        replace: bool = False,
    ) -> int:
        """Change the metadata of stored chunks, all of them or none, with one statement and one round trip. Texts and
        embeddings stay.

        Args:
            metadata: the keys to set, with their values. The other keys stay.
            ids: the ids of the chunks to change; with `document` or `filter` a chunk must pass all of them.
            document: the key of the document whose chunks to change.
            filter: the chunks to change; `{}` is all of them.
            replace: whether `metadata` takes the place of all that a chunk has.

        Returns:
            How many chunks passed.

        Raises:
            ArgumentError: if none of `ids`, `document` and `filter` is given, one of them is invalid, or the metadata
                cannot be stored.
        """
        return await store.update_metadata(self.executor, metadata, ids, document, filter, replace=replace)

    async def clear(self) -> int:
        """Delete all chunks. The collection stays, with its model, its indexes and its answers;
        :meth:`answer_table.clear() <preheat.storage.AnswerTable.clear>` deletes the answers.

        One transaction deletes all of them, and other writers wait for it. If this role may truncate the table, it
        takes the same short time for any number of chunks, and searches wait, too. Otherwise each chunk is deleted.

        Returns:
            How many chunks were deleted; 0 for a collection that was not created yet.

        Raises:
            AccessError: if this role may not delete chunks.
            CollectionNotFoundError: if the collection is missing and the storage was opened without `dimensions`.
            ConnectError: if there is no connection.
        """
        return await store.clear(self.executor)

    async def drop(self) -> bool:
        """Drop the collection: its chunks and their table, its answers, and its entry in the list of collections, in
        one transaction. Searches and writers wait for it.

        The storage stays open, and :meth:`add` creates the collection again, with the definition of this storage.

        Returns:
            Whether there was a collection; False if nothing has been stored yet.

        Raises:
            AccessError: if this role does not own the tables.
            CollectionError: if something else depends on them, such as a view.
            ConnectError: if there is no connection.
        """
        return await store.drop(self.executor)

    # Index

    async def create_index(
        self, *, progress: Callable[[IndexProgress], object] | None = None, memory: str | None = None
    ) -> None:
        """Create the indexes of the collection's vectors, metadata and words that are missing: after a first bulk load,
        with `index=False`, or for a collection of an earlier release.

        First the column of words is written, and readers and writers wait. Then the indexes are created, and only
        writers wait: minutes for a million rows.

        The index is built much faster if the server has memory for all of it (`maintenance_work_mem`). By default it is
        estimated from the number of rows and their dimensions, and set for this transaction alone, up to a quarter of
        the server's `effective_cache_size`.

        Args:
            progress: is called in the event loop when the next index is begun, and about five times a second meanwhile.
                The progress is read on another connection of the pool; with a pool of one only the beginnings are
                reported. A notice of the server, such as that the memory is too small, is a report of its own.
            memory: the memory for building an index, such as `"2GB"`, in place of the estimate.

        Raises:
            ArgumentError: if `memory` is not a number with a unit.
            CollectionError: if the collection is missing and the storage was opened without `dimensions`.

        Cancellation: the server stops, and the index that it was creating is gone. Run it again.
        """
        await indexing.create_index(self.executor, progress, memory)

    async def lacks_index(self) -> bool:
        """Whether the collection exists without the index of its vectors, so that a search scans its table."""
        return await indexing.lacks_index(self.executor)
