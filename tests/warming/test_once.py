from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint, current_token

from preheat import ArgumentError, WarmOnce, warm
from preheat.testing import FakePool, FaultPlan, hang, run
from preheat.warming import once


class Work:
    """Something to do once: counts its starts and waits until it is let go."""

    def __init__(self) -> None:
        self.starts = 0
        self.ends = 0
        self.go = anyio.Event()

    async def __call__(self) -> str:
        self.starts += 1
        await self.go.wait()
        self.ends += 1
        return f"result {self.starts}"


async def test_ten_first_callers_share_one_run_and_its_result() -> None:
    work = Work()
    guard = WarmOnce(work)
    results: list[str | None] = []

    async def call() -> None:
        results.append(await guard())

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        assert not guard.done
        work.go.set()

    assert work.starts == 1
    assert results == ["result 1"] * 10
    assert (guard.done, guard.result, guard.outcome) == (True, "result 1", "finished")
    assert guard.safety_net_used == 0


async def test_when_done_a_call_waits_on_nothing() -> None:
    work = Work()
    work.go.set()
    guard = WarmOnce(work)
    await guard()

    call = guard()
    with pytest.raises(StopIteration) as stop:
        call.send(None)

    assert stop.value.value == "result 1"


async def test_a_failure_is_kept_and_logged_and_reaches_no_caller(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise OSError("postgresql://u:secret@host/db is down")

    guard = WarmOnce(fails)
    with caplog.at_level(logging.WARNING, "preheat"):
        assert await guard() is None
        assert await guard() is None

    assert (guard.done, guard.outcome) == (True, "failed")
    assert isinstance(guard.error, OSError)
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text


async def test_reset_makes_the_next_call_start_anew() -> None:
    work = Work()
    work.go.set()
    guard = WarmOnce(work)
    await guard()

    guard.reset()

    assert not guard.done
    assert guard.result is None
    assert await guard() == "result 2"


async def test_reset_during_a_warm_up_changes_nothing() -> None:
    work = Work()
    guard = WarmOnce(work)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(guard)
        await anyio.wait_all_tasks_blocked()
        guard.reset()
        tasks.start_soon(guard)
        await anyio.wait_all_tasks_blocked()
        work.go.set()

    assert work.starts == 1


async def test_a_cancelled_first_caller_leaves_promptly_and_the_others_go_on() -> None:
    work = Work()
    guard = WarmOnce(work)
    through: list[str] = []

    async def first(scope: anyio.CancelScope) -> None:
        with scope:
            await guard()
            through.append("first")

    async def follower() -> None:
        await guard()
        assert guard.done
        through.append("follower")

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first, scope)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            tasks.start_soon(follower)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    assert through == ["follower"] * 3
    assert (work.starts, work.ends, guard.outcome) == (1, 0, "cancelled")


async def test_with_an_owner_a_cancelled_first_caller_has_still_warmed() -> None:
    work = Work()
    async with anyio.create_task_group() as owner:
        guard = WarmOnce(work, task_group=owner)
        with anyio.move_on_after(0):
            await guard()
        assert work.starts == 0  # cancelled before it began: nothing was spent

        scope = anyio.CancelScope()

        async def impatient() -> None:
            with scope:
                await guard()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(impatient)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
        assert not guard.done
        work.go.set()
        assert await guard() == "result 1"

    assert work.starts == 1


async def test_a_cancelled_follower_affects_no_other() -> None:
    work = Work()
    guard = WarmOnce(work)
    scope = anyio.CancelScope()

    async def impatient() -> None:
        with scope:
            await guard()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(guard)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(impatient)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not guard.done
        work.go.set()

    assert guard.outcome == "finished"


async def test_a_closed_owner_means_inline() -> None:
    work = Work()
    work.go.set()
    async with anyio.create_task_group() as owner:
        guard = WarmOnce(work, task_group=owner)

    assert await guard() == "result 1"


async def test_closing_the_owner_lets_everybody_go() -> None:
    work = Work()
    through: list[bool] = []

    async def caller(guard: WarmOnce[str]) -> None:
        await guard()
        through.append(guard.done)

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as owner:
            guard = WarmOnce(work, task_group=owner)
            tasks.start_soon(caller, guard)
            await anyio.wait_all_tasks_blocked()
            owner.cancel_scope.cancel()

    assert through == [True]
    assert guard.outcome == "cancelled"


async def test_a_base_exception_propagates_and_leaves_the_guard_done() -> None:
    class Boom(BaseException):
        pass

    async def explode() -> None:
        await checkpoint()
        raise Boom

    guard = WarmOnce(explode)
    with pytest.raises(Boom):
        await guard()

    assert guard.done


