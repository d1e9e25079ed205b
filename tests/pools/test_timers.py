"""Time limits in the asyncio loop that a driver has on trio."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from preheat.pools.trio.driver_loop import trio_asyncio
from preheat.pools.trio.timers import FEW, Timers

pytestmark = pytest.mark.parametrize("anyio_backend", [pytest.param("trio", id="trio")])

LIMITS = st.lists(st.tuples(st.integers(1, 50), st.none() | st.integers(0, 60)), max_size=30)


@settings(max_examples=100, deadline=None)
@given(limits=LIMITS)
def test_a_limit_is_over_in_time_unless_it_is_called_off_before(
    anyio_backend: str, limits: list[tuple[int, int | None]]
) -> None:
    async def main() -> None:
        called: dict[int, float] = {}
        async with trio_asyncio.open_loop() as loop:
            timers = Timers(loop)
            began = trio.current_time()
            for number, (seconds, cancelled) in enumerate(limits):
                limit = timers.call_later(seconds, lambda n=number: called.setdefault(n, trio.current_time() - began))
                if cancelled is not None:
                    loop.call_at(loop.time() + cancelled - 0.5, limit.cancel)
            await trio.sleep(100)
        assert {number: round(seconds) for number, seconds in called.items()} == {
            number: seconds
            for number, (seconds, cancelled) in enumerate(limits)
            if cancelled is None or cancelled - 0.5 > seconds
        }

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_limits_that_were_called_off_do_not_pile_up() -> None:
    async with trio_asyncio.open_loop() as loop:
        timers = Timers(loop)
        for _ in range(50 * FEW):
            timers.call_later(60, print).cancel()

        assert len(timers._heap) <= 2 * FEW + 1
