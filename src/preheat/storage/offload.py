"""Work that takes more than a few milliseconds is done in a worker thread, so that the event loop goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

__all__ = ("offloaded",)

T = TypeVar("T")


async def offloaded(work: Callable[[], T], *, size: float, inline: float) -> T:
    """What a function returns. It runs in a worker thread, or at once if there is little to do, as a thread costs more.

    Args:
        size: how much there is to do, in whatever unit.
        inline: how much of that takes less than a millisecond or two.

    Cancellation: waits for the function; it must take no longer than that.
    """
    return work() if size <= inline else await to_thread.run_sync(work)
