from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest
from anyio import to_thread

from preheat import Chunk, Hit, ResearchRetriever, SyncEmbedder, VectorStorage
from preheat._concurrency.serial_worker import SerialWorker, serial_worker_of
from preheat.retrieval import ThreadedEmbedder
from preheat.testing import FakePool, run
from preheat.testing.tasks import waits_for_thread


class Gated:
    """A model whose calls block in their threads until the test releases them, and which counts them."""

    name = "gated"
    dimensions = 2

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.at_once = self.most_at_once = 0
        self._started = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def embed(self, texts: Sequence[str]) -> Any:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.texts += texts
        self._started.release()
        assert self._gate.acquire(timeout=30)
        self.at_once -= 1
        return [[float(len(text)), 1.0] for text in texts]

    async def started(self) -> None:
        """Wait until one more call has begun in its thread."""
        assert await to_thread.run_sync(lambda: self._started.acquire(timeout=30))

    def let_go(self, calls: int = 1) -> None:
        self._gate.release(calls)


@pytest.fixture
def model() -> Iterator[Gated]:
    model = Gated()
    yield model
    model.let_go(100)


async def cancelled_in_its_thread(embedder: Any, model: Gated, text: str) -> None:
    """Embed a text, and cancel while the model works. Returns while the model still works."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(embedder.embed, [text])
        await model.started()
        tasks.cancel_scope.cancel()


async def test_a_plain_model_works_in_a_thread_one_call_at_a_time(model: Gated) -> None:
    embedder = ThreadedEmbedder(model)
    assert isinstance(model, SyncEmbedder)
    assert (embedder.name, embedder.dimensions, embedder.known_dimensions) == ("gated", 2, 2)
    answers: list[Any] = []

    async def ask(text: str) -> None:
        answers.append(await embedder.embed([text]))

    async with anyio.create_task_group() as tasks:
        for text in ("a", "bb", "ccc"):
            tasks.start_soon(ask, text)
        for done in range(3):
            await model.started()
            await anyio.wait_all_tasks_blocked()
            assert len(model.texts) == done + 1
            model.let_go()

    assert sorted(answers) == [[[1.0, 1.0]], [[2.0, 1.0]], [[3.0, 1.0]]]
    assert model.most_at_once == 1


async def test_a_cancelled_caller_leaves_and_the_next_call_waits_for_its_thread(model: Gated) -> None:
    embedder = ThreadedEmbedder(model)
    await cancelled_in_its_thread(embedder, model, "abandoned")  # it has left: nobody has let the model go

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(embedder.embed, ["next"])
        await anyio.wait_all_tasks_blocked()
        assert (model.texts, model.at_once) == (["abandoned"], 1)
        model.let_go()
        await model.started()
        assert (model.texts, model.most_at_once) == (["abandoned", "next"], 1)
        model.let_go()


async def test_cancelled_callers_of_a_model_that_hangs_occupy_no_threads(model: Gated) -> None:
    embedder = ThreadedEmbedder(model)
    await cancelled_in_its_thread(embedder, model, "hangs")
    threads = threading.active_count()
    for _ in range(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(embedder.embed, ["impatient"])
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    assert threading.active_count() <= threads
    assert model.texts == ["hangs"]
    model.let_go(2)
    assert await embedder.embed(["ok"]) == [[2.0, 1.0]]
    assert model.texts == ["hangs", "ok"]


async def test_a_caller_that_is_cancelled_already_does_not_call_the_model(model: Gated) -> None:
    embedder = ThreadedEmbedder(model)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await embedder.embed(["never"])
    assert scope.cancelled_caught

    model.let_go()
    await embedder.embed(["ok"])
    assert model.texts == ["ok"]


async def test_an_error_of_the_model_reaches_the_caller_and_the_next_call_runs(model: Gated) -> None:
    class Broken(Gated):
        def embed(self, texts: Sequence[str]) -> Any:
            raise KeyError("model")

    embedder = ThreadedEmbedder(Broken())
    for _ in range(2):
        with pytest.raises(KeyError, match="model"):
            await embedder.embed(["why?"])


async def test_two_wrappers_of_one_model_call_it_one_at_a_time(model: Gated) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ThreadedEmbedder(model).embed, ["a"])
        tasks.start_soon(ThreadedEmbedder(model).embed, ["b"])
        await model.started()
        await anyio.wait_all_tasks_blocked()
        assert len(model.texts) == 1
        model.let_go(2)
    assert model.most_at_once == 1


async def test_two_models_work_at_the_same_time() -> None:
    models = Gated(), Gated()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for model in models:
                tasks.start_soon(ThreadedEmbedder(model).embed, ["a"])
            for model in models:
                await model.started()  # before any of them is let go
            for model in models:
                model.let_go()
    assert [model.most_at_once for model in models] == [1, 1]


def test_the_worker_of_a_model_is_deleted_with_the_model() -> None:
    from preheat._concurrency import serial_worker

    model = Gated()
    before = len(serial_worker._workers)
    assert serial_worker_of(model) is serial_worker_of(model)
    assert len(serial_worker._workers) == before + 1
    del model
    assert len(serial_worker._workers) == before


def test_models_without_weak_references_share_a_worker() -> None:
    class Slotted:
        __slots__ = ()

    assert serial_worker_of(Slotted()) is serial_worker_of(Slotted())


async def test_a_plain_function_may_return_an_awaitable() -> None:
    class Lazy:
        name, dimensions = "lazy", 1

        def embed(self, texts: Sequence[str]) -> Any:
            async def later() -> list[list[float]]:
                await anyio.lowlevel.checkpoint()
                return [[1.0]] * len(texts)

            return later()

    assert await ThreadedEmbedder(Lazy()).embed(["a", "b"]) == [[1.0], [1.0]]


def test_a_thread_that_outlives_its_event_loop_is_waited_for_in_the_next(backend: str, model: Gated) -> None:
    embedder = ThreadedEmbedder(model)
    anyio.run(cancelled_in_its_thread, embedder, model, "abandoned", backend=backend)

    async def again() -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(embedder.embed, ["next"])
            await anyio.wait_all_tasks_blocked()
            assert (model.texts, model.at_once) == (["abandoned"], 1)
            model.let_go()
            await model.started()
            model.let_go()

    anyio.run(again, backend=backend)
    assert model.texts == ["abandoned", "next"]
    assert model.most_at_once == 1


async def test_a_caller_that_waits_for_the_worker_counts_as_waiting_for_a_thread(model: Gated) -> None:
    embedder = ThreadedEmbedder(model)
    await cancelled_in_its_thread(embedder, model, "abandoned")
    next_call = embedder.embed(["next"])

    async def ask() -> None:
        await next_call

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert waits_for_thread(next_call)
        model.let_go(2)


def test_on_virtual_time_waiting_for_the_worker_is_not_a_deadlock(backend: str, model: Gated) -> None:
    async def main() -> Any:
        embedder = ThreadedEmbedder(model)
        await cancelled_in_its_thread(embedder, model, "abandoned")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(embedder.embed, ["next"])
            await anyio.wait_all_tasks_blocked()
            model.let_go(2)

    run(backend, main)
    assert model.texts == ["abandoned", "next"]


async def test_a_cancelled_call_never_begins() -> None:
    turns = SerialWorker()
    asked: list[str] = []
    await turns.run(lambda: asked.append("first"))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await turns.run(lambda: asked.append("second"))
    await turns.run(lambda: asked.append("third"))
    assert asked == ["first", "third"]


async def test_a_retrieval_works_after_a_cancelled_one(model: Gated) -> None:
    async with VectorStorage(FakePool(), "x", 2) as storage:
        retriever = ResearchRetriever(storage, model)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retriever.retrieve, "never mind")
            await model.started()
            tasks.cancel_scope.cancel()
        model.let_go(2)
        assert await retriever.retrieve("why?") == []
    assert model.texts == ["never mind", "why?"]


async def test_storing_calls_a_plain_model_in_a_thread(model: Gated) -> None:
    class Stored:
        async def warm_pool(self) -> bool:
            return True

        async def search(self, vector: Any, k: int = 5, **more: Any) -> list[Hit]:
            return []

        async def replace_document(self, document: str, chunks: Sequence[Chunk]) -> int:
            return len(chunks)

    model.let_go()
    assert await ResearchRetriever(Stored(), model).add("a.md", "some words") == 1
    assert (model.texts, model.most_at_once) == (["some words"], 1)
