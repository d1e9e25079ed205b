"""Questions to chunks, or to answers: warm once, embed, search."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar

import anyio

from .._concurrency.gather import gather_bounded
from ..errors import ArgumentError, DimensionError, ungrouped
from ..storage import (
    Batch,
    Chunk,
    FilterLike,
    Hits,
    Loader,
    Plan,
    Upserted,
    VectorStorage,
    as_chunks,
    check_k,
    has_direction,
)
from ..warming import WarmOnce
from .answers import THRESHOLD, Answer, AnswerStatistics, AnswerTiers, Question
from .batching import DocumentSource
from .documents import Document
from .embedders import Embedder, as_async, known_dimensions, vectors_of
from .ingest import IngestReport, Progress, ingest
from .queries import LatestQueries, check_query, search_options
from .refusals import naming, naming_queries

__all__ = ("ResearchRetriever", "Storage")

T = TypeVar("T")

SEARCHES_AT_ONCE = 10
"""For a storage that says nothing of a pool."""


class Storage(Protocol):
    """What a retriever needs of a storage; :class:`preheat.VectorStorage` is one."""

    async def warm_pool(self) -> bool:
        """Warm the pool; True if it is hot, False, never an error, if it could not be warmed."""
        ...

    async def search(
        self, vector: Any, k: int = 5, *, filter: FilterLike | None = None, min_score: float | None = None
    ) -> Hits:
        """The `k` chunks nearest to `vector`. It is called with a filter or a least score if a retrieval has one; and
        with `text`, `without` or `mmr`, as :meth:`preheat.VectorStorage.search` has them, if that is asked for."""
        ...

    async def replace_document(self, document: str, chunks: Sequence[Chunk]) -> int:
        """Store the chunks of a document in place of all that is stored under its key. A `VectorStorage` is given the
        model instead of embeddings, so that what has not changed needs none."""
        ...


class ResearchRetriever:
    """Finds the chunks that answer a question.

    The first `retrieve` warms the storage's pool, once, however many come together; embedding goes on meanwhile. A
    failed warm-up never fails a retrieval: it runs on a cold pool and reports its own error if there is one. Several
    retrievers on one storage share one warm-up. With the storage's policy `warm="never"` nothing is warmed.

    Args:
        storage: where the chunks are; it must be open when the retriever is used.
        embedder: the model for questions and documents. One whose `embed` is not async runs in a worker thread, one
            call at a time.
        query_cache: how many questions to remember the vectors of, so that one that is asked again is not embedded
            again; 0 remembers none. Texts that are stored are not remembered.

    Raises:
        ArgumentError: if `query_cache` is below 0.
        DimensionError: if storage and embedder have different numbers of dimensions.
        EmbedderError: if the storage was opened for another model.
    """

    def __init__(self, storage: Storage, embedder: Embedder, *, query_cache: int = 256) -> None:
        self.storage = storage
        self.embedder = embedder
        self._own_guard: WarmOnce[Any] | None = None
        self._model = as_async(embedder)
        self._queries = LatestQueries(query_cache)
        wanted, has = getattr(storage, "dimensions", None), known_dimensions(embedder)
        if isinstance(wanted, int) and has is not None and wanted != has:
            raise DimensionError(wanted, has)
        self._tiers = AnswerTiers(storage, embedder.name, self.must_warm, self._vector_of)
        self._bound: Storage = storage
        """The storage, bound to the name of the model if it can be."""
        if isinstance(storage, VectorStorage):
            self._bound = storage.bound_to(embedder.name)

    @property
    def pool_warmed(self) -> bool:
        """True after the first warm-up, whether it succeeded or not."""
        return self._guard().done

    def must_warm(self) -> bool:
        """Whether the next `retrieve` starts or joins a warm-up. Once the pool is warmed this is all that it costs."""
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
            k: how many; at least 1.
            filter: which chunks to look at, by their metadata; see :meth:`preheat.VectorStorage.search`.
            min_score: the least score of a hit.
            hybrid: whether chunks are looked for by the words of the query, too. Nothing in the query is an operator.
            without: words and phrases that no hit has; see :meth:`preheat.VectorStorage.search`.
            mmr: makes the hits differ from each other: 1 is relevance alone, 0 novelty alone.

        Returns:
            At most `k` hits; none if nothing is stored yet.

        Raises:
            ArgumentError: if `query` is empty, `k` is below 1, `min_score` is no number, the filter is none, `without`
                holds something without a word, or `mmr` is outside 0 to 1.
            CollectionError: if the collection has no index of its words, and `hybrid` or `without` needs one.
            EmbedderError: if the collection's vectors come from another model.
            ConnectError: if there is no connection to the database.

        Cancellation: leaves promptly. A warm-up that it started goes on until the storage is closed, and a model that
        works in a thread finishes there, before it is asked again.
        """
        check_query(query)
        check_k(k)
        options = search_options(filter, min_score, without, mmr, k)
        if hybrid:
            options["text"] = query
        return await self._search(query, await self._vector_of(query), k, options)

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
        """What :meth:`retrieve` finds for each of some queries, in their order.

        The model is asked once, for all that it has not been asked lately; then as many searches go on at the same time
        as the storage's pool has connections. A query that is there twice is embedded and searched for once.

        Args:
            queries: questions, none of them empty. The other arguments are as in :meth:`retrieve`, for each of them.

        Returns:
            A list of at most `k` hits for each query.

        Raises:
            PreheatError: whatever :meth:`retrieve` raises: the first error ends all of it.

        Cancellation: as :meth:`retrieve`.
        """
        if isinstance(queries, str):
            raise ArgumentError("queries is a string; give a list of them, or use retrieve() for one")
        for place, query in enumerate(queries):
            check_query(query, f"query {place}")
        check_k(k)
        options = search_options(filter, min_score, without, mmr, k)
        if not queries:
            return []
        vectors = await self._while_warming(lambda: self._embed_queries(queries))

        async def search(query: str) -> Hits:
            return await self._search(query, vectors[query], k, {**options, "text": query} if hybrid else options)

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
        check_k(k)
        options = search_options(filter, min_score, without, mmr, k)
        explain: Callable[..., Awaitable[Plan]] | None = getattr(self._bound, "explain", None)
        if explain is None:
            raise ArgumentError(
                f"a {type(self.storage).__name__} explains nothing; give the retriever a preheat.VectorStorage"
            )
        vector = await self._vector_of(query)
        with self._forgetting(query):
            return await explain(vector, k, **({**options, "text": query} if hybrid else options))

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
        """The answer to `query` that is kept from an earlier time, or the one that `research` finds now.

        Three tiers are tried in turn. *Exact*: an answer to the same question is kept; upper and lower case, white
        space and Unicode's ways to compose a letter make no difference. *Semantic*: one to a question that is near
        enough. *Fresh*: `research(query)` is awaited, and its answer is kept for the next time.

        Calls with the same question and scope that come while it is being researched wait for that one answer, in this
        process and, where the pool has a connection to spare, in others. A database that is down or slow does not keep
        anybody from an answer: it is logged, and the question is researched.

        Args:
            query: a question; not empty.
            research: finds the answer; it must be async, and return what JSON can hold. It runs in a task of the
                storage's own.
            scope: whose answers, such as a tenant's or a user's, up to 255 characters; no scope sees those of another.
            ttl: for how many seconds a fresh answer is kept; None for ever.
            threshold: how near a question must be whose answer serves for this one, too: the cosine of their vectors,
                above 0. With 1 the semantic tier is left out.
            accept: is asked about each semantic answer, the nearest first, with `query` and the answer; async or not.
                What it refuses is not used.

        Returns:
            The answer, with the tier that it comes from, its score and its age.

        Raises:
            ArgumentError: if `query` is empty, another argument cannot be right, or the answer of research is not JSON.
            PreheatError: if the storage is closed before there is an answer, or the research cancels itself.
            Exception: whatever `research` or `accept` raises; whoever waits for the same research gets the same error,
                and nothing is kept.

        Cancellation: leaves promptly. The research goes on for others who wait for it; if nobody does it is cancelled
        in the background. An answer that is being stored already is stored all the same.
        """
        return await self._tiers.answer(Question(query, research, scope, ttl, threshold, accept))

    @property
    def answer_statistics(self) -> AnswerStatistics:
        """How the calls of :meth:`retrieve_or_research` were answered so far."""
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
        """Cut a text into chunks, embed them and store them as a document, all or none. It warms nothing.

        What was stored under the same key before goes in the same transaction, so that no stale chunk stays behind. A
        chunk whose text is stored already is not embedded again, and one that has not changed is not written either.

        Args:
            document: the key of the document, such as a path.
            text: its text.
            metadata: anything that JSON can hold; given to every chunk.
            format: `"markdown"` cuts at headings, lists and code.
            chunk_size: the most characters of a chunk.

        Returns:
            How many chunks the document has now.

        Raises:
            MissingExtraError: if the extra `local` is not installed.
            PreheatError: whatever :meth:`preheat.VectorStorage.add` raises.

        Cancellation: leaves at once; nothing of the document is stored, or all of it. The text is cut in a worker
        thread, which stops soon after.
        """
        cut = Document(document, text, metadata or {}, format)
        if isinstance(self._bound, VectorStorage):
            chunks, batch = await cut.in_thread(chunk_size, lambda chunks: (chunks, Batch(chunks, [document])))
            await Loader(self._bound.executor).store(batch, naming(self._embed, chunks))
            return len(batch)
        chunks = await cut.in_thread(chunk_size, lambda chunks: chunks)
        vectors = await naming(self._embed, chunks)([chunk.text for chunk in chunks]) if chunks else []
        embedded = [replace(chunk, embedding=vector) for chunk, vector in zip(chunks, vectors, strict=True)]
        return await self._bound.replace_document(document, embedded)

    async def upsert(self, chunks: Iterable[Chunk]) -> Upserted:
        """Store chunks of your own where they have changed, and embed those that need it: those that have no embedding
        of their own and whose text is not stored yet.

        Returns:
            How many chunks were added, changed and left alone.

        Raises:
            PreheatError: whatever :meth:`preheat.VectorStorage.upsert` raises.
        """
        storage = _vector_storage(self._bound, "upsert")
        given = as_chunks(chunks)
        return await storage.upsert(given, naming(self._embed, given))

    async def ingest(
        self,
        documents: DocumentSource,
        *,
        batch_size: int = 1000,
        chunk_size: int = 800,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Bring any number of documents into the collection, each of them whole or not at all. It warms nothing.

        Documents are read, looked up, embedded and written at the same time, in batches, so that the memory that it
        takes does not grow with their number. What has not changed costs a look-up and is neither embedded nor written.
        So an ingest that broke off is completed by running it again.

        A collection that is missing is made without indexes, which are made at the end; if it broke off before that,
        at the end of the next ingest. With a storage that was opened with `index=False` there are none.

        What is wrong with one document keeps no other from being stored: a text or metadata that cannot be stored, a
        vector that is not a list of finite numbers, a text that an endpoint refuses, a row that the database refuses,
        something that is not a document. The report has these in `failures`, and what was stored under their keys
        before stays. What is wrong with all of them ends the ingest: the database or the endpoint is down, or refuses
        whatever it is given. To find the text of many that an endpoint refuses, they are given to it again in halves.

        Args:
            documents: where they come from: an iterable, which is asked in one worker thread from its beginning to its
                end, or an async iterable. Of two with the same key the later one counts.
            batch_size: about how many chunks are embedded and written at a time. A document is never divided.
            chunk_size: the most characters of a chunk.
            progress: is called with the report so far after each batch, and while indexes are made.

        Returns:
            How many documents and chunks there were, what has become of these, and which documents failed.

        Raises:
            ArgumentError: if `documents` is not an iterable of documents, or `batch_size` or `chunk_size` is below 1.
            DimensionError: if the model gives vectors of other dimensions than the collection's.
            EndpointError: if the endpoint refuses whatever it is given, or cannot be reached.
            MissingExtraError: if the extra `local` is not installed.
            Exception: whatever `documents`, the model or `progress` raises. What was written stays.
            PreheatError: whatever else :meth:`preheat.VectorStorage.upsert` raises.

        Cancellation: no document is half written. A plain iterable that is just about to give a document is waited
        for, for a second at most; a generator is closed in its own thread. On asyncio the end of the process waits for
        a source that still blocks then.
        """
        storage = _vector_storage(self._bound, "ingest")
        return await ingest(
            storage, self._embed, documents, batch_size=batch_size, chunk_size=chunk_size, progress=progress
        )

    def _guard(self) -> WarmOnce[Any]:
        """The storage's guard, which retrievers share; one of our own for a storage that has none."""
        guard = getattr(self.storage, "warm_once", None)
        if isinstance(guard, WarmOnce):
            return guard
        if self._own_guard is None:
            self._own_guard = WarmOnce(self.storage.warm_pool)
        return self._own_guard

    async def _search(self, query: str, vector: Any, k: int, options: dict[str, Any]) -> Hits:
        with self._forgetting(query):
            found: Any = await self._bound.search(vector, k, **options)
        return found if isinstance(found, Hits) else Hits(found)

    @contextmanager
    def _forgetting(self, query: str) -> Generator[None]:
        """Remember the vector of `query` no more if it is refused: the model may do better next time."""
        try:
            yield
        except ArgumentError:
            self._queries.forget(query)
            raise

    def _searches_at_once(self) -> int:
        """As many as the storage's pool has connections."""
        size = getattr(getattr(self.storage, "pool", None), "size", None)
        return size if isinstance(size, int) else SEARCHES_AT_ONCE

    async def _vector_of(self, query: str) -> Any:
        """The vector of a question; the first time, warm meanwhile."""
        if self.must_warm():
            return await self._while_warming(lambda: self._embed_query(query))
        return await self._embed_query(query)

    async def _while_warming(self, embed: Callable[[], Awaitable[T]]) -> T:
        """Embed while the pool is warmed, the first time: neither needs the other. A model that fails does not wait for
        the warm-up."""
        if not self.must_warm():
            return await embed()
        vectors: list[T] = []
        with ungrouped():
            async with anyio.create_task_group() as group:
                group.start_soon(self._guard(), name="preheat: wait for the warm-up")
                vectors.append(await embed())
        return vectors[0]

    async def _embed_queries(self, queries: Sequence[str]) -> dict[str, Any]:
        """The vectors of questions, if possible without asking the model, and at most once."""
        vectors = {query: self._queries.get(query) for query in queries}
        missing = [query for query, vector in vectors.items() if vector is None]
        if missing:
            embed = naming_queries(self._embed, queries)
            for query, vector in zip(missing, await embed(missing), strict=True):
                vectors[query] = vector
                self._remember(query, vector)
        return vectors

    async def _embed_query(self, query: str) -> Any:
        """The vector of a question, if possible without asking the model."""
        vector = self._queries.get(query)
        if vector is None:
            vector = (await self._embed([query]))[0]
            self._remember(query, vector)
        return vector

    def _remember(self, query: str, vector: Any) -> None:
        """Remember the vector of `query`, unless it is as good as zero: the model may do better next time."""
        if has_direction(vector):
            self._queries.put(query, vector)

    async def _embed(self, texts: list[str]) -> Any:
        dimensions = getattr(self.storage, "dimensions", None)
        return await vectors_of(self._model, texts, dimensions if isinstance(dimensions, int) else None)


def _vector_storage(storage: object, what: str) -> VectorStorage:
    if not isinstance(storage, VectorStorage):
        raise ArgumentError(f"{what} needs a VectorStorage, and the retriever has a {type(storage).__name__}")
    return storage
