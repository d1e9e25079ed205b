"""Connections that are too old, or idle for too long."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.pools.test_own_pool import in_use, own, pid_of
from tests.support.server import Server

from preheat import ArgumentError, VectorStorage, open_pool, warm
from preheat.pools import ConnectionClosed, ConnectionOpened, ConnectionWarmed, PoolEvent
from preheat.pools.asyncpg import pool as asyncpg_pool


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool looks after its connections all the time."""
    monkeypatch.setattr(asyncpg_pool, "HOUSE_SECONDS", 0.001)


async def until(condition: Any) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("size", [1, 3])
async def test_a_connection_that_is_too_old_is_replaced_by_a_warm_one(dsn: str, size: int) -> None:
    probed: list[int] = []
    events: list[PoolEvent] = []

    async def probe(lease: Any) -> None:
        await lease.fetch("SELECT 1")
        probed.append(lease.pid)

    async with open_pool(dsn, size=size, max_lifetime=3600, hooks=[events.append]) as pool:
        assert (await warm(pool, connections=1, probe=probe)).ok
        first = await pid_of(pool)
        make_old(pool)
        await until(lambda: pool.statistics().closed == 1 and pool.statistics().idle == 1)
        second = await pid_of(pool)

        assert probed == [first, second]
        assert first != second
    kinds = [type(event) for event in events]
    assert kinds.count(ConnectionWarmed) == 2
    replaced = (events.index(next(event for event in events if isinstance(event, ConnectionClosed))), kinds)
    # With a free place the new connection is there before the old one goes.
    assert (kinds[: replaced[0]].count(ConnectionOpened) == 2) is (size > 1)


def make_old(pool: Any) -> None:
    """Let the time of the pool's connections be over, and the pool look at them."""
    inner = own(pool)
    for place in (*inner._places.idle, *inner._places.lent):
        place.expires_at = 0.0
    inner.look_now()


async def test_a_connection_in_use_is_replaced_when_it_comes_back(dsn: str) -> None:
    async with open_pool(dsn, size=1, max_lifetime=3600) as pool:
        first = await pid_of(pool)
        async with in_use(pool):
            make_old(pool)
            await until(lambda: all(not place.is_current for place in own(pool)._places.lent))

        assert await pid_of(pool) != first


async def test_an_old_connection_stays_if_there_is_no_new_one(server: Server, dsn: str) -> None:
    async with open_pool(dsn, size=2, max_lifetime=3600) as pool:
        first = await pid_of(pool)
        inner = own(pool)

        async def refuse(deadline: float) -> Any:
            raise ConnectionRefusedError("no")

        real, inner._opener = inner._opener, refuse  # type: ignore[assignment]
        make_old(pool)
        await until(lambda: pool.statistics().failed == 1)
        inner._opener = real

        assert await pid_of(pool) == first


async def test_a_connection_that_is_idle_for_too_long_is_closed(dsn: str) -> None:
    async with open_pool(dsn, size=2, max_idle=0.05) as pool:
        async with in_use(pool):
            await pool.fetch("SELECT 1")
        await until(lambda: pool.statistics().open == 0)

        assert pool.statistics().closed == 2
        assert await pool.fetch("SELECT 1")


async def test_without_limits_nothing_looks_after_the_connections(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        await pool.fetch("SELECT 1")

        assert not own(pool)._tasks._tasks


async def test_a_storage_takes_the_bounds_of_its_pool(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREHEAT_ACQUIRE_TIMEOUT", "7")
    monkeypatch.setenv("PREHEAT_PREPARE", "false")
    async with VectorStorage(dsn, "any", 3, statement_timeout=2, max_waiting=5) as storage:
        options = own(storage.executor.pool)._options

    assert (options.acquire_timeout, options.statement_timeout, options.max_waiting) == (7, 2, 5)
    assert options.prepare is False


async def test_a_storage_on_an_open_pool_takes_no_bounds_of_its_own(dsn: str) -> None:
    async with open_pool(dsn) as pool:
        with pytest.raises(ArgumentError, match=r"statement_timeout.*give it to open_pool"):
            VectorStorage(pool, "any", 3, statement_timeout=2)


@pytest.mark.parametrize(
    ("name", "value"), [("STATEMENT_TIMEOUT", "soon"), ("MAX_WAITING", "1.5"), ("PREPARE", "perhaps")]
)
def test_an_invalid_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"PREHEAT_{name}", value)
    with pytest.raises(ArgumentError, match=f"PREHEAT_{name}"):
        open_pool("postgresql://u@h/d")
