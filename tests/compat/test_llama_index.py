"""The contract of LlamaIndex's vector stores: its own in-memory store is the oracle of filters, deletes and queries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import NodeRelationship, QueryBundle, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from preheat import ArgumentError, Chunk, ResearchRetriever, VectorStorage
from preheat.integrations.llama_index import PreheatRetriever, PreheatVectorStore


def node(id: str, text: str, vector: list[float] | None, document: str, **metadata: Any) -> TextNode:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)}
    return TextNode(id_=id, text=text, embedding=vector, metadata=metadata, relationships=source)


def vector(*numbers: float) -> list[float]:
    return [*map(float, numbers), *[0.0] * (6 - len(numbers))]


NODES = [
    node("1", "warm kettle", vector(1, 0.1), "a.md", n=1, lang="en", tags=["hot", "tea"]),
    node("2", "cold pool", vector(1, 0.5), "a.md", n=2, lang="English", tags=[]),
    node("3", "warm pool", vector(1, 0.9), "b.md", n=3, lang="de", tags=["hot"]),
    node("4", "nothing at all", vector(0, 1), "b.md", n=None, lang=""),
]


@pytest.fixture
def store(storage: VectorStorage) -> PreheatVectorStore:
    made = PreheatVectorStore(storage)
    assert made.add(NODES) == ["1", "2", "3", "4"]
    return made


@pytest.fixture
def oracle() -> SimpleVectorStore:
    made = SimpleVectorStore()
    made.add(NODES)
    return made


def filters(
    *parts: tuple[str, FilterOperator, Any], condition: FilterCondition = FilterCondition.AND
) -> MetadataFilters:
    made = [MetadataFilter(key=key, operator=operator, value=value) for key, operator, value in parts]
    return MetadataFilters(filters=made, condition=condition)


COMPARISONS = [
    *product(["n"], [FilterOperator(sign) for sign in ("==", "!=", ">", ">=", "<", "<=")], [2]),
    *product(["lang"], [FilterOperator.EQ, FilterOperator.NE], ["en"]),
    *product(["lang"], [FilterOperator.IN, FilterOperator.NIN], [["en", "de"]]),
    *product(["lang"], [FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE], ["EN", "en"]),
    *product(["tags"], [FilterOperator.ANY, FilterOperator.ALL], [["hot", "tea"], ["hot"]]),
    *product(["tags", "lang"], [FilterOperator.CONTAINS], ["hot", "e"]),
    *product(["n", "lang", "tags", "no-such-key"], [FilterOperator.IS_EMPTY], [None]),
    *product(["no-such-key"], [FilterOperator.EQ, FilterOperator.NE], ["x"]),
    ("no-such-key", FilterOperator.NIN, ["x"]),
]


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda one: f"{one[0]} {one[1].value} {one[2]}")
def test_a_filter_means_what_it_means_in_memory(
    store: PreheatVectorStore, oracle: SimpleVectorStore, comparison: tuple[str, FilterOperator, Any]
) -> None:
    for condition in FilterCondition:
        both = (comparison, ("n", FilterOperator.LT, 3))
        for given in (filters(comparison, condition=condition), filters(*both, condition=condition)):
            query = VectorStoreQuery(query_embedding=vector(1), similarity_top_k=10, filters=given)
            wanted, found = oracle.query(query), store.query(query)
            assert found.ids == wanted.ids, given
            assert found.similarities == pytest.approx(wanted.similarities, abs=1e-6)


def test_a_query_gives_the_nodes_as_they_were_stored(store: PreheatVectorStore) -> None:
    found = store.query(VectorStoreQuery(query_embedding=vector(1), similarity_top_k=2))
    assert found.ids == ["1", "2"]
    assert found.nodes is not None
    (first, _) = found.nodes
    assert (first.get_content(), first.metadata, first.ref_doc_id) == ("warm kettle", NODES[0].metadata, "a.md")
    assert store.client.warm_once.done


def test_each_mode_queries_in_its_own_way(store: PreheatVectorStore) -> None:
    store.add([node("later", "a kettle without a vector", None, "c.md")])
    asked: dict[str, Any] = {"query_embedding": vector(1), "query_str": "kettle", "similarity_top_k": 3}
    modes = VectorStoreQueryMode
    assert store.query(VectorStoreQuery(**asked)).ids == ["1", "2", "3"]
    for mode in (modes.TEXT_SEARCH, modes.SPARSE):
        assert set(store.query(VectorStoreQuery(**asked, mode=mode)).ids or ()) == {"1", "later"}
    assert set(store.query(VectorStoreQuery(**asked, mode=modes.HYBRID)).ids or ()) >= {"1", "later"}
    assert "4" in (store.query(VectorStoreQuery(**asked, mode=modes.MMR, mmr_threshold=0.1)).ids or ())
    with pytest.raises(ArgumentError, match="does not query in the mode"):
        store.query(VectorStoreQuery(**asked, mode=modes.SVM))


def test_nodes_are_found_and_deleted_by_ids_documents_and_filters(store: PreheatVectorStore) -> None:
    query = VectorStoreQuery(query_embedding=vector(1), similarity_top_k=10, doc_ids=["a.md"], node_ids=["2", "3"])
    assert store.query(query).ids == ["2"]
    assert [one.node_id for one in store.get_nodes(["3", "1"])] == ["1", "3"]
    assert store.get_nodes(["1"])[0].embedding == pytest.approx(vector(1, 0.1))
    assert [one.node_id for one in store.get_nodes(filters=filters(("n", FilterOperator.GT, 1)))] == ["2", "3"]
    store.delete_nodes(["1", "2"], filters(("n", FilterOperator.EQ, 1)))
    store.delete("b.md")
    assert [one.node_id for one in store.get_nodes()] == ["2"]
    with pytest.raises(ArgumentError, match="passes every chunk"):
        store.delete_nodes()
    store.clear()
    assert store.get_nodes() == []


def test_nested_filters_are_joined(store: PreheatVectorStore) -> None:
    inner = filters(("lang", FilterOperator.EQ, "de"), ("lang", FilterOperator.EQ, "en"), condition=FilterCondition.OR)
    outer = MetadataFilters(filters=[inner, MetadataFilter(key="n", operator=FilterOperator.GT, value=1)])
    assert [one.node_id for one in store.get_nodes(filters=outer)] == ["3"]


async def test_async_methods_give_what_the_others_give(storage: VectorStorage) -> None:
    store = PreheatVectorStore(storage)
    assert await store.async_add(NODES) == ["1", "2", "3", "4"]
    assert (await store.aquery(VectorStoreQuery(query_embedding=vector(1), similarity_top_k=1))).ids == ["1"]
    await store.adelete("b.md")
    await store.adelete_nodes(["2"])
    assert [one.node_id for one in await store.aget_nodes()] == ["1"]
    await store.aclear()
    assert await store.aget_nodes() == []


def test_an_index_is_built_and_asked(storage: VectorStorage) -> None:
    context = StorageContext.from_defaults(vector_store=PreheatVectorStore(storage))
    nodes = [TextNode(id_=str(n), text=f"text {n}") for n in range(3)]
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=MockEmbedding(embed_dim=6))
    assert len(index.as_retriever(similarity_top_k=2).retrieve("text 1")) == 2
    again = VectorStoreIndex.from_vector_store(PreheatVectorStore(storage), embed_model=MockEmbedding(embed_dim=6))
    assert {found.node.get_content() for found in again.as_retriever(similarity_top_k=3).retrieve("x")} == {
        "text 0",
        "text 1",
        "text 2",
    }


class Model:
    """An embedder of preheat that gives one vector to all texts."""

    name = "fake"
    dimensions = 6

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [vector(1, len(text)) for text in texts]


def test_a_retriever_finds_chunks_that_preheat_has_stored(storage: VectorStorage) -> None:
    PreheatVectorStore(storage).add(NODES[:1])
    from preheat.integrations.background import call

    call(storage, lambda: storage.add([Chunk("a chunk", vector(1, 9), {"n": 5}, id="own")]))
    retriever = PreheatRetriever(ResearchRetriever(storage, Model()), k=2, options={"hybrid": True})
    found = retriever.retrieve("a chunk of text")
    assert {one.node.node_id for one in found} == {"1", "own"}
    assert all(one.score for one in found)
    (own,) = [one.node for one in found if one.node.node_id == "own"]
    assert own.metadata == {"n": 5}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_retriever_is_awaited(storage: VectorStorage, anyio_backend: str) -> None:
    await PreheatVectorStore(storage).async_add(NODES)
    retriever = PreheatRetriever(ResearchRetriever(storage, Model()), k=1)
    assert len(await retriever.aretrieve(QueryBundle("a chunk"))) == 1
