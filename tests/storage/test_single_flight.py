"""One run for all who ask at the same time: what becomes of it when callers, the owner or the work itself give up."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from preheat import PreheatError
from preheat._concurrency.single_flight import Flight, SingleFlight
from preheat.testing import Call, Caller, arrive, callers, cancel_everywhere, run, seconds, seeds

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@asynccontextmanager
async def owned() -> AsyncGenerator[SingleFlight]:
    async with anyio.create_task_group() as owner:
        flights = SingleFlight(owner)
        try:
            yield flights
        finally:
            owner.cancel_scope.cancel()
            flights.close()


@dataclass
class Work:
    """Something that takes a while, and counts."""

    takes: float = 1.0
    kept: float | None = None
    error: BaseException | None = None
    cleanup: float = 0.0
    starts: int = 0
    ends: list[str] = field(default_factory=list)

    async def __call__(self, flight: Flight[int]) -> int:
        self.starts += 1
        number = self.starts
        try:
            await anyio.sleep(self.takes)
            if self.kept is not None:
                flight.keep()
                await anyio.sleep(self.kept)
            if self.error is not None:
                raise self.error
        except BaseException as error:
            self.ends.append(type(error).__name__)
            if self.cleanup:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(self.cleanup)
            raise
        self.ends.append("returned")
        return number


def test_ten_callers_share_one_run(backend: str) -> None:
    async def main() -> None:
        work = Work()
        async with owned() as flights:
            calls = await arrive([Caller(0.05 * n) for n in range(10)], lambda: flights.run("key", work))
            assert flights.under_way("key") is None
            assert await flights.run("key", work) == 2, "nothing is remembered"
        assert [(call.result, call.ended) for call in calls] == [(1, pytest.approx(1.0))] * 10

    run(backend, main)


def test_keys_do_not_wait_for_each_other(backend: str) -> None:
    async def main() -> None:
        work = Work()
        async with owned() as flights:
            keys = iter("abc" * 3)
            calls = await arrive([Caller()] * 9, lambda: flights.run(next(keys), work))
        assert work.starts == 3
        assert {round(call.ended, 6) for call in calls} == {1.0}

    run(backend, main)


@pytest.mark.parametrize("how", ["scope", "native"])
def test_a_leader_that_leaves_affects_no_follower(backend: str, how: Any) -> None:
    async def main() -> None:
        work = Work()
        async with owned() as flights:
            crowd = [Caller(timeout=0.5, how=how), Caller(0.1), Caller(0.2, timeout=0.1, how=how)]
            leader, follower, other = await arrive(crowd, lambda: flights.run("key", work))
        assert (leader.outcome, leader.ended) == ("cancelled", pytest.approx(0.5))
        assert (other.outcome, other.ended) == ("cancelled", pytest.approx(0.3))
        assert (follower.result, follower.ended) == (1, pytest.approx(1.0))
        assert work.ends == ["returned"]

    run(backend, main)


def test_when_the_last_one_leaves_the_run_is_cancelled_and_a_newcomer_starts_anew(backend: str) -> None:
    """Even while the old run still cleans up, and without waiting for it."""

    async def main() -> None:
        work = Work(cleanup=5.0)
        async with owned() as flights:
            crowd = [Caller(timeout=0.5), Caller(0.1, timeout=0.2), Caller(0.6)]
            calls = await arrive(crowd, lambda: flights.run("key", work))
            assert [call.outcome for call in calls] == ["cancelled", "cancelled", "returned"]
            assert (calls[2].result, calls[2].ended) == (2, pytest.approx(1.6))
            assert [call.ended for call in calls[:2]] == [pytest.approx(0.5), pytest.approx(0.3)]
        assert (len(work.ends), work.ends.count("returned")) == (2, 1)

    run(backend, main)


def test_a_run_that_is_given_up_before_its_first_step_is_never_made(backend: str) -> None:
    async def main() -> None:
        work = Work()
        async with owned() as flights:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await flights.run("key", work)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(flights.run, "key", work)
                tasks.cancel_scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert (work.starts, flights.under_way("key")) == (0, None)

    run(backend, main)


def test_a_run_that_is_kept_goes_on_without_anybody(backend: str) -> None:
    async def main() -> None:
        work = Work(kept=1.0)
        async with owned() as flights:
            crowd = [Caller(timeout=1.5), Caller(1.7)]
            first, second = await arrive(crowd, lambda: flights.run("key", work))
        assert first.outcome == "cancelled"
        assert (second.result, second.ended) == (1, pytest.approx(2.0)), "a newcomer joins it"
        assert work.ends == ["returned"]

    run(backend, main)


@both
@given(seed=seeds())
def test_work_that_is_done_as_its_last_caller_leaves_is_not_done_again(backend: str, seed: int) -> None:
    """It is woken in the same turn of the event loop, so that the cancellation comes too late."""

    async def main() -> None:
        done = anyio.Event()
        starts = 0

        async def work(flight: Flight[int]) -> int:
            nonlocal starts
            starts += 1
            await done.wait()
            assert flight.keep()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1.0)
            return starts

        async with owned() as flights:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(flights.run, "key", work)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
                done.set()
            assert await flights.run("key", work) == 1
            assert starts == 1

    run(backend, main, seed=seed)


def test_an_error_reaches_all_who_wait_and_is_not_remembered(backend: str) -> None:
    async def main() -> None:
        error = KeyError("planned")
        work = Work(error=error)
        async with owned() as flights:
            calls = await arrive([Caller(0.1 * n) for n in range(5)], lambda: flights.run("key", work))
            assert [call.error for call in calls] == [error] * 5
            depths = []

            async def look() -> None:
                with pytest.raises(KeyError) as caught:
                    await flights.run("key", work)
                depths.append(len(caught.traceback))

            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(look)
            assert len(set(depths)) == 1, "its traceback does not grow with each who gets it"
            assert work.starts == 2

    run(backend, main)


def test_an_error_that_nobody_waits_for_is_logged(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with owned() as flights:
            with anyio.move_on_after(1.5):
                await flights.run("key", Work(kept=1.0, error=OSError("planned")))
            await anyio.sleep(2)

    run(backend, main)
    assert "nobody waited" in caplog.text
    assert "OSError: planned" in caplog.text


@pytest.mark.parametrize("holds_out", [0.0, 3.0])
def test_when_the_owner_closes_all_who_wait_are_told_at_once(backend: str, holds_out: float) -> None:
    async def main() -> None:
        work = Work(cleanup=holds_out)
        calls: list[Call[int]] = []
        async with anyio.create_task_group() as tasks:
            async with owned() as flights:

                async def crowd() -> None:
                    calls.extend(await arrive([Caller(), Caller(0.1)], lambda: flights.run("key", work)))

                tasks.start_soon(crowd)
                await anyio.sleep(0.5)
            with pytest.raises(PreheatError, match="closed"):
                await flights.run("key", work)
            with pytest.raises(PreheatError, match="closed"):
                flights.start_soon(checkpoint, name="too late")
        assert [(type(call.error), call.ended) for call in calls] == [(PreheatError, pytest.approx(0.5))] * 2
        assert "the storage was closed" in str(calls[0].error)
        assert work.starts == 1

    run(backend, main)


def test_an_owner_that_is_cancelled_from_outside_releases_every_caller(backend: str) -> None:
    """It never comes to closing the flights: their tasks end all the same, even those that had not begun."""

    async def main() -> None:
        work = Work()
        calls: list[Call[int]] = []
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as owner:
                flights = SingleFlight(owner)
                keys = iter("ab")

                async def crowd() -> None:
                    calls.extend(await arrive([Caller(), Caller(0.5)], lambda: flights.run(next(keys), work)))

                tasks.start_soon(crowd)
                await anyio.sleep(0.5)
                owner.cancel_scope.cancel()
        assert [str(call.error) for call in calls] == [str(calls[0].error)] * 2
        assert "closed" in str(calls[0].error)

    run(backend, main)


def test_work_that_lets_out_a_cancellation_of_its_own_ends_neither_its_callers_nor_the_owner(backend: str) -> None:
    if backend == "trio":
        pytest.skip("trio's tasks cannot be cancelled by their own errors")

    async def main() -> None:
        async with owned() as flights:

            async def stray(_: Any) -> None:
                await checkpoint()
                raise anyio.get_cancelled_exc_class()

            calls = await arrive([Caller()] * 2, lambda: flights.run("key", stray))
            assert ["cancelled from within" in str(call.error) for call in calls] == [True] * 2
            assert await flights.run("key", Work()) == 1

    run(backend, main)


def test_work_that_fails_while_it_is_cancelled_does_not_fail_the_owner(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def inner() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise OSError("planned")

        async def work(_: Any) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(inner)
                tasks.start_soon(anyio.sleep_forever)

        calls: list[Call[None]] = []
        async with anyio.create_task_group() as tasks:
            async with owned() as flights:

                async def crowd() -> None:
                    calls.extend(await arrive([Caller()], lambda: flights.run("key", work)))

                tasks.start_soon(crowd)
                await anyio.sleep(1)
        assert "closed" in str(calls[0].error)

    run(backend, main)
    assert "OSError: planned" in caplog.text or "ExceptionGroup" in caplog.text


def test_a_base_exception_ends_the_owner_and_every_caller(backend: str) -> None:
    class Boom(BaseException):
        pass

    async def main() -> None:
        calls: list[Call[int]] = []
        with pytest.raises(BaseExceptionGroup) as caught:
            async with anyio.create_task_group() as owner:
                flights = SingleFlight(owner)
                calls += await arrive([Caller()] * 2, lambda: flights.run("key", Work(error=Boom())))
        assert caught.group_contains(Boom)

    run(backend, main)


def test_work_that_asks_for_itself_is_told_so(backend: str) -> None:
    async def main() -> None:
        async with owned() as flights:

            async def inner(_: Any) -> int:
                return await flights.run("outer", outer)

            async def outer(_: Any) -> int:
                return await flights.run("inner", inner)

            with pytest.raises(PreheatError, match="waits for itself"):
                await flights.run("outer", outer)

    run(backend, main)


# Against a model

uneven = seconds(3.0).map(lambda tenths: tenths + 0.05)  # callers leave between the moments at which they come
crowds = callers(10, arrivals=seconds(3.0), timeouts=st.one_of(st.just(math.inf), uneven))


@dataclass
class Expected:
    """What must become of a crowd: nothing happens at the same time as something else, but arrivals."""

    crowd: list[Caller]
    takes: float
    starts: int = 0
    ends: dict[int, tuple[str, float]] = field(default_factory=dict)

    def play(self) -> Expected:
        waiting: set[int] = set()
        lands = math.inf
        leaves = [caller.arrival + caller.timeout for caller in self.crowd]
        moments = sorted({caller.arrival for caller in self.crowd} | {leave for leave in leaves if leave < math.inf})
        for moment in [*moments, math.inf]:
            if waiting and lands <= moment:
                self.ends |= dict.fromkeys(waiting, ("returned", lands))
                waiting = set()
            for number, leave in enumerate(leaves):
                if leave == moment < math.inf and number in waiting:
                    waiting.remove(number)
                    self.ends[number] = ("cancelled", moment)
            for number, caller in enumerate(self.crowd):
                if caller.arrival == moment:
                    if not waiting:
                        self.starts += 1
                        lands = moment + self.takes
                    waiting.add(number)
        return self


@both
@given(crowd=crowds, takes=seconds(2.0).map(lambda tenths: tenths + 0.02), seed=seeds())
def test_property_every_call_ends_as_a_model_of_it_says(
    backend: str, crowd: list[Caller], takes: float, seed: int
) -> None:
    """One run at a time, for as long as somebody waits; all who wait to its end return with it; nobody else does."""

    async def main() -> None:
        work = Work(takes)
        async with owned() as flights:
            calls = await arrive(crowd, lambda: flights.run("key", work))
        expected = Expected(crowd, takes).play()
        assert work.starts == expected.starts
        for number, call in enumerate(calls):
            outcome, ended = expected.ends[number]
            assert (call.outcome, call.ended) == (outcome, pytest.approx(ended))
        assert work.ends.count("returned") == len({call.result for call in calls if call.outcome == "returned"})

    run(backend, main, seed=seed)


@both
@pytest.mark.parametrize("how", ["scope", "native"])
@given(crowd=callers(8), takes=seconds(2.0), kept=st.one_of(st.none(), seconds(1.0)), seed=seeds())
def test_no_caller_is_cancelled_without_asking_for_it(
    backend: str, how: Any, crowd: list[Caller], takes: float, kept: float | None, seed: int
) -> None:
    """Even where things happen at the same moment: whoever stays has a result, and it is that of a run that ended."""

    async def main() -> None:
        work = Work(takes, kept)
        async with owned() as flights:
            calls = await arrive(crowd, lambda: flights.run("key", work))
            await anyio.sleep(5)
            assert flights.under_way("key") is None
        for call in calls:
            assert call.outcome == "returned" or call.cancel_requested
        assert len(work.ends) == work.starts
        assert len({call.result for call in calls if call.outcome == "returned"}) <= work.ends.count("returned")

    run(backend, main, seed=seed)


@both
@pytest.mark.parametrize("how", ["scope", "native"])
def test_a_caller_cancelled_at_any_point_affects_no_other(backend: str, how: Any) -> None:
    async def main() -> None:
        async with owned() as flights:

            async def attempt(leads: bool) -> None:
                work = Work()
                stays: list[int] = []

                async def stay() -> None:
                    stays.append(await flights.run("key", work))

                async with anyio.create_task_group() as tasks:
                    if not leads:
                        tasks.start_soon(stay)
                        await anyio.wait_all_tasks_blocked()
                    try:
                        await flights.run("key", work)
                    finally:
                        with anyio.CancelScope(shield=True):
                            assert await flights.run("key", work) in (1, 2)
                assert stays == ([] if leads else [1])

            for leads in (True, False):
                sweep = await cancel_everywhere(attempt, leads, how=how)
                assert sweep.points >= 1

    run(backend, main, seed=0)
