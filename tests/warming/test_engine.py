from __future__ import annotations

import gc
import logging
import math
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import pytest

from preheat import ArgumentError, ConnectionReport, warm
from preheat.testing import FakeLease, FakePool, Fault, FaultPlan, fail, hang, run, succeed


async def test_three_connections_are_opened_at_the_same_time_in_three_tasks() -> None:
    pool = FakePool(size=5)

    report = await warm(pool)

    assert report.ok
    assert (report.requested, report.hot) == (3, 3)
    assert pool.most_connecting == 3
    assert len(pool.tasks) == 3
    assert len({connection.pid for connection in report.connections}) == 3
    assert [connection.probes for connection in pool.connections] == [1, 1, 1]
    pool.assert_no_leaks()


async def test_a_pool_of_two_gets_two() -> None:
    pool = FakePool(size=2)

    report = await warm(pool)

    assert (report.ok, report.requested, report.hot, pool.most_in_use) == (True, 2, 2, 2)


@pytest.mark.parametrize("connections", [0, -1, 6])
async def test_connections_outside_the_pool_are_refused_before_anything_is_opened(connections: int) -> None:
    pool = FakePool(size=5)

    with pytest.raises(ArgumentError, match="from 1 to 5"):
        await warm(pool, connections=connections)

    assert pool.opens == 0


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
async def test_a_timeout_that_is_not_positive_is_refused(timeout: float) -> None:
    pool = FakePool()

    with pytest.raises(ValueError, match="positive"):
        await warm(pool, timeout=timeout)

    assert pool.opens == 0


async def test_an_object_that_is_not_a_pool_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a list is not a pool"):
        await warm([])


