"""Whatever becomes of the warm-up, a retrieval is not hurt by it: the properties of the retriever."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.properties.tally import everything_is_back, net_unused, play

from preheat import ResearchRetriever, VectorStorage
from preheat.testing import FakePool, FaultPlan, arrive, callers, fault_plans, pool_sizes, seconds, seeds

BUDGET = 2.0

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Letters:
    """A model that takes a moment."""

    name, dimensions = "letters", 3

    async def embed(self, texts: Sequence[str]) -> Any:
        await anyio.sleep(0.1)
        return [[float(len(text)), 1.0, 0.0] for text in texts]


def storage_of(pool: FakePool, warmed: int) -> VectorStorage:
    return VectorStorage(pool, "papers", 3, warm_connections=warmed, warm_timeout=BUDGET)


@both
@given(size=pool_sizes(8), plan=fault_plans(8), crowd=callers(6), seed=seeds())
def test_no_failure_of_the_warm_up_reaches_a_retrieval(
    backend: str, size: int, plan: FaultPlan, crowd: list[Any], seed: int
) -> None:
    """No connect or probe failure reaches a caller of `retrieve`; each is in the report with its type."""
    # Every connection that is warmed may go wrong in any way; those that are opened later are sound.
    pool = FakePool(size, FaultPlan(tuple(plan[number] for number in range(size))))
    planned = [step.error for fault in pool.plan.connections for step in (fault.connect, fault.probe) if step.error]

    async def main() -> None:
        async with storage_of(pool, size) as storage:
            retriever = ResearchRetriever(storage, Letters())
            calls = await arrive(crowd, lambda: retriever.retrieve("why?"))
            for call in calls:
                assert call.outcome == "cancelled" or call.result == [], f"it reached a caller: {call.error!r}"
            if any(call.outcome == "returned" for call in calls):
                assert retriever.pool_warmed
                report = storage.warm_report
                assert report is not None
                assert len(report.connections) == size
                assert {repr(error) for error in report.errors} <= {repr(error) for error in planned}
                assert len(report.errors) == sum(one.status == "failed" for one in report.connections)
            net_unused(backend, storage.warm_once)
        everything_is_back(backend, pool)

    # A connection that is half-open once nobody has it hurts the retrieval itself: its caller sets the limit.
    crowd = [type(one)(one.arrival, min(one.timeout, 60.0), one.how) for one in crowd]
    play(backend, main, seed=seed)


@both
@given(
    size=pool_sizes(6),
    plan=fault_plans(12),
    patience=seconds().map(lambda tenths: tenths + 0.05),
    crowd=st.integers(1, 6),
    seed=seeds(),
)
def test_after_a_fault_the_next_retrieval_succeeds(
    backend: str, size: int, plan: FaultPlan, patience: float, crowd: int, seed: int
) -> None:
    """After a fault clears, the next retrieval succeeds without anything being rebuilt."""
    pool = FakePool(size, FaultPlan(plan.connections, rest=plan[0]))

    async def main() -> None:
        async with storage_of(pool, min(3, size)) as storage:
            retriever = ResearchRetriever(storage, Letters())

            async def during() -> None:
                with anyio.move_on_after(patience), suppress(OSError, ValueError):  # of its own connection
                    await retriever.retrieve("why?")

            async with anyio.create_task_group() as tasks:
                for _ in range(crowd):
                    tasks.start_soon(during)
            pool.recover()
            started = anyio.current_time()
            assert await retriever.retrieve("and now?") == []
            assert retriever.pool_warmed
            # It waits at most for the warm-up that is still under way, whose connections the fault had delayed.
            assert anyio.current_time() - started <= BUDGET + 1.0 + 1e-6
            everything_is_back(backend, pool)

    play(backend, main, seed=seed)


@both
@given(size=pool_sizes(6), plan=fault_plans(6), first=seconds(), seed=seeds())
def test_a_cancelled_first_request_has_still_warmed(
    backend: str, size: int, plan: FaultPlan, first: float, seed: int
) -> None:
    """Cancelling the leader lets the warm-up go on: the storage owns it."""
    pool = FakePool(size, plan)

    async def main() -> None:
        async with storage_of(pool, size) as storage:
            retriever = ResearchRetriever(storage, Letters())
            with anyio.move_on_after(first + 0.05), suppress(OSError, ValueError):  # the retrieval's own
                await retriever.retrieve("never mind")
            await storage.warm_once()
            assert storage.warm_once.outcome == "finished"
            assert storage.warm_report is not None
            assert storage.warm_report.requested == size
            assert storage.warm_report.seconds < math.inf
            net_unused(backend, storage.warm_once)
        everything_is_back(backend, pool)

    play(backend, main, seed=seed)
