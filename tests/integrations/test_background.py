"""A storage in an event loop of its own, called from plain code and from other event loops."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import pytest
from anyio import to_thread
from tests.support.waiting import PATIENCE

from preheat import Chunk, PreheatError, VectorStorage
from preheat.integrations import Background
from preheat.integrations.background import call, call_async


@pytest.fixture(params=["asyncio", "trio"])
def storage(request: pytest.FixtureRequest, dsn: str, collection: str) -> Iterator[VectorStorage]:
    with Background(VectorStorage(dsn, collection, 2, size=1), backend=request.param) as storage:
        yield storage


def test_plain_code_calls_from_any_thread(storage: VectorStorage) -> None:
    assert call(storage, lambda: storage.add([Chunk("a", [1, 0])])) == 1
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(call(storage, storage.count))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 4


async def test_async_code_calls_from_any_event_loop(storage: VectorStorage) -> None:
    assert await call_async(storage, lambda: storage.add([Chunk("a", [1, 0])])) == 1
    bound = storage.bound_to("model")
    assert await call_async(bound, bound.count) == 1
    with pytest.raises(PreheatError, match="ids are strings"):
        await call_async(storage, lambda: storage.get("a"))


async def test_a_cancelled_caller_cancels_the_call(storage: VectorStorage) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(call_async, storage, wait)
        assert await to_thread.run_sync(begun.wait, PATIENCE)
        group.cancel_scope.cancel()
    assert await to_thread.run_sync(ended.wait, PATIENCE)


def test_a_plain_call_in_the_backgrounds_own_thread_is_refused(storage: VectorStorage) -> None:
    async def inside() -> None:
        assert await call_async(storage, storage.count) == 0
        call(storage, storage.count)

    with pytest.raises(PreheatError, match="would block the event loop of its storage; await the async method"):
        call(storage, inside)


def test_a_storage_without_a_background_is_told_the_remedy(dsn: str, collection: str) -> None:
    background = Background(VectorStorage(dsn, collection, 2))
    background.close()
    for _ in range(2):
        storage = background.open()
        assert background.open() is storage
        assert call(storage, storage.count) == 0
        background.close()
        with pytest.raises(PreheatError, match=r"open it by `with preheat\.integrations\.Background\("):
            call(storage, storage.count)
    assert not [thread for thread in threading.enumerate() if thread.name == "preheat: background"]
