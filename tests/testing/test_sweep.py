from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from preheat import WarmOnce, warm
from preheat.testing import FakePool, FaultPlan, Sweep, cancel_everywhere, hang, run, succeed

How = Literal["scope", "native"]


@pytest.fixture(params=["scope", "native"])
def how(request: pytest.FixtureRequest) -> How:
    return request.param


def _sweep(backend: str, function: Callable[..., Awaitable[object]], *args: Any, how: How, seed: int = 0) -> Sweep:
    async def main() -> Sweep:
        return await cancel_everywhere(function, *args, how=how)

    return run(backend, main, seed=seed)


# What is swept


def test_a_function_is_cancelled_once_at_each_of_its_points_and_then_not(backend: str, how: How) -> None:
    got: list[tuple[int, float, bool]] = []

    async def function(steps: int) -> None:
        started, done = anyio.current_time(), 0
        try:
            for _ in range(steps):
                await anyio.sleep(1)
                done += 1
        except anyio.get_cancelled_exc_class():
            got.append((done, anyio.current_time() - started, True))
            raise
        got.append((done, anyio.current_time() - started, False))

    sweep = _sweep(backend, function, 3, how=how)

    assert got == [(0, 0, True), (1, 1, True), (2, 2, True), (3, 3, False)]
    assert (sweep.points, sweep.completed) == (3, ())
    assert sweep.slowest == pytest.approx(0, abs=1e-6)


def test_a_function_that_never_waits_has_no_point_and_runs_once(backend: str, how: How) -> None:
    runs: list[str] = []

    async def function() -> None:
        runs.append("run")

    assert _sweep(backend, function, how=how).points == 0
    assert len(runs) == 1


def test_the_points_are_the_same_each_time(backend: str, how: How) -> None:
    async def function() -> None:
        pool = FakePool(plan=FaultPlan.all(succeed(0.1), succeed(0.1), succeed(0.1)))
        await warm(pool)
        pool.assert_no_leaks()

    points = [_sweep(backend, function, how=how, seed=5).points for _ in range(3)]

    assert len(set(points)) == 1
    assert points[0] >= 3


def test_points_at_which_the_function_returns_all_the_same_are_told(backend: str, how: How) -> None:
    async def function() -> None:
        await anyio.sleep(1)
        try:
            await anyio.sleep(1)
        except anyio.get_cancelled_exc_class():
            pass

    sweep = _sweep(backend, function, how=how)

    assert (sweep.points, sweep.completed) == (2, (2,))


def test_a_last_wait_in_a_shield_ends_and_counts(backend: str) -> None:
    reached: list[str] = []

    async def function() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2)
        reached.append("end")

    sweep = _sweep(backend, function, how="scope")

    assert (sweep.points, sweep.completed) == (1, (1,))
    assert sweep.slowest == pytest.approx(2)
    assert len(reached) == 2


def test_the_slowest_end_is_measured(backend: str, how: How) -> None:
    async def function() -> None:
        try:
            await anyio.sleep(10)
        finally:
            with anyio.move_on_after(1.5, shield=True):
                await anyio.sleep(0.7)

    assert _sweep(backend, function, how=how).slowest == pytest.approx(0.7)


def test_a_thread_is_a_point_too(backend: str, how: How) -> None:
    async def function() -> None:
        await anyio.to_thread.run_sync(int)

    async def main() -> Sweep:
        return await cancel_everywhere(function, how=how)

    assert anyio.run(main, backend=backend).points >= 1


