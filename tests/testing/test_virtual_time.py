from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import trio.testing

from preheat.testing import DeadlockError, VirtualTimeLoop, backend_options, run
from preheat.testing.deadlock import OUTSIDE_SECONDS


async def _forever() -> None:
    await anyio.Event().wait()


# Results


def test_the_result_is_the_very_object_that_the_function_returned(backend: str) -> None:
    result = object()

    async def main() -> object:
        await anyio.sleep(1)
        return result

    assert run(backend, main) is result


def test_arguments_reach_the_function(backend: str) -> None:
    async def main(*args: int) -> tuple[int, ...]:
        return args

    assert run(backend, main, 1, 2, 3) == (1, 2, 3)


class _Unusual(BaseException):
    pass


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        _Unusual("mine"),
        ExceptionGroup("mine", [ValueError("one"), KeyError("two")]),
        BaseExceptionGroup("mine", [_Unusual()]),
        KeyboardInterrupt("mine"),
        SystemExit(3),
        TimeoutError("mine"),
        StopAsyncIteration("mine"),
        AssertionError("mine"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_of_the_function_is_raised_unchanged(backend: str, error: BaseException, seed: int | None) -> None:
    async def main() -> None:
        await anyio.sleep(1)
        raise error

    with pytest.raises(type(error)) as caught:
        run(backend, main, seed=seed)

    assert caught.value is error


def test_an_error_of_a_child_comes_in_the_group_of_its_task_group(backend: str) -> None:
    async def child() -> None:
        await anyio.sleep(1)
        raise KeyError("child")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            tasks.start_soon(_forever)

    with pytest.raises(ExceptionGroup) as caught:
        run(backend, main)

    assert [type(error) for error in caught.value.exceptions] == [KeyError]


def test_a_backend_that_does_not_exist_is_refused_by_name() -> None:
    async def main() -> None:
        raise AssertionError("not reached")

    with pytest.raises((ValueError, LookupError), match="curio"):
        run("curio", main)


def test_many_runs_leave_no_file_open(backend: str) -> None:
    async def main() -> None:
        await anyio.sleep(1)

    run(backend, main, seed=0)
    before = len(list(Path("/dev/fd").iterdir()))
    for seed in range(30):
        run(backend, main, seed=seed)

    assert len(list(Path("/dev/fd").iterdir())) <= before


def test_a_run_inside_a_run_is_refused_and_the_outer_one_goes_on(backend: str) -> None:
    async def main() -> float:
        await anyio.sleep(1)
        with pytest.raises(RuntimeError):
            run(backend, anyio.sleep, 5.0)
        await anyio.sleep(1)
        return anyio.current_time()

    started = run(backend, _now)
    assert run(backend, main) - started == pytest.approx(2)


async def _now() -> float:
    return anyio.current_time()


def test_tasks_left_behind_on_asyncio_are_cancelled_at_the_end() -> None:
    ended: list[str] = []

    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def main() -> str:
        task = asyncio.create_task(left())
        await asyncio.sleep(1)
        return f"main ended before {task.done()}"

    assert run("asyncio", main) == "main ended before False"
    assert ended == ["cancelled"]


# Time


def test_a_day_passes_at_once_and_is_a_day(backend: str) -> None:
    async def main() -> float:
        started = anyio.current_time()
        await anyio.sleep(86_400)
        return anyio.current_time() - started

    started = time.perf_counter()
    assert run(backend, main) == pytest.approx(86_400)
    assert time.perf_counter() - started < 5


def test_the_clock_starts_at_the_same_time_in_every_run(backend: str) -> None:
    first = run(backend, _now)
    run(backend, anyio.sleep, 100)

    assert run(backend, _now) == pytest.approx(first)


def test_no_time_passes_while_tasks_are_ready(backend: str) -> None:
    async def main() -> float:
        started = anyio.current_time()
        for _ in range(2000):
            await anyio.lowlevel.checkpoint()
        return anyio.current_time() - started

    assert run(backend, main) == 0


def test_timers_go_off_in_order_each_at_its_time(backend: str) -> None:
    delays = [3.0, 0.5, 2.0, 0.1, 1.0, 0.1, 1e-4, 1000.0]
    seen: list[tuple[float, float]] = []

    async def sleeper(delay: float) -> None:
        started = anyio.current_time()
        await anyio.sleep(delay)
        seen.append((delay, anyio.current_time() - started))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for delay in delays:
                tasks.start_soon(sleeper, delay)

    run(backend, main, seed=5)

    assert [delay for delay, _ in seen] == sorted(delays)
    for delay, took in seen:
        assert took == pytest.approx(delay, abs=1e-6)


def test_a_timer_within_a_timer_ends_by_the_inner_one_first(backend: str) -> None:
    async def main() -> list[float]:
        started = anyio.current_time()
        times = []
        with anyio.move_on_after(10) as outer:
            with anyio.move_on_after(3) as inner:
                with anyio.move_on_after(7) as innermost:
                    await _forever()
            times.append(anyio.current_time() - started)
            await _forever()
        times.append(anyio.current_time() - started)
        assert (outer.cancelled_caught, inner.cancelled_caught, innermost.cancelled_caught) == (True, True, False)
        return times

    assert run(backend, main) == pytest.approx([3, 10])


def test_a_deadline_that_is_moved_is_kept(backend: str) -> None:
    async def main() -> float:
        started = anyio.current_time()
        with anyio.move_on_after(5) as scope:
            async with anyio.create_task_group() as tasks:

                async def later() -> None:
                    await anyio.sleep(4)
                    scope.deadline = started + 9

                tasks.start_soon(later)
                await _forever()
        return anyio.current_time() - started

    assert run(backend, main) == pytest.approx(9)


@pytest.mark.timeout(30)
def test_a_year_passes_at_once_and_is_a_year(backend: str) -> None:
    async def main() -> float:
        started = anyio.current_time()
        await anyio.sleep(365 * 86_400)
        return anyio.current_time() - started

    assert run(backend, main) == pytest.approx(365 * 86_400)


@pytest.mark.timeout(30)
def test_small_steps_late_in_the_day_still_end(backend: str) -> None:
    async def main() -> float:
        await anyio.sleep(1e9)  # noqa: ASYNC116 - the clock is to be late
        started = anyio.current_time()
        for _ in range(100):
            await anyio.sleep(1e-9)
        with anyio.move_on_after(0.25):
            await _forever()
        return anyio.current_time() - started

    assert run(backend, main) == pytest.approx(0.25, abs=1e-3)


def test_asyncio_timeouts_are_virtual() -> None:
    async def main() -> float:
        started = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.get_running_loop().create_future()
        assert await asyncio.wait([asyncio.create_task(asyncio.sleep(1000))], timeout=60)
        return asyncio.get_running_loop().time() - started

    assert run("asyncio", main) == pytest.approx(180)


def test_trio_timeouts_are_virtual() -> None:
    async def main() -> float:
        started = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(60):
                await trio.sleep_forever()
        return trio.current_time() - started

    assert run("trio", main) == pytest.approx(60)


def test_a_shielded_cleanup_in_a_cancelled_scope_takes_its_time_and_no_more(backend: str) -> None:
    async def main() -> float:
        started = anyio.current_time()
        with anyio.move_on_after(1):
            try:
                await _forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(2.5)
        return anyio.current_time() - started

    assert run(backend, main) == pytest.approx(3.5)


def test_others_keep_their_time_while_a_cancelled_scope_cleans_up(backend: str) -> None:
    ticks: list[float] = []

    async def cleaner(seconds: float) -> None:
        try:
            await _forever()
        finally:
            with anyio.move_on_after(seconds, shield=True):
                await _forever()

    async def ticker() -> None:
        for _ in range(10):
            await anyio.sleep(0.5)
            ticks.append(anyio.current_time())

    async def main() -> float:
        started = anyio.current_time()
        async with anyio.create_task_group() as outside:
            outside.start_soon(ticker)
            with anyio.move_on_after(1):
                async with anyio.create_task_group() as tasks:
                    for seconds in (0.7, 1.3, 2.2):
                        tasks.start_soon(cleaner, seconds)
            took = anyio.current_time() - started
        ticks[:] = [tick - started for tick in ticks]
        return took

    assert run(backend, main, seed=2) == pytest.approx(3.2)
    assert ticks == pytest.approx([0.5 * n for n in range(1, 11)])


def test_a_cleanup_behind_asyncio_shield_takes_its_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with anyio.move_on_after(1):
            try:
                await _forever()
            finally:
                task = asyncio.create_task(asyncio.sleep(2))
                while not task.done():
                    try:
                        await asyncio.shield(task)
                    except asyncio.CancelledError:
                        with anyio.CancelScope(shield=True):
                            await task
        return loop.time()

    assert run("asyncio", main) == pytest.approx(3)


def test_a_scope_that_is_cancelled_while_a_thread_works_waits_for_the_thread(backend: str) -> None:
    async def main() -> str:
        ready = threading.Event()

        def work() -> str:
            ready.wait(10)
            return "worked"

        async with anyio.create_task_group() as tasks:

            async def release() -> None:
                await anyio.sleep(3)
                ready.set()

            tasks.start_soon(release)
            with anyio.move_on_after(1):
                result = await anyio.to_thread.run_sync(work)
        return result

    assert run(backend, main) == "worked"


# Deadlocks


def _deadlock(backend: str, main: Callable[[], Awaitable[Any]], **options: Any) -> str:
    started = time.perf_counter()
    with pytest.raises(DeadlockError) as caught:
        run(backend, main, **options)
    assert time.perf_counter() - started < 10
    return str(caught.value)


async def _lock() -> None:
    lock = anyio.Lock()
    async with anyio.create_task_group() as tasks, lock:
        tasks.start_soon(lock.acquire, name="wants the lock")
        await _forever()


async def _semaphore() -> None:
    semaphore = anyio.Semaphore(1)
    await semaphore.acquire()
    await semaphore.acquire()


async def _limiter() -> None:
    limiter = anyio.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("one")
    await limiter.acquire_on_behalf_of("two")


async def _condition() -> None:
    condition = anyio.Condition()
    async with condition:
        await condition.wait()


async def _send() -> None:
    send, receive = anyio.create_memory_object_stream[int](0)
    async with send, receive:
        await send.send(1)


async def _receive() -> None:
    send, receive = anyio.create_memory_object_stream[int](0)
    async with send, receive:
        await receive.receive()


async def _two_locks() -> None:
    one, two = anyio.Lock(), anyio.Lock()

    async def take(first: anyio.Lock, second: anyio.Lock) -> None:
        async with first:
            await anyio.sleep(1)
            async with second:
                raise AssertionError("not reached")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, one, two)
        tasks.start_soon(take, two, one)


