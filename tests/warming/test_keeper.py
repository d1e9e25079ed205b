"""The keeper: after whatever happens the pool is warm again without a call, and otherwise nothing runs."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.warming.test_retries import DOWN, WRONG, Database

from preheat import ConnectionReport, VectorStorage, WarmReport, warm
from preheat.testing import run, seconds
from preheat.warming.backoff import LONGEST_PAUSE, next_pause
from preheat.warming.keeper import Keeper

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Kept:
    """A pool with a keeper that counts its warm-ups."""

    def __init__(self, pool: Database, check_seconds: float = math.inf) -> None:
        self.pool = pool
        self.probed: list[int | None] = []
        self.warm_ups = 0
        self.under_way = 0
        self.most_under_way = 0
        self.warm_at = math.inf
        self.keeper = Keeper(self.warm, self.probe, name="fake", check_seconds=check_seconds)

    async def probe(self, lease: Any) -> None:
        self.probed.append(lease.pid)

    async def warm(self, probe: Any) -> WarmReport:
        self.warm_ups += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            report = await warm(self.pool, probe=probe, timeout=5.0)
        finally:
            self.under_way -= 1
        if report.ok:
            self.warm_at = anyio.current_time()
        return report

    def lose(self, count: int) -> None:
        """The server ends idle connections, and the pool tells the keeper."""
        for connection in list(self.pool.idle)[:count]:
            connection.gone = "lost"
            self.keeper.lost(connection.pid)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as owner:
            owner.start_soon(self.keeper.run)
            yield
            owner.cancel_scope.cancel()
        self.pool.assert_no_leaks()


def test_nothing_runs_while_nothing_is_wanted(backend: str) -> None:
    async def main() -> None:
        kept = Kept(Database())
        async with kept.running():
            kept.keeper.warmed(await kept.warm(kept.probe))
            await anyio.sleep(80_000)
            assert (kept.warm_ups, kept.pool.leases) == (1, 3)

    run(backend, main)


def test_lost_connections_are_replaced_and_only_those_are_probed(backend: str) -> None:
    async def main() -> None:
        kept = Kept(Database())
        async with kept.running():
            kept.keeper.warmed(await kept.warm(kept.probe))
            before = set(kept.probed)
            kept.lose(2)
            await anyio.sleep(1)
            assert kept.warm_ups == 2, "one warm-up for both"
            assert len(kept.probed) == 3 + 2
            assert before & set(kept.probed[3:]) == set()
            assert len(kept.pool.idle) == 3

    run(backend, main)


@pytest.mark.parametrize("outage", [0.3, 4.0, 40.0])
def test_after_an_outage_the_pool_is_warm_again_without_a_call(backend: str, outage: float) -> None:
    async def main() -> None:
        kept = Kept(Database())
        async with kept.running():
            kept.pool.up_at = anyio.current_time() + outage
            kept.keeper.warmed(await kept.warm(kept.probe))
            await anyio.sleep(outage + 20)
            assert kept.warm_at - kept.pool.up_at < (2.0 if outage < 20 else 6.0)
            assert len(kept.pool.idle) == 3
            warm_ups = kept.warm_ups
            await anyio.sleep(1000)
            assert kept.warm_ups == warm_ups

    run(backend, main)


def test_a_loss_during_a_warm_up_is_made_good_as_well(backend: str) -> None:
    async def main() -> None:
        kept = Kept(Database())
        async with kept.running():
            kept.keeper.warmed(await kept.warm(kept.probe))
            kept.lose(1)
            await anyio.sleep(0.005)
            assert kept.under_way == 1
            kept.keeper.lost(None)
            await anyio.sleep(1)
            assert (kept.warm_ups, kept.most_under_way) == (3, 1)

    run(backend, main)


def test_a_pool_that_does_not_tell_is_looked_at_from_time_to_time(backend: str) -> None:
    async def main() -> None:
        kept = Kept(Database(), check_seconds=10.0)
        async with kept.running():
            kept.keeper.warmed(await kept.warm(kept.probe))
            for connection in kept.pool.idle:
                connection.gone = "lost"
            await anyio.sleep(10.5)
            assert len(kept.probed) == 6
            await anyio.sleep(100)
            assert len(kept.probed) == 6, "connections that are alive are pinged and no more"
            assert kept.warm_ups == pytest.approx(12, abs=1)

    run(backend, main)


@pytest.mark.parametrize(("error", "first"), [(DOWN, 60.0), (WRONG, 0.0)])
def test_it_is_loud_at_the_end_of_its_patience_and_goes_on(
    backend: str, error: Exception, first: float, caplog: pytest.LogCaptureFixture
) -> None:
    moments: list[float] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            moments.append(anyio.current_time())

    async def main() -> None:
        kept = Kept(Database(error=error, up_at=math.inf))
        listener = Listener(level=logging.ERROR)
        logging.getLogger("preheat").addHandler(listener)
        try:
            async with kept.running():
                began = anyio.current_time()
                kept.keeper.lost(None)
                await anyio.sleep(1500)
                kept.pool.up_at = 0.0
                await anyio.sleep(60)
                assert len(kept.pool.idle) == 3
        finally:
            logging.getLogger("preheat").removeHandler(listener)
        times = [moment - began for moment in moments]
        assert len(times) == 3
        assert first <= times[0] <= first + 15
        assert times[1] - times[0] >= 600
        assert kept.most_under_way == 1

    run(backend, main)
    assert str(error) in caplog.text


def test_connections_that_others_use_for_a_while_are_no_alarm(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """The keeper tries again at once, less often with time, and is quiet until its patience ends."""

    async def main() -> None:
        kept = Kept(Database(size=3))
        async with kept.running(), kept.pool.lease(), kept.pool.lease():
            async with kept.pool.lease():
                pass
            began = anyio.current_time()
            kept.keeper.warmed(await kept.warm(kept.probe))
            await anyio.sleep(1.0)
            assert kept.warm_ups > 3, "it does not wait as long as after a wrong password"
            await anyio.sleep(45.0)
            assert kept.warm_ups < 20
            assert anyio.current_time() - began < 50
        assert kept.most_under_way == 1

    with caplog.at_level(logging.ERROR, "preheat"):
        run(backend, main)
    assert caplog.messages == []


def test_connections_that_come_back_are_made_hot(backend: str) -> None:
    async def main() -> None:
        kept = Kept(Database(size=3))
        async with kept.running():
            async with kept.pool.lease(), kept.pool.lease():
                kept.keeper.warmed(await kept.warm(kept.probe))
                await anyio.sleep(20.0)
                assert kept.warm_at == math.inf
            free_at = anyio.current_time()
            await anyio.sleep(10.0)
            assert kept.warm_at - free_at <= LONGEST_PAUSE + 0.1
            assert len(kept.pool.idle) == 3

    run(backend, main)


async def test_a_warm_up_that_raises_does_not_end_the_owner() -> None:
    calls: list[str] = []

    async def broken(probe: Any) -> WarmReport:
        calls.append("call")
        raise KeyError("a mistake")

    keeper = Keeper(broken, lambda _: anyio.lowlevel.checkpoint(), name="fake")
    async with anyio.create_task_group() as owner:
        owner.start_soon(keeper.run)
        keeper.lost(None)
        await anyio.wait_all_tasks_blocked()
        assert calls == ["call"]
        owner.cancel_scope.cancel()


@both
@given(
    events=st.lists(st.tuples(seconds(3.0), st.sampled_from(["lose", "down", "up"]), st.integers(1, 3)), max_size=12),
    check=st.sampled_from([math.inf, 10.0]),
)
def test_property_it_is_warm_in_the_end_with_one_warm_up_at_a_time(
    backend: str, events: list[tuple[float, str, int]], check: float
) -> None:
    """Whatever happens in whatever order, the keeper has one warm-up under way at most, and warms all in the end."""

    async def main() -> None:
        kept = Kept(Database(), check)
        async with kept.running():
            kept.keeper.warmed(await kept.warm(kept.probe))
            for delay, event, count in events:
                await anyio.sleep(delay)
                if event == "lose":
                    kept.lose(count)
                else:
                    kept.pool.up_at = math.inf if event == "down" else 0.0
            kept.pool.up_at = 0.0
            await anyio.sleep(30)
            assert kept.most_under_way == 1
            assert len(kept.pool.idle) >= 3
            assert all(not connection.gone for connection in kept.pool.idle)

    run(backend, main)


@given(failures=st.integers(1, 100), since=st.floats(0, 1e4), jitter=st.floats(0, 1))
def test_property_a_pause_is_bounded(failures: int, since: float, jitter: float) -> None:
    """The keeper never waits for longer than 5 seconds for what may pass, and 30 for what may not."""
    for error, longest in ((DOWN, 5.0), (WRONG, 30.0)):
        report = WarmReport("fake", 1, 0.1, False, (ConnectionReport("failed", error=error),))
        pause = next_pause(report, failures, since, None, jitter)
        assert 0.05 <= pause.delay <= longest
        assert pause.is_loud == (since >= 60 or error is WRONG)
        assert not next_pause(report, failures, since, 599.0, jitter).is_loud
    assert next_pause(None, failures, since, None, jitter).is_loud


# The storage


def storage_on(pool: Database, **options: Any) -> VectorStorage:
    return VectorStorage(pool, "papers", 3, **{"keep_warm": True, **options})


def test_the_state_of_a_storage_describes_the_present(backend: str) -> None:
    async def main() -> None:
        pool = Database(up_at=anyio.current_time() + 7.0)
        storage = storage_on(pool)
        assert (storage.state, await storage.wait_warm(1.0)) == ("closed", False)
        async with storage, anyio.create_task_group() as tasks:
            assert (storage.state, await storage.wait_warm(1.0)) == ("cold", False)
            tasks.start_soon(storage.warm_pool)
            await anyio.sleep(0.01)
            assert (storage.state, await storage.wait_warm(1.0)) == ("warming", False)
            assert await storage.wait_warm(30.0)
            assert storage.state == "warm"
            assert storage.warm_report is not None
            assert storage.warm_report.ok
            assert anyio.current_time() - pool.up_at < 2.0
            assert storage.warm_once.outcome == "finished"
        assert (storage.state, await storage.wait_warm(1.0)) == ("closed", False)

    run(backend, main)


def test_without_a_keeper_a_storage_stays_degraded(backend: str) -> None:
    async def main() -> None:
        pool = Database(up_at=anyio.current_time() + 7.0)
        async with storage_on(pool, keep_warm=False) as storage:
            assert not await storage.warm_pool()
            assert storage.state == "degraded"
            assert not await storage.wait_warm(100.0)
            assert await storage.warm_pool()
            assert storage.state == "warm"

    run(backend, main)


def test_closing_a_storage_ends_the_wait_and_the_keeper(backend: str) -> None:
    async def main() -> None:
        pool = Database(up_at=math.inf)
        ended: list[tuple[bool, float]] = []
        async with anyio.create_task_group() as tasks:
            async with storage_on(pool) as storage:

                async def wait() -> None:
                    ended.append((await storage.wait_warm(1000.0), anyio.current_time()))

                assert not await storage.warm_pool()
                tasks.start_soon(wait)
                await anyio.sleep(20)
                closes = anyio.current_time()
        assert ended == [(False, pytest.approx(closes))]
        attempts = len(pool.began)
        await anyio.sleep(100)
        assert len(pool.began) == attempts
        pool.assert_no_leaks()

    run(backend, main)


def test_no_caller_waits_for_a_warm_up_of_the_keeper(backend: str) -> None:
    async def main() -> None:
        pool = Database()
        async with storage_on(pool) as storage:
            await storage.warm_once()
            for connection in pool.idle:
                connection.gone = "lost"
            pool.up_at = math.inf
            await anyio.sleep(17)  # the keeper has looked, and tries
            began = anyio.current_time()
            await storage.warm_once()
            assert anyio.current_time() == began
            assert storage.state in ("degraded", "warming")

    run(backend, main)