def test_a_function_that_never_ends_is_cancelled_at_the_timeout(backend: str) -> None:
    async def main() -> None:
        guard = WarmOnce(anyio.sleep_forever, timeout=3.0)
        started = anyio.current_time()

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(guard)

        assert anyio.current_time() - started == pytest.approx(3.0)
        assert guard.outcome == "timed out"
        assert guard.safety_net_used == 0

    run(backend, main)


def test_the_safety_net_catches_a_function_that_cannot_be_cancelled(backend: str) -> None:
    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(100)

    async def main() -> None:
        guard = WarmOnce(stubborn, timeout=3.0)
        waited: list[float] = []
        started = anyio.current_time()

        async def follower() -> None:
            await guard()
            assert guard.done
            waited.append(anyio.current_time() - started)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(guard)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(follower)

        assert waited == [pytest.approx(4.0)]
        assert guard.safety_net_used == 1

    run(backend, main)


@pytest.mark.parametrize("leavers", [1, 2, 5])
def test_callers_that_leave_change_nothing_for_those_that_wait(backend: str, leavers: int) -> None:
    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(100)

    async def main() -> None:
        left: list[float] = []
        async with anyio.create_task_group() as owner:
            guard = WarmOnce(stubborn, timeout=3.0, task_group=owner)
            started = anyio.current_time()

            async def caller(timeout: float) -> None:
                with anyio.move_on_after(timeout):
                    await guard()
                left.append(anyio.current_time() - started)

            async with anyio.create_task_group() as tasks:
                for _ in range(leavers):
                    tasks.start_soon(caller, 1.0)
                    await anyio.wait_all_tasks_blocked()  # 0.1 s of virtual time on asyncio
                for _ in range(3):
                    tasks.start_soon(caller, 50.0)

        assert max(left[:leavers]) < 2.0
        assert left[leavers:] == [pytest.approx(4.0)] * 3
        assert guard.safety_net_used == 1

    run(backend, main)


def test_a_warm_up_that_times_out_is_done_and_has_its_report(backend: str) -> None:
    async def main() -> None:
        guard = WarmOnce(lambda: warm(FakePool(plan=FaultPlan.all(connect=hang())), timeout=2.0))

        report = await guard()

        assert guard.outcome == "finished"
        assert report is not None
        assert report.timed_out

    run(backend, main)


async def test_closing_a_guard_that_is_cold_leaves_it_cold() -> None:
    guard = WarmOnce(Work())
    guard.close()
    assert not guard.done


def test_every_event_loop_run_warms_anew() -> None:
    starts: list[str] = []

    async def work() -> str:
        starts.append("start")
        await checkpoint()
        return "done"

    guard = WarmOnce(work)

    async def main() -> None:
        assert not guard.done
        await guard()
        await guard()
        assert guard.done

    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(main, backend=backend)

    assert len(starts) == 3
    assert guard.done  # outside any loop: the latest run


def test_an_owned_guard_runs_inline_in_another_loop() -> None:
    import threading

    async def work() -> int:
        await checkpoint()
        return threading.get_ident()

    async def main() -> None:
        async with anyio.create_task_group() as owner:
            guard = WarmOnce(work, task_group=owner)
            here = await guard()
            there = await anyio.to_thread.run_sync(lambda: anyio.run(guard))
            assert here == threading.get_ident()
            assert there not in (None, here)

    anyio.run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_warms_anew() -> None:
    async def work() -> int:
        await checkpoint()
        return os.getpid()

    guard = WarmOnce(work)
    anyio.run(guard)
    assert guard.result == os.getpid()

    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        code = 1
        try:
            code = 0 if not guard.done and anyio.run(guard) == os.getpid() else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="asyncio's own cancellation is tested where the rest is")
def test_a_native_asyncio_cancellation_is_never_swallowed() -> None:

    async def main(who: Callable[[asyncio.Task[Any], asyncio.Task[Any]], asyncio.Task[Any]]) -> tuple[bool, bool]:
        work = Work()
        guard = WarmOnce(work)
        leader = asyncio.create_task(guard())
        await anyio.wait_all_tasks_blocked()
        follower = asyncio.create_task(guard())
        await anyio.wait_all_tasks_blocked()
        cancelled = who(leader, follower)
        work.go.set()
        cancelled.cancel()
        await asyncio.wait([leader, follower], timeout=5)
        assert guard.done
        return leader.cancelled(), follower.cancelled()

    assert asyncio.run(main(lambda leader, _: leader)) == (True, False)
    assert asyncio.run(main(lambda _, follower: follower)) == (False, True)


