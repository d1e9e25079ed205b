"""N connections at once, whatever goes wrong: the properties of the engine."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.properties.subject import current
from tests.properties.tally import everything_is_back, play

from preheat import ArgumentError, WarmReport, ping
from preheat.testing import (
    FakeLease,
    FakePool,
    Fault,
    FaultPlan,
    Step,
    Trace,
    fail,
    fault_plans,
    hang,
    pool_sizes,
    seconds,
    seeds,
    succeed,
)
from preheat.warming.engine import HOLD_SECONDS

BUDGET, GRACE = 2.0, 1.0
EXACT = 1e-6

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@dataclass(frozen=True)
class Case:
    """A pool, what goes wrong with its connections, how many are to be warmed, and the order of the tasks."""

    size: int
    asked: int | None
    plan: FaultPlan
    order: Literal["lifo", "fifo"]
    seed: int

    @property
    def attempts(self) -> int:
        """How many connections are to be warmed."""
        return min(3, self.size) if self.asked is None else self.asked

    def pool(self) -> FakePool:
        """The pool."""
        return FakePool(self.size, self.plan, self.order)

    async def warm(self, pool: FakePool, **options: Any) -> WarmReport:
        """Warm it."""
        report: WarmReport = await current().warm(pool, connections=self.asked, timeout=BUDGET, **options)
        return report


@st.composite
def drawn_cases(draw: st.DrawFn) -> Case:
    size = draw(pool_sizes())
    asked = draw(st.one_of(st.none(), st.just(size), st.integers(1, size)))
    return Case(size, asked, draw(fault_plans()), draw(st.sampled_from(["lifo", "fifo"])), draw(seeds()))


cases = drawn_cases()


def fate(fault: Fault) -> str:
    """What must become of a connection that is warmed within the budget; empty where it ends with the budget."""
    elapsed = 0.0
    for step in (fault.connect, fault.probe):
        elapsed += step.delay
        if math.isclose(elapsed, BUDGET):
            return ""
        if elapsed > BUDGET:
            return "unfinished"
        if step.error is not None:
            return "failed"
    return "hot"


@both
@given(case=cases)
def test_the_report_adds_up(backend: str, case: Case) -> None:
    """Attempts = min(requested, size); hot + failed + unfinished = attempts; hot connections are distinct; `report.ok`
    iff all are hot."""
    pool = case.pool()
    report = play(backend, case.warm, pool, seed=case.seed)

    statuses = [connection.status for connection in report.connections]
    hot = [connection.pid for connection in report.connections if connection.status == "hot"]
    assert report.requested == len(statuses) == case.attempts == pool.opens
    assert statuses.count("hot") == report.hot == len(set(hot))
    assert report.ok == (report.hot == case.attempts)
    assert report.timed_out == ("unfinished" in statuses)
    for connection in report.connections:
        assert (connection.error is None) == (connection.status != "failed")
        if connection.pid is not None:
            assert connection.status == (fate(case.plan[connection.pid - 1000]) or connection.status)
    if (fates := [fate(case.plan[number]) for number in range(case.attempts)]) and "" not in fates:
        assert sorted(statuses) == sorted(fates)
    everything_is_back(backend, pool)


@pytest.mark.parametrize("size", range(1, 65))
def test_a_pool_of_every_size_is_warmed(size: int) -> None:
    """All connections of a pool of any size become hot, and no other number can be asked for."""
    for backend in ("asyncio", "trio"):
        case = Case(size, size, FaultPlan.all(succeed(0.1), succeed(0.1)), "lifo", size)
        report = play(backend, case.warm, case.pool(), seed=case.seed)
        assert (report.ok, report.hot, report.requested) == (True, size, size)
        assert report.seconds == pytest.approx(0.2)
        for asked in (0, size + 1):
            case = Case(size, asked, FaultPlan(), "lifo", 0)
            pool = case.pool()
            with pytest.raises(ArgumentError):
                play(backend, case.warm, pool, seed=0)
            assert pool.opens == 0


PATTERN = (
    Fault(),
    Fault(connect=fail(OSError("planned"), 0.5)),
    Fault(connect=hang()),
    Fault(succeed(0.1), fail(ValueError("planned"))),
    Fault(succeed(0.5), hang()),
)


@both
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_report_adds_up_for_every_pattern_of_failures(backend: str, size: int) -> None:
    """Each connection's fate is its own, whatever becomes of the others."""
    for seed, pattern in enumerate(itertools.product(PATTERN, repeat=size)):
        pool = FakePool(size, FaultPlan(pattern))
        case = Case(size, size, pool.plan, "lifo", seed)
        report = play(backend, case.warm, pool, seed=seed)
        assert sorted(connection.status for connection in report.connections) == sorted(map(fate, pattern))
        assert {connection.pid for connection in pool.idle} == {
            connection.pid for connection in report.connections if connection.status == "hot"
        }
        everything_is_back(backend, pool)


