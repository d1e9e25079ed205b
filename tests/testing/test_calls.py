from __future__ import annotations

import asyncio
import math
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.testing import Call, Caller, arrive, backends, callers, run, seeds

How = Literal["scope", "native"]


@pytest.fixture(params=["scope", "native"])
def how(request: pytest.FixtureRequest) -> How:
    return request.param


async def test_nobody_arrives() -> None:
    assert await arrive([], anyio.sleep_forever) == []


def test_each_caller_calls_at_its_time_and_the_records_are_in_their_order(backend: str) -> None:
    callers = [Caller(2.0), Caller(0.5), Caller(), Caller(1.0, 10.0)]
    order: list[float] = []

    async def main() -> list[Call[float]]:
        await anyio.sleep(100)  # times are counted from the call of arrive()
        started = anyio.current_time()

        async def function() -> float:
            order.append(round(anyio.current_time() - started, 6))
            await anyio.sleep(3)
            return anyio.current_time() - started

        return await arrive((caller for caller in callers), function)

    calls = run(backend, main, seed=3)

    assert order == [0, 0.5, 1, 2]
    assert [call.caller for call in calls] == callers
    assert [call.arrived for call in calls] == pytest.approx([2, 0.5, 0, 1])
    assert [call.ended for call in calls] == pytest.approx([5, 3.5, 3, 4])
    assert [call.took for call in calls] == pytest.approx([3] * 4)
    assert [call.result for call in calls] == pytest.approx([5, 3.5, 3, 4])
    assert {(call.outcome, call.cancel_requested, call.error) for call in calls} == {("returned", False, None)}


def test_who_has_no_patience_any_more_is_cancelled_and_nobody_else(backend: str, how: How) -> None:
    async def main() -> list[Call[str]]:
        async def function() -> str:
            await anyio.sleep(3)
            return "done"

        return await arrive([Caller(1.0, 2.0, how), Caller(1.0, 4.0, how), Caller()], function)

    one, two, three = run(backend, main, seed=1)

    assert (one.outcome, one.cancel_requested, one.result, one.error) == ("cancelled", True, None, None)
    assert (one.arrived, one.ended, one.took) == pytest.approx((1, 3, 2))
    for call in (two, three):
        assert (call.outcome, call.cancel_requested, call.result) == ("returned", False, "done")


def test_no_patience_at_all_is_cancelled_at_its_first_wait(backend: str, how: How) -> None:
    reached: list[str] = []

    async def function() -> None:
        await anyio.sleep(1)
        reached.append("end")

    async def main() -> list[Call[None]]:
        return await arrive([Caller(2.0, 0.0, how)], function)

    (call,) = run(backend, main)

    assert (call.outcome, call.cancel_requested) == ("cancelled", True)
    assert call.took == pytest.approx(0, abs=1e-6)
    assert reached == []


def test_an_error_of_a_call_is_in_its_record_and_affects_no_other(backend: str, how: How) -> None:
    error = KeyError("mine")
    numbers = iter(range(3))

    async def function() -> str:
        number = next(numbers)
        await anyio.sleep(1)
        if number == 1:
            raise error
        return "done"

    async def main() -> list[Call[str]]:
        return await arrive([Caller(n * 0.1, 5.0, how) for n in range(3)], function)

    calls = run(backend, main)

    assert [call.outcome for call in calls] == ["returned", "raised", "returned"]
    assert calls[1].error is error
    assert (calls[1].result, calls[1].cancel_requested) == (None, False)


@pytest.mark.parametrize("kind", [TimeoutError, ExceptionGroup, asyncio.TimeoutError])
def test_a_timeout_of_the_functions_own_is_an_error_like_any_other(backend: str, how: How, kind: Any) -> None:
    error = kind("mine", [ValueError()]) if kind is ExceptionGroup else kind("mine")

    async def function() -> None:
        await anyio.sleep(1)
        raise error

    async def main() -> list[Call[None]]:
        return await arrive([Caller(0.0, 2.0, how)], function)

    (call,) = run(backend, main)

    assert (call.outcome, call.cancel_requested) == ("raised", False)
    assert call.error is error


def test_an_error_in_answer_to_the_cancellation_is_raised_and_requested(backend: str, how: How) -> None:
    async def function() -> None:
        try:
            await anyio.sleep(10)
        except BaseException:
            raise KeyError("instead") from None

    async def main() -> list[Call[None]]:
        return await arrive([Caller(0.0, 2.0, how), Caller(1.0, 2.0)], function)

    for call in run(backend, main):
        assert (call.outcome, call.cancel_requested, type(call.error)) == ("raised", True, KeyError)


