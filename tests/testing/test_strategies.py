from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from tests.support.tiers import slow_except

import preheat.testing
from preheat.testing import (
    Caller,
    Fault,
    FaultPlan,
    Step,
    backends,
    callers,
    fault_plans,
    hang,
    pool_sizes,
    run,
    seconds,
    seeds,
    steps,
    succeed,
)

QUICK = settings(max_examples=500, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


def _simplest(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool] = lambda _: True) -> Any:
    return find(strategy, condition, settings=QUICK)


def test_the_strategy_of_faults_is_a_strategy() -> None:
    assert _simplest(preheat.testing.faults()) == Fault()


def test_the_simplest_of_everything_is_that_nothing_goes_wrong() -> None:
    assert _simplest(steps()) == succeed()
    assert _simplest(fault_plans()) == FaultPlan()
    assert _simplest(pool_sizes()) == 1
    assert _simplest(seconds()) == 0
    assert _simplest(backends()) == "asyncio"
    assert _simplest(seeds()) == 0


def test_the_simplest_callers_is_one_who_comes_at_once() -> None:
    (caller,) = _simplest(callers())

    assert (caller.arrival, caller.how) == (0, "scope")
    assert caller.timeout in (0, math.inf)


def test_a_pool_shrinks_to_the_smallest_that_shows_it() -> None:
    assert _simplest(pool_sizes(), lambda size: size > 5) == 6


def test_a_time_shrinks_to_the_tenth_of_a_second() -> None:
    assert _simplest(seconds(), lambda time: time > 1.04) == pytest.approx(1.1)


def test_a_step_that_hangs_shrinks_to_a_hang() -> None:
    assert _simplest(steps(), lambda step: step.delay > 100) == hang()


def test_a_step_that_fails_shrinks_to_one_that_fails_at_once() -> None:
    step = _simplest(steps(), lambda step: step.error is not None)

    assert step.delay == 0
    assert repr(step).startswith("fail(")


@pytest.mark.parametrize("step", slow_except(("probe",), ("connect", "probe", "release")))
def test_a_plan_with_one_fault_shrinks_to_one_fault(step: str) -> None:
    def hangs(plan: FaultPlan) -> bool:
        return any(getattr(fault, step).delay == math.inf for fault in plan.connections)

    plan = _simplest(fault_plans(4), hangs)

    assert plan == FaultPlan((Fault(**{step: hang()}),))
    assert repr(plan) == f"FaultPlan(connections=(Fault({step}=hang()),))"


@pytest.mark.slow
@pytest.mark.parametrize("idle", ["lost", "half-open"])
def test_a_plan_with_one_idle_fault_shrinks_to_that(idle: str) -> None:
    plan = _simplest(fault_plans(4), lambda plan: any(fault.idle == idle for fault in plan.connections))

    assert plan == FaultPlan((Fault(idle=idle),))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_plan_in_which_the_third_fails_has_two_that_do_not() -> None:
    plan = _simplest(fault_plans(4), lambda plan: plan[2].connect.error is not None)

    assert plan.connections[:2] == (Fault(), Fault())
    assert len(plan.connections) <= 3
    assert (plan[2].probe, plan[2].release, plan[2].idle) == (succeed(), succeed(), "kept")


def test_callers_shrink_to_those_that_show_the_case() -> None:
    found = _simplest(callers(), lambda callers: any(caller.how == "native" for caller in callers))

    assert len(found) == 1
    assert found[0].arrival == 0
    found = _simplest(callers(), lambda callers: sum(caller.arrival > 1 for caller in callers) >= 2)
    assert [caller.arrival for caller in found] == pytest.approx([1.1, 1.1])
    assert [caller.how for caller in found] == ["scope", "scope"]


@pytest.mark.parametrize(
    ("strategy", "condition"),
    [
        (backends(), lambda backend: backend == "trio"),
        (pool_sizes(), lambda size: size >= 60),
        (callers(), lambda callers: len(callers) > 3),
        (callers(), lambda callers: any(caller.timeout == math.inf for caller in callers)),
        (callers(), lambda callers: any(caller.timeout < 1 for caller in callers)),
        (fault_plans(8), lambda plan: len(plan.connections) > 3),
        (fault_plans(2), lambda plan: len(plan.connections) == 2),
        (steps(), lambda step: step.error is not None and step.delay > 0),
        (seconds(), lambda time: time > 4.5),
        (seeds(), lambda seed: seed > 1000),
    ],
)
def test_all_kinds_are_found(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool]) -> None:
    assert condition(_simplest(strategy, condition))


