"""A batch that takes long to prepare keeps nobody else waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import from_thread, to_thread

from preheat import ArgumentError, Chunk, VectorStorage
from preheat.storage.encoding import copy_format
from preheat.storage.write import changing, loading
from preheat.storage.write import chunks as batches


def chunks(number: int) -> list[Chunk]:
    return [Chunk(f"text {n}", [1.0, float(n)], document="a.md", position=n) for n in range(number)]


async def embed(texts: Sequence[str]) -> list[list[float]]:
    return [[1.0, float(len(text))] for text in texts]


class Watch:
    """Counts the rounds of the event loop, and notes the count whenever a piece of a batch is packed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rounds = 0
        self.seen: list[int] = []
        self.at: dict[int, Any] = {}
        monkeypatch.setattr(copy_format, "PIECE", 2000)
        for module in (changing, __import__("preheat.storage.write.batch", fromlist=["batch"])):
            monkeypatch.setattr(module, "copy_rows", self.copy_rows)

    def copy_rows(self, *arguments: Any) -> Iterator[bytes]:
        for piece in copy_format.copy_rows(*arguments):
            self.seen.append(self.rounds)
            if (then := self.at.get(len(self.seen))) is not None:
                then()
            yield piece

    async def run(self) -> None:
        while True:
            self.rounds += 1
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


CALLS: dict[str, Any] = {
    "add": lambda storage, given: storage.add(given),
    "upsert": lambda storage, given: storage.upsert(given),
    "replace_document": lambda storage, given: storage.replace_document("a.md", given),
    "replace_document with a model": lambda storage, given: storage.replace_document("a.md", given, embed),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_the_event_loop_has_its_turn_after_each_piece(dsn: str, collection: str, watch: Watch, call: Any) -> None:
    async with VectorStorage(dsn, collection, 2, index=False) as storage:
        await storage.create()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            await call(storage, chunks(1000))
            tasks.cancel_scope.cancel()
        assert len(watch.seen) > 20
        # trio runs the tasks of a round in any order, so that two pieces may come one after the other.
        assert all(before < after for before, after in zip(watch.seen, watch.seen[2:], strict=False))
        assert await storage.count() == 1000


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_cancelled_writer_packs_nothing_more_and_stores_nothing(
    dsn: str, collection: str, watch: Watch, call: Any, made: bool
) -> None:
    async with VectorStorage(dsn, collection, 2, index=False) as storage:
        if made:
            await storage.create()
        async with anyio.create_task_group() as tasks:
            cancel = tasks.cancel_scope.cancel
            watch.at[10] = cancel if made else lambda: from_thread.run_sync(cancel)
            await call(storage, chunks(1000))
        assert len(watch.seen) <= 12
        assert await storage.count() == 0


async def test_a_batch_is_sorted_and_hashed_in_a_thread_unless_it_is_small(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def numbered(given: list[Chunk]) -> list[Chunk]:
        threads.append(threading.current_thread())
        return given

    monkeypatch.setattr(batches, "numbered", numbered)
    async with VectorStorage(dsn, collection, 2, index=False) as storage:
        for call in CALLS.values():
            for number, is_here in ((loading.QUICK_CHUNKS, True), (loading.QUICK_CHUNKS + 1, False)):
                threads.clear()
                await call(storage, chunks(number))
                assert {thread is threading.current_thread() for thread in threads} == {is_here}
        threads.clear()
        await storage.add([Chunk("x" * 200_000, [1.0, 1.0])])
        assert threads != [threading.current_thread()]


async def test_threads_that_all_wait_for_a_batch_do_not_keep_it_waiting(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, index=False) as storage:
        with anyio.fail_after(20):
            only = anyio.CapacityLimiter(1)
            limiter = to_thread.current_default_thread_limiter()
            tokens, limiter.total_tokens = limiter.total_tokens, 1
            try:
                assert await to_thread.run_sync(lambda: from_thread.run(storage.add, chunks(100))) == 100
                assert await to_thread.run_sync(lambda: from_thread.run(storage.add, chunks(100)), limiter=only) == 100
            finally:
                limiter.total_tokens = tokens


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_of_a_big_batch_the_chunk_that_cannot_be_stored_is_named(dsn: str, collection: str, call: Any) -> None:
    async with VectorStorage(dsn, collection, 2, index=False) as storage:
        given = chunks(500)
        given[321] = Chunk("zero", [0, 0], document="a.md")
        with pytest.raises(ArgumentError, match="no direction") as refused:
            await call(storage, given)
        assert refused.value.index == 321
        assert await storage.count() == 0
