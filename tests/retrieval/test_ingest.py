"""Ingest documents: on a real PostgreSQL, and with fake steps for the order of events."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from typing import Any
from weakref import WeakSet

import anyio
import anyio.lowlevel
import pytest
from anyio import from_thread
from anyio.lowlevel import current_token
from tests.support.models import Lengths
from tests.support.waiting import PATIENCE

from preheat import (
    ArgumentError,
    CollectionError,
    Document,
    EmbedderError,
    IngestReport,
    ResearchRetriever,
    VectorStorage,
)
from preheat.retrieval.batching import Batches
from preheat.retrieval.ingest import Ingest
from preheat.storage.write.batch import Batch, Stored
from preheat.testing import FakePool, cancel_everywhere

IN_THE_PIPE = 7  # a batch in each of four steps, and one before each but the first


def document(number: int, paragraphs: int = 1, **changes: Any) -> Document:
    text = "\n\n".join(f"document {number}, paragraph {n}" for n in range(paragraphs))
    return Document(**{"key": f"{number:03}.md", "text": text, "metadata": {"number": number}, **changes})


async def ingested(storage: VectorStorage, documents: Any, **options: Any) -> IngestReport:
    with anyio.fail_after(PATIENCE):
        return await ResearchRetriever(storage, Lengths()).ingest(documents, **{"chunk_size": 30, **options})


async def rows(storage: VectorStorage) -> dict[str, tuple[Any, ...]]:
    async with storage.pool.lease() as lease:
        table = f'"preheat_{storage.collection}"'
        found = await lease.fetch(f"SELECT id, text, document, ctid::text, xmin::text FROM {table} ORDER BY id")
        return {row["id"]: tuple(row.values())[1:] for row in found}


async def indexes(storage: VectorStorage) -> set[str]:
    async with storage.pool.lease() as lease:
        found = await lease.fetch(
            "SELECT indexname FROM pg_indexes WHERE tablename = $1", f"preheat_{storage.collection}"
        )
        return {row["indexname"].rpartition(".")[2] for row in found}


async def asynchronous(documents: list[Document]) -> AsyncGenerator[Document]:
    for one in documents:
        await anyio.lowlevel.checkpoint()
        yield one


@pytest.mark.parametrize("kind", [list, iter, asynchronous])
async def test_documents_come_from_any_iterable(dsn: str, collection: str, kind: Callable[[Any], Any]) -> None:
    documents = [document(n, paragraphs=3) for n in range(10)]
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(storage, kind(documents), batch_size=7)

        assert (report.documents, report.chunks, report.added) == (10, 30, 30)
        assert report.as_dict() == {
            "documents": 10,
            "chunks": 30,
            "added": 30,
            "changed": 0,
            "unchanged": 0,
            "deleted": 0,
            "seconds": report.seconds,
            "failures": [],
        }
        found = [one async for one in storage.chunks(document="004.md")]
        assert [(one.text, one.metadata) for one in found] == [
            (f"document 4, paragraph {n}", {"number": 4, "start": n * 25}) for n in range(3)
        ]
        assert (await storage.search([24.0, 1.0, 2.0], k=1))[0].text.startswith("document")


async def test_a_second_ingest_writes_only_what_has_changed(dsn: str, collection: str) -> None:
    model = Lengths()
    documents = [document(n, paragraphs=3) for n in range(10)]
    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, model)
        await retriever.ingest(documents, batch_size=7, chunk_size=30)
        before, asked = await rows(storage), len(model.texts)

        again = await retriever.ingest(iter(documents), batch_size=11, chunk_size=30)
        assert (again.documents, again.unchanged, again.chunks) == (10, 30, 30)
        assert await rows(storage) == before
        assert len(model.texts) == asked == 30

        documents[2] = document(2, paragraphs=1)
        documents[3] = Document("003.md", documents[3].text + " new", {"number": 3})
        documents[4] = Document("004.md", "")
        report = await retriever.ingest(documents, chunk_size=30)
        assert (report.added, report.changed, report.unchanged, report.deleted) == (1, 0, 24, 6)
        after = await rows(storage)
        assert [id for id in after if id in before and before[id] != after[id]] == []
        assert sorted(before[id][0] for id in before if id not in after) == [
            *("document 2, paragraph 1", "document 2, paragraph 2", "document 3, paragraph 2"),
            *(f"document 4, paragraph {n}" for n in range(3)),
        ]
        assert model.texts[asked:] == ["document 3, paragraph 2 new"]


async def test_the_later_of_two_documents_with_one_key_is_kept(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        report = await ingested(storage, [Document("a", "first"), Document("b", "other"), Document("a", "second")])
        assert (report.documents, await storage.count()) == (3, 2)
        assert {one.text async for one in storage.chunks()} == {"other", "second"}


async def test_a_new_collection_gets_its_indexes_at_the_end(dsn: str, collection: str) -> None:
    seen: list[tuple[int, str | None]] = []
    async with VectorStorage(dsn, collection, 3, size=2) as storage:
        without: list[set[str]] = []

        def source() -> Iterator[Document]:
            yield from [document(n) for n in range(3)]

        def progress(report: IngestReport) -> None:
            seen.append((report.documents, report.index.step if report.index else None))

        class Watching(Lengths):
            async def embed(self, texts: Sequence[str]) -> Any:
                if self.texts:
                    without.append(await indexes(storage))
                return await super().embed(texts)

        with anyio.fail_after(PATIENCE):
            report = await ResearchRetriever(storage, Watching()).ingest(source(), batch_size=1, progress=progress)

        assert {"embedding", "metadata", "words"} <= await indexes(storage)
        assert all("embedding" not in found for found in without)
        assert seen[:3] == [(1, None), (2, None), (3, None)]
        assert list(dict.fromkeys(step for _, step in seen[3:])) == [
            "the words of the texts",
            "the index of the words",
            "the index of the metadata",
            "the index of the vectors",
        ]
        assert report.index is not None
        again = await ingested(storage, [document(4)])
        assert (again.added, again.index) == (1, None)


async def test_the_next_ingest_creates_missing_indexes_unless_they_are_unwanted(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, index=False) as storage:
        await ingested(storage, [document(1)])
        assert "embedding" not in await indexes(storage)
    async with VectorStorage(dsn, collection, 3) as storage:
        assert (await ingested(storage, [document(1)])).unchanged == 1
        assert "embedding" in await indexes(storage)


async def test_an_empty_source_creates_nothing(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        assert (await ingested(storage, [])).documents == 0
        assert await indexes(storage) == set()
    async with VectorStorage(dsn, collection) as storage:
        with pytest.raises(CollectionError, match="there is no collection"):
            await ingested(storage, [document(1)])


# What goes wrong


@pytest.mark.parametrize("kind", [iter, asynchronous])
async def test_an_error_of_the_source_is_raised_and_written_documents_stay(
    dsn: str, collection: str, kind: Callable[[Any], Any]
) -> None:
    closed: list[bool] = []

    async with VectorStorage(dsn, collection, 3) as storage:
        written = anyio.Event()

        async def breaking() -> AsyncGenerator[Document]:
            try:
                yield document(1)
                await written.wait()
                yield document(2)
                raise KeyError("source")
            finally:
                closed.append(True)

        with pytest.raises(KeyError, match="source"):
            await ingested(storage, breaking(), batch_size=1, progress=lambda _: written.set())
        assert await storage.count(document="001.md") == 1
        assert closed == [True]

        def plain() -> Iterator[Document]:
            try:
                yield document(3, paragraphs=2)
                raise KeyError("source")
            finally:
                closed.append(True)

        with pytest.raises(KeyError, match="source"):
            await ingested(storage, plain())
        assert closed == [True, True]


async def test_an_error_of_the_model_is_raised_and_the_source_is_closed(dsn: str, collection: str) -> None:
    closed: list[bool] = []

    def source() -> Iterator[Document]:
        try:
            for n in itertools.count():
                yield document(n)
        finally:
            closed.append(True)

    class Breaking(Lengths):
        async def embed(self, texts: Sequence[str]) -> Any:
            if len(self.texts) == 3:
                raise ExceptionGroup("mine", [KeyError("model")])
            return await super().embed(texts)

    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(ExceptionGroup, match="mine") as caught:
            with anyio.fail_after(PATIENCE):
                await ResearchRetriever(storage, Breaking()).ingest(source(), batch_size=1)
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert closed == [True]
        report = await ingested(storage, [document(n) for n in range(5)])  # and again, with a model that works
        assert (report.documents, await storage.count()) == (5, 5)


async def test_a_refused_row_is_a_failure_and_no_document_is_half_stored(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await ingested(storage, [document(0), Document("bad.md", "as it was")])
        async with storage.get_connection() as connection:
            await connection.execute(f"ALTER TABLE \"preheat_{collection}\" ADD CHECK (text NOT LIKE '%poison%')")
        documents = [document(n, 3) for n in range(1, 20)]
        documents.insert(11, Document("bad.md", "good\n\npoison"))
        documents.insert(5, Document("worse.md", "poison"))
        report = await ingested(storage, documents, batch_size=40, chunk_size=30)
        assert sorted(one.document for one in report.failures) == ["bad.md", "worse.md"]
        assert all("check constraint" in str(one.error) for one in report.failures)
        assert report.documents == 19
        assert await storage.count() == 19 * 3 + 2
        assert [one.text async for one in storage.chunks(document="bad.md")] == ["as it was"]


async def test_progress_is_reported_while_a_large_document_is_embedded(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preheat.retrieval.ingest.EMBEDDED_AT_ONCE", 2)
    told: list[tuple[int, int, int]] = []

    def progress(report: IngestReport) -> None:
        told.append((report.embedded, report.found, report.chunks))

    async with VectorStorage(dsn, collection, 3, index=False) as storage:
        await ingested(storage, [document(1, 5)], progress=progress)
        assert told == [(2, 5, 0), (4, 5, 0), (5, 5, 5)]
        told.clear()
        await ingested(storage, [document(1, 8)], progress=progress)
        assert told == [(7, 8, 0), (8, 8, 8)], "those that are stored have an embedding"


async def test_an_error_of_progress_ends_the_ingest(dsn: str, collection: str) -> None:
    def progress(_: IngestReport) -> None:
        raise KeyError("progress")

    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(KeyError, match="progress"):
            await ingested(storage, [document(1)], progress=progress)


@pytest.mark.parametrize(
    ("documents", "options", "words"),
    [
        (5, {}, "not a source of documents"),
        ("text", {}, "'text' is not a source of documents"),
        (document(1), {}, "not a source of documents"),
        ({"key": document(1)}, {}, "not a source of documents"),
        ([document(1)], {"batch_size": 0}, "batch_size is 0"),
        ([document(1)], {"chunk_size": 0}, "chunk_size is 0"),
    ],
)
async def test_invalid_arguments_are_refused(documents: Any, options: dict[str, Any], words: str) -> None:
    async with VectorStorage(FakePool(), "x", 3) as storage:
        with pytest.raises(ArgumentError, match=words):
            await ingested(storage, documents, **options)


async def test_a_model_other_than_the_collections_is_refused(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, embedder="another") as storage:
        await storage.create()
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(EmbedderError):
            await ingested(storage, [document(1)])


async def test_a_custom_storage_cannot_ingest() -> None:
    class Storage:
        dimensions = 3

    retriever = ResearchRetriever(Storage(), Lengths())  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="ingest needs a VectorStorage"):
        await retriever.ingest([])
    with pytest.raises(ArgumentError, match="upsert needs a VectorStorage"):
        await retriever.upsert([])


# What runs when


class Steps:
    """Steps that can be blocked, and record their batches."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.before: dict[tuple[str, int], Callable[[], Any]] = {}
        self.alive: WeakSet[Batch] = WeakSet()
        self.most_alive = 0
        self._counts = {"look up": 0, "embed": 0, "write": 0}

    async def look_up(self, batch: Batch) -> None:
        self.alive.add(batch)
        self.most_alive = max(self.most_alive, len(self.alive))
        await self._step("look up")

    async def embed(self, batch: Batch, embed: Any) -> None:
        await self._step("embed")

    async def write(self, batch: Batch) -> Stored | None:
        answer = await self._step("write")
        if answer is not None:
            return None
        self.written.append(sorted(batch.documents))
        return Stored(len(batch))

    async def _step(self, name: str) -> Any:
        self._counts[name] += 1
        await anyio.lowlevel.checkpoint()
        hold = self.before.get((name, self._counts[name]))
        return await hold() if hold else None


