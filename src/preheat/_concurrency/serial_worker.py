"""Call a model in a worker thread, one call at a time. A cancelled caller does not wait for the thread.

anyio can abandon a thread, too. But on asyncio its limiter is free as soon as the caller has left, although the thread
still works: two calls would run at once, and threads would pile up behind a model that hangs. Here a place in the
limiter belongs to a call until its thread is done.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, from_thread, to_thread
from anyio.lowlevel import EventLoopToken, RunVar, current_token

__all__ = ("SerialWorker", "serial_worker_of")

T = TypeVar("T")

_limiters: RunVar[WeakKeyDictionary[SerialWorker, CapacityLimiter]] = RunVar("preheat serial workers")


class SerialWorker:
    """Runs functions in worker threads, one at a time, for all tasks, event loops and threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while a function runs. It keeps apart the calls of several event loops, and those without a loop."""

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` in a worker thread as soon as no other function runs, and return its result.

        Cancellation: leaves at once. A function that runs already goes on, and the next call waits for it; a function
        that has not begun never does.
        """
        limiters = _limiters.get(None)
        if limiters is None:
            _limiters.set(limiters := WeakKeyDictionary())
        limiter = limiters.setdefault(self, CapacityLimiter(1))  # each event loop has its own, which ends with the loop
        in_thread: Future[None] = Future()

        def work() -> tuple[T, ...]:
            if not in_thread.set_running_or_notify_cancel():
                return ()
            try:
                with self.lock:
                    return (function(),)  # in a tuple: trio refuses a function that returns a coroutine
            finally:
                in_thread.set_result(None)

        await limiter.acquire_on_behalf_of(in_thread)
        try:
            return (await to_thread.run_sync(work, abandon_on_cancel=True, limiter=CapacityLimiter(math.inf)))[0]
        finally:
            # The future decides between this task and the thread: either the call is cancelled before the thread begins
            # it, or it is done, or the callback runs when the thread is done. So the place is given back exactly once.
            if in_thread.cancel() or in_thread.done():
                limiter.release_on_behalf_of(in_thread)
            else:
                in_thread.add_done_callback(partial(_release_soon, limiter, current_token()))


def _release_soon(limiter: CapacityLimiter, loop: EventLoopToken, borrower: Future[None]) -> None:
    """Give a place back in the event loop of its limiter."""

    def release() -> None:
        with suppress(RuntimeError):  # the event loop has ended, and its limiter with it
            from_thread.run_sync(limiter.release_on_behalf_of, borrower, token=loop)

    # In a daemon thread: a loop that is about to end may never answer, and must not keep the process from exiting.
    with suppress(RuntimeError):  # the interpreter exits and starts no more threads
        threading.Thread(target=release, name="preheat: release a serial worker", daemon=True).start()


_workers: dict[int, SerialWorker] = {}
_shared_worker = SerialWorker()


def serial_worker_of(model: object) -> SerialWorker:
    """The worker of a model, the same for every user of the model."""
    if id(model) not in _workers:
        try:
            end = weakref.finalize(model, _workers.pop, id(model), None)
        except TypeError:  # the class has slots and no weak references; all models of such classes share a worker
            return _shared_worker
        end.atexit = False
        _workers[id(model)] = SerialWorker()
    return _workers[id(model)]
