"""Haystack: a document store, and retrievers by embedding and by keywords.

The extra `haystack` brings haystack-ai. Async methods and components run where the storage is open. Plain methods need
a storage in a :class:`preheat.integrations.Background`; a store that is made of a DSN has one of its own.
"""

# pyright: reportMissingImports=false, reportUntypedClassDecorator=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from ..errors import ArgumentError, ChunkExistsError, MissingExtraError
from ..storage import Chunk, F, Filter, Hits, OnConflict, VectorStorage, as_filter
from .background import Background, call, call_async, warmed

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
    from haystack.errors import FilterError
    from haystack.utils import Secret, deserialize_secrets_inplace
except ImportError as _error:
    raise MissingExtraError("preheat.integrations.haystack", "haystack") from _error

__all__ = ("PreheatDocumentStore", "PreheatEmbeddingRetriever", "PreheatKeywordRetriever", "as_preheat_filter")

T = TypeVar("T")


class PreheatDocumentStore:
    """A Haystack document store on a storage. A document is a chunk, and its meta are the chunk's metadata.

    Args:
        storage: an open storage. Without one the store opens its own at first use, in an event loop of its own, from
            the further arguments; :meth:`close` closes it. Only such a store can be written into a file of a pipeline.
        dsn: the DSN of the database.
        collection: the collection's name.
        embedding_dimension: the number of dimensions of its vectors.
        options: further arguments of :class:`preheat.VectorStorage`, such as `{"metric": "l2"}`.
    """

    def __init__(
        self,
        storage: VectorStorage | None = None,
        *,
        dsn: Secret = Secret.from_env_var("DATABASE_URL", strict=False),  # noqa: B008
        collection: str = "documents",
        embedding_dimension: int = 768,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._given = storage
        self.dsn = dsn
        self.collection = collection
        self.embedding_dimension = embedding_dimension
        self.options: dict[str, Any] = dict(options or {})
        self._background: Background | None = None
        self._lock = threading.Lock()

    def to_dict(self) -> dict[str, Any]:
        """The arguments of the store, for a file of a pipeline."""
        if self._given is not None:
            raise ArgumentError("a store on an open storage cannot be written into a file; make the store of a DSN")
        return default_to_dict(  # type: ignore[no-any-return,unused-ignore]
            self,
            dsn=self.dsn.to_dict(),
            collection=self.collection,
            embedding_dimension=self.embedding_dimension,
            options=self.options,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PreheatDocumentStore:
        """A store with the arguments of :meth:`to_dict`."""
        deserialize_secrets_inplace(data["init_parameters"], ["dsn"])
        return default_from_dict(cls, data)  # type: ignore[no-any-return,unused-ignore]

    def close(self) -> None:
        """Close a storage that the store has opened itself."""
        with self._lock:
            background, self._background = self._background, None
        if background is not None:
            background.close()

    @property
    def storage(self) -> VectorStorage:
        """The storage, which is opened if it is the store's own."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._background is None:
                dsn = self.dsn.resolve_value()
                if dsn is None:
                    raise ArgumentError("the store has no DSN; give dsn=, or set the environment variable it names")
                made = VectorStorage(dsn, self.collection, self.embedding_dimension, **self.options)
                self._background = Background(made)
            return self._background.open()

    # Documents

    def count_documents(self) -> int:
        """How many documents are stored."""
        return self._call(lambda storage: storage.count())

    async def count_documents_async(self) -> int:
        """As :meth:`count_documents`."""
        return await self._call_async(lambda storage: storage.count())

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that pass a filter of Haystack; all of them without."""
        return self._call(partial(_filtered, filter=as_preheat_filter(filters)))

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """As :meth:`filter_documents`."""
        return await self._call_async(partial(_filtered, filter=as_preheat_filter(filters)))

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Store documents, all of them or none, and return how many were written. Without a policy an id that is stored
        already is an error."""
        return self._call(_writing(documents, policy))

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """As :meth:`write_documents`."""
        return await self._call_async(_writing(documents, policy))

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents by their ids. Ids that are not stored are ignored."""
        self._call(lambda storage: storage.delete(document_ids))

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """As :meth:`delete_documents`."""
        await self._call_async(lambda storage: storage.delete(document_ids))

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Delete all documents, or with `recreate_index` drop the tables, which are made again when they are needed."""
        self._call(lambda storage: storage.drop() if recreate_index else storage.clear())

    async def delete_all_documents_async(self, recreate_index: bool = False) -> None:
        """As :meth:`delete_all_documents`."""
        await self._call_async(lambda storage: storage.drop() if recreate_index else storage.clear())

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that pass a filter, and return how many. A filter that passes everything is refused."""
        return self._call(lambda storage: storage.delete(filter=as_preheat_filter(filters)))

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As :meth:`delete_by_filter`."""
        return await self._call_async(lambda storage: storage.delete(filter=as_preheat_filter(filters)))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Merge `meta` into the meta of the documents that pass a filter, and return how many pass."""
        return self._call(lambda storage: storage.update_metadata(meta, filter=as_preheat_filter(filters)))

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """As :meth:`update_by_filter`."""
        return await self._call_async(lambda storage: storage.update_metadata(meta, filter=as_preheat_filter(filters)))

    # Meta

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many documents pass a filter."""
        return self._call(lambda storage: storage.count(filter=as_preheat_filter(filters)))

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As :meth:`count_documents_by_filter`."""
        return await self._call_async(lambda storage: storage.count(filter=as_preheat_filter(filters)))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """How many distinct values each field has among the documents that pass a filter."""
        return self._call(partial(_unique, filters=filters, fields=metadata_fields))

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """As :meth:`count_unique_metadata_by_filter`."""
        return await self._call_async(partial(_unique, filters=filters, fields=metadata_fields))

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The type of each field."""
        return self._call(_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """As :meth:`get_metadata_fields_info`."""
        return await self._call_async(_fields)

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and the greatest value of a field; None if there are none that can be compared."""
        return self._call(partial(_min_max, field=metadata_field))

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """As :meth:`get_metadata_field_min_max`."""
        return await self._call_async(partial(_min_max, field=metadata_field))

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """One page of the distinct values of a field, in the order of their texts, and how many there are in all."""
        return self._call(
            partial(_page, field=metadata_field, term=search_term, first=from_, size=size, filters=filters)
        )

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """As :meth:`get_metadata_field_unique_values`."""
        return await self._call_async(
            partial(_page, field=metadata_field, term=search_term, first=from_, size=size, filters=filters)
        )

    # Search

    def retrieve(self, top_k: int, filters: dict[str, Any] | None = None, **search: Any) -> list[Document]:
        """The best documents with their scores, by the arguments of :meth:`preheat.VectorStorage.search`. The first
        call warms the storage's pool."""
        return _documents(self._call(_searching(top_k, filters, search)))

    async def retrieve_async(self, top_k: int, filters: dict[str, Any] | None = None, **search: Any) -> list[Document]:
        """As :meth:`retrieve`."""
        return _documents(await self._call_async(_searching(top_k, filters, search)))

    def _call(self, function: Callable[[VectorStorage], Coroutine[Any, Any, T]]) -> T:
        storage = self.storage
        return call(storage, lambda: function(storage))

    async def _call_async(self, function: Callable[[VectorStorage], Coroutine[Any, Any, T]]) -> T:
        storage = self.storage
        return await call_async(storage, lambda: function(storage))


@component
class PreheatEmbeddingRetriever:
    """Finds the documents nearest to an embedding.

    Args:
        document_store: the store.
        filters: a filter of Haystack.
        top_k: how many documents.
        filter_policy: how the filters of `run` are joined with those.
        options: further arguments of :meth:`preheat.VectorStorage.search`, such as `{"min_score": 0.5}`.
    """

    def __init__(
        self,
        document_store: PreheatDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy: FilterPolicy = FilterPolicy.from_str(str(filter_policy))
        self.options: dict[str, Any] = dict(options or {})

    def to_dict(self) -> dict[str, Any]:
        """The arguments of the component, for a file of a pipeline."""
        return _component_to_dict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PreheatEmbeddingRetriever:
        """A component with the arguments of :meth:`to_dict`."""
        return default_from_dict(cls, _with_store(data))  # type: ignore[no-any-return,unused-ignore]

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The documents nearest to an embedding, nearest first."""
        arguments: dict[str, Any] = {**_arguments(self, filters, top_k), "vector": query_embedding}
        return {"documents": self.document_store.retrieve(**arguments)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As :meth:`run`."""
        arguments: dict[str, Any] = {**_arguments(self, filters, top_k), "vector": query_embedding}
        return {"documents": await self.document_store.retrieve_async(**arguments)}


@component
class PreheatKeywordRetriever:
    """Finds the documents with the words of a query, best first; they need no embedding.

    Args:
        document_store: the store.
        filters: a filter of Haystack.
        top_k: how many documents.
        filter_policy: how the filters of `run` are joined with those.
        options: further arguments of :meth:`preheat.VectorStorage.search`, such as `{"without": ["draft"]}`.
    """

    def __init__(
        self,
        document_store: PreheatDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy: FilterPolicy = FilterPolicy.from_str(str(filter_policy))
        self.options: dict[str, Any] = dict(options or {})

    def to_dict(self) -> dict[str, Any]:
        """The arguments of the component, for a file of a pipeline."""
        return _component_to_dict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PreheatKeywordRetriever:
        """A component with the arguments of :meth:`to_dict`."""
        return default_from_dict(cls, _with_store(data))  # type: ignore[no-any-return,unused-ignore]

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The documents with the words of a query, best first."""
        return {"documents": self.document_store.retrieve(**_arguments(self, filters, top_k), text=query)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As :meth:`run`."""
        return {"documents": await self.document_store.retrieve_async(**_arguments(self, filters, top_k), text=query)}


def _component_to_dict(self: Any) -> dict[str, Any]:
    return default_to_dict(  # type: ignore[no-any-return,unused-ignore]
        self,
        document_store=self.document_store.to_dict(),
        filters=self.filters,
        top_k=self.top_k,
        filter_policy=self.filter_policy.value,
        options=self.options,
    )


def _with_store(data: dict[str, Any]) -> dict[str, Any]:
    arguments = data["init_parameters"]
    if isinstance(arguments["document_store"], dict):
        arguments["document_store"] = PreheatDocumentStore.from_dict(arguments["document_store"])
    return data


def _arguments(retriever: Any, filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
    joined = apply_filter_policy(retriever.filter_policy, retriever.filters, filters)
    return {**retriever.options, "filters": joined, "top_k": retriever.top_k if top_k is None else top_k}


# Filters

_EVERYTHING = as_filter({})

OPERATORS: dict[str, Callable[[F, Any], Filter]] = {
    ">": lambda field, value: field > value,
    ">=": lambda field, value: field >= value,
    "<": lambda field, value: field < value,
    "<=": lambda field, value: field <= value,
}


def as_preheat_filter(filters: Mapping[str, Any] | None) -> Filter:
    """A filter of Haystack as one of :class:`preheat.F`.

    Raises:
        FilterError: if it is not one.
    """
    if not filters:
        return _EVERYTHING
    if not isinstance(filters, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FilterError(f"the filter is {filters!r}; give a dict")
    try:
        return _logic(filters) if "field" not in filters else _comparison(filters)
    except ArgumentError as error:
        raise FilterError(str(error)) from error


def _logic(filters: Mapping[str, Any]) -> Filter:
    for key in ("operator", "conditions"):
        if key not in filters:
            raise FilterError(
                f"the filter {dict(filters)!r} has no key {key!r}; see Haystack's docs of metadata filters"
            )
    parts = [as_preheat_filter(part) for part in filters["conditions"]]
    joined = _EVERYTHING
    if filters["operator"] == "OR":
        joined = ~_EVERYTHING
        for part in parts:
            joined = joined | part
        return joined
    for part in parts:
        joined = joined & part
    if filters["operator"] == "NOT":
        return ~joined
    if filters["operator"] != "AND":
        raise FilterError(f"{filters['operator']!r} joins no filters; use AND, OR or NOT")
    return joined


def _comparison(filters: Mapping[str, Any]) -> Filter:
    for key in ("operator", "value"):
        if key not in filters:
            raise FilterError(
                f"the filter {dict(filters)!r} has no key {key!r}; see Haystack's docs of metadata filters"
            )
    field, operator, value = _field(str(filters["field"])), filters["operator"], filters["value"]
    if operator in ("==", "!="):
        equal = _is(field, value)
        return equal if operator == "==" else ~equal
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"{operator!r} of a filter compares with a list, not with {value!r}")
        found = ~_EVERYTHING
        for one in value:
            found = found | _is(field, one)
        return found if operator == "in" else ~found
    if operator not in OPERATORS:
        raise FilterError(
            f"{operator!r} is not an operator of a filter; use ==, !=, {', '.join(OPERATORS)}, in or not in"
        )
    if value is None:
        return ~_EVERYTHING
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise FilterError(
                f"{operator!r} of a filter compares numbers and times in ISO 8601, not {value!r}"
            ) from None
    return OPERATORS[operator](field, value)


def _is(field: Any, value: Any) -> Filter:
    """Equal, as in Python: a field that is missing is None."""
    if value is None:
        return (field == None) | field.missing() if isinstance(field, F) else ~_EVERYTHING  # noqa: E711
    return field == value  # type: ignore[no-any-return]


def _field(name: str) -> Any:
    if name in ("id", "content"):
        return F.id if name == "id" else F.text
    return F(*name.removeprefix("meta.").split("."))


# Documents and chunks


async def _filtered(storage: VectorStorage, filter: Filter) -> list[Document]:
    return [_document(chunk) async for chunk in storage.chunks(filter=filter)]


def _writing(documents: Any, policy: DuplicatePolicy) -> Callable[[VectorStorage], Coroutine[Any, Any, int]]:
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise ValueError("documents are a list of haystack.Document; give such a list")
    chunks = [_chunk(document) for document in documents]
    policies: dict[Any, OnConflict] = {DuplicatePolicy.OVERWRITE: "replace", DuplicatePolicy.SKIP: "skip"}
    on_conflict = policies.get(policy, "error")
    if on_conflict == "error" and len({chunk.id for chunk in chunks}) < len(chunks):
        raise DuplicateDocumentError("two of the documents have the same id; give each an id of its own, or a policy")
    return partial(_write, chunks=chunks, on_conflict=on_conflict)


async def _write(storage: VectorStorage, chunks: list[Chunk], on_conflict: OnConflict) -> int:
    try:
        return await storage.add(chunks, on_conflict=on_conflict)
    except ChunkExistsError as error:
        raise DuplicateDocumentError(str(error)) from error


def _chunk(document: Document) -> Chunk:
    if document.content is None or document.blob is not None or document.sparse_embedding is not None:
        raise ArgumentError(
            f"document {document.id!r} has no content, or has a blob or a sparse embedding; preheat stores texts, meta "
            "and dense embeddings"
        )
    return Chunk(document.content, document.embedding, document.meta, id=document.id)


def _document(chunk: Any, score: float | None = None) -> Document:
    embedding = getattr(chunk, "embedding", None)
    return Document(id=chunk.id, content=chunk.text, meta=dict(chunk.metadata), embedding=embedding, score=score)


def _documents(hits: Iterable[Any]) -> list[Document]:
    return [_document(hit, hit.score) for hit in hits]


def _searching(
    top_k: int, filters: dict[str, Any] | None, search: dict[str, Any]
) -> Callable[[VectorStorage], Coroutine[Any, Any, Hits]]:
    if filters:
        search["filter"] = as_preheat_filter(filters)

    async def run(storage: VectorStorage) -> Hits:
        return await (await warmed(storage)).search(k=top_k, **search)

    return run


# Meta

_TYPES = {"string": "keyword", "number": "float", "boolean": "boolean"}
_ALL = 2**31 - 1


async def _values(storage: VectorStorage, field: str, filters: dict[str, Any] | None) -> list[Any]:
    path = field.removeprefix("meta.").split(".")
    found = await storage.metadata_values(*path, filter=as_preheat_filter(filters), limit=_ALL)
    return [one.value for one in found if one.value is not None]


async def _unique(storage: VectorStorage, filters: dict[str, Any], fields: list[str]) -> dict[str, int]:
    return {field.removeprefix("meta."): len(await _values(storage, field, filters)) for field in fields}


async def _fields(storage: VectorStorage) -> dict[str, dict[str, str]]:
    found = await storage.metadata_keys()
    return {
        key: {"type": _TYPES.get(min(types - {"null"}), "keyword")} for key, types in found.items() if types - {"null"}
    }


async def _min_max(storage: VectorStorage, field: str) -> dict[str, Any]:
    values = [value for value in await _values(storage, field, None) if isinstance(value, (int, float, str))]
    try:
        return {"min": min(values), "max": max(values)}
    except (TypeError, ValueError):
        return {"min": None, "max": None}


async def _page(
    storage: VectorStorage, field: str, term: str | None, first: int, size: int, filters: dict[str, Any] | None
) -> tuple[list[Any], int]:
    values = await _values(storage, field, filters)
    if term:
        values = [value for value in values if term.lower() in str(value).lower()]
    values.sort(key=lambda value: (str(value), type(value).__name__))
    return values[first : first + size], len(values)