def test_who_returns_in_spite_of_its_cancellation_has_returned_and_was_told(backend: str, how: How) -> None:
    async def function() -> str:
        try:
            await anyio.sleep(10)
        except anyio.get_cancelled_exc_class():
            pass
        return "all the same"

    async def main() -> list[Call[str]]:
        return await arrive([Caller(0.0, 2.0, how)], function)

    (call,) = run(backend, main)

    assert (call.outcome, call.cancel_requested, call.result) == ("returned", True, "all the same")
    assert call.ended == pytest.approx(2)


def test_a_shielded_end_takes_its_time_after_the_patience(backend: str, how: How) -> None:
    async def function() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1.5)

    async def main() -> list[Call[None]]:
        return await arrive([Caller(1.0, 2.0, how)], function)

    (call,) = run(backend, main)

    assert (call.outcome, call.cancel_requested) == ("cancelled", True)
    assert call.ended == pytest.approx(4.5)


class _Unusual(BaseException):
    pass


def test_a_base_exception_propagates(backend: str, how: How) -> None:
    async def function() -> None:
        await anyio.sleep(1)
        raise _Unusual

    async def main() -> None:
        await arrive([Caller(0.0, 5.0, how), Caller(0.5)], function)

    with pytest.raises(BaseException) as caught:
        run(backend, main)

    assert "_Unusual" in repr(caught.value)


def test_several_callers_is_cancelled_as_a_whole(backend: str, how: How) -> None:
    ended: list[float] = []

    async def function() -> None:
        try:
            await anyio.sleep(100)
        finally:
            ended.append(anyio.current_time())

    async def main() -> float:
        started = anyio.current_time()
        with anyio.move_on_after(2) as scope:
            await arrive([Caller(0.0, 50.0, how), Caller(1.0, how=how), Caller(10.0)], function)
        assert scope.cancelled_caught
        return anyio.current_time() - started

    assert run(backend, main) == pytest.approx(2)
    assert len(ended) == 2


def test_several_callers_is_cancelled_natively_as_a_whole(how: How) -> None:
    async def main() -> None:
        task = asyncio.create_task(arrive([Caller(0.0, 50.0, how), Caller(10.0)], anyio.sleep_forever))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    run("asyncio", main)


async def test_a_patience_that_was_not_used_up_leaves_no_timer_behind() -> None:
    calls = await arrive([Caller(0.0, 1000.0, "native"), Caller(0.0, 1000.0, "scope")], anyio.lowlevel.checkpoint)

    assert [call.outcome for call in calls] == ["returned", "returned"]
    await anyio.lowlevel.checkpoint()


def test_a_late_native_cancellation_affects_no_caller(backend: str) -> None:
    async def main() -> float:
        await arrive([Caller(0.0, 5.0, "native")], lambda: anyio.sleep(1))
        started = anyio.current_time()
        await anyio.sleep(20)
        return anyio.current_time() - started

    assert run(backend, main) == pytest.approx(20)


def test_calls_that_end_when_their_patience_does_end_in_one_way_or_the_other(backend: str, how: How) -> None:
    async def function() -> str:
        await anyio.sleep(2)
        return "done"

    async def main() -> list[Call[str]]:
        calls = await arrive([Caller(0.0, 2.0, how) for _ in range(4)], function)
        await anyio.sleep(1)  # no cancellation is left over
        return calls

    for seed in range(30):
        for call in run(backend, main, seed=seed):
            assert call.took == pytest.approx(2)
            if call.outcome == "returned":
                assert call.result == "done"
            else:
                assert (call.outcome, call.result, call.cancel_requested) == ("cancelled", None, True)


@given(backends(), seeds(), callers(), st.sampled_from([0.0, 0.1, 1.0, 3.0]), st.booleans())
def test_property_every_record_is_true(
    backend: str, seed: int, callers: list[Caller], seconds: float, fails: bool
) -> None:
    """A call ends when its work or its patience does, whichever is first, and its record says which."""

    async def function() -> str:
        await anyio.sleep(seconds)
        if fails:
            raise OSError("planned")
        return "done"

    calls = run(backend, arrive, callers, function, seed=seed)

    assert [call.caller for call in calls] == callers
    for call in calls:
        assert call.arrived == pytest.approx(call.caller.arrival, abs=1e-6)
        assert call.took == pytest.approx(min(seconds, call.caller.timeout), abs=1e-6)
        if call.caller.timeout > seconds:
            assert call.outcome == ("raised" if fails else "returned")
            assert not call.cancel_requested
        elif call.caller.timeout < seconds:
            assert call.outcome == "cancelled"
        assert (call.result == "done") == (call.outcome == "returned")
        assert (call.error is not None) == (call.outcome == "raised")
        assert call.cancel_requested or call.outcome != "cancelled"
        assert call.caller.timeout < math.inf or not call.cancel_requested