@given(st.floats(0, 20).flatmap(lambda longest: st.tuples(st.just(longest), seconds(longest))))
def test_property_times_are_tenths_of_a_second_up_to_the_longest(times: tuple[float, float]) -> None:
    """A time is a multiple of a tenth, not negative and not longer than the longest."""
    longest, time = times
    assert 0 <= time <= longest
    assert time * 10 == pytest.approx(round(time * 10))


def _all_steps(plan: FaultPlan) -> list[Step]:
    faults = (*plan.connections, plan.rest)
    return [step for fault in faults for step in (fault.connect, fault.probe, fault.release)]


@given(fault_plans(5, failures=False, longest=2.0))
def test_property_plans_without_failures_have_none(plan: FaultPlan) -> None:
    """No step raises and no connection is lost, and the plan is not larger and not slower than was asked for."""
    assert all(step.error is None for step in _all_steps(plan))
    assert all(fault.idle != "lost" for fault in plan.connections)
    assert len(plan.connections) <= 5
    assert all(step.delay <= 2 or step.delay == math.inf for step in _all_steps(plan))


@given(fault_plans(hangs=False))
def test_property_plans_without_hangs_have_none(plan: FaultPlan) -> None:
    """Every step ends and no connection is half-open."""
    assert all(step.delay < math.inf for step in _all_steps(plan))
    assert all(fault.idle != "half-open" for fault in plan.connections)


@given(fault_plans(4))
def test_property_further_connections_have_no_fault(plan: FaultPlan) -> None:
    """Beyond those that have a fault of their own nothing goes wrong."""
    assert plan[4] == plan[100] == Fault()


@given(callers(3, arrivals=st.just(2.5), timeouts=st.sampled_from([1.0, 7.0])))
def test_property_callers_are_as_asked_for(callers: list[Caller]) -> None:
    """Not more than the most, at least one, at the times that were given."""
    assert 1 <= len(callers) <= 3
    assert {caller.arrival for caller in callers} == {2.5}
    assert {caller.timeout for caller in callers} <= {1.0, 7.0}


async def _workers() -> list[int]:
    import anyio
    import anyio.lowlevel

    order: list[int] = []

    async def worker(number: int) -> None:
        for _ in range(3):
            order.append(number)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(worker, number, name=f"worker {number}")
    return order


def _traced(backend: str, seed: int) -> tuple[list[int], list[Any]]:
    trace: list[Any] = []
    return run(backend, _workers, seed=seed, trace=trace), trace


OUTSIDE = {(backend, seed): _traced(backend, seed) for backend in ("asyncio", "trio") for seed in range(5)}


@given(backends(), st.integers(0, 4))
def test_property_a_seed_means_the_same_within_hypothesis_as_without(backend: str, seed: int) -> None:
    """The trace of a seed does not depend on who runs it."""
    assert _traced(backend, seed) == OUTSIDE[backend, seed]


def test_a_seed_means_the_same_after_hypothesis(backend: str) -> None:
    test_property_a_seed_means_the_same_within_hypothesis_as_without()

    assert _traced(backend, 3) == OUTSIDE[backend, 3]


def test_hypothesis_finds_an_order_by_its_seed(backend: str) -> None:
    seed = _simplest(seeds(), lambda seed: run(backend, _workers, seed=seed)[:2] == [4, 2])

    assert run(backend, _workers, seed=seed)[:2] == [4, 2]


def test_a_run_does_not_upset_hypothesis_own_random_numbers(backend: str) -> None:
    """A test that draws after a run is as repeatable as one that draws before."""
    drawn: list[list[Any]] = []

    def once() -> None:
        numbers: list[Any] = []

        @settings(max_examples=20, derandomize=True, database=None)
        @given(seeds(), st.integers(), st.randoms(use_true_random=False))
        def inner(seed: int, number: int, random: Any) -> None:
            import random as module

            run(backend, _workers, seed=seed)
            numbers.append((seed, number, module.random()))

        inner()
        drawn.append(numbers)

    once()
    once()
    assert drawn[0] == drawn[1]
