from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.acceptance.kit import AsyncWords, ask, records

from preheat import ResearchRetriever, VectorStorage, WarmOnce, WarmReport, warm
from preheat.testing import FakeLease, FakePool, Fault, FaultPlan, fail, hang, run, succeed


class BrokenPool(FakePool):
    def lease(self) -> AbstractAsyncContextManager[FakeLease]:
        raise RuntimeError("the pool itself is broken")


class BrokenEntryPool(FakePool):
    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[FakeLease]:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("the pool itself is broken")
        yield


# 1. Warming succeeds


def test_warming_a_storage_succeeds_on_several_different_connections(backend: str) -> None:
    async def go() -> tuple[bool, WarmReport | None, FakePool]:
        pool = FakePool(size=5)
        async with VectorStorage(pool, "papers", 3) as storage:
            return await storage.warm_pool(), storage.warm_report, pool

    warmed, report, pool = run(backend, go)
    assert warmed is True
    assert report is not None
    assert report.ok
    assert (report.requested, report.hot, report.timed_out) == (3, 3, False)
    assert [connection.status for connection in report.connections] == ["hot"] * 3
    assert len({connection.pid for connection in report.connections}) == 3
    assert {connection.pid for connection in report.connections} == {connection.pid for connection in pool.connections}
    assert all(connection.probes >= 1 for connection in pool.connections)
    pool.assert_no_leaks()


def test_the_probe_is_awaited_once_on_each_of_the_connections(backend: str) -> None:
    async def go() -> tuple[WarmReport, list[Any], FakePool]:
        pool, seen = FakePool(size=5), list[Any]()

        async def probe(lease: Any) -> None:
            await lease.ping()
            seen.append(lease.pid)

        return await warm(pool, connections=4, probe=probe), seen, pool

    report, seen, pool = run(backend, go)
    assert report.ok
    assert len(seen) == len(set(seen)) == 4
    assert [connection.probes for connection in pool.connections] == [1, 1, 1, 1]


@pytest.mark.parametrize("order", ["lifo", "fifo"])
def test_connections_that_are_open_already_are_warmed_as_different_ones(backend: str, order: Any) -> None:
    async def go() -> tuple[WarmReport, WarmReport, FakePool]:
        pool = FakePool(size=5, order=order)
        return await warm(pool), await warm(pool), pool

    first, second, pool = run(backend, go)
    assert len({connection.pid for connection in first.connections}) == 3
    assert len({connection.pid for connection in second.connections}) == 3
    assert pool.opens == 3


def test_a_success_is_logged_once_at_info_with_its_count(backend: str, log: pytest.LogCaptureFixture) -> None:
    run(backend, warm, FakePool(size=5, name="papers-pool"))
    messages = [record.getMessage() for record in records(log, logging.INFO)]
    assert len(messages) == 1
    assert "3" in messages[0]
    assert not records(log, logging.WARNING)


# 2. Warming fails gracefully


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("nobody listens"),
        PermissionError("password authentication failed"),
        RuntimeError("the driver is out of sorts"),
    ],
    ids=["server down", "wrong password", "driver raises"],
)
def test_a_failed_warm_up_is_reported_logged_and_leaves_the_pool_working(
    backend: str, error: Exception, log: pytest.LogCaptureFixture
) -> None:
    async def go() -> tuple[bool, WarmReport | None, list[Any], FakePool]:
        pool = FakePool(size=5, plan=FaultPlan((Fault(connect=fail(error)),) * 3), name="papers-pool")
        async with VectorStorage(pool, "papers", 3) as storage:
            warmed, report = await storage.warm_pool(), storage.warm_report
            return warmed, report, await storage.search([1.0, 2.0, 3.0]), pool

    warmed, report, hits, pool = run(backend, go)
    assert warmed is False
    assert report is not None
    assert not report.ok
    assert report.hot == 0
    assert [connection.status for connection in report.connections] == ["failed"] * 3
    assert all(str(error) in str(connection.error) for connection in report.connections)
    assert hits == []
    messages = [record.getMessage() for record in records(log, logging.WARNING)]
    assert any("papers-pool" in message and str(error) in message for message in messages), messages
    pool.assert_no_leaks()


