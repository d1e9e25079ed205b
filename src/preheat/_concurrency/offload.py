"""Work that takes more than a few milliseconds is done in a worker thread, so that the event loop goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

__all__ = ("offloaded", "own_limiter")

T = TypeVar("T")

THREADS = 4
"""Python runs one of them at a time anyway."""

_limiters: RunVar[CapacityLimiter] = RunVar("preheat worker threads")


async def offloaded(work: Callable[[], T], *, size: float, inline: float) -> T:
    """What a function returns. It runs in a worker thread, or at once if there is little to do, as a thread costs more.

    Args:
        size: how much there is to do, in whatever unit.
        inline: how much of that takes less than a millisecond or two.

    Cancellation: waits for the function; it must take no longer than that.
    """
    return work() if size <= inline else await to_thread.run_sync(work, limiter=own_limiter())


def own_limiter() -> CapacityLimiter:
    """How many threads work for the storages of this event loop at the same time. They are not those of anyio's own
    limiter, all of which may be waiting for a storage."""
    limiter = _limiters.get(None)
    if limiter is None:
        _limiters.set(limiter := CapacityLimiter(THREADS))
    return limiter
