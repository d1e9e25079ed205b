"""Every schedule that a property runs goes through :func:`play`, which counts it and looks for what is left behind."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from preheat.testing import DeadlockError, FakePool, Sweep, Trace, run

T = TypeVar("T")


@dataclass
class Tally:
    """What was run on one backend, and what went wrong."""

    schedules: int = 0
    distinct: set[bytes] = field(default_factory=set)
    stuck_callers: int = 0
    leases_leaked: int = 0
    tasks_leaked: int = 0
    safety_net_used: int = 0
    cancel_points: int = 0


tallies = {"asyncio": Tally(), "trio": Tally()}


def play(backend: str, main: Callable[..., Awaitable[T]], *args: Any, seed: int, trace: Trace | None = None) -> T:
    """Run one schedule on virtual time, and fail if a task is left over."""
    tally = tallies[backend]
    trace = [] if trace is None else trace

    async def watched() -> T:
        before = {task.id for task in anyio.get_running_tasks()}
        result = await main(*args)
        left = [task.name for task in anyio.get_running_tasks() if task.id not in before]
        tally.tasks_leaked += len(left)
        assert not left, f"these tasks are left over: {left}"
        return result

    try:
        return run(backend, watched, seed=seed, trace=trace)
    except DeadlockError as deadlock:
        tally.stuck_callers += len(deadlock.waiting)
        raise
    finally:
        tally.schedules += 1
        tally.distinct.add(hashlib.blake2b(repr(trace).encode(), digest_size=8).digest())


def everything_is_back(backend: str, pool: FakePool, held: int = 0) -> None:
    """After a schedule: as many leases are out as its test holds itself."""
    tallies[backend].leases_leaked += pool.in_use - held
    assert pool.in_use == held
    if not held:
        pool.assert_no_leaks()


def net_unused(backend: str, guard: Any) -> None:
    """After a schedule: nobody had to be saved from a guard that never woke them."""
    tallies[backend].safety_net_used += guard.safety_net_used
    assert guard.safety_net_used == 0


def swept(backend: str, sweep: Sweep) -> None:
    """After a cancellation sweep."""
    tallies[backend].cancel_points += sweep.points
