"""Run an asyncio-flavored coroutine in a trio task, without a task of asyncio's.

A coroutine that waits for one future after the other needs no task of asyncio's: a trio task can run it, and sleeps
until the future is done. An asyncio task would have to be woken through the queue of its loop, and would tell trio of
its end through the same queue. That is more than half of the time of a quick statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from functools import wraps
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, Self, TypeVar

import trio

__all__ = ("WakingFuture", "drive", "uninterrupted")

P = ParamSpec("P")
T = TypeVar("T")


FIRST = "_on_waiter_completed"
"""The callback in which asyncpg's protocol stops the clock of a statement that has ended."""


class WakingFuture(asyncio.Future[T]):
    """A future that wakes a trio task in the moment that it is done; its other callbacks wait for the loop, as ever.

    One callback does not wait: asyncpg takes it for granted that its protocol hears of the end of a statement before
    anybody begins the next. Heard later, it would stop the clock of that one.
    """

    wake: Callable[[], None] | None = None
    """Wakes the trio task that waits for it, if there is one."""
    _first: Callable[[Any], object] | None = None

    def add_done_callback(self, callback: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """As asyncio's."""
        if getattr(callback, "__name__", None) == FIRST and not self.done():
            self._first = callback
        else:
            super().add_done_callback(callback, context=context)

    def set_result(self, result: T, /) -> None:
        """As asyncio's; then wake."""
        super().set_result(result)
        self._wake()

    def set_exception(self, exception: type[BaseException] | BaseException, /) -> None:
        """As asyncio's; then wake."""
        super().set_exception(exception)
        self._wake()

    def cancel(self, msg: Any = None) -> bool:
        """As asyncio's; then wake."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._wake()
        return cancelled

    def _wake(self) -> None:
        if self._first is not None:
            try:
                self._first(self)
            except Exception as error:
                self.get_loop().call_exception_handler({"message": "a callback has failed", "exception": error})
        if self.wake is not None:
            self.wake()


@trio.lowlevel.enable_ki_protection
async def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run an asyncio-flavored coroutine in this trio task.

    It may wait for futures and for nothing else: there is no asyncio task, which `asyncio.timeout` and a driver's
    connecting would ask for.

    Cancellation: before the first step nothing is done. Later what it waits for is cancelled, once, and so the
    coroutine sees one `CancelledError`; what it waits for in its cleanup is not. trio's own goes on when the coroutine
    has ended with that error.
    """
    task = trio.lowlevel.current_task()
    cancelled: Callable[[], NoReturn] | None = None  # trio's own way to raise a cancellation or Ctrl-C
    future: Any = None

    def wake(_: object = None) -> None:
        trio.lowlevel.reschedule(task)

    def abort(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        nonlocal cancelled
        if cancelled is None:
            cancelled = raise_cancel
            future.cancel()
        return trio.lowlevel.Abort.FAILED  # the future wakes the task, cancelled or not

    try:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            future = coroutine.send(None)
            future._asyncio_future_blocking = False  # as a task says that it has seen the future
            if isinstance(future, WakingFuture):
                future.wake = wake
            else:
                future.add_done_callback(wake)
            await trio.lowlevel.wait_task_rescheduled(abort)
    except StopIteration as end:
        result: T = end.value
        return result
    except asyncio.CancelledError:
        if cancelled is not None:
            cancelled()
        raise
    finally:
        coroutine.close()


def uninterrupted(
    function: Callable[P, AsyncGenerator[T]],
) -> Callable[P, AbstractAsyncContextManager[T]]:
    """As `contextlib.asynccontextmanager`; Ctrl-C interrupts waits as it is entered and left, and nothing between them.

    The block is the user's, and as interruptible as ever.
    """
    manager = asynccontextmanager(function)

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Uninterrupted(manager(*args, **kwargs))

    return make


class _Uninterrupted(AbstractAsyncContextManager[T]):
    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self._manager = manager

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> T:
        return await self._manager.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, trace)