async def nothing(texts: list[str]) -> list[Any]:
    raise AssertionError


async def run(steps: Steps, source: Any, **options: Any) -> IngestReport:
    with anyio.fail_after(PATIENCE):
        return await Ingest(steps, nothing).run(source, **{"batch_size": 1, "chunk_size": 800, **options})


async def test_the_next_batch_is_embedded_while_one_is_written() -> None:
    """Neither step ends before both are running, so one after the other they would never end."""
    steps, writing, embedding = Steps(), anyio.Event(), anyio.Event()

    async def hold_the_writing() -> None:
        writing.set()
        await embedding.wait()

    async def hold_the_embedding() -> None:
        embedding.set()
        await writing.wait()

    steps.before = {("write", 1): hold_the_writing, ("embed", 2): hold_the_embedding}
    report = await run(steps, [document(n) for n in range(4)])
    assert (report.documents, report.added) == (4, 4)
    assert steps.written == [[f"{n:03}.md"] for n in range(4)]


@pytest.mark.parametrize("plain", [True, False])
async def test_the_source_is_read_a_few_batches_ahead_at_most(plain: bool) -> None:
    """While the first batch is blocked, so many are read. Then one more is read for each batch that is written."""
    steps, pulled = Steps(), 0
    ahead: list[int] = []

    def source() -> Generator[Document]:
        nonlocal pulled
        for n in range(40):
            pulled += 1
            ahead.append(pulled - len(steps.written))
            yield document(n)

    async def until_full() -> None:
        while pulled < IN_THE_PIPE:
            await anyio.lowlevel.checkpoint()  # the reader may be in a thread, which no event tells of

    steps.before = {("write", 1): until_full}
    report = await run(steps, source() if plain else asynchronous_of(source()))
    assert report.documents == 40
    assert max(ahead) == IN_THE_PIPE


