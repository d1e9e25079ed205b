"""Many first callers at once: one warm-up, and what sharing it costs each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter

import anyio
from anyio.lowlevel import checkpoint

from benchmarks.report.records import Series
from benchmarks.runner.timing import quiet, run
from preheat import WarmOnce


def measure(*, crowds: tuple[int, ...], rounds: int) -> Iterator[Series]:
    """Crowds of first callers of one guard, beside crowds of tasks that do nothing but give way once."""
    for backend in ("asyncio", "uvloop", "trio"):
        for callers in crowds:
            taken = [run(backend, _guarded, callers) for _ in range(rounds)]
            who = f"preheat on {backend}"
            cost = tuple(1e6 * seconds / callers for seconds, _ in taken)
            yield Series("callers", who, "concurrent first callers", "us", cost, at=callers)
            yield Series("callers", who, "warm-ups", "warm-ups", tuple(float(count) for _, count in taken), at=callers)


async def _guarded(callers: int) -> tuple[float, int]:
    """Seconds that the guard adds to a crowd, and how often it ran its function."""
    warm_ups = 0

    async def warm() -> None:
        nonlocal warm_ups
        warm_ups += 1
        await checkpoint()

    async with anyio.create_task_group() as owner:
        with quiet():
            bare = await _crowd(checkpoint, callers)
            guarded = await _crowd(WarmOnce(warm, task_group=owner), callers)
    return max(guarded - bare, 0.0), warm_ups


async def _crowd(call: Callable[[], Awaitable[object]], callers: int) -> float:
    async def caller() -> None:
        await call()

    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(caller)
    return perf_counter() - started