async def _sleep_for_ever() -> None:
    await anyio.sleep_forever()


async def _sleep_infinitely() -> None:
    await anyio.sleep(math.inf)


async def _infinite_deadline() -> None:
    with anyio.fail_after(math.inf):
        await _forever()


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize(
    "main",
    [
        _forever,
        _lock,
        _semaphore,
        _limiter,
        _condition,
        _send,
        _receive,
        _two_locks,
        _sleep_for_ever,
        _sleep_infinitely,
        _infinite_deadline,
    ],
)
def test_whatever_waits_for_nothing_is_a_deadlock(
    backend: str, main: Callable[[], Awaitable[Any]], seed: int | None
) -> None:
    assert Path(__file__).name in _deadlock(backend, main, seed=seed)


@pytest.mark.parametrize("seed", [None, 7])
def test_a_deadlock_comes_after_the_last_timer(backend: str, seed: int | None) -> None:
    times: list[float] = []

    async def main() -> None:
        started = anyio.current_time()
        await anyio.sleep(100)
        try:
            await _forever()
        finally:
            times.append(anyio.current_time() - started)

    _deadlock(backend, main, seed=seed)

    assert times == pytest.approx([100])


def test_a_deadlock_names_each_task_that_waits_and_where(backend: str) -> None:
    async def waits_in_here(event: anyio.Event) -> None:
        await event.wait()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits_in_here, anyio.Event(), name="alice")
            tasks.start_soon(waits_in_here, anyio.Event(), name="bob")
            tasks.start_soon(anyio.sleep, 1, name="carol")

    message = _deadlock(backend, main)

    assert "alice" in message
    assert "bob" in message
    assert "waits_in_here" in message
    assert "carol" not in message


