"""LlamaIndex: a vector store and a retriever.

The extra `llama-index` brings llama-index-core. Async methods run where the storage is open. Plain methods need a
storage in a :class:`preheat.integrations.Background`.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial, reduce
from operator import and_, or_
from typing import Any, ClassVar

from ..errors import ArgumentError, MissingExtraError
from ..retrieval import ResearchRetriever
from ..storage import Chunk, F, Filter, Hits, VectorStorage, as_filter
from .background import call, call_async, storage_of, warmed

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as _error:
    raise MissingExtraError("preheat.integrations.llama_index", "llama-index") from _error

__all__ = ("PreheatRetriever", "PreheatVectorStore", "as_preheat_filter")


class PreheatVectorStore(BasePydanticVectorStore):
    """A LlamaIndex vector store on a storage. A node is a chunk, whose document is the node's `ref_doc_id`.

    It answers queries by vector, by text, by both (`HYBRID`), and with `MMR`. The similarities are the scores of
    :class:`preheat.Hit`. The first query warms the storage's pool.

    Args:
        storage: an open storage; for methods that are not async, open in a :class:`preheat.integrations.Background`.
    """

    stores_text: bool = True
    flat_metadata: ClassVar[bool] = False
    _storage: VectorStorage = PrivateAttr()

    def __init__(self, storage: VectorStorage, **kwargs: Any) -> None:
        super().__init__(**{"stores_text": True, **kwargs})
        self._storage = storage

    @classmethod
    def class_name(cls) -> str:
        """The name by which LlamaIndex knows the class."""
        return "PreheatVectorStore"

    @property
    def client(self) -> VectorStorage:
        """The storage."""
        return self._storage

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes, all of them or none. A node without an embedding is found by its words alone."""
        chunks = [_chunk(node) for node in nodes]
        call(self._storage, lambda: self._storage.add(chunks))
        return [chunk.id for chunk in chunks]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As :meth:`add`."""
        chunks = [_chunk(node) for node in nodes]
        await call_async(self._storage, lambda: self._storage.add(chunks))
        return [chunk.id for chunk in chunks]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document."""
        call(self._storage, lambda: self._storage.delete(document=ref_doc_id))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As :meth:`delete`."""
        await call_async(self._storage, lambda: self._storage.delete(document=ref_doc_id))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete the nodes with these ids that pass the filters; :meth:`clear` deletes all."""
        call(self._storage, lambda: self._storage.delete(filter=_chosen(node_ids, filters)))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As :meth:`delete_nodes`."""
        await call_async(self._storage, lambda: self._storage.delete(filter=_chosen(node_ids, filters)))

    def clear(self) -> None:
        """Delete all nodes."""
        call(self._storage, self._storage.clear)

    async def aclear(self) -> None:
        """As :meth:`clear`."""
        await call_async(self._storage, self._storage.clear)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The stored nodes with these ids that pass the filters, in the order of their ids."""
        return call(self._storage, partial(_nodes, self._storage, _chosen(node_ids, filters)))

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """As :meth:`get_nodes`."""
        return await call_async(self._storage, partial(_nodes, self._storage, _chosen(node_ids, filters)))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that answer a query, best first; keyword arguments go to :meth:`preheat.VectorStorage.search`."""
        return _result(call(self._storage, partial(_search, self._storage, query, kwargs)))

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As :meth:`query`."""
        return _result(await call_async(self._storage, partial(_search, self._storage, query, kwargs)))