@both
@given(size=st.integers(2, 12), held=st.integers(1, 11), delay=st.integers(2, 10), data=st.data(), seed=seeds())
def test_busy_connections_are_waited_for(
    backend: str, size: int, held: int, delay: int, data: st.DataObject, seed: int
) -> None:
    """Hot connections are held until the others are there too: those that somebody gives back meanwhile become hot."""
    held = min(held, size - 1)
    gives_back = data.draw(st.integers(delay, 2 * delay - 1)) + 0.5  # after the first are hot, and before it stalls
    pool = FakePool(size)

    async def main() -> WarmReport:
        async with anyio.create_task_group() as holders:

            async def hold(ready: anyio.Event) -> None:
                async with pool.lease():
                    ready.set()
                    await anyio.sleep(gives_back)

            for _ in range(held):
                ready = anyio.Event()
                holders.start_soon(hold, ready)
                await ready.wait()
            pool.plan = FaultPlan.all(succeed(delay))
            report: WarmReport = await current().warm(pool, connections=size, timeout=math.inf)
        return report

    report = play(backend, main, seed=seed)
    assert report.ok, str(report)
    everything_is_back(backend, pool)


@both
@given(
    case=cases,
    held=st.integers(0, 3),
    budget=st.sampled_from([0.05, 0.5, BUDGET, math.inf]),
    how=st.sampled_from(["scope", "group"]),
)
def test_every_lease_comes_back(backend: str, case: Case, held: int, budget: float, how: str) -> None:
    """After the warm-up the number of leases is what it was before; the pool's maximum is never exceeded; an
    unfinished probe's connection is not reused."""
    pool = case.pool()
    held = min(held, case.size - 1)

    async def main() -> None:
        async with anyio.create_task_group() as holders:
            done = anyio.Event()
            good, pool.plan = pool.plan, FaultPlan()

            async def hold(ready: anyio.Event) -> None:
                async with pool.lease():
                    ready.set()
                    await done.wait()

            for _ in range(held):
                ready = anyio.Event()
                holders.start_soon(hold, ready)
                await ready.wait()
            pool.plan = good
            if how == "scope":
                with anyio.move_on_after(budget):
                    report = await case.warm(pool)
                    hot = [one.pid for one in report.connections if one.status == "hot"]
                    assert len(set(hot)) == len(hot), "one connection counts as two"
            else:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(case.warm, pool)
                    if budget < math.inf:
                        await anyio.sleep(budget)
                        tasks.cancel_scope.cancel()
            everything_is_back(backend, pool, held)
            assert pool.most_in_use <= pool.size
            assert all(connection.closed for connection in pool.connections if connection.interrupted)
            done.set()

    play(backend, main, seed=case.seed)
    everything_is_back(backend, pool)
    assert len(pool.idle) <= pool.size


@both
@given(case=cases)
def test_a_warm_up_ends_in_time(backend: str, case: Case) -> None:
    """Warm-up time is at most budget + grace under every fault plan."""

    async def main() -> float:
        started = anyio.current_time()
        report = await case.warm(case.pool())
        took = anyio.current_time() - started
        assert report.seconds == pytest.approx(took)
        return took

    assert play(backend, main, seed=case.seed) <= BUDGET + GRACE + EXACT


@both
@given(size=pool_sizes(), connect=seconds(), probe=seconds(), seed=seeds())
def test_n_connections_take_as_long_as_one(backend: str, size: int, connect: float, probe: float, seed: int) -> None:
    """With n equal delays a warm-up takes one delay, not n."""
    pool = FakePool(size, FaultPlan.all(succeed(connect), succeed(probe)))

    async def main() -> WarmReport:
        report: WarmReport = await current().warm(pool, connections=size, timeout=math.inf)
        return report

    report = play(backend, main, seed=seed)
    assert report.ok
    assert report.seconds == pytest.approx(connect + probe)
    assert {connection.pid for connection in pool.idle} == {connection.pid for connection in report.connections}


arrivals = seconds(3.0).map(lambda tenths: tenths + 0.05)


@both
@given(size=pool_sizes(16), plan=fault_plans(16), arrivals=st.lists(arrivals, min_size=1, max_size=5), seed=seeds())
def test_others_wait_for_at_most_one_connect(
    backend: str, size: int, plan: FaultPlan, arrivals: list[float], seed: int
) -> None:
    """Other users of the pool are delayed by at most one connect: for as long again as the slowest sound connection
    takes to be connected and probed, 50 ms at least, and never beyond the budget."""
    # What others open themselves, and putting connections back, costs no time here.
    pool = FakePool(
        size, FaultPlan(tuple(replace(fault, release=Step(), idle="kept") for fault in plan.connections[:size]))
    )
    served: list[tuple[float, float]] = []

    async def somebody(arrival: float) -> None:
        await anyio.sleep(arrival)
        async with pool.lease():
            served.append((arrival, anyio.current_time() - began))

    async def main() -> WarmReport:
        nonlocal began
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for arrival in arrivals:
                tasks.start_soon(somebody, arrival)
            report: WarmReport = await current().warm(pool, connections=size, timeout=BUDGET)
        return report

    began = 0.0
    report = play(backend, main, seed=seed)

    everything_is_back(backend, pool)
    assert report.requested == size
    sound = [fault for number in range(size) if fate(fault := plan[number]) == "hot"]
    slowest = max((fault.connect.delay + fault.probe.delay for fault in sound), default=BUDGET)
    for arrival, at in served:
        # The last one is hot at `slowest`; from then on nothing is held for longer than that once more.
        assert at <= max(arrival, min(slowest + max(slowest, HOLD_SECONDS), BUDGET)) + EXACT