def test_a_failing_probe_is_reported_and_its_connection_does_not_leak(backend: str) -> None:
    async def go() -> tuple[WarmReport, FakePool]:
        pool = FakePool(size=5, plan=FaultPlan.all(probe=fail(OSError("connection reset"))))
        return await warm(pool), pool

    report, pool = run(backend, go)
    assert not report.ok
    assert [str(connection.error) for connection in report.connections] == ["connection reset"] * 3
    pool.assert_no_leaks()


@pytest.mark.parametrize("kind", [BrokenPool, BrokenEntryPool])
def test_a_pool_that_raises_makes_warming_false_and_raises_nothing(
    backend: str, kind: type[FakePool], log: pytest.LogCaptureFixture
) -> None:
    async def go() -> tuple[bool, WarmReport | None]:
        async with VectorStorage(kind(name="papers-pool"), "papers", 3) as storage:
            return await storage.warm_pool(), storage.warm_report

    warmed, report = run(backend, go)
    assert warmed is False
    assert report is not None
    assert report.errors
    assert all("the pool itself is broken" in str(connection.error) for connection in report.connections)
    assert any("the pool itself is broken" in record.getMessage() for record in records(log, logging.WARNING))


def test_one_failing_connection_neither_cancels_nor_fails_the_others(backend: str) -> None:
    async def go() -> tuple[WarmReport, FakePool]:
        bad = Fault(connect=fail(OSError("refused")))
        pool = FakePool(size=5, plan=FaultPlan((bad,), rest=Fault(connect=succeed(2.0))))
        return await warm(pool), pool

    report, pool = run(backend, go)
    assert not report.ok
    assert report.hot == 2
    assert sorted(connection.status for connection in report.connections) == ["failed", "hot", "hot"]
    pool.assert_no_leaks()


def test_a_startup_warm_up_that_fails_does_not_fail_the_storage(backend: str) -> None:
    async def go() -> WarmReport | None:
        pool = FakePool(plan=FaultPlan.all(connect=fail(OSError("refused"))))
        async with VectorStorage(pool, "papers", 3, warm="startup") as storage:
            return storage.warm_report

    report = run(backend, go)
    assert report is not None
    assert not report.ok


# 3. First use warms exactly once


def test_the_first_retrieval_warms_and_later_ones_do_not(backend: str) -> None:
    async def go(policy: Any) -> tuple[list[bool], list[WarmReport | None], FakePool]:
        pool = FakePool(size=5)
        async with VectorStorage(pool, "papers", 3, warm=policy) as storage:
            retriever = ResearchRetriever(storage, AsyncWords())
            told, reports = [retriever.pool_warmed], [storage.warm_report]
            for _ in range(3):
                assert await retriever.retrieve("why?") == []
                told.append(retriever.pool_warmed)
                reports.append(storage.warm_report)
            return told, reports, pool

    told, reports, warmed = run(backend, go, "first-use")
    _, _, cold = run(backend, go, "never")
    assert told == [False, True, True, True]
    assert reports[0] is None
    assert reports[1] is not None
    assert reports[1] is reports[2] is reports[3]
    assert warmed.leases - cold.leases == 3
    assert (warmed.opens, cold.opens) == (3, 1)


@pytest.mark.parametrize("retrievers", [1, 2])
def test_ten_concurrent_first_callers_share_one_warm_up(
    backend: str, retrievers: int, log: pytest.LogCaptureFixture
) -> None:
    async def go(policy: Any) -> tuple[list[int], FakePool]:
        pool, hits = FakePool(size=20, plan=FaultPlan.all(connect=succeed(1.0))), list[int]()

        async def caller(retriever: ResearchRetriever) -> None:
            hits.append(len(await retriever.retrieve("why?")))

        async with VectorStorage(pool, "papers", 3, warm=policy) as storage:
            several = [ResearchRetriever(storage, AsyncWords()) for _ in range(retrievers)]
            async with anyio.create_task_group() as tasks:
                for n in range(10):
                    tasks.start_soon(caller, several[n % retrievers])
            assert all(retriever.pool_warmed for retriever in several) is (policy != "never")
        return hits, pool

    _, cold = run(backend, go, "never")
    assert not records(log, logging.INFO)
    hits, warmed = run(backend, go, "first-use")
    assert hits == [0] * 10
    assert warmed.leases - cold.leases == 3
    assert len(records(log, logging.INFO)) == 1
    warmed.assert_no_leaks()


