"""A storage that keeps its pool warm, on a real server behind a network that fails."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.support.server import Server

from preheat import VectorStorage
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
