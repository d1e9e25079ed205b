"""The pool of our own in virtual time: which searches may fail, how long a wait may take, and one warm-up at a time."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.properties.fake_driver import Driver, Life, lives, opened, virtual_clock

from preheat import PreheatError, warm
from preheat.pools import CallerWaited, PoolEvent
from preheat.pools.asyncpg import pool as asyncpg_pool
from preheat.pools.asyncpg.adapter import CANCEL_SECONDS, RELEASE_SECONDS
from preheat.testing import run, seconds, seeds

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])

GRACE = 1e-6
PATIENCE = asyncpg_pool.PATIENCE_SECONDS + GRACE
MEND = 2 * RELEASE_SECONDS + CANCEL_SECONDS + GRACE
"""The most that the end of a lease may take."""
CONNECT, ACQUIRE, STATEMENT, WARM = 1.5, 2.0, 1.2, 1.7


@dataclass(frozen=True)
class Caller:
    """A caller of the pool."""

    arrives: float
    searches: int
    pause: float
    """Seconds between two searches."""
    gives_up: float
    """Seconds after which it cancels a search."""


callers = st.lists(
    st.builds(
        Caller,
        arrives=seconds(2.0),
        searches=st.integers(1, 4),
        pause=seconds(1.0),
        gives_up=st.just(math.inf) | seconds(1.0).map(lambda tenths: tenths + 0.05),
    ),
    min_size=1,
    max_size=6,
)
sizes = st.integers(1, 3)


@dataclass(frozen=True)
class Call:
    """What became of one call."""

    began: float
    ended: float
    gives_up: float
    waited: list[float]
    """Seconds of each wait for a connection."""
    error: Exception | None
    was_cancelled: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


waited: ContextVar[list[float]] = ContextVar("waited")


def note_wait(event: PoolEvent) -> None:
    """A hook, which is called in the task of the caller who has waited."""
    if isinstance(event, CallerWaited) and (waits := waited.get(None)) is not None:
        waits.append(event.seconds)


async def timed(calls: list[Call], call: Callable[[], Awaitable[object]], gives_up: float = math.inf) -> None:
    """Make one call and note what becomes of it."""
    began, error = anyio.current_time(), None
    waited.set(waits := [])
    with anyio.move_on_after(gives_up) as scope:
        try:
            await call()
        except PreheatError as failure:
            error = failure
    calls.append(Call(began, anyio.current_time(), gives_up, waits, error, scope.cancelled_caught))


async def searched(pool: Any, crowd: list[Caller]) -> list[Call]:
    """Let everybody search."""
    calls: list[Call] = []

    async def search(caller: Caller) -> None:
        await anyio.sleep(caller.arrives)
        for _ in range(caller.searches):
            await timed(calls, lambda: pool.fetch("SELECT 1"), caller.gives_up)
            await anyio.sleep(caller.pause)

    async with anyio.create_task_group() as tasks:
        for caller in crowd:
            tasks.start_soon(search, caller)
    return calls


@pytest.mark.slow
@both
@given(size=sizes, plan=st.lists(lives(healthy=True, hangs=False), max_size=8), crowd=callers, seed=seeds())
def test_property_no_search_fails_while_new_connections_serve(
    backend: str, size: int, plan: list[Life], crowd: list[Caller], seed: int
) -> None:
    """However connections die after their first statement, a search fails only if a new connection fails."""

    async def main() -> None:
        driver = Driver(plan)
        async with opened(driver, size=size, acquire_timeout=1000.0) as pool:
            calls = await searched(pool, crowd)
        assert [call.error for call in calls if call.error is not None] == []

    with virtual_clock():
        run(backend, main, seed=seed)


@pytest.mark.slow
@both
@given(size=sizes, plan=st.lists(lives(hangs=False), max_size=8), crowd=callers, seed=seeds())
def test_property_a_search_fails_only_if_a_new_connection_fails(
    backend: str, size: int, plan: list[Life], crowd: list[Caller], seed: int
) -> None:
    """For each search that fails, a new connection has failed between its begin and its end."""

    async def main() -> None:
        driver = Driver(plan)
        async with opened(driver, size=size, acquire_timeout=1000.0) as pool:
            calls = await searched(pool, crowd)
        for call in calls:
            if call.error is not None:
                assert any(call.began - GRACE <= failed <= call.ended for failed in driver.new_failed), call

    with virtual_clock():
        run(backend, main, seed=seed)


@pytest.mark.slow
@both
@given(
    size=sizes,
    plan=st.lists(lives(), max_size=8),
    crowd=callers,
    limit=st.sampled_from([None, STATEMENT]),
    holds=st.lists(st.tuples(seconds(2.0), seconds(3.0), st.booleans()), max_size=3),
    warms=st.booleans(),
    seed=seeds(),
)
def test_property_no_wait_outlives_its_bound(
    backend: str,
    size: int,
    plan: list[Life],
    crowd: list[Caller],
    limit: float | None,
    holds: list[tuple[float, float, bool]],
    warms: bool,
    seed: int,
) -> None:
    """Whatever fails or never ends, and whoever cancels: each wait for a connection, connection attempt, statement,
    lease, warm-up and closing ends within its limit."""
    statement = STATEMENT if limit else asyncpg_pool.FETCH_SECONDS
    leased: list[Call] = []
    warmed: list[Call] = []
    closed: list[Call] = []

    async def main() -> None:
        driver = Driver(plan)
        options: dict[str, Any] = {
            "connect_timeout": CONNECT,
            "acquire_timeout": ACQUIRE,
            "statement_timeout": limit,
            "hooks": [note_wait],
        }
        manager = opened(driver, size=size, **options)
        pool = await manager.__aenter__()

        async def hold(arrives: float, holds: float, exposes: bool) -> None:
            async def lease() -> None:
                async with pool.lease() as lease:
                    if exposes:
                        assert lease.connection is not None
                    await anyio.sleep(holds)

            await anyio.sleep(arrives)
            await timed(leased, lease)
            assert leased[-1].seconds <= sum(leased[-1].waited) + holds + MEND, leased

        async with anyio.create_task_group() as tasks:
            if warms:
                tasks.start_soon(timed, warmed, lambda: warm(pool, connections=size, timeout=WARM))
            for each in holds:
                tasks.start_soon(hold, *each)
            calls = await searched(pool, crowd)
        await timed(closed, lambda: manager.__aexit__(None, None, None))

        for call in (*calls, *leased):
            assert max(call.waited, default=0.0) <= ACQUIRE + GRACE, call
        for call in calls:
            assert call.seconds <= sum(call.waited) + statement + PATIENCE, call
            assert call.seconds <= call.gives_up + PATIENCE, call
        assert max(driver.attempts, default=0.0) <= CONNECT + GRACE
        for call in warmed:
            assert call.seconds <= WARM + MEND, call
        for call in closed:
            assert call.seconds <= asyncpg_pool.CLOSE_SECONDS + GRACE, call

    with virtual_clock():
        run(backend, main, seed=seed)


@both
def test_a_burst_beyond_what_is_warm_takes_whichever_connection_comes_first(backend: str) -> None:
    """Ten callers, three warm connections of ten, round trips of 20 ms, connections that take 120 ms to open.

    Four rounds on three connections take 80 ms, which is less than waiting for a connection of one's own.
    """
    statements = ((0.02, "ok"),) * 10
    driver = Driver([Life((0.12, "ok"), statements)] * 10)
    calls: list[Call] = []

    async def main() -> None:
        async with opened(driver, size=10) as pool:
            assert (await warm(pool, connections=3)).ok
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(timed, calls, lambda: pool.fetch("SELECT 1"))

    with virtual_clock():
        run(backend, main)
    waits = [round(1000 * call.seconds) for call in calls]
    assert sorted(waits) == [20, 20, 20, 40, 40, 40, 60, 60, 60, 80]
