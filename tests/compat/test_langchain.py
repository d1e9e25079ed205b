"""The standard tests of LangChain, and what they do not ask."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from preheat import ArgumentError, F, PreheatError, ResearchRetriever, VectorStorage
from preheat.integrations import Background
from preheat.integrations.langchain import PreheatRetriever, PreheatVectorStore


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, storage: VectorStorage) -> PreheatVectorStore:
        return PreheatVectorStore(storage, self.get_embeddings())


class Model:
    """The embedding of LangChain's suites as an embedder of preheat."""

    name = "fake"
    dimensions = 6

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return DeterministicFakeEmbedding(size=6).embed_documents(list(texts))


class TestRetriever(RetrieversIntegrationTests):
    storage: VectorStorage

    @pytest.fixture
    def anyio_backend(self) -> str:
        """LangChain's callbacks run on asyncio alone."""
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _filled(self, storage: VectorStorage) -> None:
        PreheatVectorStore(storage, DeterministicFakeEmbedding(size=6)).add_texts([f"text {n}" for n in range(5)])
        self.storage = storage

    @property
    def retriever_constructor(self) -> type[PreheatRetriever]:
        return PreheatRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"retriever": ResearchRetriever(self.storage, Model())}

    @property
    def retriever_query_example(self) -> str:
        return "text 3"


@pytest.fixture
def store(storage: VectorStorage) -> PreheatVectorStore:
    return PreheatVectorStore(storage, DeterministicFakeEmbedding(size=6))


def test_a_search_takes_the_options_of_a_storage(store: PreheatVectorStore) -> None:
    ids = store.add_texts(["red tea", "green tea"], [{"n": 1}, {"n": 2}], document="tea.md")
    for options in ({"filter": F("n") == 2}, {"filter": {"n": {"$gt": 1}}}, {"ids": [ids[1]]}, {"min_score": 0.99}):
        assert [found.id for found in store.similarity_search("green tea", **options)] == [ids[1]]
    assert store.similarity_search("green", hybrid=True)[0].id == ids[1]
    assert store.similarity_search("tea", document="coffee.md") == []
    assert store.max_marginal_relevance_search("green tea", k=1)[0].id == ids[1]
    (document, score), *_ = store.similarity_search_with_relevance_scores("green tea", k=2)
    assert document.id == ids[1]
    assert score == pytest.approx(1.0)
    assert store.storage.warm_once.done
    assert store.delete(document="tea.md")
    assert store.similarity_search("tea") == []


async def test_async_methods_give_what_the_others_give(store: PreheatVectorStore) -> None:
    ids = await store.aadd_texts(["red tea", "green tea"])
    vector = DeterministicFakeEmbedding(size=6).embed_query("red tea")
    assert (await store.asimilarity_search("red tea", k=1))[0].id == ids[0]
    assert (await store.asimilarity_search_by_vector(vector, k=1))[0].id == ids[0]
    assert (await store.asimilarity_search_with_score("red tea", k=1))[0][0].id == ids[0]
    assert (await store.amax_marginal_relevance_search("red tea", k=1))[0].id == ids[0]
    assert (await store.amax_marginal_relevance_search_by_vector(vector, k=1))[0].id == ids[0]
    assert [found.id for found in await store.aget_by_ids([ids[1], "none", ids[0]])] == [ids[1], ids[0]]
    await store.adelete()
    assert await store.asimilarity_search("tea") == []


async def test_a_storage_of_the_running_loop_is_called_directly(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, f"{collection}_direct", 6) as storage:
        store = PreheatVectorStore(storage, DeterministicFakeEmbedding(size=6))
        await store.aadd_texts(["red tea"], [{"n": 1}])
        assert [found.page_content for found in await store.asimilarity_search("red tea")] == ["red tea"]
        with pytest.raises(PreheatError, match="needs a storage with an event loop of its own; open it by"):
            store.similarity_search("red tea")


async def test_many_first_calls_share_one_warm_up(store: PreheatVectorStore) -> None:
    await store.aadd_texts(["red tea"])
    found: list[list[Document]] = []

    async def ask() -> None:
        found.append(await store.asimilarity_search("red tea"))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
    assert [len(documents) for documents in found] == [1] * 20
    assert store.storage.warm_report is not None
    assert store.storage.warm_report.ok


def test_what_is_missing_is_told(dsn: str, store: PreheatVectorStore) -> None:
    with pytest.raises(ArgumentError, match="there are 1 ids for 2 texts"):
        store.add_texts(["a", "b"], ids=["1"])
    with pytest.raises(ArgumentError, match="give storage="):
        PreheatVectorStore.from_texts(["a"], store.embeddings)
    made = PreheatVectorStore.from_texts(["a"], store.embeddings, storage=store.storage)
    assert made.as_retriever(search_kwargs={"k": 1}).invoke("a")[0].page_content == "a"


def test_a_background_that_is_closed_leaves_no_thread_and_may_be_opened_again(dsn: str, collection: str) -> None:
    before = set(threading.enumerate())
    background = Background(VectorStorage(dsn, f"{collection}_again", 6))
    for _ in range(2):
        with background as storage:
            PreheatVectorStore(storage, DeterministicFakeEmbedding(size=6)).add_texts(["a"], ids=["a"])
        with pytest.raises(PreheatError, match="event loop of its own"):
            PreheatVectorStore(storage, DeterministicFakeEmbedding(size=6)).get_by_ids(["a"])
    assert {thread for thread in threading.enumerate() if thread.name.startswith("preheat")} <= before
