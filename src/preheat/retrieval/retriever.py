"""Find chunks or answers for questions: warm the pool once, embed, search."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar

import anyio

from .._concurrency.gather import gather_bounded
from ..errors import ArgumentError, DimensionError, ungrouped
from ..storage import Chunk, FilterLike, Hits, Plan, Upserted, VectorStorage, as_chunks
from ..warming import WarmOnce
from .answers import THRESHOLD, Answer, AnswerStatistics, AnswerTiers, Question
from .batching import DocumentSource
from .documents import Document, cut_in_thread
from .embedders import Embedder, as_async, known_dimensions, vectors_of
from .ingest import IngestReport, Progress, ingest
from .queries import QueryVectors, RetrievalOptions, check_query
from .refusals import naming

__all__ = ("ResearchRetriever", "Storage")

T = TypeVar("T")

SEARCHES_AT_ONCE = 10
"""How many searches run at a time on a storage without a pool."""


class Storage(Protocol):
    """A storage for a retriever. :class:`preheat.VectorStorage` is one."""

    async def warm_pool(self) -> bool:
        """Warm the pool. True if it is hot; False, and no error, if it could not be warmed."""
        ...

    async def search(
        self, vector: Any, k: int = 5, *, filter: FilterLike | None = None, min_score: float | None = None
    ) -> Hits:
        """The `k` chunks nearest to `vector`.

        The retriever passes an option only if its caller gave it: `filter` and `min_score`, and also `text`, `without`
        and `mmr`, as in :meth:`preheat.VectorStorage.search`. `text` is the query of a retrieval with `hybrid=True`.
        """
        ...

    async def replace_document(self, document: str, chunks: Sequence[Chunk]) -> int:
        """Store the chunks of a document, and delete all others under its key."""
        ...


class ResearchRetriever:
    """Finds the chunks that answer a question.

    The first `retrieve` warms the storage's pool. Concurrent first calls share one warm-up, and the question is
    embedded meanwhile. A failed warm-up does not fail a retrieval: the search runs on a cold pool and raises its own
    error if it fails. Several retrievers on one storage share one warm-up. With the storage's policy `warm="never"`
    nothing is warmed.

    A retriever uses a :class:`preheat.VectorStorage` :meth:`bound to its model <preheat.VectorStorage.bound_to>`. The
    storage itself does not change, so retrievers with different models can be made on one storage. The collection
    belongs to one model; a retriever with another one gets an :class:`preheat.EmbedderError` from its calls.

    Args:
        storage: the storage with the chunks. It must be open when the retriever is used.
        embedder: the model for questions and documents. If its `embed` is not async, it runs in a worker thread, one
            call at a time.
        query_cache: how many vectors of the latest questions to remember, so that a repeated question is not embedded
            again. 0 remembers none. The vectors of stored texts are not remembered.

    Raises:
        ArgumentError: if `query_cache` is below 0.
        DimensionError: if the storage and the embedder have different numbers of dimensions.
        EmbedderError: if the storage was opened for another model.
    """

    def __init__(self, storage: Storage, embedder: Embedder, *, query_cache: int = 256) -> None:
        self.storage = storage
        self.embedder = embedder
        self._model = as_async(embedder)
        self._queries = QueryVectors(self._embed, query_cache)
        wanted, has = getattr(storage, "dimensions", None), known_dimensions(embedder)
        if isinstance(wanted, int) and has is not None and wanted != has:
            raise DimensionError(wanted, has)
        self._bound: Storage = storage.bound_to(embedder.name) if isinstance(storage, VectorStorage) else storage
        self._own_guard: WarmOnce[Any] | None = None
        self._tiers = AnswerTiers(storage, embedder.name, self.must_warm, self._vector_of)

    @property
    def pool_warmed(self) -> bool:
        """True after the first warm-up, whether it succeeded or not."""
        return self._guard().done

    def must_warm(self) -> bool:
        """Whether the next `retrieve` starts or joins a warm-up. On a warm pool, this check is the whole cost."""
        return not (self._guard().done or getattr(self.storage, "warm_policy", None) == "never")

    async def retrieve(
        self,
        query: str,
        k: int = 5,
        *,
        filter: FilterLike | None = None,
        min_score: float | None = None,
        hybrid: bool = False,
        without: Sequence[str] = (),
        mmr: float | None = None,
    ) -> Hits:
        """The `k` chunks nearest to `query`, nearest first.

        Args:
            query: a question or some words; not empty.
            k: how many chunks; at least 1.
            filter: selects chunks by their metadata; see :meth:`preheat.VectorStorage.search`.
            min_score: the lowest score of a hit.
            hybrid: whether to search by the words of the query as well: a search with the query as its `text`. No part
                of the query is an operator.
            without: words and phrases that no hit may have; see :meth:`preheat.VectorStorage.search`.
            mmr: makes the hits differ from each other: 1 is relevance only, 0 is novelty only.

        Returns:
            At most `k` hits; none if nothing is stored yet.

        Raises:
            ArgumentError: if `query` is empty, `k` is below 1, `min_score` is not a number, the filter is invalid, an
                item of `without` has no word, or `mmr` is outside 0 to 1.
            CollectionError: if the collection has no index of its words, and `hybrid` or `without` needs it.
            EmbedderError: if the collection's vectors come from another model.
            ConnectError: if there is no connection to the database.

        Cancellation: leaves promptly. A warm-up that it started goes on until the storage is closed. A model in a
        worker thread finishes its call there, and the next call waits for it.
        """
        check_query(query)
        options = RetrievalOptions(k, filter, min_score, hybrid, without, mmr)
        return await self._search(query, await self._vector_of(query), options)

    async def retrieve_many(
        self,
        queries: Sequence[str],
        k: int = 5,
        *,
        filter: FilterLike | None = None,
        min_score: float | None = None,
        hybrid: bool = False,
        without: Sequence[str] = (),
        mmr: float | None = None,
    ) -> list[Hits]:
        """:meth:`retrieve` for several queries.

        The model is called once, for all queries whose vectors are not remembered. Then as many searches run at the
        same time as the storage's pool has connections. A query that is given twice is embedded and searched once.

        Args:
            queries: questions, none of them empty. The other arguments are as in :meth:`retrieve`, for each query.

        Returns:
            A list of at most `k` hits for each query, in their order.

        Raises:
            PreheatError: whatever :meth:`retrieve` raises. The first error ends the whole call.

        Cancellation: as :meth:`retrieve`.
        """
        if isinstance(queries, str):
            raise ArgumentError("queries is a string; give a list of them, or use retrieve() for one")
        for index, query in enumerate(queries):
            check_query(query, f"query {index}")
        options = RetrievalOptions(k, filter, min_score, hybrid, without, mmr)
        if not queries:
            return []
        vectors = await self._while_warming(lambda: self._queries.vectors_of(queries))

        async def search(query: str) -> Hits:
            return await self._search(query, vectors[query], options)

        found = dict(zip(vectors, await gather_bounded(search, vectors, self._searches_at_once()), strict=True))
        return [Hits(found[query], is_complete=found[query].is_complete) for query in queries]

    async def explain(
        self,
        query: str,
        k: int = 5,
        *,
        filter: FilterLike | None = None,
        min_score: float | None = None,
        hybrid: bool = False,
        without: Sequence[str] = (),
        mmr: float | None = None,
    ) -> Plan:
        """How PostgreSQL runs the search of :meth:`retrieve` with the same arguments; see
        :meth:`preheat.VectorStorage.explain`."""
        check_query(query)
        options = RetrievalOptions(k, filter, min_score, hybrid, without, mmr)
        explain: Callable[..., Awaitable[Plan]] | None = getattr(self._bound, "explain", None)
        if explain is None:
            raise ArgumentError(
                f"a {type(self.storage).__name__} explains nothing; give the retriever a preheat.VectorStorage"
            )
        vector = await self._vector_of(query)
        with self._queries.forgotten_if_refused(query):
            return await explain(vector, k, **options.arguments(query))

    async def retrieve_or_research(
        self,
        query: str,
        research: Callable[[str], Awaitable[Any]],
        *,
        scope: str = "",
        ttl: float | None = None,
        threshold: float = THRESHOLD,
        accept: Callable[[str, Answer], bool | Awaitable[bool]] | None = None,
    ) -> Answer:
        """The stored answer to `query`, or to a similar question, or a fresh answer from `research`.

        Three tiers are tried in turn. *Exact*: the same question has a stored answer. Upper and lower case, white space
        and Unicode's ways to compose a letter make no difference. *Semantic*: a similar question has a stored answer.
        *Fresh*: `research(query)` is awaited, and its answer is stored.

        Concurrent calls with the same question and scope share one research, in this process and, where the pool has a
        connection to spare, in other processes. Calls in this process also share the look-up and the embedding, in a
        task of the storage with the context of the first caller. `accept` is called by each caller. If the database is
        down or slow, this is logged, and the question is researched.

        Args:
            query: a question; not empty.
            research: an async function that finds the answer. It must return what JSON can hold. It runs in a task of
                the storage.
            scope: the owner of the answers, such as a tenant or a user, up to 255 characters. A scope never sees the
                answers of another one.
            ttl: for how many seconds a fresh answer is kept; None keeps it without a limit.
            threshold: how similar another question must be for its answer to be used: the cosine of the two vectors,
                above 0. With 1 the semantic tier is left out.
            accept: a function that is called for each semantic answer, the most similar first, with `query` and the
                answer; async or not. An answer for which it returns False is not used.

        Returns:
            The answer, with its tier, score and age.

        Raises:
            ArgumentError: if `query` is empty, another argument is invalid, or the answer of `research` is not JSON.
            PreheatError: if the storage is closed before there is an answer, or the research cancels itself.
            Exception: whatever `research` or `accept` raises. All callers that share a research get the same error,
                and nothing is stored.

        Cancellation: leaves promptly. The research goes on for the other callers. When the last one has left, it is
        cancelled in the background, unless its answer is being stored already.
        """
        return await self._tiers.answer(Question(query, research, scope, ttl, threshold, accept))

    @property
    def answer_statistics(self) -> AnswerStatistics:
        """How many calls of :meth:`retrieve_or_research` each tier has answered so far."""
        return self._tiers.statistics

    async def add(
        self,
        document: str,
        text: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        format: Literal["text", "markdown"] = "text",
        chunk_size: int = 800,
    ) -> int:
        """Cut a text into chunks, embed them, and store them as a document: all chunks or none. It warms nothing.

        An earlier version of the document is replaced in the same transaction, so that no stale chunk is left. A chunk
        whose text is stored already is not embedded again, and an unchanged chunk is not written.

        Args:
            document: the key of the document, such as a path.
            text: the text.
            metadata: anything that JSON can hold; every chunk gets it.
            format: `"markdown"` cuts at headings, lists and code.
            chunk_size: the most characters of a chunk.

        Returns:
            The number of chunks of the document.

        Raises:
            MissingExtraError: if the extra `local` is not installed.
            PreheatError: whatever :meth:`preheat.VectorStorage.add` raises.

        Cancellation: leaves at once. The whole document is stored, or nothing of it. The text is cut in a worker
        thread, which stops soon after.
        """
        chunks = await cut_in_thread(Document(document, text, metadata or {}, format), chunk_size)
        embed = naming(self._embed, chunks)
        if isinstance(self._bound, VectorStorage):
            return await self._bound.replace_document(document, chunks, embed)
        vectors = await embed([chunk.text for chunk in chunks]) if chunks else []
        embedded = [replace(chunk, embedding=vector) for chunk, vector in zip(chunks, vectors, strict=True)]
        return await self._bound.replace_document(document, embedded)

    async def upsert(self, chunks: Iterable[Chunk]) -> Upserted:
        """Store chunks of your own that are new or have changed. A chunk is embedded if it has no embedding, and its
        text is not stored yet.

        Returns:
            How many chunks were added, changed and unchanged.

        Raises:
            PreheatError: whatever :meth:`preheat.VectorStorage.upsert` raises.
        """
        storage = _vector_storage(self._bound, "upsert")
        given = as_chunks(chunks)
        return await storage.upsert(given, naming(self._embed, given))

    async def embed_missing(self, *, batch_size: int = 256) -> int:
        """Embed the chunks that were stored without an embedding; see :meth:`preheat.VectorStorage.embed_missing`.

        Args:
            batch_size: how many texts the model is given at a time.

        Returns:
            How many chunks got an embedding.

        Raises:
            PreheatError: whatever :meth:`preheat.VectorStorage.embed_missing` raises.
        """
        return await _vector_storage(self._bound, "embed_missing").embed_missing(self._embed, batch_size=batch_size)

    async def ingest(
        self,
        documents: DocumentSource,
        *,
        batch_size: int = 1000,
        chunk_size: int = 800,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Store any number of documents, each of them whole or not at all. It warms nothing.

        Documents are read, looked up, embedded and written at the same time, in batches, so the memory does not grow
        with their number. An unchanged document is looked up, but neither embedded nor written. So to complete an
        interrupted ingest, run it again.

        A missing collection is created without indexes, and they are created at the end, or at the end of the next
        ingest if this one is interrupted. A storage that was opened with `index=False` gets no indexes.

        An error about one document does not end the ingest. The document is left out, `failures` of the report names
        it, and an earlier version under its key stays. Such errors are a text or metadata that cannot be stored, an
        invalid vector, a text that an endpoint refuses, a row that the database refuses, and an item that is not a
        document. An error about all documents ends the ingest: the database or the endpoint is down, or refuses
        everything. To find the one text of many that an endpoint refuses, the texts are sent again in halves.

        Args:
            documents: the source of the documents: an iterable, which is read in one worker thread, or an async
                iterable. Of two documents with the same key the later one is stored.
            batch_size: about how many chunks are embedded and written at a time. A document is never divided.
            chunk_size: the most characters of a chunk.
            progress: called with the report so far after each batch, and while indexes are created.

        Returns:
            How many documents and chunks there were, what was done with them, and which documents failed.

        Raises:
            ArgumentError: if `documents` is not an iterable of documents, or `batch_size` or `chunk_size` is below 1.
            DimensionError: if the vectors of the model have other dimensions than the collection.
            EndpointError: if the endpoint refuses every text, or cannot be reached.
            MissingExtraError: if the extra `local` is not installed.
            Exception: whatever `documents`, the model or `progress` raises. Documents that were written stay.
            PreheatError: whatever else :meth:`preheat.VectorStorage.upsert` raises.

        Cancellation: no document is half written. If a plain iterable is just producing a document, the ingest waits
        for it, for a second at most. A generator is closed in its own thread. A source that still blocks then does
        not delay the end of the process.
        """
        storage = _vector_storage(self._bound, "ingest")
        return await ingest(
            storage, self._embed, documents, batch_size=batch_size, chunk_size=chunk_size, progress=progress
        )

    def _guard(self) -> WarmOnce[Any]:
        """The storage's guard, which all its retrievers share. For a storage without a guard, the retriever has one."""
        guard = getattr(self.storage, "warm_once", None)
        if isinstance(guard, WarmOnce):
            return guard
        if self._own_guard is None:
            self._own_guard = WarmOnce(self.storage.warm_pool)
        return self._own_guard

    async def _search(self, query: str, vector: Any, options: RetrievalOptions) -> Hits:
        with self._queries.forgotten_if_refused(query):
            found: Any = await self._bound.search(vector, options.k, **options.arguments(query))
        return found if isinstance(found, Hits) else Hits(found)

    def _searches_at_once(self) -> int:
        """The number of connections of the storage's pool."""
        size = getattr(getattr(self.storage, "pool", None), "size", None)
        return size if isinstance(size, int) else SEARCHES_AT_ONCE

    async def _vector_of(self, query: str) -> Any:
        """The vector of a query. The first call warms the pool meanwhile."""
        if self.must_warm():
            return await self._while_warming(lambda: self._queries.vector_of(query))
        return await self._queries.vector_of(query)

    async def _while_warming(self, embed: Callable[[], Awaitable[T]]) -> T:
        """Embed and, the first time, warm the pool at the same time.

        If the model fails, the task group cancels this caller's wait for the warm-up, not the warm-up: with a
        `VectorStorage` it runs in the storage's own task group.
        """
        if not self.must_warm():
            return await embed()
        vectors: list[T] = []
        with ungrouped():
            async with anyio.create_task_group() as group:
                group.start_soon(self._guard(), name="preheat: wait for the warm-up")
                vectors.append(await embed())
        return vectors[0]

    async def _embed(self, texts: list[str]) -> Any:
        dimensions = getattr(self.storage, "dimensions", None)
        return await vectors_of(self._model, texts, dimensions if isinstance(dimensions, int) else None)


def _vector_storage(storage: object, what: str) -> VectorStorage:
    if not isinstance(storage, VectorStorage):
        raise ArgumentError(f"{what} needs a VectorStorage, and the retriever has a {type(storage).__name__}")
    return storage
