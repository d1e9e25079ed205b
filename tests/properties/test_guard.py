"""Exactly once, whatever happens: the properties of the guard."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st
from tests.properties.scenes import BUDGET, EXACT, Case, Scene, cases, definite_cases
from tests.properties.subject import current
from tests.properties.tally import net_unused, play

from preheat.testing import Step, Trace, arrive, backends, seconds, seeds

GRACE = 1.0

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ownership = pytest.mark.parametrize("owned", [True, False], ids=["owned", "inline"])


@both
@ownership
@given(case=cases)
def test_at_most_one_warm_up_starts(backend: str, owned: bool, case: Case) -> None:
    """At most one warm-up starts per guard and event-loop run, and two never overlap."""
    scene = play(backend, Scene(case, owned).play, seed=case.seed)

    assert len(scene.starts) <= 1
    assert scene.most_running <= 1
    if any(caller.timeout > 0 for caller in case.crowd):
        assert len(scene.starts) == 1


@both
@ownership
@given(case=cases)
def test_every_call_ends(backend: str, owned: bool, case: Case) -> None:
    """Every call ends by its own deadline or by warm-up start + budget + grace, and a normal return means done."""
    scene = play(backend, Scene(case, owned).play, seed=case.seed)

    for call in scene.calls:
        latest = max(call.arrived, scene.starts[0] + BUDGET) if scene.starts else math.inf  # without any grace
        assert call.ended <= min(call.arrived + call.caller.timeout, latest) + EXACT
        assert call.outcome != "raised"
        assert call.outcome == "cancelled" or call.result, "it returned before the guard was done"
    net_unused(backend, scene.guard)


@both
@ownership
@given(case=cases, holds_out=seconds(8.0))
def test_every_call_ends_even_if_the_work_resists_cancellation(
    backend: str, owned: bool, case: Case, holds_out: float
) -> None:
    """Work that does not let itself be cancelled keeps nobody but its own task longer than budget + grace."""
    scene = Scene(case, owned)

    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(holds_out)

    scene.case = Case(case.crowd, stubborn, case.seed)  # type: ignore[arg-type]

    async def main() -> None:
        with suppress(AssertionError):  # that the safety net was used, as it must be here
            await scene.play()

    play(backend, main, seed=case.seed)
    latest = scene.starts[0] + BUDGET + GRACE if scene.starts else 0.0
    for call in scene.calls:
        assert call.took <= EXACT or call.ended <= latest + EXACT or (not owned and call.ended == scene.leader_left)


@both
@ownership
@given(case=definite_cases)
def test_a_cancelled_caller_affects_no_other(backend: str, owned: bool, case: Case) -> None:
    """Cancelling a follower affects nobody else; cancelling the leader is prompt and releases the followers (inline)
    or lets the warm-up go on (owned)."""
    scene = play(backend, Scene(case, owned).play, seed=case.seed)

    ends = scene.starts[0] + min(case.work.delay, BUDGET)
    give_ups = [call.arrived + call.caller.timeout for call in scene.calls]
    if not owned and scene.leader_left < ends - EXACT:
        assert any(math.isclose(scene.leader_left, give_up) for give_up in give_ups)
        ends = scene.leader_left
    assert scene.ended == pytest.approx(ends)
    for call, give_up in zip(scene.calls, give_ups, strict=True):
        assert call.ended == pytest.approx(min(give_up, max(call.arrived, ends)))


@both
@ownership
@given(case=definite_cases)
def test_a_cancellation_is_never_swallowed(backend: str, owned: bool, case: Case) -> None:
    """A cancelled caller never completes as if it had not been, native asyncio cancellation included."""
    scene = play(backend, Scene(case, owned).play, seed=case.seed)

    for call in scene.calls:
        assert call.outcome == ("cancelled" if call.cancel_requested else "returned")


@ownership
@given(case=cases)
def test_a_cancellation_at_the_last_moment_is_never_swallowed(owned: bool, case: Case) -> None:
    """A native cancellation counts even in the very turn in which the warm-up ends. (A scope may be left just then.)"""
    scene = play("asyncio", Scene(case, owned).play, seed=case.seed)

    for call in scene.calls:
        if call.caller.how == "native" and call.cancel_requested:
            assert call.outcome == "cancelled"


class Boom(BaseException):
    """Neither an Exception nor a cancellation."""


@both
@ownership
@given(case=cases, delay=seconds(1.5), explodes=st.booleans())
def test_failures_stay_inside_the_guard(backend: str, owned: bool, case: Case, delay: float, explodes: bool) -> None:
    """No failure reaches a caller of the guard. Other BaseExceptions propagate and still leave the guard done."""
    scene = Scene(case, owned)
    error: BaseException = Boom("planned") if explodes else OSError("planned")

    exploded: list[bool] = []

    async def fails() -> str:
        await anyio.sleep(delay)
        exploded.append(explodes)
        raise error

    scene.case = Case(case.crowd, fails, case.seed)  # type: ignore[arg-type]

    async def main() -> None:
        try:
            await scene.play()
        except BaseException as raised:
            if not explodes or not contains(raised, error):
                raise
            assert scene.guard.done
        else:
            assert True not in exploded, "it was swallowed"
            assert all(call.outcome != "raised" for call in scene.calls)
            if scene.guard.outcome == "failed":
                assert scene.guard.error is error
                assert not explodes
        net_unused(backend, scene.guard)

    play(backend, main, seed=case.seed)


def contains(group: BaseException, error: BaseException) -> bool:
    if isinstance(group, BaseExceptionGroup):
        return any(contains(inner, error) for inner in group.exceptions)
    return group is error


@both
@ownership
@given(case=cases)
def test_a_call_of_a_done_guard_waits_on_nothing(backend: str, owned: bool, case: Case) -> None:
    """When done, a call waits on nothing and starts nothing."""
    scene = Scene(case, owned)

    async def main() -> None:
        await scene.play()
        if not scene.guard.done:
            return
        starts, tasks = len(scene.starts), len(anyio.get_running_tasks())
        call = scene.guard()
        with pytest.raises(StopIteration) as stop:
            call.send(None)
        assert stop.value.value == scene.guard.result
        assert (len(scene.starts), len(anyio.get_running_tasks())) == (starts, tasks)

    play(backend, main, seed=case.seed)


class Everywhere:
    """A guard that is used from one event loop after the other, each with a crowd of its own."""

    def __init__(self) -> None:
        self.starts = 0
        self.case = Case([], Step(), 0)
        self.guard = current().WarmOnce(self.work, timeout=BUDGET)

    async def work(self) -> str:
        self.starts += 1
        await self.case.work()
        return "warm"

    async def main(self, case: Case, leaves: float) -> None:
        """A crowd that calls at once, and leaves the event loop after a while, whatever has become of the warm-up."""
        before, self.case = self.starts, case
        assert not self.guard.done
        with anyio.move_on_after(leaves):
            async with anyio.create_task_group() as tasks:
                for _ in case.crowd:
                    tasks.start_soon(self.guard)
        assert self.starts == before + 1
        assert self.guard.done


runs = st.lists(st.tuples(backends(), cases, st.sampled_from([0.5, math.inf]), st.booleans()), min_size=2, max_size=4)


@given(runs=runs)
def test_another_event_loop_warms_anew(runs: list[tuple[str, Case, float, bool]]) -> None:
    """Another loop, backend or thread warms anew and never touches the old event."""
    everywhere = Everywhere()
    for backend, case, leaves, in_thread in runs:
        if in_thread:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(play, backend, everywhere.main, case, leaves, seed=case.seed).result()
        else:
            play(backend, everywhere.main, case, leaves, seed=case.seed)
        net_unused(backend, everywhere.guard)
    assert everywhere.starts == len(runs)


@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("trio", "trio"), ("asyncio", "trio")])
def test_two_threads_at_once_warm_once_each(backends: tuple[str, str]) -> None:
    """Another thread warms anew while the first one is still at it."""
    together = threading.Barrier(2, timeout=20)
    starts: list[int] = []

    async def work() -> int:
        starts.append(threading.get_ident())
        together.wait()
        await checkpoint()
        together.wait()
        return threading.get_ident()

    guard = current().WarmOnce(work)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(guard)
        assert guard.result == threading.get_ident()

    with ThreadPoolExecutor(2) as threads:
        for run in [threads.submit(lambda backend=backend: anyio.run(main, backend=backend)) for backend in backends]:
            run.result()

    assert len(set(starts)) == len(starts) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@both
@ownership
def test_a_child_forked_during_a_warm_up_warms_anew(backend: str, owned: bool) -> None:
    """A forked child warms anew and never touches the old event."""
    pids: list[int] = []
    forked = anyio.Event()

    async def work() -> int:
        pids.append(os.getpid())
        if len(pids) == 1:
            await forked.wait()
        await checkpoint()
        return os.getpid()

    def in_child(guard: Any) -> bool:
        with ThreadPoolExecutor(1) as thread:  # this one is inside an event loop that the child does not have
            return bool(thread.submit(anyio.run, guard).result() == os.getpid())

    async def main() -> int:
        async with anyio.create_task_group() as owner:
            guard = current().WarmOnce(work, task_group=owner if owned else None)
            owner.start_soon(guard)
            await anyio.wait_all_tasks_blocked()
            child = os.fork()
            if child == 0:  # pragma: no cover - in the child
                code = 1
                try:
                    code = 0 if in_child(guard) else 2
                finally:
                    os._exit(code)
            forked.set()
            await guard()
            assert guard.result == os.getpid()
        return child

    child = anyio.run(main, backend=backend)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pids == [os.getpid()]


@both
@given(case=cases, closes=seconds(6.0), tells=st.booleans())
def test_calls_end_after_the_owner_has_closed(backend: str, case: Case, closes: float, tells: bool) -> None:
    """After the owner closes, calls still end and no task outlives it."""
    scene = Scene(case, owned=True)
    outlived: list[bool] = []

    async def crowd() -> None:
        scene.calls = await arrive(case.crowd, scene.call)

    async def main() -> None:
        scene.began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as owner:
                scene.guard = current().WarmOnce(scene.work, task_group=owner, timeout=BUDGET)
                tasks.start_soon(crowd)
                await anyio.sleep(closes)
                scene.closed = tells
                if tells:
                    scene.guard.close()
                owner.cancel_scope.cancel()
            outlived.append(bool(scene.running and scene.starts[0] < closes - EXACT))
            assert scene.now() == pytest.approx(closes)

    play(backend, main, seed=case.seed)

    assert outlived == [False]
    assert len(scene.starts) <= 1
    for call in scene.calls:
        assert call.ended <= min(call.arrived + call.caller.timeout, call.arrived + BUDGET) + EXACT
        assert call.outcome == "cancelled" or call.result, "it returned before the guard was done"
    net_unused(backend, scene.guard)


@both
@ownership
@given(case=cases)
def test_the_same_seed_gives_the_same_trace(backend: str, owned: bool, case: Case) -> None:
    """The same seed gives the same trace; the safety net of the guard was used zero times in all runs."""
    traces: list[Trace] = [[], []]
    for trace in traces:
        scene = play(backend, Scene(case, owned).play, seed=case.seed, trace=trace)
        net_unused(backend, scene.guard)

    assert traces[0] == traces[1]


@both
@given(case=definite_cases, other=seeds())
def test_a_seed_changes_only_the_order(backend: str, case: Case, other: int) -> None:
    """Another seed is another order: how and when each call ends stays the same."""
    ends = []
    for seed in (case.seed, other):
        scene = play(backend, Scene(case, owned=True).play, seed=seed)
        ends.append([(call.outcome, round(call.ended, 6)) for call in scene.calls])

    assert ends[0] == ends[1]


@st.composite
def webs(draw: st.DrawFn) -> list[list[tuple[int, float, str]]]:
    """For each guard what its function does: which guard it awaits, after how many seconds, and in which way."""
    size = draw(st.integers(1, 4))
    awaits = st.tuples(st.integers(0, size - 1), seconds(0.5), st.sampled_from(["itself", "in a task", "elsewhere"]))
    return draw(st.lists(st.lists(awaits, max_size=3), min_size=size, max_size=size))


@both
@ownership
@given(web=webs(), arrivals=st.lists(st.tuples(st.integers(0, 3), seconds(1.0)), min_size=1, max_size=6), seed=seeds())
def test_guards_that_await_each_other_fail_at_once(
    backend: str,
    owned: bool,
    web: list[list[tuple[int, float, str]]],
    arrivals: list[tuple[int, float]],
    seed: int,
) -> None:
    """Whatever guards await whatever others, every call ends without a time-out; a guard fails only in a circle."""
    guards: list[Any] = []

    async def main() -> None:
        async with anyio.create_task_group() as elsewhere, anyio.create_task_group() as owner:

            async def work(number: int) -> None:
                for other, delay, how in web[number]:
                    await anyio.sleep(delay)
                    if how == "itself":
                        await guards[other]()
                    elif how == "in a task":
                        async with anyio.create_task_group() as tasks:
                            tasks.start_soon(guards[other])
                    else:
                        elsewhere.start_soon(guards[other])

            guards.extend(
                current().WarmOnce(partial(work, number), task_group=owner if owned else None, timeout=1000.0)
                for number in range(len(web))
            )

            async def call(number: int, arrival: float) -> None:
                await anyio.sleep(arrival)
                await guards[number]()

            async with anyio.create_task_group() as callers:
                for number, arrival in arrivals:
                    callers.start_soon(call, number % len(web), arrival)
        assert anyio.current_time() < 100
        for number, guard in enumerate(guards):
            assert guard.outcome in {None, "finished", "failed"}
            assert guard.outcome != "failed" or in_a_circle(number)

    def in_a_circle(number: int) -> bool:
        """Whether the function waits for itself, through others or at once."""
        reached, left = set[int](), [number]
        while left:
            for other, _, how in web[left.pop()]:
                if other == number and how != "elsewhere":
                    return True
                if how != "elsewhere" and other not in reached:
                    reached.add(other)
                    left.append(other)
        return False

    play(backend, main, seed=seed)
