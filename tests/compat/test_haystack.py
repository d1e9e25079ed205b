"""The suites of Haystack for document stores, and what they do not ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.errors import FilterError
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as async_suites
from haystack.utils import Secret

from preheat import VectorStorage
from preheat.integrations import Background
from preheat.integrations.haystack import PreheatDocumentStore, PreheatEmbeddingRetriever, PreheatKeywordRetriever


@pytest.fixture(params=["asyncio", "trio"])
def document_store(request: pytest.FixtureRequest, dsn: str, collection: str) -> Iterator[PreheatDocumentStore]:
    with Background(VectorStorage(dsn, f"{collection}_haystack", 768, size=2), backend=request.param) as storage:
        yield PreheatDocumentStore(storage)


class _Equal:
    """Documents are in the order of their ids, and their embeddings are as float32 holds them."""

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        assert [document.id for document in received] == sorted(document.id for document in expected)
        by_id = {document.id: document for document in expected}
        for document in received:
            wanted = by_id[document.id]
            assert replace(document, embedding=None) == replace(wanted, embedding=None)
            assert document.embedding == (wanted.embedding and pytest.approx(wanted.embedding, rel=1e-6))


class TestDocumentStore(
    _Equal,
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
):
    @pytest.fixture
    def document_store(self, document_store: PreheatDocumentStore) -> PreheatDocumentStore:
        return document_store

    def test_write_documents(self, document_store: PreheatDocumentStore) -> None:
        """Without a policy a document that is stored already is an error."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])


class TestDocumentStoreAsync(
    _Equal,
    async_suites.CountDocumentsAsyncTest,
    async_suites.WriteDocumentsAsyncTest,
    async_suites.DeleteDocumentsAsyncTest,
    async_suites.DeleteAllAsyncTest,
    async_suites.DeleteByFilterAsyncTest,
    async_suites.UpdateByFilterAsyncTest,
    async_suites.CountDocumentsByFilterAsyncTest,
    async_suites.CountUniqueMetadataByFilterAsyncTest,
    async_suites.GetMetadataFieldsInfoAsyncTest,
    async_suites.GetMetadataFieldMinMaxAsyncTest,
    async_suites.GetMetadataFieldUniqueValuesAsyncTest,
    async_suites.FilterDocumentsAsyncTest,
):
    @pytest.fixture
    def document_store(self, document_store: PreheatDocumentStore) -> PreheatDocumentStore:
        return document_store

    async def test_write_documents_async(self, document_store: PreheatDocumentStore) -> None:
        """Without a policy a document that is stored already is an error."""
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])

    async def test_no_filters_async(self, document_store: PreheatDocumentStore) -> None:
        await document_store.write_documents_async([Document(content="test doc")])
        assert len(await document_store.filter_documents_async()) == 1
        assert len(await document_store.filter_documents_async({})) == 1


VECTORS = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
DOCUMENTS = [
    Document(id=str(n), content=text, meta={"n": n, "author": {"name": text[0]}}, embedding=vector)
    for n, (text, vector) in enumerate(zip(["warm kettle", "cold pool", "warm pool"], VECTORS, strict=True))
]


@pytest.fixture
def store(dsn: str, collection: str) -> Iterator[PreheatDocumentStore]:
    """A store with a storage of its own."""
    made = PreheatDocumentStore(dsn=Secret.from_token(dsn), collection=f"{collection}_own", embedding_dimension=2)
    made.write_documents([*DOCUMENTS, Document(id="later", content="a kettle without a vector")])
    yield made
    made.close()


def test_retrievers_find_documents_in_a_pipeline(store: PreheatDocumentStore) -> None:
    pipeline = Pipeline()
    pipeline.add_component("near", PreheatEmbeddingRetriever(store, top_k=2))
    pipeline.add_component("words", PreheatKeywordRetriever(store, options={"without": ["cold"]}))
    found = pipeline.run({"near": {"query_embedding": [1.0, 0.1]}, "words": {"query": "kettle pool"}})
    assert [document.id for document in found["near"]["documents"]] == ["0", "1"]
    assert {document.id for document in found["words"]["documents"]} == {"0", "2", "later"}
    assert all(document.score for document in found["near"]["documents"])
    assert store.storage.warm_once.done


async def test_retrievers_run_in_any_event_loop(store: PreheatDocumentStore) -> None:
    near = PreheatEmbeddingRetriever(store, filters={"field": "meta.n", "operator": ">", "value": 0})
    found = await near.run_async([1.0, 0.1], top_k=1)
    assert [document.id for document in found["documents"]] == ["1"]
    found = await PreheatKeywordRetriever(store).run_async(
        "kettle", filters={"field": "id", "operator": "==", "value": "0"}
    )
    assert [document.id for document in found["documents"]] == ["0"]


def test_fields_of_a_document_and_nested_meta_are_filtered(store: PreheatDocumentStore) -> None:
    for filters, expected in (
        ({"field": "content", "operator": "==", "value": "cold pool"}, ["1"]),
        ({"field": "id", "operator": "in", "value": ["0", "later"]}, ["0", "later"]),
        ({"field": "meta.author.name", "operator": "==", "value": "w"}, ["0", "2"]),
        ({"field": "meta.n", "operator": "in", "value": [0, None]}, ["0", "later"]),
        ({"operator": "NOT", "conditions": [{"field": "n", "operator": "<=", "value": 1}]}, ["2", "later"]),
    ):
        assert [document.id for document in store.filter_documents(filters)] == expected, filters
    for wrong in ({"field": "n", "operator": "like", "value": 1}, {"operator": "XOR", "conditions": []}, {"a": 1}):
        with pytest.raises(FilterError):
            store.filter_documents(wrong)


def test_a_pipeline_is_written_to_a_file_without_its_secret(dsn: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("A_DSN", dsn)
    store = PreheatDocumentStore(dsn=Secret.from_env_var("A_DSN"), collection="filed", embedding_dimension=2)
    pipeline = Pipeline()
    pipeline.add_component("near", PreheatEmbeddingRetriever(store, top_k=3))
    pipeline.add_component("words", PreheatKeywordRetriever(store))
    written = pipeline.dumps()
    assert dsn not in written
    read = Pipeline.loads(written, allowed_modules=["preheat.integrations.haystack"])
    near = read.get_component("near")
    assert near.top_k == 3
    assert near.document_store.count_documents() == 0
    near.document_store.close()


def test_what_cannot_be_stored_is_refused(store: PreheatDocumentStore) -> None:
    with pytest.raises(ValueError, match="no content, or has a blob"):
        store.write_documents([Document(id="blob")])