async def test_a_written_batch_is_not_kept_in_memory() -> None:
    """Memory does not grow: only the batches in the pipeline are alive."""
    steps = Steps()
    assert (await run(steps, (document(n) for n in range(60)))).documents == 60
    assert 1 <= steps.most_alive <= IN_THE_PIPE
    assert len(steps.alive) == 0


async def asynchronous_of(documents: Iterator[Document]) -> AsyncGenerator[Document]:
    for one in documents:
        yield one


async def test_a_batch_that_another_caller_changed_first_is_embedded_again() -> None:
    async def again() -> bool:
        return True

    steps = Steps()
    steps.before = {("write", 1): again}
    assert (await run(steps, [document(1)])).documents == 1
    assert steps._counts == {"look up": 1, "embed": 2, "write": 2}


@pytest.mark.parametrize("plain", [True, False])
async def test_an_ingest_cancelled_at_any_point_ends_and_closes_its_source(plain: bool) -> None:
    opened = closed = 0

    async def cancelled() -> None:
        def source() -> Generator[Document]:
            nonlocal opened, closed
            opened += 1
            try:
                for n in range(3):
                    yield document(n)
            finally:
                closed += 1

        steps = Steps()
        try:
            documents = source()
            await run(steps, documents if plain else asynchronous_of(documents))
        finally:
            documents.close()

    sweep = await cancel_everywhere(cancelled)
    assert sweep.points > 10
    assert opened == closed


