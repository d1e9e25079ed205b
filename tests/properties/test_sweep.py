"""Cancelled at every point there is, on virtual time. (tests/acceptance does the same on a real PostgreSQL.)"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import anyio
import pytest
from tests.properties.subject import current
from tests.properties.tally import everything_is_back, net_unused, play, swept
from tests.properties.test_retriever import Letters, storage_of

from preheat import ResearchRetriever
from preheat.testing import FakePool, Fault, FaultPlan, Sweep, cancel_everywhere, fail, hang, succeed

GRACE = 1.0
END = 8  # the last points of several tasks, after which nothing is left that waits

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ways = pytest.mark.parametrize("how", ["scope", "native"])
How = Literal["scope", "native"]

MIXED = FaultPlan(
    (
        Fault(succeed(0.1), succeed(0.1)),
        Fault(connect=fail(OSError("planned"), 0.1)),
        Fault(probe=hang()),
        Fault(release=hang()),
        Fault(probe=fail(ValueError("planned"), 0.1)),
        Fault(connect=hang()),
    )
)


def sweep(backend: str, function: Callable[[], Awaitable[object]], how: How) -> Sweep:
    result = play(backend, partial(cancel_everywhere, how=how), function, seed=0)
    swept(backend, result)
    assert result.points
    assert result.slowest <= GRACE, "a cancellation was not prompt"
    assert len(result.completed) <= END, "a cancellation was swallowed"
    return result


@both
@ways
@pytest.mark.parametrize("plan", [FaultPlan(), MIXED], ids=["sound", "mixed"])
def test_a_warm_up_cancelled_anywhere_loses_nothing(backend: str, how: How, plan: FaultPlan) -> None:
    """A warm-up that is cancelled anywhere gives every lease back, and puts no half-used connection back."""

    async def attempt() -> None:
        pool = FakePool(6, plan)
        try:
            await current().warm(pool, connections=6, timeout=2.0)
        finally:
            everything_is_back(backend, pool)
            assert all(connection.closed for connection in pool.connections if connection.interrupted)

    found = sweep(backend, attempt, how)
    assert found.points >= 18  # six tasks that wait for a place, for a connection, for the others


@both
@ways
@pytest.mark.parametrize("owned", [True, False], ids=["owned", "inline"])
def test_a_guard_cancelled_anywhere_releases_its_callers(backend: str, how: How, owned: bool) -> None:
    """A crowd of callers that is cancelled anywhere leaves the guard done or cold, and the next call returns."""

    async def attempt() -> None:
        starts = 0

        async def work() -> None:
            nonlocal starts
            starts += 1
            await anyio.sleep(0.1)

        async with anyio.create_task_group() as owner:
            guard = current().WarmOnce(work, task_group=owner if owned else None, timeout=2.0)
            try:
                async with anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(guard)
            finally:
                with anyio.CancelScope(shield=True):
                    await guard()
                assert guard.done
                assert starts <= 1  # none, if the owner was cancelled before it could begin
                net_unused(backend, guard)

    sweep(backend, attempt, how)


@both
@ways
@pytest.mark.parametrize("plan", [FaultPlan(), MIXED], ids=["sound", "mixed"])
def test_a_retrieval_cancelled_anywhere_affects_no_other(backend: str, how: How, plan: FaultPlan) -> None:
    """A first retrieval that is cancelled anywhere leaves a storage on which the next one succeeds."""

    async def attempt() -> None:
        pool = FakePool(6, plan)
        try:
            async with storage_of(pool, 6) as storage:
                retriever = ResearchRetriever(storage, Letters())
                try:
                    await retriever.retrieve("why?")
                finally:
                    pool.recover()
                    with anyio.CancelScope(shield=True):
                        assert await retriever.retrieve("and now?") == []
                    net_unused(backend, storage.warm_once)
        finally:
            everything_is_back(backend, pool)

    # The second retrieval may wait for the warm-up that the first one has started, and that it could not cancel.
    result = play(backend, partial(cancel_everywhere, how=how), attempt, seed=0)
    swept(backend, result)
    assert result.points >= 18
