"""Run work of more than a few milliseconds in a worker thread, so that it does not block the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

__all__ = ("offloaded", "own_limiter")

T = TypeVar("T")

THREADS = 4
"""How many threads at most; Python runs one of them at a time anyway."""

_limiters: RunVar[CapacityLimiter] = RunVar("preheat worker threads")


async def offloaded(work: Callable[[], T], *, size: float, inline: float) -> T:
    """Run `work` in a worker thread, or at once if it is small, since a thread costs more. Returns its result.

    Args:
        size: the amount of work, in any unit.
        inline: the amount that takes less than a millisecond or two.

    Cancellation: waits for the function; it must take no longer than that.
    """
    return work() if size <= inline else await to_thread.run_sync(work, limiter=own_limiter())


def own_limiter() -> CapacityLimiter:
    """The limiter for the threads of all storages in this event loop. anyio's own may be used up by threads that wait
    for a storage."""
    limiter = _limiters.get(None)
    if limiter is None:
        _limiters.set(limiter := CapacityLimiter(THREADS))
    return limiter
