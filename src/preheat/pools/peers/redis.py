"""A client or a connection pool of `redis.asyncio`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from .common import RELEASE_SECONDS, connecting, number_of, using

__all__ = ("RedisLease", "RedisPool")


class RedisLease:
    """One connection to Redis, checked out."""

    def __init__(self, connection: Any) -> None:
        self.connection: Any = connection
        self.pid: int = number_of(connection)
        self.discarded: bool = False

    async def ping(self) -> object:
        """`PING`: one round trip."""
        return await self.execute("PING")

    async def execute(self, *command: Any) -> object:
        """Send one command, such as `"GET", "key"`, and return the answer."""
        await self.connection.send_command(*command)
        return await self.connection.read_response()

    def discard(self) -> None:
        """Close the connection when the lease ends. Its object stays in the pool, and connects anew."""
        self.discarded = True


class RedisPool:
    """A pool of connections to Redis that the application already has, on asyncio."""

    def __init__(self, client_or_pool: Any) -> None:
        self.__wrapped__: Any = getattr(client_or_pool, "connection_pool", client_or_pool)

    @property
    def name(self) -> str:
        """What logs and reports call this pool; never a password."""
        to = self.__wrapped__.connection_kwargs
        where = to.get("path") or f"{to.get('host', 'localhost')}:{to.get('port', 6379)}"
        return f"redis {where}/{to.get('db') or 0}"

    @property
    def size(self) -> int:
        """The most connections that the pool ever has open."""
        size: int = self.__wrapped__.max_connections
        return size

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[RedisLease]:
        """Check one connection out; see :meth:`preheat.pools.Pool.lease`."""
        with connecting(self.name, "check that Redis is running there and that host and port are right"):
            connection = await self.__wrapped__.get_connection()
        lease = RedisLease(connection)
        try:
            with using(self.name):
                yield lease
        finally:
            try:
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    if lease.discarded:
                        await connection.disconnect(nowait=True)
            finally:
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await self.__wrapped__.release(connection)