@st.composite
def drawn_calls(draw: st.DrawFn) -> tuple[int, list[tuple[float, int, int]]]:
    """A pool's size, and calls of `warm`: when each comes, for how many connections, and with which of three probes."""
    size = draw(pool_sizes(8))
    call = st.tuples(seconds(0.6), st.integers(1, size), st.integers(0, 2))
    return size, draw(st.lists(call, min_size=1, max_size=5))


async def second_probe(lease: FakeLease) -> None:
    await lease.fetch("SELECT 2")


async def third_probe(lease: FakeLease) -> None:
    await lease.fetch("SELECT 3")


@both
@given(
    drawn=drawn_calls(),
    delays=st.lists(st.tuples(seconds(0.5), seconds(0.2)), min_size=8, max_size=8),
    order=st.sampled_from(["lifo", "fifo"]),
    seed=seeds(),
)
def test_warm_ups_of_one_pool_do_not_fail_each_other(
    backend: str,
    drawn: tuple[int, list[tuple[float, int, int]]],
    delays: list[tuple[float, float]],
    order: Literal["lifo", "fifo"],
    seed: int,
) -> None:
    """However many warm a sound pool at the same time, each report is ok, and no more connections are opened than one
    has asked for."""
    size, calls = drawn
    plan = FaultPlan(tuple(Fault(succeed(connect), succeed(probe)) for connect, probe in delays))
    pool = FakePool(size, plan, order)
    reports: list[WarmReport] = []

    async def main() -> None:
        async def call(arrival: float, asked: int, probe: int) -> None:
            await anyio.sleep(arrival)
            report = await current().warm(
                pool, connections=asked, probe=(ping, second_probe, third_probe)[probe], timeout=60.0
            )
            assert report.requested == asked
            hot = [connection.pid for connection in report.connections if connection.status == "hot"]
            assert len(set(hot)) == len(hot)
            reports.append(report)

        async with anyio.create_task_group() as tasks:
            for one in calls:
                tasks.start_soon(call, *one)

    play(backend, main, seed=seed)

    assert len(reports) == len(calls)
    assert all(report.ok for report in reports), [str(report) for report in reports]
    assert pool.opens == max(asked for _, asked, _ in calls)
    everything_is_back(backend, pool)


@both
@given(
    drawn=drawn_calls(),
    plan=fault_plans(8),
    budgets=st.lists(st.sampled_from([0.35, BUDGET]), min_size=5, max_size=5),
    leaves=st.lists(st.sampled_from([0.15, 1.05, math.inf]), min_size=5, max_size=5),
    seed=seeds(),
)
def test_every_lease_comes_back_from_several_warm_ups(
    backend: str,
    drawn: tuple[int, list[tuple[float, int, int]]],
    plan: FaultPlan,
    budgets: list[float],
    leaves: list[float],
    seed: int,
) -> None:
    """Whatever goes wrong, and whoever is cancelled: each warm-up ends in its own time, and every lease is back."""
    size, calls = drawn
    pool = FakePool(size, plan)

    async def main() -> None:
        async def call(number: int, arrival: float, asked: int, probe: int) -> None:
            await anyio.sleep(arrival)
            began = anyio.current_time()
            with anyio.move_on_after(leaves[number]):
                report = await current().warm(
                    pool, connections=asked, probe=(ping, second_probe, third_probe)[probe], timeout=budgets[number]
                )
                assert report.requested == asked == len(report.connections)
                assert report.timed_out == any(one.status == "unfinished" for one in report.connections)
            assert anyio.current_time() - began <= min(budgets[number], leaves[number]) + GRACE + EXACT

        async with anyio.create_task_group() as tasks:
            for number, one in enumerate(calls):
                tasks.start_soon(call, number, *one)

    play(backend, main, seed=seed)
    everything_is_back(backend, pool)


@both
@given(case=cases)
def test_the_same_seed_gives_the_same_trace(backend: str, case: Case) -> None:
    """The same seed gives the same trace."""
    traces: list[Trace] = [[], []]
    for trace in traces:
        play(backend, case.warm, case.pool(), seed=case.seed, trace=trace)

    assert traces[0] == traces[1]
