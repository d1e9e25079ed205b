"""A storage that keeps its pool warm, on a real server behind a network that fails."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio import to_thread
from tests.support.replication import Node, dsn_of, reachable_folder, replicated
from tests.support.server import Server

from preheat import VectorStorage, open_pool
from preheat.pools import PoolEvent, identity
from preheat.storage import warmed_pool
from preheat.testing import FaultyNetwork

SECONDS = 30.0


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def pids(storage: VectorStorage) -> set[int]:
    """The server's processes for the connections that the last warm-up made hot."""
    report = storage.warm_report
    assert report is not None
    return {connection.pid or 0 for connection in report.connections if connection.status == "hot"}


async def test_a_service_that_starts_before_its_database_becomes_warm(dsn: str, collection: str) -> None:
    with FaultyNetwork(dsn) as network:
        network.refuse()
        options: dict[str, Any] = {"warm": "startup", "warm_timeout": 0.5, "keep_warm": True}
        async with VectorStorage(network.dsn, collection, 3, **options) as storage:
            assert storage.state in ("degraded", "warming")
            network.heal()
            assert await storage.wait_warm(SECONDS)
            assert storage.state == "warm"
            assert len(await pids(storage)) == 3


async def test_connections_that_the_server_ends_are_replaced_without_a_call(
    server: Server, dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 3, warm="startup", keep_warm=True) as storage:
        assert storage.state == "warm"
        before = await pids(storage)
        for pid in sorted(before)[:2]:
            server.sql(f"SELECT pg_terminate_backend({pid}, 5000)", "tests")
        with anyio.fail_after(SECONDS):
            while storage.state == "warm":
                await anyio.lowlevel.checkpoint()
                if not before <= await pids(storage):
                    break
        assert await storage.wait_warm(SECONDS)
        after = await pids(storage)
        assert len(after) == 3
        assert len(before & after) == 1


async def test_after_an_outage_the_pool_is_warm_again_without_a_call(dsn: str, collection: str) -> None:
    with FaultyNetwork(dsn) as network:
        options: dict[str, Any] = {"warm": "startup", "warm_timeout": 0.5, "keep_warm": True}
        async with VectorStorage(network.dsn, collection, 3, **options) as storage:
            assert storage.state == "warm"
            before = await pids(storage)
            network.refuse()
            network.reset()
            with anyio.fail_after(SECONDS):
                while storage.state == "warm":
                    await anyio.lowlevel.checkpoint()
            network.heal()
            assert await storage.wait_warm(SECONDS)
            assert not before & await pids(storage)
            assert await storage.search([1.0, 0.0, 0.0]) == []


async def test_without_a_keeper_a_lost_connection_is_seen_in_the_state(
    server: Server, dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 3, warm="startup") as storage:
        assert storage.state == "warm"
        server.sql(f"SELECT pg_terminate_backend({min(await pids(storage))}, 5000)", "tests")
        with anyio.fail_after(SECONDS):
            while storage.state == "warm":
                await anyio.lowlevel.checkpoint()
        assert storage.state == "degraded"
        assert await storage.warm_pool()
        assert storage.state == "warm"


async def test_a_pool_that_is_given_to_storages_tells_each_of_lost_connections(
    server: Server, dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warmed_pool, "CHECK_SECONDS", math.inf)
    options: dict[str, Any] = {"warm": "startup", "keep_warm": True}
    async with open_pool(dsn, size=3) as pool:
        async with (
            VectorStorage(pool, collection, 3, **options) as one,
            VectorStorage(pool, collection + "_2", 3, **options) as other,
        ):
            before = await pids(one)
            server.sql(f"SELECT pg_terminate_backend({min(before)}, 5000)", "tests")
            with anyio.fail_after(SECONDS):
                while min(before) in await pids(one) | await pids(other):
                    await anyio.lowlevel.checkpoint()
            assert await one.wait_warm(SECONDS)
            assert await other.wait_warm(SECONDS)
        events: list[PoolEvent] = []
        identity(pool).add_hook(events.append)
        server.sql(f"SELECT pg_terminate_backend({max(await pids(one))}, 5000)", "tests")
        with anyio.fail_after(SECONDS):
            while not events:
                await anyio.lowlevel.checkpoint()
        assert (one.state, other.state) == ("closed", "closed")
        assert identity(pool)._hooks == (events.append,)


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """A primary and a standby."""
    with reachable_folder() as folder, replicated(folder, standbys=1) as nodes:
        yield nodes


async def test_after_a_crash_and_a_fail_over_the_pool_is_warm_on_the_new_primary(nodes: list[Node]) -> None:
    primary, standby = nodes
    dsn = dsn_of(primary, standby, words="target_session_attrs=read-write")
    options: dict[str, Any] = {"warm": "startup", "warm_timeout": 2.0, "keep_warm": True}
    async with VectorStorage(dsn, "papers", 3, **options) as storage:
        assert storage.state == "warm"
        await to_thread.run_sync(primary.stop, signal.SIGKILL)
        with anyio.fail_after(SECONDS):
            while storage.state == "warm":
                await anyio.lowlevel.checkpoint()
        await to_thread.run_sync(standby.promote)
        assert await storage.wait_warm(SECONDS)
        [row] = await storage.pool.fetch("SELECT inet_server_port() AS port")
        assert row["port"] == standby.port


async def test_after_a_restart_of_the_server_the_pool_is_warm_without_a_call(nodes: list[Node]) -> None:
    primary = nodes[0]
    options: dict[str, Any] = {"warm": "startup", "keep_warm": True}
    async with VectorStorage(primary.dsn("tests"), "papers", 3, **options) as storage:
        assert storage.state == "warm"
        await to_thread.run_sync(primary.stop)
        with anyio.fail_after(SECONDS):
            while storage.state == "warm":
                await anyio.lowlevel.checkpoint()
        await to_thread.run_sync(primary.start)
        assert await storage.wait_warm(SECONDS)
        assert len(await pids(storage)) == 3