class PreheatRetriever(BaseRetriever):
    """A LlamaIndex retriever on a :class:`preheat.ResearchRetriever`.

    Args:
        retriever: finds the chunks.
        k: how many nodes.
        options: further arguments of :meth:`preheat.ResearchRetriever.retrieve`, such as `{"hybrid": True}`.
    """

    def __init__(
        self, retriever: ResearchRetriever, k: int = 4, options: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._retriever = retriever
        self._options = {"k": k, **(options or {})}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _scored(call(storage_of(self._retriever), self._retrieval(query_bundle)))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _scored(await call_async(storage_of(self._retriever), self._retrieval(query_bundle)))

    def _retrieval(self, query: QueryBundle) -> Callable[[], Coroutine[Any, Any, Hits]]:
        return partial(self._retriever.retrieve, query.query_str, **self._options)


# Filters


def as_preheat_filter(filters: MetadataFilters | None) -> Filter:
    """Filters of LlamaIndex as one of :class:`preheat.F`; they may be nested.

    Raises:
        ArgumentError: if an operator is unknown, or a value does not fit it.
    """
    if filters is None or not filters.filters:
        return as_filter({})
    parts = [
        as_preheat_filter(part)
        if isinstance(part, MetadataFilters)
        else _comparison(part.key, part.operator, part.value)
        for part in filters.filters
    ]
    if (filters.condition or FilterCondition.AND) == FilterCondition.AND:
        return reduce(and_, parts)
    some = reduce(or_, parts)
    return ~some if filters.condition == FilterCondition.NOT else some


def _comparison(key: str, operator: FilterOperator, value: Any) -> Filter:
    field = F(key)
    simple: dict[FilterOperator, Callable[[], Any]] = {
        FilterOperator.EQ: lambda: field == value,
        FilterOperator.NE: lambda: field != value,
        FilterOperator.GT: lambda: field > value,
        FilterOperator.GTE: lambda: field >= value,
        FilterOperator.LT: lambda: field < value,
        FilterOperator.LTE: lambda: field <= value,
        FilterOperator.IN: lambda: field.in_(value),
        FilterOperator.NIN: lambda: field.not_in(value),
        FilterOperator.CONTAINS: lambda: _contains(field, value),
        FilterOperator.ANY: lambda: reduce(or_, [_contains(field, one) for one in value], ~as_filter({})),
        FilterOperator.ALL: lambda: reduce(and_, [_contains(field, one) for one in value], field.exists()),
        FilterOperator.TEXT_MATCH: lambda: field.includes(value),
        FilterOperator.TEXT_MATCH_INSENSITIVE: lambda: field.includes(value, ignore_case=True),
        FilterOperator.IS_EMPTY: lambda: field.missing() | field.in_([None, "", []]),
    }
    if operator not in simple:
        raise ArgumentError(f"{operator!r} is not an operator of a filter; use one of {', '.join(map(str, simple))}")
    made: Filter = simple[operator]()
    return made


def _contains(field: F, value: Any) -> Filter:
    """As Python's `in`: an element of a list, or a part of a string."""
    return field.contains(value) | field.includes(value) if isinstance(value, str) else field.contains(value)


def _chosen(node_ids: Sequence[str] | None, filters: MetadataFilters | None) -> Filter:
    passing = as_preheat_filter(filters)
    return passing if node_ids is None else F.id.in_(node_ids) & passing


# Nodes, chunks and queries


def _chunk(node: BaseNode) -> Chunk:
    metadata = node_to_metadata_dict(node, remove_text=True, flat_metadata=False)
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    return Chunk(text, node.embedding, metadata, node.ref_doc_id or "", id=node.node_id)


def _node(chunk: Any) -> BaseNode:
    metadata = dict(chunk.metadata)
    if "_node_content" in metadata:
        node: BaseNode = metadata_dict_to_node(metadata, text=chunk.text)
    else:  # a chunk that was not stored by LlamaIndex
        node = TextNode(id_=chunk.id, text=chunk.text, metadata=metadata)
    node.embedding = getattr(chunk, "embedding", None)
    return node


async def _nodes(storage: VectorStorage, filter: Filter) -> list[BaseNode]:
    return [_node(chunk) async for chunk in storage.chunks(filter=filter)]


def _scored(hits: Iterable[Any]) -> list[NodeWithScore]:
    return [NodeWithScore(node=_node(hit), score=hit.score) for hit in hits]


def _result(hits: Hits) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(
        nodes=[_node(hit) for hit in hits], similarities=[hit.score for hit in hits], ids=[hit.id for hit in hits]
    )


async def _search(storage: VectorStorage, query: VectorStoreQuery, options: Mapping[str, Any]) -> Hits:
    modes, mode = VectorStoreQueryMode, query.mode
    asked: dict[str, Any] = {"k": query.similarity_top_k}
    if mode in (modes.DEFAULT, modes.MMR, modes.HYBRID, modes.SEMANTIC_HYBRID):
        asked["vector"] = query.query_embedding
    elif mode in (modes.TEXT_SEARCH, modes.SPARSE):
        asked["k"] = query.sparse_top_k or query.similarity_top_k
    else:
        raise ArgumentError(f"preheat does not query in the mode {mode!r}; use default, text_search, hybrid or mmr")
    if mode not in (modes.DEFAULT, modes.MMR):
        asked["text"] = query.query_str
    if mode in (modes.HYBRID, modes.SEMANTIC_HYBRID) and query.hybrid_top_k:
        asked["k"] = query.hybrid_top_k
    if mode == modes.MMR:
        asked["mmr"] = 0.5 if query.mmr_threshold is None else query.mmr_threshold
    passing = _chosen(query.node_ids or None, query.filters)  # an index of LlamaIndex gives an empty list for all
    if query.doc_ids:
        passing = passing & F.document.in_(query.doc_ids)
    if passing != as_filter({}):
        asked["filter"] = passing
    return await (await warmed(storage)).search(**{**asked, **options})
