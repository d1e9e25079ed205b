"""Trying again: a warm-up goes on after transient failures, one prober first, within its one deadline."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import ConnectError, ConnectionReport, PoolBusyError, WarmReport, warm
from preheat.testing import FakeConnection, FakePool, FaultPlan, cancel_everywhere, fail, run, seconds
from preheat.warming.backoff import Retry, backoff, is_transient, next_try

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])

DOWN = ConnectError("db", "connection refused", "start it", transient=True)
FULL = ConnectError("db", "too many clients", "close some", sqlstate="53300", transient=True)
WRONG = ConnectError("db", "wrong password", "correct it", sqlstate="28P01")
BUSY = PoolBusyError("db", "all connections are in use", "use a larger pool")


@dataclass(eq=False)
class Database(FakePool):
    """A pool whose server is down until `up_at` and then takes `room` connections; an attempt takes 10 ms."""

    up_at: float = 0.0
    room: float = math.inf
    error: Exception = DOWN
    given: int = field(default=0, init=False)
    """How many connections the server has given."""
    began: list[float] = field(default_factory=list, init=False)
    """When each attempt began."""
    at_once: list[int] = field(default_factory=list, init=False)
    """How many attempts were under way then, this one included."""

    async def _connect(self) -> FakeConnection:
        self.began.append(anyio.current_time())
        self.at_once.append(self.connecting + 1)
        self.connecting += 1
        try:
            await anyio.sleep(0.01)
            if anyio.current_time() < self.up_at:
                raise self.error
            if self.given - self.terminations >= self.room:
                raise FULL
            self.given += 1
        finally:
            self.connecting -= 1
        return await super()._connect()


async def warmed(pool: Database, *, after: float, connections: int = 3, timeout: float = 5.0) -> WarmReport:
    """The report of a warm-up of a server that comes up some time after its start."""
    pool.up_at = anyio.current_time() + after
    report = await warm(pool, connections=connections, timeout=timeout)
    pool.assert_no_leaks()
    return report


def test_a_server_that_comes_up_in_time_has_a_warm_pool(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        pool = Database()
        started = anyio.current_time()
        report = await warmed(pool, after=2.0)

        assert report.ok
        assert report.attempts > 3
        assert f"and {report.attempts} attempts" in str(report)
        assert report.as_dict()["attempts"] == report.attempts
        assert anyio.current_time() - started < 2.0 + 1.0 + 0.1  # the longest wait, and two connects
        assert pool.at_once[:3] == [1, 2, 3]
        assert set(pool.at_once[3:-2]) == {1}, "one prober at a time"
        assert pool.at_once[-2:] == [1, 2], "the others follow it together"

    with caplog.at_level(logging.INFO, "preheat"):
        run(backend, main)
    assert "trying again in" in caplog.text
    assert "connection refused" in caplog.text


@pytest.mark.parametrize("error", [WRONG, OSError("nobody says that it is transient")])
def test_another_failure_ends_it_at_once(backend: str, error: Exception) -> None:
    async def main() -> None:
        pool = Database(error=error)
        started = anyio.current_time()
        report = await warmed(pool, after=2.0)

        assert (report.ok, report.attempts, report.timed_out, len(pool.began)) == (False, 1, False, 3)
        assert anyio.current_time() - started == pytest.approx(0.01)

    run(backend, main)


def test_a_failure_that_becomes_fatal_ends_it(backend: str) -> None:
    class Changing(Database):
        async def _connect(self) -> FakeConnection:
            if len(self.began) >= 5:
                self.error = WRONG
            return await super()._connect()

    async def main() -> None:
        pool = Changing()
        report = await warmed(pool, after=math.inf)
        assert len(pool.began) == 6
        assert report.errors[0] is not None
        assert (str(report.errors[0]), report.timed_out) == (str(WRONG), False)

    run(backend, main)


def test_a_server_that_stays_down_ends_it_within_the_deadline(backend: str) -> None:
    async def main() -> None:
        pool = Database()
        started = anyio.current_time()
        report = await warmed(pool, after=math.inf, timeout=5.0)

        assert (report.hot, report.timed_out) == (0, False)
        assert [type(error) for error in report.errors] == [ConnectError] * 3
        assert 3.9 <= anyio.current_time() - started <= 5.0

    run(backend, main)


def test_a_full_server_gives_what_it_has_and_the_rest_when_there_is_room(backend: str) -> None:
    async def main() -> None:
        pool = Database(room=2)

        async def make_room() -> None:
            await anyio.sleep(1.5)
            pool.room = 10

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make_room)
            report = await warmed(pool, after=0.0, connections=5)

        assert report.ok
        assert len({one.pid for one in report.connections}) == 5
        assert len(pool.connections) == 5
        for connection in pool.connections[:2]:
            assert set(connection.statements) == {"SELECT 1"}
        waits = [later - earlier for earlier, later in zip(pool.began[5:-3], pool.began[6:-2], strict=True)]
        assert min(waits) > 0.05, "no storm while it is full"

    run(backend, main)


def test_the_real_probe_runs_once_on_each_connection(backend: str) -> None:
    """Executed five times with made-up values, a statement may be given a plan for these values for good."""

    async def main() -> None:
        pool = Database(room=1)
        probed: list[int | None] = []

        async def probe(lease: object) -> None:
            probed.append(lease.pid)  # type: ignore[attr-defined]

        report = await warm(pool, timeout=3.0, probe=probe)

        assert (report.hot, report.timed_out, len(probed)) == (1, False, 1)
        assert report.attempts > 4

    run(backend, main)


def test_callers_that_join_share_the_attempts(backend: str) -> None:
    async def main() -> None:
        pool = Database()
        reports: list[WarmReport] = []

        async def call() -> None:
            reports.append(await warm(pool))

        pool.up_at = anyio.current_time() + 1.0
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call)
        assert [report.ok for report in reports] == [True] * 20
        assert max(pool.at_once) == 3
        assert set(pool.at_once[3:-2]) == {1}

    run(backend, main)


def test_a_caller_with_more_time_goes_on_when_the_one_that_it_joined_has_none_left(backend: str) -> None:
    async def main() -> None:
        pool = Database()
        pool.up_at = anyio.current_time() + 3.0
        reports: dict[float, WarmReport] = {}

        async def call(timeout: float) -> None:
            reports[timeout] = await warm(pool, timeout=timeout)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, 1.0)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(call, 9.0)
        assert (reports[1.0].hot, reports[1.0].attempts > 1) == (0, True)
        assert reports[9.0].ok

    run(backend, main)


@both
@pytest.mark.parametrize("how", ["scope", "native"])
def test_a_cancellation_between_two_attempts_is_prompt_and_loses_nothing(backend: str, how: str) -> None:
    async def main() -> None:
        async def attempt() -> None:
            await warmed(Database(room=2), after=0.3, connections=3, timeout=1.0)

        sweep = await cancel_everywhere(attempt, how=how)  # type: ignore[arg-type]
        assert sweep.points > 5
        assert sweep.slowest < 0.05

    run(backend, main, seed=0)


@both
@given(after=seconds(8.0), timeout=seconds(6.0), connections=st.integers(1, 10), room=st.integers(0, 10))
def test_property_a_server_meets_at_most_one_fan_out_and_then_one_prober(
    backend: str, after: float, timeout: float, connections: int, room: int
) -> None:
    """While it is down there is one attempt at a time after the first try; the deadline holds; nothing is lost."""

    async def main() -> None:
        pool = Database(room=room)
        began = anyio.current_time()
        report = await warmed(pool, after=after, connections=connections, timeout=max(timeout, 0.05))

        assert anyio.current_time() - began <= max(timeout, 0.05) + 1e-6
        assert report.hot <= min(connections, room)
        assert report.ok == (report.hot == connections)
        for number, moment in enumerate(pool.began):
            if number >= connections and moment + 0.01 < pool.up_at:
                assert pool.at_once[number] == 1
        for later, earlier in zip(pool.began[connections + 1 :], pool.began[connections:], strict=False):
            if later + 0.01 < pool.up_at:
                assert later - earlier >= 0.01 + 0.025

    run(backend, main)


# Decisions


@given(failures=st.integers(1, 5000), jitter=st.floats(0, 1))
def test_property_a_wait_doubles_up_to_its_limit_and_is_half_of_that_at_least(failures: int, jitter: float) -> None:
    """However many failures there were, the wait is between half and the whole of the doubled one, and bounded."""
    whole = backoff(failures, 0.0)
    assert whole == min(1.0, 0.05 * 2.0 ** min(failures - 1, 100))
    assert whole / 2 <= backoff(failures, jitter) <= whole


HOT = ConnectionReport("hot", 1)
failures = {
    "transient": ConnectionReport("failed", error=DOWN),
    "fatal": ConnectionReport("failed", error=WRONG),
    "busy": ConnectionReport("failed", error=BUSY),
    "unknown": ConnectionReport("failed", error=KeyError("x")),
    "unfinished": ConnectionReport("unfinished"),
}


@given(hot=st.integers(0, 5), failed=st.lists(st.sampled_from(sorted(failures)), max_size=5), more=st.integers(0, 5))
def test_property_the_decision_after_a_try(hot: int, failed: list[str], more: int) -> None:
    """It goes on only if connections are missing and every failure is transient, and then with one cold connection."""
    tried = [HOT] * hot + [failures[kind] for kind in failed]
    if not tried:
        return
    requested = len(tried) + more
    decision = next_try(tried, requested, 1, 0.0)
    if not failed:
        assert decision == (Retry(0.0, requested) if more else None)
    elif set(failed) == {"transient"}:
        assert decision == Retry(0.05, hot + 1)
    else:
        assert decision is None


def test_an_error_is_transient_only_if_it_says_so() -> None:
    class OwnError(Exception):
        transient = True

    assert [is_transient(error) for error in (DOWN, FULL, OwnError(), WRONG, OSError(), None)] == [True] * 3 + [
        False
    ] * 3


def test_plans_of_the_testing_kit_can_be_transient(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(connect=fail(DOWN)))
        report = await warm(pool, timeout=1.0)
        assert (report.hot, report.timed_out) == (0, False)
        assert pool.most_connecting == 3

    run(backend, main)
