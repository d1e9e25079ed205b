"""A storage in an event loop of its own, for code that is not async.

Frameworks for RAG call a store from plain functions and from async ones, the latter in any event loop. A storage
belongs to the event loop in which it was opened. :class:`Background` opens it in a loop in a thread of its own, and
calls go there from wherever they come. A storage that was opened as usual is called directly, and only by async code.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar
from weakref import WeakKeyDictionary

from anyio import CancelScope, CapacityLimiter, get_cancelled_exc_class, to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.lowlevel import RunVar

from ..errors import ArgumentError, PreheatError
from ..retrieval import ResearchRetriever
from ..storage import VectorStorage

__all__ = ("Background", "call", "call_async", "storage_of", "warmed")

T = TypeVar("T")

CALLS_AT_ONCE = 100
"""How many async calls of one event loop wait for a background at the same time; each has a thread that waits."""


class Background:
    """Opens a storage in an event loop in a thread of its own, so that it can be used without async.

    Use it as a context manager. Its value is the storage, for the adapters in :mod:`preheat.integrations` and for
    :class:`preheat.ResearchRetriever`. The adapters' plain methods work in any thread, and their async methods in any
    event loop. Leaving it closes the storage and ends the thread.

    Args:
        storage: the storage, not open.
        backend: the event loop: `"asyncio"`, or `"trio"` if the extra is installed.

    Raises:
        PreheatError: on entering, if the storage is open already.
    """

    def __init__(self, storage: VectorStorage, *, backend: Literal["asyncio", "trio"] = "asyncio") -> None:
        self.storage: VectorStorage = storage
        """The storage."""
        self._backend = backend
        self._stack: ExitStack | None = None

    def open(self) -> VectorStorage:
        """Do what entering does, for code that cannot hold a `with`. Nothing happens if it is open already."""
        if self._stack is None:
            with ExitStack() as stack:
                portal = stack.enter_context(start_blocking_portal(self._backend, name="preheat: background"))
                stack.enter_context(portal.wrap_async_context_manager(self.storage))
                session = self.storage.executor.session
                _backgrounds[session] = portal, portal.call(threading.get_ident)
                stack.callback(_backgrounds.pop, session, None)
                self._stack = stack.pop_all()
        return self.storage

    def close(self) -> None:
        """Close the storage and end the thread. Nothing happens if it is not open."""
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()

    def __enter__(self) -> VectorStorage:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_backgrounds: WeakKeyDictionary[Any, tuple[BlockingPortal, int]] = WeakKeyDictionary()
"""The portal and the thread of each session that is open in a background; storages that are bound share a session."""

_limiters: RunVar[CapacityLimiter] = RunVar("preheat calls of backgrounds")


def call(storage: VectorStorage, function: Callable[[], Awaitable[T]]) -> T:
    """Await `function()` in the background of a storage, and return its result to code that is not async.

    Raises:
        PreheatError: if the storage is not open in a background, or this is the background's own thread.
    """
    portal, thread = _backgrounds.get(storage.executor.session, (None, 0))
    if portal is None:
        raise PreheatError(
            "a call that is not async needs a storage with an event loop of its own; open it by "
            "`with preheat.integrations.Background(VectorStorage(...)) as storage:`, or await the async method"
        )
    if thread == threading.get_ident():
        raise PreheatError("a call that is not async would block the event loop of its storage; await the async method")
    future = portal.start_task_soon(function)
    try:
        return future.result()
    except CancelledError:
        raise _closed() from None
    finally:
        future.cancel()  # after Ctrl-C


async def call_async(storage: VectorStorage, function: Callable[[], Awaitable[T]]) -> T:
    """Await `function()` where the storage is open: in this event loop, or in its background.

    Cancellation: leaves at once, and cancels the call in the background.
    """
    portal, thread = _backgrounds.get(storage.executor.session, (None, 0))
    if portal is None or thread == threading.get_ident():
        return await function()
    limiter = _limiters.get(None)
    if limiter is None:
        _limiters.set(limiter := CapacityLimiter(CALLS_AT_ONCE))
    forwarded = _Forwarded(portal, function)
    try:
        return await to_thread.run_sync(forwarded.run, abandon_on_cancel=True, limiter=limiter)
    except get_cancelled_exc_class():
        with CancelScope(shield=True):  # a loop of trio refuses to be called from the thread of another one
            await to_thread.run_sync(forwarded.cancel, limiter=limiter)
        raise
    except CancelledError:
        raise _closed() from None


class _Forwarded(Generic[T]):
    """A call that a worker thread hands to a background and waits for."""

    def __init__(self, portal: BlockingPortal, function: Callable[[], Awaitable[T]]) -> None:
        self._portal = portal
        self._function = function
        self._future: Future[T] | None = None
        self._is_cancelled = False

    def run(self) -> T:
        self._future = future = self._portal.start_task_soon(self._function)
        if self._is_cancelled:  # set before, or after the line above, when cancel() has found the future
            future.cancel()
        return future.result()

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._future is not None:
            self._future.cancel()


def _closed() -> PreheatError:
    return PreheatError("the background of the storage was closed during the call; close it when its users are done")


async def warmed(storage: VectorStorage) -> VectorStorage:
    """The storage, after its first warm-up, which all first calls share."""
    if not (storage.warm_once.done or storage.warm_policy == "never"):
        await storage.warm_once()
    return storage


def storage_of(retriever: ResearchRetriever) -> VectorStorage:
    """The storage of a retriever.

    Raises:
        ArgumentError: if it is not a :class:`preheat.VectorStorage`.
    """
    storage = retriever.storage
    if not isinstance(storage, VectorStorage):
        raise ArgumentError(f"the retriever has a {type(storage).__name__}; give it a preheat.VectorStorage")
    return storage
