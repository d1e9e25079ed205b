"""One call of a model at a time, in a worker thread that a cancelled caller does not wait for.

anyio can leave a thread behind, too. But on asyncio the limiter is then free although the thread still works, so that
two would work at once; and threads would pile up behind a model that hangs. Here a turn lasts as long as its thread.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import anyio
from anyio import from_thread, to_thread
from anyio.lowlevel import EventLoopToken, RunVar, current_token

__all__ = ("SerialWorker", "serial_worker_of")

T = TypeVar("T")


class SerialWorker:
    """Runs functions in worker threads, one at a time, whichever tasks, event loops and threads they come from."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while a function runs; the last word between event loops, and for who works without one."""

    async def run(self, function: Callable[[], T]) -> T:
        """Run `function` in a worker thread when it is its turn, and return what it returns.

        Cancellation: leaves at once. A function that runs already goes on, and its turn ends with it; one that does
        not never will.
        """
        limiter = self._limiter()
        work = _Work(function, self.lock, limiter)
        await limiter.acquire_on_behalf_of(work)
        try:
            return (await to_thread.run_sync(work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(math.inf)))[0]
        finally:
            work.leave()

    def _limiter(self) -> anyio.CapacityLimiter:
        """The limiter of this event loop, in which a turn that was left behind ends with the loop."""
        limiters = _limiters.get(None)
        if limiters is None:
            _limiters.set(limiters := WeakKeyDictionary())
        return limiters.setdefault(self, anyio.CapacityLimiter(1))


_limiters: RunVar[WeakKeyDictionary[SerialWorker, anyio.CapacityLimiter]] = RunVar("preheat embedding")


class _Work(Generic[T]):
    """One function on its way through a thread. Whichever of thread and caller is done last gives the turn back."""

    def __init__(self, function: Callable[[], T], lock: threading.RLock, limiter: anyio.CapacityLimiter) -> None:
        self._function = function
        self._lock = lock
        self._limiter = limiter
        self._loop: EventLoopToken = current_token()
        self._change = threading.Lock()
        self._running = False
        self._left = False

    def __call__(self) -> tuple[T, ...]:
        """In the thread: run the function, unless the caller has left before it could start."""
        with self._change:
            if self._left:
                return ()
            self._running = True
        try:
            with self._lock:
                return (self._function(),)  # in a tuple: trio takes a coroutine for a mistake
        finally:
            with self._change:
                self._running = False
                left = self._left
            if left:
                # Not from this thread: a loop that is just closing may never answer, and then this thread would keep
                # the process from exiting. A daemon does not.
                with suppress(RuntimeError):  # the interpreter starts no more threads: it exits
                    threading.Thread(target=self._give_back, name="preheat: a turn has ended", daemon=True).start()

    def leave(self) -> None:
        """In the event loop: the caller has what it wanted, or wants it no more."""
        with self._change:
            self._left = True
            running = self._running
        if not running:
            self._limiter.release_on_behalf_of(self)

    def _give_back(self) -> None:
        with suppress(RuntimeError):  # the event loop is closed, and its limiter with it
            from_thread.run_sync(self._limiter.release_on_behalf_of, self, token=self._loop)


_workers: dict[int, SerialWorker] = {}
_shared_worker = SerialWorker()


def serial_worker_of(model: object) -> SerialWorker:
    """The worker of a model, the same for every user of the model."""
    if id(model) not in _workers:
        try:
            end = weakref.finalize(model, _workers.pop, id(model), None)
        except TypeError:  # it has slots and no room for a weak reference; all of its kind share a worker
            return _shared_worker
        end.atexit = False
        _workers[id(model)] = SerialWorker()
    return _workers[id(model)]
