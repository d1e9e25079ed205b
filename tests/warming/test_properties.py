"""Properties of warming, for every pool, every fault and every crowd of callers, on virtual time."""

from __future__ import annotations

import math

import anyio
from hypothesis import given
from hypothesis import strategies as st

from preheat import WarmOnce, warm
from preheat.testing import FakePool, Fault, FaultPlan, fail, hang, run, succeed

delays = st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0])
steps = st.one_of(delays.map(succeed), st.builds(fail, st.builds(OSError, st.just("planned")), delays), st.just(hang()))
plans = st.lists(st.builds(Fault, steps, steps), max_size=64).map(lambda faults: FaultPlan(tuple(faults)))
backends = st.sampled_from(["asyncio", "trio"])
BUDGET, GRACE = 2.0, 1.0


@given(backends, st.integers(1, 64), st.integers(1, 64), plans, st.sampled_from(["lifo", "fifo"]), st.random_module())
def test_property_the_report_adds_up_and_nothing_leaks(
    backend: str, size: int, asked: int, plan: FaultPlan, order: str, schedule: object
) -> None:
    """Hot, failed and unfinished add up to what was asked for; hot ones are distinct; every lease is back."""
    connections = min(asked, size)

    async def main() -> None:
        pool = FakePool(size=size, plan=plan, order="lifo" if order == "lifo" else "fifo")
        report = await warm(pool, connections=connections, timeout=BUDGET)

        statuses = [connection.status for connection in report.connections]
        assert len(statuses) == report.requested == connections
        assert statuses.count("hot") == report.hot
        assert report.ok == (report.hot == connections)
        assert report.timed_out == ("unfinished" in statuses)
        hot = [connection.pid for connection in report.connections if connection.status == "hot"]
        assert len(set(hot)) == len(hot)
        assert all((connection.error is None) == (connection.status != "failed") for connection in report.connections)
        assert report.seconds <= BUDGET + GRACE + 1e-6
        assert pool.most_in_use <= size
        pool.assert_no_leaks()
        assert {connection.pid for connection in pool.idle} == set(hot)  # what did not pass its probe is gone

    run(backend, main)


@given(backends, st.integers(1, 64), delays, delays, st.random_module())
def test_property_any_number_of_equal_connections_takes_as_long_as_one(
    backend: str, connections: int, connect: float, probe: float, schedule: object
) -> None:
    """With n equal delays a warm-up takes one of them, not n."""

    async def main() -> None:
        pool = FakePool(size=connections, plan=FaultPlan.all(succeed(connect), succeed(probe)))
        report = await warm(pool, connections=connections, timeout=math.inf)
        assert report.ok
        assert abs(report.seconds - connect - probe) < 1e-6

    run(backend, main)


callers = st.lists(st.tuples(delays, st.one_of(delays, st.just(math.inf))), min_size=1, max_size=12)
works = st.one_of(delays.map(succeed), st.builds(fail, st.builds(OSError, st.just("planned")), delays), st.just(hang()))


@given(backends, callers, works, st.booleans(), st.random_module())
def test_property_one_start_and_nobody_waits_for_ever(
    backend: str, crowd: list[tuple[float, float]], work: object, owned: bool, schedule: object
) -> None:
    """At most one start; each call ends by its patience or the budget; a normal return means done."""

    async def main() -> None:
        starts: list[float] = []

        async def function() -> str:
            starts.append(anyio.current_time())
            await work()  # type: ignore[operator]
            return "warm"

        began = anyio.current_time()
        async with anyio.create_task_group() as owner, anyio.create_task_group() as tasks:
            guard = WarmOnce(function, task_group=owner if owned else None, timeout=BUDGET)

            async def call(arrival: float, patience: float) -> None:
                await anyio.sleep(arrival)
                arrived = anyio.current_time()
                with anyio.move_on_after(patience) as scope:
                    result = await guard()
                    assert guard.done
                    assert result in (None, "warm")
                took = anyio.current_time() - arrived
                assert took <= min(patience, BUDGET) + 1e-6
                assert not scope.cancelled_caught or took >= patience - 1e-6

            for arrival, patience in crowd:
                tasks.start_soon(call, arrival, patience)

        assert len(starts) <= 1
        assert guard.safety_net_used == 0
        assert anyio.current_time() - began <= 3.0 + BUDGET + 1e-6
        if any(patience > 0 for _, patience in crowd):
            assert len(starts) == 1
            assert guard.done

    run(backend, main)
