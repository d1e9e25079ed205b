"""LangChain: a vector store and a retriever.

The extra `langchain` brings langchain-core, and this module needs nothing else of LangChain. Async methods run in the
event loop of the storage. Plain methods need a storage in a :class:`preheat.integrations.Background`.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any, ClassVar

from anyio import to_thread

from ..errors import ArgumentError, MissingExtraError
from ..pools import running_backend
from ..retrieval import ResearchRetriever
from ..storage import Chunk, Hits, VectorStorage
from .background import call, call_async, storage_of, warmed

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
    from pydantic import ConfigDict, Field
except ImportError as _error:
    raise MissingExtraError("preheat.integrations.langchain", "langchain") from _error

__all__ = ("PreheatRetriever", "PreheatVectorStore")


class PreheatVectorStore(VectorStore):
    """A LangChain vector store on a storage.

    The first search warms the storage's pool, once for all callers. `filter` is that of
    :meth:`preheat.VectorStorage.search`, and so is every further keyword argument of a search, such as `min_score`,
    `document` or `settings`. `hybrid=True` searches by the words of the query, too. The scores are those of
    :class:`preheat.Hit`: higher is better.

    Args:
        storage: an open storage; for methods that are not async, open in a :class:`preheat.integrations.Background`.
        embedding: the model.
    """

    def __init__(self, storage: VectorStorage, embedding: Embeddings) -> None:
        self.storage = storage
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings:
        """The model."""
        return self._embedding

    # Write

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed texts and store them; a text with the id of a stored one replaces that. Returns the ids."""
        texts = list(texts)
        chunks = _chunks(texts, metadatas, ids, self._embedding.embed_documents(texts) if texts else [], **kwargs)
        call(self.storage, lambda: self.storage.add(chunks))
        return [chunk.id for chunk in chunks]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """As :meth:`add_texts`."""
        texts = list(texts)
        chunks = _chunks(texts, metadatas, ids, await self._embedded(texts) if texts else [], **kwargs)
        await call_async(self.storage, lambda: self.storage.add(chunks))
        return [chunk.id for chunk in chunks]

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete by ids, by `document=` or by `filter=`; all that is stored if none is given."""
        call(self.storage, lambda: _delete(self.storage, ids, **kwargs))
        return True

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """As :meth:`delete`."""
        await call_async(self.storage, lambda: _delete(self.storage, ids, **kwargs))
        return True

    # Read

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The stored documents with these ids, in the order of the ids; those that are missing are left out."""
        return _in_order(ids, call(self.storage, lambda: self.storage.get(ids)))

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """As :meth:`get_by_ids`."""
        return _in_order(ids, await call_async(self.storage, lambda: self.storage.get(ids)))

    # Search

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The `k` documents nearest to a query, nearest first."""
        return _documents(self._search(self._embedding.embed_query(query), k, query, **kwargs))

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """As :meth:`similarity_search`."""
        return _documents(await self._asearch(await self._vector_of(query), k, query, **kwargs))

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """The `k` documents nearest to a query, each with its score."""
        return _scored(self._search(self._embedding.embed_query(query), k, query, **kwargs))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As :meth:`similarity_search_with_score`."""
        return _scored(await self._asearch(await self._vector_of(query), k, query, **kwargs))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """The `k` documents nearest to a vector, nearest first."""
        return _documents(self._search(embedding, k, **kwargs))

    async def asimilarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """As :meth:`similarity_search_by_vector`."""
        return _documents(await self._asearch(embedding, k, **kwargs))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Documents that are near to a query and differ from each other.

        They are chosen among `max(20, 4 * k)` candidates, whatever `fetch_k` says; `lambda_mult` is the `mmr` of
        :meth:`preheat.VectorStorage.search`.
        """
        return _documents(self._search(self._embedding.embed_query(query), k, query, mmr=lambda_mult, **kwargs))

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """As :meth:`max_marginal_relevance_search`."""
        return _documents(await self._asearch(await self._vector_of(query), k, query, mmr=lambda_mult, **kwargs))

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """As :meth:`max_marginal_relevance_search`, for a vector."""
        return _documents(self._search(embedding, k, mmr=lambda_mult, **kwargs))

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """As :meth:`max_marginal_relevance_search_by_vector`."""
        return _documents(await self._asearch(embedding, k, mmr=lambda_mult, **kwargs))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: min(1.0, max(0.0, score))

    # Make one

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        storage: VectorStorage | None = None,
        **kwargs: Any,
    ) -> PreheatVectorStore:
        """A store on `storage`, which must be given, with these texts in it."""
        store = cls(_given(storage), embedding)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        storage: VectorStorage | None = None,
        **kwargs: Any,
    ) -> PreheatVectorStore:
        """As :meth:`from_texts`."""
        store = cls(_given(storage), embedding)
        await store.aadd_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def _search(self, vector: list[float], k: int, query: str | None = None, **options: Any) -> Hits:
        return call(self.storage, partial(_search, self.storage, vector, k, query, **options))

    async def _asearch(self, vector: list[float], k: int, query: str | None = None, **options: Any) -> Hits:
        return await call_async(self.storage, partial(_search, self.storage, vector, k, query, **options))

    async def _vector_of(self, query: str) -> list[float]:
        if running_backend() == "asyncio":  # LangChain's own async methods know no other event loop
            return list(await self._embedding.aembed_query(query))
        return list(await to_thread.run_sync(self._embedding.embed_query, query))

    async def _embedded(self, texts: list[str]) -> list[list[float]]:
        if running_backend() == "asyncio":
            return list(await self._embedding.aembed_documents(texts))
        return list(await to_thread.run_sync(self._embedding.embed_documents, texts))


class PreheatRetriever(BaseRetriever):
    """A LangChain retriever on a :class:`preheat.ResearchRetriever`: `PreheatRetriever(retriever=..., k=4)`.

    Keyword arguments of `invoke` go to :meth:`preheat.ResearchRetriever.retrieve`. `invoke` needs the storage of the
    retriever in a :class:`preheat.integrations.Background`; `ainvoke` does not.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    retriever: ResearchRetriever
    """Finds the chunks."""
    k: int = 4
    """How many documents."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of each retrieval, such as `filter` or `hybrid`."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return _documents(call(storage_of(self.retriever), self._retrieval(query, kwargs)))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return _documents(await call_async(storage_of(self.retriever), self._retrieval(query, kwargs)))

    def _retrieval(self, query: str, given: dict[str, Any]) -> Callable[[], Any]:
        return partial(self.retriever.retrieve, query, **{"k": self.k, **self.options, **given})


async def _search(
    storage: VectorStorage, vector: list[float], k: int, query: str | None, *, hybrid: bool = False, **options: Any
) -> Hits:
    if hybrid:
        options["text"] = query
    return await (await warmed(storage)).search(vector, k, **options)


async def _delete(storage: VectorStorage, ids: list[str] | None, **kwargs: Any) -> None:
    if ids is None and not kwargs:
        await storage.clear()
    else:
        await storage.delete(ids, **kwargs)


def _chunks(
    texts: list[str],
    metadatas: list[dict[str, Any]] | None,
    ids: Sequence[str | None] | None,
    vectors: list[list[float]],
    document: str = "",
) -> list[Chunk]:
    for what, given in (("metadatas", metadatas), ("ids", ids)):
        if given is not None and len(given) != len(texts):
            raise ArgumentError(f"there are {len(given)} {what} for {len(texts)} texts; give one for each text")
    return [
        Chunk(text, vector, metadata or {}, document, id=id or str(uuid.uuid4()))
        for text, vector, metadata, id in zip(
            texts, vectors, metadatas or repeat({}), ids or repeat(None), strict=False
        )
    ]


def _documents(hits: Iterable[Any]) -> list[Document]:
    return [Document(id=hit.id, page_content=hit.text, metadata=dict(hit.metadata)) for hit in hits]


def _scored(hits: Hits) -> list[tuple[Document, float]]:
    return [(document, hit.score) for document, hit in zip(_documents(hits), hits, strict=True)]


def _in_order(ids: Sequence[str], chunks: Iterable[Chunk]) -> list[Document]:
    found = {document.id: document for document in _documents(chunks)}
    return [found[id] for id in dict.fromkeys(ids) if id in found]


def _given(storage: VectorStorage | None) -> VectorStorage:
    if storage is None:
        raise ArgumentError("a store needs a storage; give storage=, an open VectorStorage")
    return storage