def test_a_deadlock_of_children_is_no_group(backend: str) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
            outer.start_soon(_forever)
            inner.start_soon(_forever)

    _deadlock(backend, main)


def test_the_function_cleans_up_before_a_deadlock_is_told(backend: str) -> None:
    seen: list[str] = []

    async def child() -> None:
        try:
            await _forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
            seen.append("child")

    async def main() -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child)
        finally:
            seen.append("main")

    _deadlock(backend, main)

    assert seen == ["child", "main"]


def test_a_shielded_wait_is_a_deadlock_as_well(backend: str) -> None:
    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            await _forever()

    assert "shielded" in _deadlock(backend, shielded)


def test_a_shielded_wait_in_a_cancelled_scope_is_a_deadlock_as_well(backend: str) -> None:
    async def shielded_in_child() -> None:
        try:
            await _forever()
        finally:
            with anyio.CancelScope(shield=True):
                await _forever()

    async def main() -> None:
        with anyio.move_on_after(1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(shielded_in_child)

    assert "shielded_in_child" in _deadlock(backend, main)


def test_a_deadlock_that_a_function_survives_is_still_reported(backend: str) -> None:
    async def main() -> str:
        with contextlib.suppress(BaseException):
            await _forever()
        return "all is well"

    _deadlock(backend, main)


def test_a_deadlock_whose_cleanup_fails_is_still_reported(backend: str) -> None:
    async def main() -> None:
        try:
            await _forever()
        finally:
            raise KeyError("cleanup")

    _deadlock(backend, main)


def test_a_second_deadlock_in_the_cleanup_ends_too(backend: str) -> None:
    async def main() -> None:
        try:
            await _forever()
        finally:
            with anyio.CancelScope(shield=True):
                await _forever()

    _deadlock(backend, main)


def test_a_run_after_a_deadlock_is_as_ever(backend: str) -> None:
    _deadlock(backend, _forever)
    _deadlock(backend, _forever)
    before = run(backend, _now)

    async def main() -> float:
        await anyio.sleep(2)
        return anyio.current_time()

    assert run(backend, main) - before == pytest.approx(2)


def test_a_bare_future_that_nobody_sets_is_a_deadlock() -> None:
    async def nobody_sets_it() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.gather(asyncio.create_task(nobody_sets_it(), name="dave"), asyncio.sleep(1))

    message = _deadlock("asyncio", main)

    assert "dave" in message
    assert "nobody_sets_it" in message


def test_a_trio_event_that_nobody_sets_is_a_deadlock() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.Event().wait, name="dave")

    assert "dave" in _deadlock("trio", main)


