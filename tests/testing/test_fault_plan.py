from __future__ import annotations

import builtins
import math
import traceback
from typing import Any

import anyio
import pytest
from hypothesis import given

import preheat.testing
from preheat.testing import Fault, FaultPlan, Step, fail, fault_plans, hang, run, steps, succeed

NAMES = {name: getattr(preheat.testing, name) for name in preheat.testing.__all__} | vars(builtins)


def _behaviour(step: Step) -> tuple[Any, ...]:
    if step.delay == math.inf:
        return (math.inf,)  # whatever it would do in the end
    return step.delay, type(step.error), getattr(step.error, "args", None)


def _behaviours(plan: FaultPlan, connections: int) -> list[Any]:
    faults = [plan[number] for number in range(connections)]
    return [(*map(_behaviour, (fault.connect, fault.probe, fault.release)), fault.idle) for fault in faults]


def _pasted(thing: object) -> Any:
    line = repr(thing)
    assert "\n" not in line
    return eval(line, dict(NAMES))


@given(fault_plans())
def test_property_a_plan_prints_as_a_line_that_makes_it_again(plan: FaultPlan) -> None:
    """What is pasted behaves as what was printed, on each connection that has a fault of its own and on the rest."""
    assert _behaviours(_pasted(plan), 70) == _behaviours(plan, 70)


@given(steps())
def test_property_a_step_prints_as_what_makes_it_again(step: Step) -> None:
    """What is pasted takes as long and fails alike."""
    assert _behaviour(_pasted(step)) == _behaviour(step)


@pytest.mark.parametrize(
    "plan",
    [
        FaultPlan(),
        FaultPlan((Fault(),)),
        FaultPlan((Fault(), Fault(connect=hang())), rest=Fault(idle="lost")),
        FaultPlan.all(succeed(1), fail(KeyError("x"), 2.5), hang(), "half-open"),
        FaultPlan.all(release=fail(OSError(2, "No such file"))),
        FaultPlan.all(connect=fail(ConnectionResetError("two\nlines and a 'quote'"))),
        FaultPlan.all(connect=fail(ValueError("never"), math.inf)),
        FaultPlan.all(connect=succeed(1e-9), probe=succeed(1e22)),
        FaultPlan.all(connect=fail(TimeoutError())),
        FaultPlan.all(connect=Step(math.inf)),
    ],
    ids=lambda plan: repr(plan)[:40],
)
def test_a_plan_of_any_kind_can_be_pasted(plan: FaultPlan) -> None:
    assert _behaviours(_pasted(plan), 4) == _behaviours(plan, 4)


def test_default_values_are_not_printed() -> None:
    assert repr(FaultPlan()) == "FaultPlan()"
    assert repr(Fault()) == "Fault()"
    assert repr(hang()) == "hang()"
    assert repr(succeed()) == "succeed()"
    assert "probe" not in repr(FaultPlan.all(connect=hang()))


def test_a_plan_has_a_fault_for_each_connection_and_one_for_the_rest() -> None:
    plan = FaultPlan((Fault(idle="lost"), Fault()), rest=Fault(idle="half-open"))

    assert [plan[number].idle for number in range(5)] == ["lost", "kept", "half-open", "half-open", "half-open"]


def test_plans_without_errors_are_equal_by_value() -> None:
    assert FaultPlan.all(succeed(1), hang()) == FaultPlan(rest=Fault(succeed(1), hang()))
    assert FaultPlan.all(succeed(1)) != FaultPlan.all(succeed(2))
    assert hash(FaultPlan.all(hang())) == hash(FaultPlan.all(hang()))


@pytest.mark.parametrize("step", [succeed(), fail(OSError()), hang(), succeed(1)])
async def test_a_step_is_always_a_checkpoint(step: Step) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await step()

    assert scope.cancelled_caught


async def test_a_step_that_succeeds_at_once_lets_others_run() -> None:
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for _ in range(5):
            await succeed()()
        assert ran == ["other"]


@pytest.mark.parametrize(("step", "takes"), [(succeed(2), 2), (fail(OSError("no"), 3), 3), (fail(OSError("no")), 0)])
def test_a_step_takes_its_delay_and_then_succeeds_or_raises(backend: str, step: Step, takes: float) -> None:
    async def main() -> None:
        started = anyio.current_time()
        if step.error is None:
            await step()
        else:
            with pytest.raises(OSError, match="no") as caught:
                await step()
            assert type(caught.value) is OSError
        assert anyio.current_time() - started == pytest.approx(takes)

    run(backend, main)


def test_a_step_that_hangs_never_ends(backend: str) -> None:
    async def main() -> None:
        with anyio.move_on_after(1e6) as scope:
            await hang()()
        assert scope.cancelled_caught

    run(backend, main)


async def test_an_error_that_is_raised_again_and_again_does_not_grow() -> None:
    step = fail(OSError("planned"))
    lengths = []
    for _ in range(10):
        try:
            await step()
        except OSError as error:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))

    assert len(set(lengths)) == 1