async def test_a_timeout_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        WarmOnce(checkpoint, timeout=0)


async def test_the_refusal_of_a_budget_names_the_argument() -> None:
    with pytest.raises(ArgumentError, match=r"^timeout is 0; give a positive number of seconds"):
        WarmOnce(checkpoint, timeout=0)


def test_before_any_event_loop_a_guard_is_cold() -> None:
    guard = WarmOnce(checkpoint)

    assert (guard.done, guard.result, guard.error, guard.outcome) == (False, None, None, None)


async def test_a_guard_that_has_not_failed_has_no_error() -> None:
    async def work() -> str:
        return "done"

    guard = WarmOnce(work)
    assert guard.error is None
    await guard()
    assert (guard.error, guard.result) == (None, "done")


def test_after_a_reset_the_guard_is_cold_outside_the_loop_too(backend: str) -> None:
    async def work() -> str:
        return "done"

    guard = WarmOnce(work)

    async def main() -> None:
        await guard()
        guard.reset()

    anyio.run(main, backend=backend)
    assert (guard.done, guard.result, guard.outcome) == (False, None, None)


async def test_a_failure_is_logged_with_the_name_of_the_guard_and_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise OSError("postgresql://u:secret@host/db is down")

    with caplog.at_level(logging.WARNING, "preheat"):
        await WarmOnce(fails, name="orders")()

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "orders" in record.getMessage()
    assert "OSError: postgresql://u:***@host/db is down" in record.getMessage()


