"""Pools of other libraries on real servers, each behind a network that can fail."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import anyio
import pytest
from tests.support.waiting import PATIENCE, until

from preheat.pools import HTTPPool, as_pool
from preheat.testing import FaultyNetwork

__all__ = ("ALL", "BY_BACKEND", "BY_BACKEND_AND_UVLOOP", "Peer", "opened", "port_of", "undisturbed", "whole")


@dataclass(frozen=True)
class Peer:
    """One library's pool."""

    name: str
    opened: Callable[[str, int], AbstractAsyncContextManager[Any]]
    """Opens a pool of so many connections for a DSN, which names the host and the port of any server."""
    needs: tuple[str, ...]
    """Its packages."""
    server: str = "postgres"
    backends: tuple[str, ...] = ("asyncio",)


@asynccontextmanager
async def _psycopg(dsn: str, size: int) -> AsyncGenerator[Any]:
    import psycopg_pool

    async with psycopg_pool.AsyncConnectionPool(dsn, min_size=0, max_size=size, open=False) as pool:
        yield pool


def _engine(driver: str) -> Callable[[str, int], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def opened(dsn: str, size: int) -> AsyncGenerator[Any]:
        from sqlalchemy.ext.asyncio import create_async_engine

        url = dsn.replace("postgresql://", f"postgresql+{driver}://").partition("?")[0]
        no_tls = {"ssl": False} if driver == "asyncpg" else {"sslmode": "disable"}
        engine = create_async_engine(url, pool_size=size, max_overflow=0, connect_args=no_tls)
        yield engine
        await engine.dispose()

    return opened


@asynccontextmanager
async def _redis(dsn: str, size: int) -> AsyncGenerator[Any]:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client = Redis(port=port_of(dsn), max_connections=size, retry=Retry(NoBackoff(), 0))
    yield client
    await client.connection_pool.disconnect()


def _client(library: str) -> Callable[[str, int], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def opened(dsn: str, size: int) -> AsyncGenerator[Any]:
        httpx = import_module(library)
        limits = httpx.Limits(max_connections=size, keepalive_expiry=300)
        client = httpx.AsyncClient(limits=limits, trust_env=False)
        yield HTTPPool(client, f"http://127.0.0.1:{port_of(dsn)}/")
        await client.aclose()

    return opened


ALL = (
    Peer("psycopg", _psycopg, ("psycopg_pool",)),
    Peer("engine-asyncpg", _engine("asyncpg"), ("sqlalchemy",)),
    Peer("engine-psycopg", _engine("psycopg"), ("sqlalchemy", "psycopg")),
    Peer("redis", _redis, ("redis",), "redis"),
    Peer("httpx", _client("httpx"), ("httpx",), "web", ("asyncio", "trio")),
    Peer("httpx2", _client("httpx2"), ("httpx2",), "web", ("asyncio", "trio")),
)

BACKENDS = [pytest.param((backend, {}), peer, id=f"{backend}-{peer.name}") for peer in ALL for backend in peer.backends]
UVLOOP = [
    pytest.param(("asyncio", {"use_uvloop": True}), peer, id=f"uvloop-{peer.name}", marks=pytest.mark.slow)
    for peer in ALL
]
BY_BACKEND = pytest.mark.parametrize(("anyio_backend", "peer"), BACKENDS)
BY_BACKEND_AND_UVLOOP = pytest.mark.parametrize(("anyio_backend", "peer"), BACKENDS + UVLOOP)


def port_of(dsn: str) -> int:
    """The port of a DSN."""
    return int(dsn.rpartition("@")[2].partition("/")[0].rpartition(":")[2])


@asynccontextmanager
async def opened(peer: Peer, network: FaultyNetwork, size: int) -> AsyncGenerator[Any]:
    """A pool whose connections go through a network; in the end all of them are closed, whoever is cancelled."""
    stack = AsyncExitStack()
    pool = None

    async def enter() -> None:
        nonlocal pool
        pool = await stack.enter_async_context(peer.opened(network.dsn, size))

    async def leave() -> None:
        await stack.aclose()
        gc.collect()  # psycopg leaves a connection to it whose log-in was cancelled
        await until(lambda: network.connections == 0)

    try:
        await undisturbed(enter)
        yield pool
    finally:
        await undisturbed(leave)


async def undisturbed(work: Callable[[], Awaitable[object]]) -> None:
    """Run `work` to its end, in a task that neither a scope's cancellation nor asyncio's own reaches."""

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            await work()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)


async def whole(pool: Any) -> set[int | None]:
    """Hold all connections of a pool at the same time, each of which works: no lease is lost. Returns their numbers."""
    adapter = as_pool(pool)
    with anyio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            leases = [await stack.enter_async_context(adapter.lease()) for _ in range(adapter.size)]
            for lease in leases:
                await lease.ping()
            return {lease.pid for lease in leases}
