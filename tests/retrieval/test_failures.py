"""One bad document or text does not fail the others, and the error names it."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from itertools import product
from typing import Any

import anyio
import httpx
import pytest
from tests.support.models import Lengths

from preheat import (
    ArgumentError,
    Chunk,
    CollectionError,
    DimensionError,
    Document,
    EndpointError,
    IngestFailure,
    IngestReport,
    OpenAIEmbedder,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
)
from preheat.retrieval.refusals import HARMLESS, IN_A_ROW
from preheat.testing import FakePool

KEY = "sk-a1b2c3d4e5f6"


class Endpoint:
    """An endpoint that refuses some texts, and records its requests."""

    def __init__(self, refuses: Callable[[list[str]], bool], status: int = 400) -> None:
        self.refuses = refuses
        self.status = status
        self.asked: list[list[str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.content)["input"]
        self.asked.append(texts)
        if self.refuses(texts):
            return httpx.Response(self.status, json={"error": "the input length exceeds the context length"})
        rows = [{"index": place, "embedding": [float(len(text)), 1.0, 2.0]} for place, text in enumerate(texts)]
        return httpx.Response(200, json={"data": rows})

    def embedder(self, **more: Any) -> OpenAIEmbedder:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self))
        more = {"base_url": "http://models.test/v1", "api_key": KEY, "client": client, "batch_size": 2048, **more}
        return OpenAIEmbedder("lengths", **more)


def any_long(texts: list[str]) -> bool:
    return any("long" in text for text in texts)


def good(number: int) -> Document:
    return Document(f"{number:03}.md", f"good text {number}\n\nanother {number}")


async def ingested(storage: VectorStorage, model: Any, documents: Any, **options: Any) -> IngestReport:
    with anyio.fail_after(30):
        return await ResearchRetriever(storage, model).ingest(documents, **{"chunk_size": 20, **options})


async def stored(storage: VectorStorage) -> set[str]:
    return {info.key async for info in storage.documents()}


async def asynchronous(documents: list[Any]) -> AsyncGenerator[Any]:
    for one in documents:
        await anyio.lowlevel.checkpoint()
        yield one


class Unwilling(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise LookupError("these metadata cannot be read")

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


def deep() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(100_000):
        found = {"a": found}
    return found


BAD: dict[str, tuple[Any, str]] = {
    "metadata that are too deep": (Document("bad.md", "text", deep()), "not JSON"),
    "NUL in the text": (Document("bad.md", "a\0b"), "NUL"),
    "half a surrogate pair": (Document("bad.md", "\ud800"), "not valid Unicode"),
    "no text": (Document("bad.md", None), "the text is None; give a string"),  # type: ignore[arg-type]
    "bytes": (Document("bad.md", b"bytes"), "give a string"),  # type: ignore[arg-type]
    "metadata that are not JSON": (Document("bad.md", "text", {"a": object()}), "not JSON"),
    "NaN in the metadata": (Document("bad.md", "text", {"a": math.nan}), "not JSON"),
    "NUL in the metadata": (Document("bad.md", "text", {"a": "\0"}), "NUL"),
    "no metadata": (Document("bad.md", "text", None), "the metadata is None; give a dict"),  # type: ignore[arg-type]
    "metadata that cannot be read": (Document("bad.md", "text", Unwilling()), "cannot be read"),
    "NUL in the key": (Document("bad.md\0", "text"), "NUL"),
    "a number as the key": (Document(7, "text"), "give a string"),  # type: ignore[arg-type]
    "a pair": (("bad.md", "text"), "'bad.md', 'text'.* is not a document"),
    "nothing": (None, "None is not a document"),
}
FEW = ("NUL in the text", "nothing")


@pytest.mark.parametrize(("bad", "kind"), [*((bad, list) for bad in BAD), *product(FEW, (iter, asynchronous))])
async def test_an_error_about_a_document_is_a_failure_of_that_document(
    dsn: str, collection: str, bad: Any, kind: Callable[[Any], Any]
) -> None:
    bad, words = BAD[bad]
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(storage, Lengths(), kind([good(1), bad, good(2), good(3)]), batch_size=3)
        assert await stored(storage) == {"001.md", "002.md", "003.md"}
    assert (report.documents, report.chunks) == (3, 6)
    (failure,) = report.failures
    assert failure.document == (str(bad.key) if isinstance(bad, Document) else "")
    with pytest.raises(type(failure.error), match=words):
        raise failure.error
    if isinstance(bad, Document) and isinstance(failure.error, PreheatError):
        assert repr(bad.key)[:8] in str(failure.error)
    assert report.as_dict()["failures"] == [failure.as_dict()]
    assert json.dumps(report.as_dict())


async def test_an_earlier_version_of_a_failed_document_stays(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await ingested(storage, Lengths(), [good(1), Document("bad.md", "as it was")])
        report = await ingested(storage, Lengths(), [good(1), Document("bad.md", "new \0"), good(2)])
        assert (report.documents, len(report.failures), report.deleted) == (2, 1, 0)
        assert [one.text async for one in storage.chunks(document="bad.md")] == ["as it was"]


async def test_progress_reports_failures_and_a_failure_keeps_nothing_alive(dsn: str, collection: str) -> None:
    told: list[int] = []
    documents = [good(1), Document("bad.md", "\0"), good(2), 5, good(3)]
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(
            storage, Lengths(), documents, batch_size=1, progress=lambda so_far: told.append(len(so_far.failures))
        )
    assert told[-1] == 2 == len(report.failures)
    assert told == sorted(told)
    assert all(failure.error.__traceback__ is None for failure in report.failures)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_text_is_found_among_many(dsn: str, collection: str, status: int) -> None:
    endpoint = Endpoint(any_long, status)
    documents = [good(number) for number in range(60)]
    documents[17:17] = [Document("bad.md", "fine\n\nalso fine\n\nfar too long\n\nfine again")]
    documents[41:41] = [Document("worse.md", "too long")]
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(storage, endpoint.embedder(), documents, batch_size=1000, chunk_size=13)
        assert await stored(storage) == {one.key for one in map(good, range(60))}
    assert (report.documents, report.chunks) == (60, 120)
    assert [(one.document, one.chunk) for one in report.failures] == [("bad.md", 2), ("worse.md", 0)]
    for failure in report.failures:
        assert isinstance(failure.error, EndpointError)
        assert repr(failure.document) in str(failure.error)
        assert "exceeds the context length" in str(failure.error)
    assert len(endpoint.asked) <= 2 + 2 * 2 * 8  # two for each halving, and a harmless one


async def test_a_request_that_is_too_large_is_not_a_failure(dsn: str, collection: str) -> None:
    endpoint = Endpoint(lambda texts: len(texts) > 5, 413)
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(storage, endpoint.embedder(), [good(number) for number in range(20)])
    assert (report.documents, report.failures) == (20, ())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_an_endpoint_that_refuses_every_text_ends_the_ingest(dsn: str, collection: str, status: int) -> None:
    endpoint = Endpoint(lambda _: True, status)
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(EndpointError, match=f"status {status}"):
            await ingested(storage, endpoint.embedder(), [good(number) for number in range(50)])
    assert len(endpoint.asked) <= 9


async def test_a_model_that_begins_to_refuse_every_text_ends_the_ingest(dsn: str, collection: str) -> None:
    broken = False

    def refuses(texts: list[str]) -> bool:
        nonlocal broken
        broken |= any("number 20" in text for text in texts)
        return broken

    endpoint = Endpoint(refuses)
    documents = [Document(f"{number}.md", f"number {number}") for number in range(100)]
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(EndpointError):
            await ingested(storage, endpoint.embedder(), documents, batch_size=5)
        assert await storage.count() == 20
    assert endpoint.asked[-1] == [HARMLESS]
    assert len(endpoint.asked) <= 4 + 2 * IN_A_ROW + 10


async def test_many_bad_texts_in_a_row_do_not_end_the_ingest(dsn: str, collection: str) -> None:
    endpoint = Endpoint(any_long)
    documents = [good(1), *(Document(f"long{n}.md", f"long {n}") for n in range(3 * IN_A_ROW)), good(2)]
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(storage, endpoint.embedder(), documents)
    assert (report.documents, len(report.failures)) == (2, 3 * IN_A_ROW)


@pytest.mark.parametrize("row", [[math.nan, 1.0, 2.0], [1.0, None, 2.0], None, "abc", [1.0, 2.0], [[1.0], [2.0]]])
async def test_an_invalid_vector_is_a_failure_of_its_document(dsn: str, collection: str, row: Any) -> None:
    model = Lengths(odd=row)
    documents = [good(1), Document("bad.md", "a first one\n\nthe odd one"), good(2), Document("too.md", "the odd one")]
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(storage, model, documents)
        assert await stored(storage) == {"001.md", "002.md"}
    assert [(one.document, one.chunk) for one in report.failures] == [("bad.md", 1), ("too.md", 0)]
    assert [repr(one.document) in str(one.error) for one in report.failures] == [True, True]
    assert len([text for text in model.texts if text == "good text 1"]) == 1  # the good ones are not embedded again


async def test_a_zero_vector_is_a_failure_in_a_cosine_collection(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(storage, Lengths(odd=[0.0, 0.0, 0.0]), [good(1), Document("bad.md", "odd"), good(2)])
        assert len(report.failures) + await storage.count() == 5
        assert report.documents == 3 - len(report.failures)


async def test_vectors_of_other_dimensions_end_the_ingest(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(DimensionError, match="3 dimensions, not 2"):
            await ingested(storage, Lengths(o=[1.0, 2.0]), [good(number) for number in range(30)])
        assert await storage.count() == 0


async def test_an_error_about_all_documents_ends_the_ingest(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection) as storage:
        with pytest.raises(CollectionError):
            await ingested(storage, Lengths(), [good(1), Document("bad.md", "\0")])


async def test_a_key_that_is_too_long_for_an_index_is_a_failure_of_its_document(dsn: str, collection: str) -> None:
    import random

    key = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.create()
        report = await ingested(storage, Lengths(), [good(1), Document(key, "text"), good(2)])
        assert {"001.md", "002.md"} <= await stored(storage)
        assert [one.document for one in report.failures] == [key] or await storage.count(document=key) == 1


# What names its item as well


async def test_add_names_the_document_and_the_chunk_whose_text_is_refused(dsn: str, collection: str) -> None:
    endpoint = Endpoint(any_long)
    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, endpoint.embedder())
        text = "\n\n".join(["fine"] * 20 + ["too long"] + ["fine too"] * 20)
        with pytest.raises(EndpointError, match=r"chunk .* of document 'bad\.md'.*context length") as caught:
            await retriever.add("bad.md", text, chunk_size=8)
        assert (caught.value.document, caught.value.position) == ("bad.md", 20)
        with pytest.raises(ArgumentError, match=r"document 'bad\.md': .*NUL"):
            await retriever.add("bad.md", "a\0b")
        retriever = ResearchRetriever(storage, Lengths(odd=[math.nan] * 3))
        with pytest.raises(ArgumentError, match=r"of document 'bad\.md'.*the embedding is nan") as named:
            await retriever.add("bad.md", "fine\n\nodd", chunk_size=5)
        assert (named.value.document, named.value.position) == ("bad.md", 1)
        assert await storage.count() == 0


async def test_upsert_names_the_chunk_whose_text_is_refused(dsn: str, collection: str) -> None:
    chunks = [Chunk(f"fine {number}", id=f"c{number}") for number in range(9)]
    chunks[5] = Chunk("too long and odd", id="broken")
    async with VectorStorage(dsn, collection, 3) as storage:
        for model in (Endpoint(any_long).embedder(), Lengths(odd=[None] * 3)):
            with pytest.raises(PreheatError, match=r"chunk 'broken'") as caught:
                await ResearchRetriever(storage, model).upsert(iter(chunks))
            assert (caught.value.chunk, caught.value.index) == ("broken", 5)  # type: ignore[attr-defined]


async def test_retrieve_many_names_the_query_whose_text_is_refused() -> None:
    queries = [f"question {number}" for number in range(9)]
    queries[6] = "a question that is too long and odd"
    async with VectorStorage(FakePool(), "x", 3, warm="never") as storage:
        for model in (Endpoint(any_long).embedder(), Lengths(odd=[math.nan] * 3)):
            with pytest.raises(PreheatError, match=r"query 6 \('a question that is too long and odd'\)"):
                await ResearchRetriever(storage, model).retrieve_many(queries)
        with pytest.raises(ArgumentError, match="query 1 "):
            await ResearchRetriever(storage, Lengths()).retrieve_many(["a", "\0"])
        with pytest.raises(ArgumentError, match="query 2 "):
            await ResearchRetriever(storage, Lengths()).retrieve_many(["a", "b", " "])


def test_a_failure_is_one_line_without_secrets() -> None:
    failure = IngestFailure("a.md", ValueError("two\nlines for postgresql://me:secret@host/db"), 3)
    assert failure.as_dict() == {
        "document": "a.md",
        "chunk": 3,
        "error": "two lines for postgresql://me:***@host/db",
    }