def test_the_budget_is_thirty_seconds_and_its_end_is_logged(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        started = anyio.current_time()
        await WarmOnce(anyio.sleep_forever, name="orders")()
        assert anyio.current_time() - started == pytest.approx(30.0)

    with caplog.at_level(logging.WARNING, "preheat"):
        run(backend, main)

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "orders" in record.getMessage()


async def test_closing_a_guard_ends_a_warm_up_that_is_under_way_as_cancelled() -> None:
    work = anyio.Event()
    through: list[str | None] = []

    async def follow() -> None:
        await guard()
        through.append(guard.outcome)

    async with anyio.create_task_group() as owner:
        guard = WarmOnce(work.wait, task_group=owner)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            guard.close()
        assert not work.is_set()  # the callers went on before the function ended
        work.set()

    assert through == ["cancelled", "cancelled"]
    assert guard.outcome == "cancelled"  # the end of the function does not change it


def test_each_use_of_the_safety_net_is_counted_and_logged(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(100)

    async def main() -> None:
        guard = WarmOnce(stubborn, timeout=3.0, name="orders")
        for uses in (1, 2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(guard)
                await anyio.wait_all_tasks_blocked()
                await guard()
                assert guard.outcome == "timed out"
                assert guard.safety_net_used == uses
                guard.reset()
                assert guard.done  # its function still runs, and another beside it would be one too many
            guard.reset()

    with caplog.at_level(logging.WARNING, "preheat"):
        run(backend, main)

    assert sum("orders" in message and "4.0 s" in message for message in caplog.messages) == 2


def test_a_run_that_ends_just_when_patience_does_needs_no_safety_net(backend: str) -> None:
    outcomes: set[str | None] = set()

    async def stubborn() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(4)
        return "late"

    async def main() -> None:
        guard = WarmOnce(stubborn, timeout=3.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(guard)
            tasks.start_soon(guard)
        outcomes.add(guard.outcome)
        assert guard.safety_net_used == (guard.outcome == "timed out")

    for seed in range(20):
        run(backend, main, seed=seed)

    assert outcomes == {"finished", "timed out"}  # either may be first, by the seed


async def test_the_task_of_an_owned_run_is_called_after_the_guard() -> None:
    async def work() -> str | None:
        return anyio.get_current_task().name

    async with anyio.create_task_group() as owner:
        assert await WarmOnce(work, task_group=owner, name="orders")() == "preheat: warm orders"


def test_in_another_loop_the_first_caller_is_the_owner(backend: str) -> None:
    async def work() -> int | None:
        await checkpoint()
        return anyio.get_current_task().parent_id

    async def main() -> None:
        async with anyio.create_task_group() as owner:
            guard = WarmOnce(work, task_group=owner)

            async def call() -> tuple[int | None, int]:
                return await guard(), anyio.get_current_task().id

            parent, caller = await anyio.to_thread.run_sync(lambda: anyio.run(call, backend=backend))
            assert parent == caller
            guard.reset()
            here = anyio.get_current_task().id
            async with anyio.create_task_group() as tasks:

                async def call_here() -> None:
                    parent, caller = await call()
                    assert (parent, caller) == (here, anyio.get_current_task().id)

                tasks.start_soon(call_here)

    anyio.run(main, backend=backend)


def test_outside_an_event_loop_reset_forgets_the_latest_run(backend: str) -> None:
    guard = WarmOnce(lambda: warm(FakePool()))
    run(backend, guard)
    assert guard.done

    guard.reset()

    assert not guard.done
    assert guard.result is None


async def test_a_child_forgets_what_its_parent_had_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    work.go.set()
    async with anyio.create_task_group() as owner:
        guard = WarmOnce(work, task_group=owner)
        await guard()

        monkeypatch.setattr(once, "_forks", 1)  # as fork() does in the child; there are real children above

        assert not guard.done
        assert await guard() == "result 2"


def test_a_child_that_runs_no_event_loop_finds_a_cold_guard(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = WarmOnce(lambda: warm(FakePool()))
    run(backend, guard)

    monkeypatch.setattr(once, "_forks", 1)

    assert (guard.done, guard.result) == (False, None)


async def fails_with_locals() -> None:
    loop = current_token().native_token
    await checkpoint()
    try:
        raise KeyError(str(loop))
    except KeyError as error:
        raise OSError("no") from error


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "finished": checkpoint,
    "failed": fails_with_locals,
    "timed out": anyio.sleep_forever,
}


@pytest.mark.parametrize("outcome", FUNCTIONS)
@pytest.mark.parametrize("owned", [True, False], ids=["owned", "inline"])
def test_a_guard_keeps_no_closed_event_loop_alive(backend: str, owned: bool, outcome: str) -> None:
    loops: list[weakref.ref[Any]] = []
    limit = 0.01 if outcome == "timed out" else 30.0
    guards: list[WarmOnce[Any]] = [] if owned else [WarmOnce(FUNCTIONS[outcome], timeout=limit)]

    async def main() -> None:
        loops.append(weakref.ref(current_token().native_token))
        async with anyio.create_task_group() as owner:
            if owned:
                guards.append(WarmOnce(FUNCTIONS[outcome], task_group=owner, timeout=limit))
            for _ in range(3):
                owner.start_soon(guards[-1])
        assert guards[-1].outcome == outcome

    for _ in range(3):
        anyio.run(main, backend=backend)
    gc.collect()

    assert [loop() for loop in loops] == [None] * 3


async def test_an_error_that_is_kept_keeps_no_variables_alive() -> None:
    class Thing:
        pass

    gone: list[weakref.ref[Thing]] = []

    async def deep() -> None:
        thing = Thing()
        gone.append(weakref.ref(thing))
        await checkpoint()
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise OSError("outer") from error

    async def fails() -> None:
        thing = Thing()
        gone.append(weakref.ref(thing))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deep)

    guard = WarmOnce(fails)
    await guard()
    gc.collect()

    assert [thing() for thing in gone] == [None, None]
    assert isinstance(guard.error, ExceptionGroup)
    (error,) = guard.error.exceptions
    assert isinstance(error.__cause__, KeyError)


async def test_an_error_that_the_caller_is_handling_keeps_its_traceback() -> None:
    async def fails() -> None:
        await checkpoint()
        raise OSError("no")

    def application() -> None:
        raise ValueError("the caller's own")

    guard = WarmOnce(fails)
    with pytest.raises(ValueError, match="own") as caught:
        try:
            application()
        except ValueError:
            await guard()
            raise

    assert caught.traceback[-1].name == "application"
    assert guard.error is not None
    assert guard.error.__context__ is None


@pytest.mark.parametrize("owned", [True, False], ids=["owned", "inline"])
def test_a_cancellation_that_the_function_lets_out_by_itself_ends_nobody(owned: bool) -> None:

    async def stray() -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        task.cancel()
        await task

    async def main() -> None:
        async with anyio.create_task_group() as owner:
            guard = WarmOnce(stray, task_group=owner if owned else None)
            assert await guard() is None
            assert guard.outcome == "failed"
            assert "cancelled from within" in str(guard.error)
            await checkpoint()

    anyio.run(main)


def test_a_failure_in_the_clean_up_of_a_function_does_not_fail_its_owner(backend: str) -> None:
    async def fails_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("planned")

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fails_when_cancelled)
            tasks.start_soon(anyio.sleep_forever)

    async def main() -> None:
        async with anyio.create_task_group() as owner:
            guard = WarmOnce(work, task_group=owner)
            owner.start_soon(guard)
            await anyio.wait_all_tasks_blocked()
            owner.cancel_scope.cancel()
        assert guard.done
        assert "planned" in repr(guard.error)

    run(backend, main)