def test_ten_concurrent_callers_of_a_guard_run_its_function_once(backend: str) -> None:
    async def go() -> tuple[int, list[str], bool, bool]:
        calls, got = 0, list[str]()

        async def function() -> str:
            nonlocal calls
            calls += 1
            await anyio.sleep(1)
            return "warm"

        once = WarmOnce(function)
        before = once.done

        async def caller() -> None:
            await once()
            got.append(str(once.result))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(caller)
        await once()
        return calls, got, before, once.done

    calls, got, before, after = run(backend, go)
    assert calls == 1
    assert got == ["warm"] * 10
    assert (before, after) == (False, True)


def test_a_call_of_a_finished_guard_takes_no_time_and_reset_warms_anew(backend: str) -> None:
    async def go() -> tuple[float, float, int]:
        calls = 0

        async def function() -> None:
            nonlocal calls
            calls += 1
            await anyio.sleep(2)

        once = WarmOnce(function)
        await once()
        start = anyio.current_time()
        await once()
        second = anyio.current_time() - start
        once.reset()
        await once()
        return second, anyio.current_time() - start, calls

    second, third, calls = run(backend, go)
    assert second == 0
    assert third == pytest.approx(2)
    assert calls == 2


def test_callers_that_come_during_a_background_warm_up_join_it(backend: str) -> None:
    async def go() -> tuple[int, bool, FakePool]:
        pool = FakePool(size=5, plan=FaultPlan.all(connect=succeed(3.0)))
        async with VectorStorage(pool, "papers", 3, warm="background") as storage:
            await anyio.sleep(1)
            under_way = pool.connecting
            retriever = ResearchRetriever(storage, AsyncWords())
            await ask(retriever, 3)
            return under_way, retriever.pool_warmed, pool

    under_way, warmed, pool = run(backend, go)
    assert under_way == 3
    assert warmed
    assert pool.opens == 3


# 4. Retrieval goes on after a failed warm-up


def test_a_retrieval_goes_on_after_a_failed_warm_up_which_nobody_retries(
    backend: str, log: pytest.LogCaptureFixture
) -> None:
    async def go() -> tuple[list[int], list[bool], WarmReport | None, WarmReport | None]:
        pool = FakePool(size=5, plan=FaultPlan((Fault(connect=fail(OSError("refused"))),) * 3))
        async with VectorStorage(pool, "papers", 3) as storage:
            retriever = ResearchRetriever(storage, AsyncWords())
            assert await retriever.retrieve("why?") == []
            opens, told, first = [pool.opens], [retriever.pool_warmed], storage.warm_report
            logged = len(records(log, logging.WARNING))
            for _ in range(2):
                assert await retriever.retrieve("why?") == []
                opens.append(pool.opens)
                told.append(retriever.pool_warmed)
            assert len(records(log, logging.WARNING)) == logged
            return opens, told, first, storage.warm_report

    opens, told, first, last = run(backend, go)
    assert opens == [4, 4, 4]
    assert told == [True, True, True]
    assert first is last
    assert first is not None
    assert not first.ok
    assert any("refused" in record.getMessage() for record in records(log, logging.WARNING))


def test_a_retrieval_reports_its_own_error_when_the_pool_stays_broken(backend: str) -> None:
    async def go() -> tuple[Exception, Exception, bool, int]:
        pool = FakePool(plan=FaultPlan((Fault(connect=fail(OSError("warm-up"))),) * 3, Fault(fail(OSError("search")))))
        async with VectorStorage(pool, "papers", 3) as storage:
            retriever = ResearchRetriever(storage, AsyncWords())
            with pytest.raises(Exception, match="search") as first:
                await retriever.retrieve("why?")
            with pytest.raises(Exception, match="search") as second:
                await retriever.retrieve("why?")
            return first.value, second.value, retriever.pool_warmed, pool.opens

    first, second, warmed, opens = run(backend, go)
    assert "warm-up" not in str(first) + str(second)
    assert warmed
    assert opens == 5


# 5. Warming is concurrent


@pytest.mark.parametrize(("size", "expected"), [(5, 3), (2, 2), (1, 1)])
def test_all_connections_are_warmed_at_the_same_time_in_tasks_of_their_own(
    backend: str, size: int, expected: int
) -> None:
    async def go() -> tuple[WarmReport, FakePool, set[int], int, float]:
        pool = FakePool(size=size, plan=FaultPlan.all(connect=succeed(1.0), probe=succeed(1.0)))
        tasks, in_probe, most = set[int](), 0, 0

        async def probe(lease: Any) -> None:
            nonlocal in_probe, most
            tasks.add(anyio.get_current_task().id)
            in_probe += 1
            most = max(most, in_probe)
            await lease.ping()
            in_probe -= 1

        start = anyio.current_time()
        report = await warm(pool, probe=probe)
        return report, pool, tasks, most, anyio.current_time() - start

    report, pool, tasks, most, seconds = run(backend, go)
    assert report.ok
    assert report.requested == expected
    assert pool.most_connecting == pool.most_in_use == most == expected
    assert len(tasks) == len(pool.tasks) == expected
    assert seconds == pytest.approx(2)