def test_a_worker_thread_that_is_busy_is_no_deadlock(backend: str) -> None:
    async def main() -> str:
        await anyio.to_thread.run_sync(time.sleep, 0.3)
        return "done"

    assert run(backend, main) == "done"


def test_a_worker_thread_is_not_a_deadlock_of_the_waiting_tasks(backend: str) -> None:
    async def main() -> str:
        event = anyio.Event()

        def work() -> None:
            time.sleep(0.2)
            anyio.from_thread.run_sync(event.set)
            time.sleep(0.1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(event.wait)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(work)
        return "done"

    assert run(backend, main, seed=1) == "done"


@pytest.mark.parametrize("shielded", [False, True])
def test_a_thread_that_is_none_of_ours_does_not_delay_a_deadlock(backend: str, shielded: bool) -> None:
    async def main() -> None:
        with anyio.CancelScope(shield=shielded):
            await _forever()

    end = threading.Event()
    bystander = threading.Thread(target=end.wait, args=(OUTSIDE_SECONDS - 2,))
    bystander.start()
    try:
        with pytest.raises(DeadlockError):
            run(backend, main)
        assert bystander.is_alive()
    finally:
        end.set()
        bystander.join()


@pytest.mark.timeout(OUTSIDE_SECONDS - 1)
def test_a_worker_thread_that_has_done_its_work_does_not_delay_a_deadlock(backend: str) -> None:
    async def main() -> None:
        await anyio.to_thread.run_sync(int)
        await _forever()

    with pytest.raises(DeadlockError):
        run(backend, main)


def test_an_answer_of_another_process_is_waited_for_without_any_thread(backend: str) -> None:
    code = """
import subprocess, sys, threading, anyio
from preheat.testing import run
command = [sys.executable, "-c", "import time; input(); time.sleep(0.2); print('hello')"]
process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
async def main():
    process.stdin.write(b"go\\n")
    process.stdin.flush()
    await anyio.wait_readable(process.stdout)
    assert threading.active_count() == 1
run(sys.argv[1], main)
print(process.communicate()[0])
"""
    answer = subprocess.run([sys.executable, "-c", code, backend], capture_output=True, text=True, check=False)

    assert "hello" in answer.stdout, answer.stderr


def test_a_worker_thread_may_sleep_on_the_virtual_clock(backend: str) -> None:
    async def main() -> float:
        started = anyio.current_time()
        await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 50)
        return anyio.current_time() - started

    started = time.perf_counter()
    assert run(backend, main) == pytest.approx(50)
    assert time.perf_counter() - started < 5