def test_a_sweep_of_a_function_without_an_end_is_an_error(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preheat.testing.sweep.LIMIT", 100)  # the real one takes minutes

    async def function() -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        with pytest.raises(RuntimeError):
            await cancel_everywhere(function)

    run(backend, main)


# What is found


async def _correct(pool: FakePool) -> None:
    async with pool.lease() as lease:
        await lease.ping()
        await lease.fetch("SELECT 2")


async def _lost_in_except(pool: FakePool) -> None:
    lease = await pool.check_out()
    try:
        await lease.ping()
    except Exception:
        await pool.check_in(lease)
        raise
    await pool.check_in(lease)


async def _no_finally(pool: FakePool) -> None:
    lease = await pool.check_out()
    await lease.ping()
    await pool.check_in(lease)


async def _unshielded_finally(pool: FakePool) -> None:
    lease = await pool.check_out()
    try:
        await lease.ping()
    finally:
        await anyio.sleep(0.1)
        await pool.check_in(lease)


async def _wait_between(pool: FakePool) -> None:
    lease = await pool.check_out()
    await anyio.lowlevel.checkpoint()
    try:
        await lease.ping()
    finally:
        await pool.check_in(lease)


async def _bug_in_a_child(pool: FakePool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_correct, pool)
        tasks.start_soon(_no_finally, pool)


async def _bug_in_a_grandchild(pool: FakePool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_bug_in_a_child, pool)


async def _late_bug_in_a_child(pool: FakePool) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(_correct, pool)
        tasks.start_soon(_unshielded_finally, pool)
        await anyio.sleep(3)


async def _released_twice(pool: FakePool) -> None:
    async with pool.lease() as lease:
        try:
            await lease.ping()
        except BaseException:
            await pool.check_in(lease)
            raise


def _checked(use: Callable[[FakePool], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def function() -> None:
        pool = FakePool(size=3, plan=FaultPlan.all(succeed(0.1), succeed(0.1), succeed(0.1)))
        try:
            await use(pool)
        finally:
            pool.assert_no_leaks()

    return function


async def _correct_child(pool: FakePool) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(_correct, pool)


@pytest.mark.parametrize("use", [_correct, _correct_child])
def test_nothing_is_found_in_what_is_correct(
    backend: str, how: How, use: Callable[[FakePool], Awaitable[None]]
) -> None:
    assert _sweep(backend, _checked(use), how=how).points >= 4


BUGS = [
    _lost_in_except,
    _no_finally,
    _unshielded_finally,
    _wait_between,
    _bug_in_a_child,
    _bug_in_a_grandchild,
    _late_bug_in_a_child,
    _released_twice,
]


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(backend: str, how: How, bug: Callable[[FakePool], Awaitable[None]]) -> None:
    run(backend, _checked(bug))  # nothing is wrong as long as nobody is cancelled

    with pytest.raises((AssertionError, BaseExceptionGroup)) as caught:
        _sweep(backend, _checked(bug), how=how)

    assert getattr(caught.value, "__notes__", [])


def test_a_bug_in_a_task_of_asyncios_own_is_found(how: How) -> None:
    async def use(pool: FakePool) -> None:
        async def child() -> None:
            lease = await pool.check_out()
            await asyncio.sleep(1)
            await pool.check_in(lease)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())

    with pytest.raises(AssertionError):
        _sweep("asyncio", _checked(use), how=how)


def test_the_error_comes_as_itself_with_a_note_of_the_point(backend: str, how: How) -> None:
    error = KeyError("mine")

    async def function() -> None:
        await anyio.sleep(1)
        try:
            await anyio.sleep(1)
        except anyio.get_cancelled_exc_class():
            raise error from None
        await anyio.sleep(1)

    with pytest.raises(KeyError) as caught:
        _sweep(backend, function, how=how)

    assert caught.value is error
    assert any(re.search(r"\b2\b|second", note) for note in error.__notes__)


def test_an_error_that_has_nothing_to_do_with_cancellation_comes_too(backend: str, how: How) -> None:
    async def function() -> None:
        await anyio.sleep(1)
        raise KeyError("always")

    with pytest.raises(KeyError, match="always"):
        _sweep(backend, function, how=how)


def test_a_clean_up_that_hangs_is_a_deadlock_not_a_hang(backend: str, how: How) -> None:
    async def function() -> None:
        try:
            await anyio.sleep(1)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()

    with pytest.raises(AssertionError, match="deadlock"):
        _sweep(backend, function, how=how)


def test_the_library_loses_nothing_wherever_it_is_cancelled(backend: str, how: How) -> None:
    async def use(pool: FakePool) -> None:
        guard = WarmOnce(lambda: warm(pool))
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(guard)

    for seed in range(3):
        assert _sweep(backend, _checked(use), how=how, seed=seed).points > 5


def test_the_library_loses_nothing_on_a_pool_that_hangs(backend: str, how: How) -> None:
    async def function() -> None:
        pool = FakePool(plan=FaultPlan.all(connect=succeed(0.5), probe=hang(), release=hang()))
        try:
            await warm(pool, timeout=2.0)
        finally:
            pool.assert_no_leaks()

    sweep = _sweep(backend, function, how=how)

    assert sweep.points >= 3
    assert sweep.slowest <= 1.01


# Where it runs


async def test_it_works_on_a_real_loop(how: How) -> None:
    cancelled = 0

    async def function() -> None:
        nonlocal cancelled
        try:
            for _ in range(4):
                await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class():
            cancelled += 1
            raise

    sweep = await cancel_everywhere(function, how=how)

    assert sweep.points == cancelled == 4


@pytest.mark.parametrize("bug", [_lost_in_except, _no_finally, _bug_in_a_child])
async def test_a_bug_is_found_on_a_real_loop(how: How, bug: Callable[[FakePool], Awaitable[None]]) -> None:
    async def function() -> None:
        pool = FakePool()
        try:
            await bug(pool)
        finally:
            pool.assert_no_leaks()

    with pytest.raises((AssertionError, BaseExceptionGroup)):
        await cancel_everywhere(function, how=how)


async def test_two_sweeps_in_a_row_find_the_same(how: How) -> None:
    async def function() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.lowlevel.checkpoint)
            await anyio.lowlevel.checkpoint()

    assert (await cancel_everywhere(function, how=how)).points == (await cancel_everywhere(function, how=how)).points


async def _buggy() -> None:
    try:
        await anyio.lowlevel.checkpoint()
    except BaseException:
        raise KeyError("bug") from None


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("function", [anyio.lowlevel.checkpoint, _buggy])
def test_the_task_factory_of_the_loop_is_as_it_was(
    how: How, own: bool, function: Callable[[], Awaitable[None]]
) -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append("task")
        return asyncio.Task(coroutine, loop=loop, **options)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if own:
            loop.set_task_factory(factory)
        before = loop.get_task_factory()
        with contextlib.suppress(KeyError):
            await cancel_everywhere(function, how=how)
        assert loop.get_task_factory() is before

    run("asyncio", main)


def test_a_task_factory_of_the_users_own_makes_the_tasks_within_a_sweep(how: How) -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append("task")
        return asyncio.Task(coroutine, loop=loop, **options)

    async def function() -> None:
        made.clear()
        await asyncio.create_task(asyncio.sleep(0))
        assert made

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await cancel_everywhere(function, how=how)

    run("asyncio", main)


@pytest.mark.parametrize("function", [anyio.lowlevel.checkpoint, _buggy])
def test_the_instruments_of_trio_are_as_they_were(how: How, function: Callable[[], Awaitable[None]]) -> None:
    from trio._core._run import GLOBAL_RUN_CONTEXT

    async def main() -> None:
        instruments = GLOBAL_RUN_CONTEXT.runner.instruments
        before = {hook: list(found) for hook, found in instruments.items()}
        with contextlib.suppress(KeyError):
            await cancel_everywhere(function, how=how)
        assert {hook: list(found) for hook, found in instruments.items()} == before

    run("trio", main)


def test_a_sweep_can_be_cancelled_itself(backend: str, how: How) -> None:
    after: list[str] = []

    async def function() -> None:
        await anyio.sleep(1)
        await anyio.sleep(1)
        await anyio.sleep(1)

    async def main() -> float:
        started = anyio.current_time()
        with anyio.move_on_after(1.5) as scope:
            await cancel_everywhere(function, how=how)
            after.append("not reached")
        assert scope.cancelled_caught
        return anyio.current_time() - started

    assert run(backend, main) == pytest.approx(1.5)
    assert after == []


def test_a_sweep_can_be_cancelled_natively_itself(how: How) -> None:
    async def main() -> None:
        task = asyncio.create_task(cancel_everywhere(anyio.sleep, 10, how=how))
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().get_task_factory() is None

    run("asyncio", main)


def test_other_tasks_live_on_during_a_sweep(backend: str, how: How) -> None:
    async def main() -> str:
        result = []

        async def other() -> None:
            await anyio.sleep(100)
            result.append("alive")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await anyio.sleep(0.5)
            await cancel_everywhere(anyio.sleep, 1, how=how)
        return result[0]

    assert run(backend, main) == "alive"


def test_a_sweep_leaves_no_cancellation_behind(backend: str, how: How) -> None:
    async def main() -> float:
        await cancel_everywhere(anyio.sleep, 1, how=how)
        if backend == "asyncio":
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
        started = anyio.current_time()
        await anyio.sleep(5)
        return anyio.current_time() - started

    assert run(backend, main) == pytest.approx(5)


def test_the_sweep_sees_the_eager_tasks_of_asyncio(how: How) -> None:
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("Python 3.12 and later")

    async def use(pool: FakePool) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_no_finally(pool))

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        with pytest.raises((AssertionError, BaseExceptionGroup)):
            await cancel_everywhere(_checked(use), how=how)

    run("asyncio", main)
