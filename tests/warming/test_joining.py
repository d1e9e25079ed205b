"""Several warm-ups of one pool at the same time, and how long hot connections are held."""

from __future__ import annotations

import gc
import logging
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import current_token

from preheat import VectorStorage, WarmReport, open_pool, ping, warm
from preheat.testing import FakeLease, FakePool, Fault, FaultPlan, fail, hang, run, succeed

SLOW = FaultPlan.all(connect=succeed(0.1), probe=succeed(0.05))


async def another_probe(lease: FakeLease) -> None:
    await lease.fetch("SELECT 2")


async def hanging_probe(lease: FakeLease) -> None:
    await anyio.sleep_forever()


async def together(*calls: Callable[[], Awaitable[WarmReport]]) -> list[WarmReport]:
    """Start all in this order, and wait for all."""
    reports: dict[int, WarmReport] = {}

    async def one(number: int, call: Callable[[], Awaitable[WarmReport]]) -> None:
        reports[number] = await call()

    async with anyio.create_task_group() as tasks:
        for number, call in enumerate(calls):
            tasks.start_soon(one, number, call)
            await anyio.lowlevel.checkpoint()
    return [reports[number] for number in range(len(calls))]


def test_two_warm_ups_at_the_same_time_are_one(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        pool = FakePool(size=3, plan=SLOW)

        first, second = await together(partial(warm, pool), partial(warm, pool))

        assert first.ok
        assert second.ok
        assert first.seconds == second.seconds == pytest.approx(0.15)
        assert first.connections == second.connections
        assert [connection.probes for connection in pool.connections] == [1, 1, 1]
        pool.assert_no_leaks()

    with caplog.at_level(logging.INFO, "preheat"):
        run(backend, main, seed=1)
    assert len(caplog.records) == 1


def test_a_call_for_fewer_connections_joins_and_reports_its_own_number(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=5, plan=FaultPlan((Fault(probe=hang()),), rest=Fault(succeed(0.1))))

        first, second = await together(
            partial(warm, pool, connections=4, timeout=1), partial(warm, pool, connections=3, timeout=5)
        )

        assert (first.hot, first.requested, first.timed_out) == (3, 4, True)
        assert (second.hot, second.requested, second.timed_out, second.ok) == (3, 3, False, True)
        assert second.seconds == pytest.approx(1)
        assert sum(connection.probes for connection in pool.connections) == 3  # it has warmed nothing again
        pool.assert_no_leaks()

    run(backend, main)


def test_a_joining_call_gets_the_best_of_the_results(backend: str) -> None:
    async def main() -> None:
        refused = Fault(connect=fail(OSError("refused"), 0.1))
        pool = FakePool(size=4, plan=FaultPlan((Fault(connect=hang()), refused, Fault(succeed(0.1)), refused)))

        _, told = await together(
            partial(warm, pool, connections=4, timeout=5), partial(warm, pool, connections=2, timeout=1)
        )

        assert [connection.status for connection in told.connections] == ["hot", "failed"]
        assert not told.timed_out

    run(backend, main)


def test_a_call_for_more_connections_waits_and_opens_no_more_than_it_asked_for(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=10, plan=SLOW)

        reports = await together(
            partial(warm, pool, connections=2),
            partial(warm, pool, connections=4),
            partial(warm, pool, connections=3, probe=another_probe),
            partial(warm, pool, connections=4),
        )

        assert [report.hot for report in reports] == [2, 4, 3, 4]
        assert all(report.ok for report in reports)
        assert pool.opens == 4
        assert sum("SELECT 2" in connection.statements for connection in pool.connections) == 3
        pool.assert_no_leaks()

    run(backend, main)


@pytest.mark.parametrize("size", [3, 6])
def test_a_waiting_call_takes_over_when_the_first_is_cancelled(backend: str, size: int) -> None:
    async def main() -> None:
        pool = FakePool(size=size, plan=FaultPlan.all(connect=succeed(1)))
        reports: list[WarmReport] = []

        async def first() -> None:
            with anyio.move_on_after(0.5):
                await warm(pool)

        async def other() -> None:
            reports.append(await warm(pool))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            for _ in range(3):
                tasks.start_soon(other)

        assert all(report.ok for report in reports)
        assert anyio.current_time() == pytest.approx(1.5, abs=0.11)
        assert pool.opens == 6  # three that were given up, and three for all who waited
        pool.assert_no_leaks()

    run(backend, main)


def test_the_time_of_the_first_is_not_that_of_the_others(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(connect=succeed(1)))

        hasty, patient = await together(partial(warm, pool, timeout=0.5), partial(warm, pool, timeout=5))

        assert (hasty.hot, hasty.timed_out) == (0, True)
        assert (patient.ok, patient.seconds) == (True, pytest.approx(1.5))

        pool = FakePool(plan=FaultPlan.all(connect=succeed(1)))
        patient, hasty = await together(partial(warm, pool, timeout=5), partial(warm, pool, timeout=0.5))

        assert patient.ok
        assert (hasty.hot, hasty.timed_out, hasty.seconds) == (0, True, pytest.approx(0.5))
        assert [connection.status for connection in hasty.connections] == ["unfinished"] * 3
        assert pool.opens == 3

    run(backend, main)


def test_an_interrupt_leaves_through_the_call_that_it_belongs_to(backend: str) -> None:
    class Interrupt(BaseException):
        pass

    async def main() -> None:
        pool = FakePool()
        interrupts = 1

        async def probe(lease: FakeLease) -> None:
            nonlocal interrupts
            await anyio.sleep(1)
            if interrupts:
                interrupts -= 1
                raise Interrupt

        async def interrupted() -> WarmReport:
            with pytest.raises(Interrupt):
                await warm(pool, probe=probe)
            return await warm(pool, probe=probe)

        reports = await together(interrupted, partial(warm, pool, probe=probe))

        assert all(report.ok for report in reports)
        pool.assert_no_leaks()

    run(backend, main)


def test_another_warm_up_that_hangs_is_waited_for_half_the_time(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=6, plan=SLOW)

        hangs, other = await together(
            partial(warm, pool, probe=hanging_probe, timeout=60), partial(warm, pool, timeout=4)
        )

        assert (hangs.hot, hangs.timed_out) == (0, True)
        assert (other.ok, other.seconds) == (True, pytest.approx(2.15))
        pool.assert_no_leaks()

    run(backend, main)


def test_connections_that_another_is_still_opening_are_warmed_when_it_has_ended(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=3, plan=FaultPlan((Fault(connect=hang()),), rest=Fault(succeed(0.1))))
        hot: list[int] = []

        async def look() -> WarmReport:
            await anyio.sleep(3)
            hot.append(sum("SELECT 2" in connection.statements for connection in pool.connections))
            return await warm(pool, probe=another_probe, timeout=4)

        hangs, other, joined = await together(
            partial(warm, pool, timeout=4), partial(warm, pool, probe=another_probe, timeout=5), look
        )

        assert (hangs.hot, hangs.timed_out) == (2, True)
        assert hot == [2]
        assert (other.ok, other.seconds) == (True, pytest.approx(4.1))
        assert joined.ok
        pool.assert_no_leaks()

    run(backend, main)


def test_without_room_beside_another_warm_up_nothing_is_tried_and_that_is_told(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=2, plan=FaultPlan.all(connect=hang()))

        _, other = await together(
            partial(warm, pool, timeout=60), partial(warm, pool, probe=another_probe, connections=1, timeout=4)
        )

        assert (other.timed_out, other.hot, other.requested) == (True, 0, 1)
        assert other.seconds == pytest.approx(4)
        assert pool.opens == 2

    run(backend, main)


def test_a_probe_that_warms_its_own_pool_does_not_wait_for_itself(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=4)

        async def probe(lease: FakeLease) -> None:
            assert (await warm(pool, connections=1)).ok

        report = await warm(pool, connections=2, probe=probe)

        assert report.ok
        assert report.seconds == pytest.approx(0)

    run(backend, main)


def test_two_storages_on_one_pool_warm_it_at_the_same_time(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=3, plan=SLOW)
        async with (
            VectorStorage(pool, "papers", 3, warm="background") as papers,
            VectorStorage(pool, "pages", 3, warm="background", warm_connections=2) as pages,
        ):
            ok: list[bool] = []

            async def call(storage: VectorStorage) -> None:
                ok.append(await storage.warm_pool())

            for _ in ("the first warm-up", "a later one"):
                async with anyio.create_task_group() as tasks:
                    for storage in (papers, pages, papers, pages):
                        tasks.start_soon(call, storage)

            assert ok == [True] * 8
            assert papers.warm_report is not None
            assert pages.warm_report is not None
            assert (papers.warm_report.hot, pages.warm_report.hot) == (3, 2)
            assert pool.opens == 3
        pool.assert_no_leaks()

    run(backend, main)


@pytest.mark.parametrize("later", [False, True], ids=["first", "later"])
def test_a_warm_pool_that_is_cancelled_lets_a_second_one_go_on(backend: str, later: bool) -> None:
    async def main() -> None:
        pool = FakePool(size=3)
        async with VectorStorage(pool, "papers", 3) as storage:
            if later:
                assert await storage.warm_pool()
                pool.connections[0].fault = Fault(probe=succeed(1))
            else:
                pool.plan = FaultPlan.all(connect=succeed(1))
            second: list[bool] = []

            async def first() -> None:
                with anyio.move_on_after(0.5):
                    await storage.warm_pool()

            async def call() -> None:
                second.append(await storage.warm_pool())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(call)

            assert second == [True]
        pool.assert_no_leaks()

    run(backend, main)


async def test_one_pool_in_several_adapters_is_one_pool(dsn: str, anyio_backend_name: str) -> None:
    probes = []

    async def probe(lease: Any) -> None:
        probes.append(lease.pid)
        await lease.ping()

    opened: Any
    if anyio_backend_name == "trio":
        opened = open_pool(dsn, size=3)
    else:
        import asyncpg

        opened = asyncpg.create_pool(dsn, min_size=0, max_size=3)
    async with opened as inner:
        reports = await together(
            partial(warm, opened, probe=probe), partial(warm, inner, probe=probe), partial(warm, opened, probe=probe)
        )
        async with (
            VectorStorage(opened, "papers", 3, warm="background") as papers,
            VectorStorage(inner, "pages", 3, warm="background") as pages,
        ):
            assert await papers.warm_pool()
            assert await pages.warm_pool()

    assert all(report.ok for report in reports)
    assert len(probes) == len(set(probes)) == 3


def test_nothing_is_kept_of_a_pool_that_was_warmed(backend: str) -> None:
    gone: list[weakref.ref[Any]] = []

    async def main() -> None:
        for plan in (SLOW, FaultPlan.all(connect=hang()), FaultPlan.all(probe=hang())):
            pool = FakePool(plan=plan)
            gone.append(weakref.ref(pool))
            with anyio.move_on_after(0.2):
                await together(partial(warm, pool, timeout=0.1), partial(warm, pool, probe=another_probe))
        gone.append(weakref.ref(current_token().native_token))

    anyio.run(main, backend=backend)
    gc.collect()
    assert [one() for one in gone] == [None] * 4


class QueueingPool:
    """Lends whatever connection is there first to whoever waits longest, as psycopg_pool does."""

    def __init__(self, delays: list[float], size: int) -> None:
        self.size = size
        self.delays = delays
        self.idle: list[int] = []
        self.waiting: deque[tuple[anyio.Event, list[int]]] = deque()
        self.opened = 0
        self.tasks: Any = None

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[Any]:
        pids = [self.idle.pop()] if self.idle else []
        if not pids:
            if self.opened < self.size:
                self.tasks.start_soon(self.open, self.opened)
                self.opened += 1
            there = anyio.Event()
            self.waiting.append((there, pids))
            await there.wait()
        try:
            yield LeaseOfQueue(pids[0])
        finally:
            self.put(pids[0])

    async def open(self, pid: int) -> None:
        await anyio.sleep(self.delays[pid])
        self.put(pid)

    def put(self, pid: int) -> None:
        if self.waiting:
            there, pids = self.waiting.popleft()
            pids.append(pid)
            there.set()
        else:
            self.idle.append(pid)


class LeaseOfQueue:
    def __init__(self, pid: int) -> None:
        self.pid = pid

    async def ping(self) -> None:
        await anyio.lowlevel.checkpoint()

    def discard(self) -> None:
        raise AssertionError("it is not half-used")


def test_quick_connections_are_held_long_enough_for_the_others(backend: str) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            pool = QueueingPool([0.003, 0.004, 0.05], size=3)
            pool.tasks = tasks
            report = await warm(pool, connections=3)

        assert report.ok, str(report)

    run(backend, main)


def test_a_blocked_event_loop_does_not_use_up_the_hold(backend: str) -> None:
    async def main() -> None:
        async def hiccup() -> None:
            await anyio.sleep(0.02)
            time.sleep(0.3)  # noqa: ASYNC251 - it is what this test is about

        async with anyio.create_task_group() as tasks:
            pool = QueueingPool([0.0, 0.0, 0.04], size=3)
            pool.tasks = tasks
            tasks.start_soon(hiccup)
            report = await warm(pool, connections=3)

        assert report.ok, str(report)

    anyio.run(main, backend=backend)


def test_the_hold_is_over_after_fifty_milliseconds_without_progress(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=3, plan=FaultPlan((Fault(connect=hang()),)))
        served: list[float] = []

        async def somebody() -> None:
            async with pool.lease():
                served.append(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(warm, pool)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(somebody)

        assert served == [pytest.approx(0.05)]

    run(backend, main)


async def test_the_default_probe_is_the_same_for_all_calls() -> None:
    pool = FakePool()

    first, second = await together(partial(warm, pool), partial(warm, pool, probe=ping, connections=3))

    assert first.ok
    assert second.ok
    assert [connection.probes for connection in pool.connections] == [1, 1, 1]