@pytest.mark.parametrize(("size", "expected"), [(5, 3), (2, 2)])
def test_a_storage_warms_its_connections_at_the_same_time(backend: str, size: int, expected: int) -> None:
    async def go() -> tuple[bool, FakePool]:
        pool = FakePool(size=size, plan=FaultPlan.all(connect=succeed(1.0), probe=succeed(0.5)))
        async with VectorStorage(pool, "papers", 3) as storage:
            return await storage.warm_pool(), pool

    warmed, pool = run(backend, go)
    assert warmed
    assert pool.opens == pool.most_connecting == pool.most_in_use == len(pool.tasks) == expected


# Also: a database that never answers


@pytest.mark.parametrize("plan", [FaultPlan.all(connect=hang()), FaultPlan.all(probe=hang())], ids=["connect", "probe"])
def test_a_database_that_never_answers_costs_the_time_out_and_no_more(backend: str, plan: FaultPlan) -> None:
    async def go() -> tuple[bool, WarmReport | None, float, FakePool]:
        pool = FakePool(plan=plan)
        async with VectorStorage(pool, "papers", 3, warm_timeout=4.0) as storage:
            start = anyio.current_time()
            warmed = await storage.warm_pool()
            return warmed, storage.warm_report, anyio.current_time() - start, pool

    warmed, report, seconds, pool = run(backend, go)
    assert warmed is False
    assert seconds == pytest.approx(4.0)
    assert report is not None
    assert report.timed_out
    assert [connection.status for connection in report.connections] == ["unfinished"] * 3
    assert all(connection.closed for connection in pool.connections), "half-used connections are terminated"
    assert pool.idle == []
    pool.assert_no_leaks()


def test_a_time_out_keeps_what_became_hot_and_terminates_the_rest(backend: str) -> None:
    async def go() -> tuple[WarmReport, FakePool, float]:
        pool = FakePool(plan=FaultPlan((Fault(), Fault(connect=hang()), Fault(probe=hang()))))
        start = anyio.current_time()
        report = await warm(pool, timeout=2.0)
        return report, pool, anyio.current_time() - start

    report, pool, seconds = run(backend, go)
    assert seconds == pytest.approx(2.0)
    assert report.timed_out
    assert not report.ok
    assert report.hot == 1
    assert len(pool.idle) == 1
    assert pool.terminations == 1
    pool.assert_no_leaks()


def test_the_default_time_out_is_five_seconds_for_everything(backend: str) -> None:
    async def go() -> float:
        start = anyio.current_time()
        await warm(FakePool(plan=FaultPlan.all(connect=succeed(3.0), probe=hang())))
        return anyio.current_time() - start

    assert run(backend, go) == pytest.approx(5.0)


def test_a_first_retrieval_waits_no_longer_than_the_time_out_of_warming(backend: str) -> None:
    async def go() -> tuple[list[int], float, bool]:
        pool = FakePool(plan=FaultPlan((Fault(connect=hang()),) * 3))
        async with VectorStorage(pool, "papers", 3, warm_timeout=4.0) as storage:
            retriever = ResearchRetriever(storage, AsyncWords())
            start = anyio.current_time()
            hits = await ask(retriever, 10)
            return hits, anyio.current_time() - start, retriever.pool_warmed

    hits, seconds, warmed = run(backend, go)
    assert hits == [0] * 10
    assert seconds == pytest.approx(4.0)
    assert warmed


def test_a_hanging_connect_does_not_keep_a_hot_connection_hostage(backend: str) -> None:
    async def go() -> float:
        pool = FakePool(size=2, plan=FaultPlan((Fault(), Fault(connect=hang()))))
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: warm(pool, connections=2, timeout=60.0))
            await anyio.sleep(1)
            async with pool.lease():
                waited = anyio.current_time() - start
            tasks.cancel_scope.cancel()
        pool.assert_no_leaks()
        return waited

    assert run(backend, go) < 60