def test_a_process_ends_on_virtual_time(backend: str) -> None:
    async def main() -> bytes:
        return (await anyio.run_process([sys.executable, "-c", "print('hello')"])).stdout

    assert run(backend, main).split() == [b"hello"]


def test_a_thread_that_outlives_the_function_is_waited_for_without_a_time_out() -> None:
    ended = threading.Event()

    def work() -> None:
        time.sleep(0.2)
        ended.set()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)

    run("asyncio", main)
    assert ended.is_set()


def test_bytes_through_a_socket_arrive(backend: str) -> None:
    async def main() -> bytes:
        async def echo(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.send((await stream.receive())[::-1])

        async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, echo)
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await stream.send(b"abc")
                    answer = await stream.receive()
                tasks.cancel_scope.cancel()
        return answer

    assert run(backend, main, seed=3) == b"cba"


def test_a_socket_whose_other_side_takes_a_moment_is_no_deadlock(backend: str) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def answer() -> None:
        time.sleep(0.1)
        theirs.sendall(b"x")

    async def main() -> bytes:
        await anyio.wait_readable(ours)
        return ours.recv(1)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        assert run(backend, main) == b"x"
    finally:
        thread.join()
        ours.close()
        theirs.close()


def test_waiting_until_all_tasks_are_blocked_is_no_deadlock(backend: str) -> None:
    async def main() -> str:
        event = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(event.wait)
            await anyio.wait_all_tasks_blocked()
            event.set()
        return "done"

    assert run(backend, main) == "done"


# Seeds and traces


def _workers(tasks: int = 4, steps: int = 3) -> Callable[[], Awaitable[list[tuple[int, int]]]]:
    async def main() -> list[tuple[int, int]]:
        order: list[tuple[int, int]] = []

        async def worker(number: int) -> None:
            for step in range(steps):
                order.append((number, step))
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.1)
            order.append((number, steps))

        async with anyio.create_task_group() as group:
            for number in range(tasks):
                group.start_soon(worker, number, name=f"worker {number}")
        return order

    return main


def _traced(backend: str, seed: int | None, main: Callable[[], Awaitable[Any]]) -> tuple[Any, list[Any]]:
    trace: list[Any] = []
    result = run(backend, main, seed=seed, trace=trace)
    assert trace
    return result, trace


def test_the_same_seed_gives_the_same_trace_also_after_another_run(backend: str) -> None:
    first = _traced(backend, 11, _workers())
    run(backend, _workers(7, 2), seed=3)
    run("trio" if backend == "asyncio" else "asyncio", _workers(2, 9), seed=4)

    assert _traced(backend, 11, _workers()) == first


def test_other_seeds_give_other_orders(backend: str) -> None:
    orders = {tuple(run(backend, _workers(), seed=seed)) for seed in range(20)}

    assert len(orders) > 10