async def test_a_plain_source_is_not_read_after_a_cancellation() -> None:
    asked: list[int] = []
    reached, go_on = anyio.Event(), threading.Event()
    loop = current_token()

    def source() -> Iterator[Document]:
        for n in itertools.count():
            asked.append(n)
            if n == 2:
                from_thread.run_sync(reached.set, token=loop)
                go_on.wait(PATIENCE)
            yield document(n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: run(Steps(), source(), batch_size=1000))
        await reached.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()  # the reader has taken note of its cancellation
        go_on.set()
    assert asked == [0, 1, 2]


# Batches


def test_batches_are_whole_documents() -> None:
    batches = Batches(batch_size=4, chunk_size=30)
    full = [batches.put(document(n, paragraphs)) for n, paragraphs in enumerate([1, 2, 2, 9, 1, 4, 3])]
    sizes = [[len(batch) for batch in found] for found in full]
    assert sizes == [[], [], [3], [2, 9], [], [1, 4], []]
    assert [len(batch) for batch in batches.rest()] == [3]
    assert batches.rest() == []


def test_a_batch_has_a_bounded_number_of_distinct_documents() -> None:
    batches = Batches(batch_size=1000, chunk_size=30)
    assert [len(found) for found in map(batches.put, [document(n) for n in range(256)])] == [0] * 256
    assert [len(batch) for batch in batches.put(document(256))] == [256]
    assert [len(batch) for batch in batches.put(document(256))] == [1]
    assert Batches(1000, 30).put(Document("a", "")) == []