async def test_one_failure_neither_cancels_nor_fails_the_others(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool(
        plan=FaultPlan((Fault(), Fault(connect=fail(OSError("refused"))), Fault(probe=fail(KeyError("x")))))
    )

    with caplog.at_level(logging.INFO, "preheat"):
        report = await warm(pool)

    assert sorted(connection.status for connection in report.connections) == ["failed", "failed", "hot"]
    assert {type(error) for error in report.errors} == {OSError, KeyError}
    assert not report.ok
    assert not report.timed_out
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "pool fake" in caplog.text
    assert "OSError: refused" in caplog.text
    pool.assert_no_leaks()


async def test_success_is_logged_once_with_the_name_of_the_pool_and_the_count(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "preheat"):
        await warm(FakePool(name="orders"))

    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert "orders" in record.getMessage()
    assert "3 of 3" in record.getMessage()


async def test_a_connection_that_failed_its_probe_is_closed_not_put_back() -> None:
    pool = FakePool(plan=FaultPlan((Fault(probe=fail(ValueError("no"))),)))

    await warm(pool, connections=1)

    assert pool.terminations == 1
    assert pool.idle == []


@pytest.mark.parametrize("order", ["lifo", "fifo"])
async def test_connections_that_are_open_already_are_probed_and_count(order: Literal["lifo", "fifo"]) -> None:
    pool = FakePool(order=order)
    await warm(pool)

    report = await warm(pool)

    assert report.ok
    assert len({connection.pid for connection in report.connections}) == pool.opens == 3


async def test_a_pool_that_raises_from_lease_is_a_failed_report() -> None:
    class Broken:
        size = 4

        def lease(self) -> None:
            raise RuntimeError("broken")

    report = await warm(Broken())

    assert (report.ok, report.hot, report.requested) == (False, 0, 3)
    assert report.as_dict()["connections"][0]["error"] == "RuntimeError: broken"


async def test_a_base_exception_leaves_through_the_caller_as_itself() -> None:
    class Boom(BaseException):
        pass

    async def probe(lease: object) -> None:
        raise Boom

    pool = FakePool()
    with pytest.raises(Boom):
        await warm(pool, probe=probe)

    pool.assert_no_leaks()


def test_a_database_that_never_answers_costs_the_timeout_and_no_more(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(connect=hang()))
        started = anyio.current_time()

        report = await warm(pool, timeout=5.0)

        assert anyio.current_time() - started == pytest.approx(5.0)
        assert report.timed_out
        assert [connection.status for connection in report.connections] == ["unfinished"] * 3
        assert report.seconds == pytest.approx(5.0)
        pool.assert_no_leaks()

    run(backend, main)


def test_n_equal_delays_take_as_long_as_one(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=64, plan=FaultPlan.all(connect=succeed(0.3), probe=succeed(0.1)))

        report = await warm(pool, connections=64)

        assert report.ok
        assert report.seconds == pytest.approx(0.4)

    run(backend, main)


def test_a_probe_that_does_not_finish_is_terminated_and_never_put_back(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan((Fault(probe=hang()), Fault(), Fault())))

        report = await warm(pool, timeout=1.0)

        assert sorted(connection.status for connection in report.connections) == ["hot", "hot", "unfinished"]
        assert [connection.pid for connection in pool.connections if connection.closed] == [1000]
        assert len(pool.idle) == 2
        pool.assert_no_leaks()

    run(backend, main)


def test_a_connect_that_hangs_keeps_others_from_the_pool_for_one_connect_only(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=3, plan=FaultPlan((Fault(connect=hang()),), rest=Fault(connect=succeed(0.5))))
        started = anyio.current_time()
        served: list[float] = []

        async def somebody() -> None:
            async with pool.lease() as lease:
                await lease.ping()
            served.append(anyio.current_time() - started)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(warm, pool)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(somebody)

        assert served == [pytest.approx(1.0)]  # its own connect would have taken 0.5: delayed by one connect

    run(backend, main)


def test_a_pool_that_has_no_other_connection_says_so(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=3, plan=FaultPlan.all(connect=succeed(0.1)))
        async with pool.lease(), pool.lease():
            report = await warm(pool, timeout=2.0)

        assert (report.hot, report.ok) == (1, False)
        assert all("hot already" in str(error) for error in report.errors)
        pool.assert_no_leaks()

    run(backend, main)


def test_a_cancelled_warm_up_returns_every_lease_and_keeps_what_is_hot(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan((Fault(), Fault(), Fault(connect=succeed(3)))))

        with anyio.move_on_after(1) as scope:
            await warm(pool)

        assert scope.cancelled_caught
        assert len(pool.idle) == 2
        assert pool.terminations == 0
        pool.assert_no_leaks()

    run(backend, main)


def test_a_release_that_hangs_is_bounded(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(release=hang()))

        report = await warm(pool)

        assert report.ok
        assert report.seconds == pytest.approx(1.0)
        pool.assert_no_leaks()

    run(backend, main)


async def test_the_refusal_of_a_timeout_names_the_argument() -> None:
    with pytest.raises(ArgumentError, match=r"^timeout is 0; give a positive number of seconds"):
        await warm(FakePool(), timeout=0)


async def test_a_pool_without_a_name_is_called_by_its_type(caplog: pytest.LogCaptureFixture) -> None:
    class Nameless:
        size = 1

        def lease(self) -> None:
            raise RuntimeError("broken")

    with caplog.at_level(logging.INFO, "preheat"):
        report = await warm(Nameless())

    assert report.pool == "Nameless"
    assert "Nameless" in caplog.text


async def test_each_connection_is_made_in_a_task_that_says_which_one() -> None:
    names: list[str | None] = []

    async def probe(lease: object) -> None:
        names.append(anyio.get_current_task().name)

    await warm(FakePool(name="orders"), probe=probe)

    assert sorted(map(str, names)) == [f"preheat: warm orders, connection {number}" for number in (1, 2, 3)]


async def test_a_hot_connection_that_cannot_be_put_back_stays_hot_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Grudging(FakePool):
        @asynccontextmanager
        async def lease(self) -> AsyncGenerator[FakeLease]:
            async with super().lease() as lease:
                yield lease
            raise OSError("password=secret was reset")

    pool = Grudging(name="orders")
    with caplog.at_level(logging.WARNING, "preheat"):
        report = await warm(pool, connections=2)

    assert report.ok
    assert report.errors == ()
    assert len(caplog.records) == 2
    assert all("orders" in message and "password=*** was reset" in message for message in caplog.messages)
    pool.assert_no_leaks()


def test_the_words_for_a_pool_that_has_no_other_connection(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=2, plan=FaultPlan.all(connect=succeed(0.1)))
        async with pool.lease():
            report = await warm(pool, timeout=2.0)

        assert [str(error) for error in report.errors] == [
            "no connection to fake: the pool lent a connection that is hot already; the others are in use; "
            "use a larger pool, or hold connections for a shorter time"
        ]
        assert report.attempts == 1, "a caller who waits for the warm-up does not wait for the other users of the pool"

    run(backend, main)


def test_the_seconds_of_connect_and_probe_are_told_apart(backend: str) -> None:
    async def main() -> None:
        await anyio.sleep(7)  # seconds count from the start of the warm-up, not from that of the clock
        pool = FakePool(
            plan=FaultPlan(
                (
                    Fault(succeed(0.3), succeed(0.1)),
                    Fault(succeed(0), succeed(0.2)),
                    Fault(succeed(0.1), fail(OSError("no"))),
                )
            )
        )

        report = await warm(pool)

        opened = {connection.pid: connection for connection in report.connections}
        slow, quick, failed = opened[1000], opened[1001], opened[1002]  # which task is first is up to the backend
        assert (slow.connect_seconds, slow.probe_seconds) == (pytest.approx(0.3), pytest.approx(0.1))
        assert (quick.connect_seconds, quick.probe_seconds) == (pytest.approx(0), pytest.approx(0.2))
        assert (failed.connect_seconds, failed.probe_seconds) == (pytest.approx(0.1), None)
        assert report.seconds == pytest.approx(0.4)

    run(backend, main)


def test_a_connection_that_misses_the_default_timeout_of_five_seconds_is_unfinished(backend: str) -> None:
    async def main() -> None:
        report = await warm(FakePool(plan=FaultPlan.all(connect=hang())), connections=1)

        assert report.seconds == pytest.approx(5.0)  # the default
        assert report.connections == (ConnectionReport("unfinished", None, None, None, None),)
        assert report.connections[0].error is None  # which two reports are not compared by

    run(backend, main)


def test_the_patience_with_a_connect_that_hangs_counts_from_the_start_of_the_warm_up(backend: str) -> None:
    async def main() -> None:
        await anyio.sleep(7)
        pool = FakePool(size=3, plan=FaultPlan((Fault(connect=hang()),), rest=Fault(connect=succeed(0.5))))
        started = anyio.current_time()
        served: list[float] = []

        async def somebody() -> None:
            async with pool.lease():
                served.append(anyio.current_time() - started)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(warm, pool)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(somebody)

        assert served == [pytest.approx(1.0)]

    run(backend, main)


async def test_connections_that_do_not_tell_who_they_are_are_all_taken_for_different_ones() -> None:
    class Anonymous:
        pid = None

        def __init__(self, lease: FakeLease) -> None:
            self.ping, self.discard = lease.ping, lease.discard

    class Pool:
        size, fake = 5, FakePool()

        @asynccontextmanager
        async def lease(self) -> AsyncGenerator[Anonymous]:
            async with self.fake.lease() as lease:
                yield Anonymous(lease)

    report = await warm(Pool())

    assert (report.ok, {connection.pid for connection in report.connections}) == (True, {None})


async def test_a_report_keeps_no_variables_of_a_probe_that_failed() -> None:
    class Thing:
        pass

    gone: list[weakref.ref[Thing]] = []

    async def probe(lease: object) -> None:
        thing = Thing()
        gone.append(weakref.ref(thing))
        await anyio.lowlevel.checkpoint()
        raise OSError("no")

    report = await warm(FakePool(), probe=probe)
    gc.collect()

    assert len(report.errors) == 3
    assert [thing() for thing in gone] == [None] * 3


def test_a_pool_that_knows_why_a_connection_does_not_come_is_asked_when_the_time_is_up(backend: str) -> None:
    class Knowing(FakePool):
        def why_unfinished(self) -> Exception:
            return RuntimeError("the others have all of them")

    async def main() -> None:
        pool = Knowing(size=3, plan=FaultPlan((Fault(), Fault(connect=hang()), Fault())))

        report = await warm(pool, timeout=3)

        assert report.timed_out
        unfinished = [one for one in report.connections if one.status == "unfinished"]
        assert unfinished
        assert {str(one.error) for one in unfinished} == {"the others have all of them"}
        assert "the others have all of them" in str(report)

    run(backend, main)