def test_seeds_reach_every_order_of_three_tasks(backend: str) -> None:
    reached = {tuple(run(backend, _workers(3, 1), seed=seed))[:3] for seed in range(150)}

    assert {tuple(number for number, _ in order) for order in reached} == set(itertools.permutations(range(3)))


def test_seeds_reach_every_order_of_three_timers_that_coincide(backend: str) -> None:
    async def main() -> tuple[int, ...]:
        order: list[int] = []

        async def sleeper(number: int) -> None:
            await anyio.sleep(1)
            order.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(sleeper, number)
        return tuple(order)

    assert {run(backend, main, seed=seed) for seed in range(150)} == set(itertools.permutations(range(3)))


def test_each_task_keeps_the_order_of_its_own_steps(backend: str) -> None:
    for seed in range(30):
        order = run(backend, _workers(), seed=seed)
        for number in range(4):
            assert [step for worker, step in order if worker == number] == [0, 1, 2, 3]


def test_without_a_seed_asyncio_is_first_come_first_served() -> None:
    order = run("asyncio", _workers(4, 2))

    assert [number for number, _ in order[:8]] == [0, 1, 2, 3] * 2


@pytest.mark.parametrize("seed", [0, -1, 2**64 + 1])
def test_any_number_is_a_seed(backend: str, seed: int) -> None:
    assert _traced(backend, seed, _workers()) == _traced(backend, seed, _workers())


def test_zero_is_a_seed_and_shuffles() -> None:
    orders = [run("asyncio", _workers(8, 3), seed=seed) for seed in (None, 0)]

    assert orders[0] != orders[1]


def test_the_trace_has_the_time_and_the_name_of_each_step(backend: str) -> None:
    async def main() -> None:
        async def two_steps() -> None:
            await anyio.sleep(1.5)
            await anyio.sleep(2)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(two_steps, name="erin")

    _, trace = _traced(backend, 1, main)

    times = [seconds for seconds, name in trace if name == "erin"]
    assert sorted({round(seconds - times[0], 6) for seconds in times}) == [0, 1.5, 3.5]
    assert [seconds for seconds, _ in trace] == sorted(seconds for seconds, _ in trace)


def test_a_trace_needs_no_seed(backend: str) -> None:
    _, trace = _traced(backend, None, _workers(2, 1))

    assert {f"worker {number}" for number in range(2)} <= {name for _, name in trace}


def test_tasks_without_a_name_have_the_same_trace_again() -> None:
    async def main() -> None:
        async def step() -> None:
            await asyncio.sleep(0)

        await asyncio.gather(*(asyncio.create_task(step()) for _ in range(4)))

    first = _traced("asyncio", 5, main)
    run("asyncio", main)

    assert _traced("asyncio", 5, main) == first


def test_the_order_in_which_tasks_learn_that_they_are_cancelled_is_the_seeds(backend: str) -> None:
    async def main() -> tuple[int, ...]:
        order: list[int] = []

        async def waiter(number: int) -> None:
            try:
                await _forever()
            finally:
                order.append(number)

        with anyio.move_on_after(1):
            async with anyio.create_task_group() as tasks:
                for number in range(12):
                    tasks.start_soon(waiter, number, name=f"waiter {number}")
        return tuple(order)

    first = _traced(backend, 9, main)
    keep = []
    for n in range(20):
        keep.append([object() for _ in range(n * 37)])  # so that addresses differ
        assert _traced(backend, 9, main) == first

    assert len({run(backend, main, seed=seed) for seed in range(20)}) > 10