# Also: a cancelled caller


def test_a_cancelled_first_caller_leaves_the_others_served_and_the_storage_warm(backend: str) -> None:
    async def go() -> tuple[list[int], float, float, WarmReport | None, FakePool]:
        pool, hits = FakePool(size=5, plan=FaultPlan.all(connect=succeed(2.0))), list[int]()
        left, start, scope = 0.0, anyio.current_time(), anyio.CancelScope()

        async def first() -> None:
            nonlocal left
            with scope:
                await retriever.retrieve("why?")
            left = anyio.current_time() - start

        async def follower() -> None:
            hits.append(len(await retriever.retrieve("why?")))

        async with VectorStorage(pool, "papers", 3) as storage:
            retriever = ResearchRetriever(storage, AsyncWords())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first)
                await anyio.sleep(0.5)
                for _ in range(3):
                    tasks.start_soon(follower)
                await anyio.sleep(0.5)
                scope.cancel()
            return hits, left, anyio.current_time() - start, storage.warm_report, pool

    hits, left, seconds, report, pool = run(backend, go)
    assert hits == [0, 0, 0]
    assert left == pytest.approx(1.0)
    assert seconds == pytest.approx(2.0)
    assert report is not None
    assert report.ok
    assert pool.opens == 3
    pool.assert_no_leaks()


def test_a_lonely_first_caller_that_is_cancelled_has_still_warmed_the_storage(backend: str) -> None:
    async def go() -> tuple[WarmReport | None, float, FakePool]:
        pool = FakePool(size=5, plan=FaultPlan.all(connect=succeed(2.0)))
        async with VectorStorage(pool, "papers", 3) as storage:
            retriever = ResearchRetriever(storage, AsyncWords())
            with anyio.move_on_after(1):
                await retriever.retrieve("why?")
            await anyio.sleep(5)
            report, start = storage.warm_report, anyio.current_time()
            await retriever.retrieve("why?")
            return report, anyio.current_time() - start, pool

    report, seconds, pool = run(backend, go)
    assert report is not None
    assert report.ok
    assert seconds == 0
    assert pool.opens == 3


def test_a_guard_without_an_owner_lets_its_followers_go_on_when_the_first_caller_is_cancelled(backend: str) -> None:
    async def go() -> tuple[int, list[float], bool]:
        calls, served, start = 0, list[float](), anyio.current_time()

        async def function() -> None:
            nonlocal calls
            calls += 1
            await anyio.sleep(10)

        once, scope = WarmOnce(function), anyio.CancelScope()

        async def first() -> None:
            with scope:
                await once()

        async def follower() -> None:
            await once()
            served.append(anyio.current_time() - start)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await anyio.sleep(1)
            for _ in range(5):
                tasks.start_soon(follower)
            await anyio.sleep(1)
            scope.cancel()
        await once()
        return calls, served, once.done

    calls, served, done = run(backend, go)
    assert calls == 1
    assert served == [pytest.approx(2.0)] * 5
    assert done


def test_a_cancelled_follower_disturbs_nobody(backend: str) -> None:
    async def go() -> tuple[list[int], WarmReport | None]:
        pool, hits = FakePool(size=5, plan=FaultPlan.all(connect=succeed(2.0))), list[int]()

        async def caller() -> None:
            hits.append(len(await retriever.retrieve("why?")))

        async def impatient() -> None:
            with anyio.move_on_after(0.5):
                await caller()

        async with VectorStorage(pool, "papers", 3) as storage:
            retriever = ResearchRetriever(storage, AsyncWords())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(caller)
                await anyio.sleep(0.5)
                tasks.start_soon(impatient)
                tasks.start_soon(caller)
            return hits, storage.warm_report

    hits, report = run(backend, go)
    assert hits == [0, 0]
    assert report is not None
    assert report.ok


def test_cancelling_a_warm_up_gives_every_lease_back_first(backend: str) -> None:
    async def go() -> tuple[FakePool, bool, float]:
        pool = FakePool(plan=FaultPlan.all(probe=hang()))
        start = anyio.current_time()
        with anyio.move_on_after(1) as scope:
            await warm(pool, timeout=60)
        return pool, scope.cancelled_caught, anyio.current_time() - start

    pool, cancelled, seconds = run(backend, go)
    assert cancelled
    assert seconds == pytest.approx(1.0)
    assert pool.in_use == 0
    pool.assert_no_leaks()
