"""A trio task that runs asyncio-flavoured coroutines by itself."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
import trio.testing

import preheat.pools.trio.driver_loop  # noqa: F401  before trio-asyncio, which would give asyncio's tests another loop
from preheat.pools.trio.bridge import WakingFuture, drive

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it names a class that asyncio is about to drop
    import trio_asyncio

pytestmark = pytest.mark.parametrize("anyio_backend", [pytest.param("trio", id="trio")])

KINDS = pytest.mark.parametrize("kind", [WakingFuture, asyncio.Future])
"""Futures of the pool's own loop, and those that something else has made."""

MakeFuture = Callable[..., "asyncio.Future[Any]"]


@KINDS
async def test_it_returns_what_the_coroutine_returns_after_any_number_of_waits(kind: MakeFuture) -> None:
    async with trio_asyncio.open_loop() as loop, trio.open_nursery() as nursery:
        futures = [kind(loop=loop) for _ in range(3)]

        async def answer() -> int:
            return sum([await future for future in futures])

        async def resolve() -> None:
            for number, future in enumerate(futures):
                await trio.testing.wait_all_tasks_blocked()
                future.set_result(number)

        nursery.start_soon(resolve)
        assert await drive(answer()) == 3


@KINDS
async def test_it_raises_what_the_coroutine_raises(kind: MakeFuture) -> None:
    async with trio_asyncio.open_loop() as loop, trio.open_nursery() as nursery:
        future = kind(loop=loop)
        nursery.start_soon(trio.testing.wait_all_tasks_blocked)
        loop.call_soon(future.set_exception, LookupError("nothing there"))

        async def answer() -> None:
            await future

        with pytest.raises(LookupError, match="nothing there"):
            await drive(answer())


async def test_a_future_that_is_done_already_is_not_waited_for() -> None:
    async with trio_asyncio.open_loop() as loop:
        future: WakingFuture[str] = WakingFuture(loop=loop)
        future.set_result("here")

        async def answer() -> str:
            return await future

        assert await drive(answer()) == "here"


@KINDS
async def test_a_cancellation_cancels_what_is_waited_for_and_goes_on_as_trios(kind: MakeFuture) -> None:
    seen = []
    async with trio_asyncio.open_loop() as loop, trio.open_nursery() as nursery:
        future = kind(loop=loop)

        async def answer() -> None:
            try:
                await future
            except asyncio.CancelledError as error:
                seen.append(error)
                raise

        with trio.CancelScope() as scope:

            async def cancel() -> None:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            nursery.start_soon(cancel)
            await drive(answer())

    assert scope.cancelled_caught
    assert future.cancelled()
    assert len(seen) == 1


@KINDS
async def test_an_await_during_cleanup_is_not_cancelled(kind: MakeFuture) -> None:
    cleaned = False
    async with trio_asyncio.open_loop() as loop, trio.open_nursery() as nursery:
        future, cleanup = kind(loop=loop), kind(loop=loop)

        async def answer() -> None:
            nonlocal cleaned
            try:
                await future
            finally:
                await cleanup
                cleaned = True

        with trio.CancelScope() as scope:

            async def cancel() -> None:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                assert not cleanup.done()
                cleanup.set_result(None)

            nursery.start_soon(cancel)
            await drive(answer())

    assert scope.cancelled_caught
    assert cleaned


async def test_an_answer_in_spite_of_a_cancellation_is_returned() -> None:
    async with trio_asyncio.open_loop() as loop:
        future: WakingFuture[None] = WakingFuture(loop=loop)

        async def answer() -> str:
            try:
                await future
            except asyncio.CancelledError:
                return "all the same"
            raise AssertionError

        with trio.CancelScope() as scope:
            loop.call_soon(scope.cancel)
            assert await drive(answer()) == "all the same"


async def test_a_cancelled_scope_does_nothing_at_all() -> None:
    begun = False

    async def answer() -> None:
        nonlocal begun
        begun = True

    with trio.CancelScope() as scope:
        scope.cancel()
        await drive(answer())

    assert scope.cancelled_caught
    assert not begun


async def test_a_cancellation_that_is_not_trios_is_passed_along() -> None:
    async with trio_asyncio.open_loop() as loop:
        future: WakingFuture[None] = WakingFuture(loop=loop)
        loop.call_soon(future.cancel)

        async def answer() -> None:
            await future

        with anyio.fail_after(30), pytest.raises(asyncio.CancelledError):
            await drive(answer())


async def test_a_task_of_asyncios_waits_for_a_waking_future_too() -> None:
    async with trio_asyncio.open_loop() as loop:
        future: WakingFuture[str] = WakingFuture(loop=loop)
        loop.call_soon(future.set_result, "heard")

        async def answer() -> str:
            return await future

        assert await loop.run_aio_coroutine(answer()) == "heard"