def test_the_order_does_not_depend_on_hashes_or_the_process(backend: str, folder: Path) -> None:
    code = """
import sys, anyio
from preheat.testing import run
async def main():
    async def waiter(number):
        try:
            await anyio.sleep(number % 3)
            await anyio.Event().wait()
        finally:
            await anyio.lowlevel.cancel_shielded_checkpoint()
    with anyio.move_on_after(5):
        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(waiter, number, name=f"waiter {number}")
trace = []
junk = [object() for _ in range(int(sys.argv[2]))]
run(sys.argv[1], main, seed=21, trace=trace)
print(trace)
"""
    traces = {
        subprocess.run(
            [sys.executable, "-c", code, backend, junk],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hashes, junk in (("1", "0"), ("2", "12345"), ("3", "77"))
    }

    assert len(traces) == 1
    assert "waiter 11" in traces.pop()


def test_a_seed_neither_reads_nor_changes_the_random_module(backend: str) -> None:
    random.seed(1)
    first = _traced(backend, 13, _workers())
    random.seed(2)
    before = random.getstate()
    assert _traced(backend, 13, _workers()) == first
    assert random.getstate() == before


def test_runs_in_two_threads_at_the_same_time_have_the_traces_of_their_seeds(backend: str) -> None:
    alone = {seed: _traced(backend, seed, _workers(4, 40)) for seed in (1, 2)}
    together: dict[int, list[Any]] = {1: [], 2: []}
    barrier = threading.Barrier(2)

    def several(seed: int) -> None:
        barrier.wait(5)
        for _ in range(10):
            together[seed].append(_traced(backend, seed, _workers(4, 40)))

    threads = [threading.Thread(target=several, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for seed, all_of_them in together.items():
        assert all_of_them == [alone[seed]] * 10


def test_trio_without_a_seed_after_a_run_with_one_is_still_random() -> None:
    run("trio", _workers(), seed=1)
    orders = set()
    for _ in range(30):
        run("trio", _workers(), seed=1)
        orders.add(tuple(run("trio", _workers())))

    assert len(orders) > 3


def test_plain_callbacks_keep_their_order_under_every_seed() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        called: list[int] = []
        for number in range(10):
            loop.call_soon(called.append, number)
        await asyncio.sleep(1)
        return called

    for seed in range(20):
        assert run("asyncio", main, seed=seed) == list(range(10))


def test_a_callback_that_is_cancelled_is_not_called() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        called: list[str] = []
        loop.call_soon(called.append, "soon").cancel()
        loop.call_later(1, called.append, "later").cancel()
        loop.call_later(1, called.append, "yes")
        await asyncio.sleep(2)
        return called

    assert run("asyncio", main, seed=1) == ["yes"]


def test_an_asyncio_task_that_is_cancelled_before_its_first_step_never_starts() -> None:
    async def main() -> list[str]:
        started: list[str] = []

        async def child() -> None:
            started.append("child")

        task = asyncio.create_task(child())
        task.cancel()
        await asyncio.wait([task])
        return started

    for seed in range(10):
        assert run("asyncio", main, seed=seed) == []


def test_no_task_waits_for_ever_while_others_are_ready(backend: str) -> None:
    async def main() -> int:
        turns = 0
        flag = anyio.Event()

        async def setter() -> None:
            await anyio.lowlevel.checkpoint()
            flag.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(setter)
            while not flag.is_set():
                turns += 1
                assert turns < 50
                await anyio.lowlevel.checkpoint()
        return turns

    assert max(run(backend, main, seed=seed) for seed in range(30)) < 50


# By hand


def test_backend_options_give_anyio_run_the_virtual_clock_and_the_seed(backend: str) -> None:
    expected = _traced(backend, 6, _workers())
    trace: list[Any] = []
    options = backend_options(backend, seed=6, trace=trace)

    result = anyio.run(_workers(), backend=backend, backend_options=options)

    assert result == expected[0]
    names = [name for _, name in trace if name.startswith("worker")]
    assert names == [name for _, name in expected[1] if name.startswith("worker")]


@pytest.mark.timeout(30)
def test_a_deadlock_under_backend_options_is_an_error(backend: str) -> None:
    with pytest.raises(BaseException) as caught:
        anyio.run(_forever, backend=backend, backend_options=backend_options(backend))

    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, DeadlockError):
        error = error.__cause__ or error.__context__
    assert isinstance(error, DeadlockError)


def test_the_loop_works_with_asyncios_own_runner() -> None:
    async def main() -> float:
        await asyncio.sleep(1000)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == pytest.approx(1000)
        assert runner.run(main()) == pytest.approx(2000)


def test_the_loop_by_itself_tells_a_deadlock() -> None:
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(seed=1)) as runner:
        with pytest.raises(DeadlockError):
            runner.run(_forever())
