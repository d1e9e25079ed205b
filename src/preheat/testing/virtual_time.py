"""A clock that jumps: when nothing is ready to run, the time is at once what the next timer waits for."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

__all__ = ("VirtualTimeLoop", "backend_options", "run")

T = TypeVar("T")


THREAD_SECONDS = 10.0
"""How long, in real time, a worker thread may keep everybody waiting before it is called a deadlock."""


class _JumpingSelector(selectors.DefaultSelector):
    """Looks at what is ready, and instead of waiting for the rest moves the clock on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None and threading.active_count() > 1:
            ready = super().select(THREAD_SECONDS)  # a worker thread may be what everybody waits for
        if not ready and timeout is None:
            waiting = [task.get_name() for task in asyncio.all_tasks(asyncio.get_running_loop())]
            raise RuntimeError(f"deadlock: nothing is ready, no timer runs, and these tasks wait: {sorted(waiting)}")
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on virtual time.

    What worker threads and other processes do takes no virtual time, and timers do not wait for them.
    """

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds since the loop was made."""
        now: float = self._virtual.now
        return now


def backend_options(backend: str) -> dict[str, Any]:
    """anyio's `backend_options` for virtual time on `backend`."""
    if backend == "trio":
        import trio.testing

        return {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return {"loop_factory": VirtualTimeLoop}


def run(backend: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run an async function on virtual time.

    Args:
        backend: `"asyncio"` or `"trio"`.
        function: the async function.
        args: its arguments.

    Returns:
        What it returns.
    """
    return anyio.run(function, *args, backend=backend, backend_options=backend_options(backend))
