"""A SQLAlchemy `AsyncEngine`, and so a SQLModel one, on asyncpg or psycopg."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from ...errors import ArgumentError
from .common import RELEASE_SECONDS, connecting, number_of, using

__all__ = ("EngineLease", "EnginePool")


class EngineLease:
    """One connection of an engine, checked out."""

    def __init__(self, connection: Any, raw: Any) -> None:
        self._connection = connection
        self._driver = raw.driver_connection
        self._dbapi = raw.dbapi_connection
        self._threshold = getattr(self._driver, "prepare_threshold", None)
        self.discarded: bool = False
        self.passed: bool = False

    @property
    def pid(self) -> int:
        """The server's process id for this connection, or a number in its place for another server's driver."""
        if hasattr(self._driver, "get_server_pid"):
            pid: int = self._driver.get_server_pid()
            return pid
        info = getattr(self._driver, "info", None)
        return getattr(info, "backend_pid", None) or number_of(self._driver)

    @property
    def connection(self) -> Any:
        """The :class:`AsyncConnection`. A probe's statements are prepared at once, by psycopg, too."""
        if self._threshold is not None:
            self._driver.prepare_threshold = 0
        return self._connection

    async def ping(self) -> None:
        """The ping of the engine's dialect, the same as that of `pool_pre_ping=True`."""
        await self._connection.run_sync(lambda connection: connection.dialect.do_ping(self._dbapi))

    def discard(self) -> None:
        """Close the connection when the lease ends, instead of putting it back."""
        self.discarded = True

    async def end(self) -> None:
        """Put the connection back, or close it. At a rollback psycopg forgets what was prepared."""
        if self._threshold is not None:
            self._driver.prepare_threshold = self._threshold
        if self.discarded:
            await self._connection.invalidate()
        elif self.passed:
            await self._connection.commit()
        await self._connection.close()


class EnginePool:
    """The pool of an engine that the application already has, on asyncio."""

    def __init__(self, engine: Any) -> None:
        kind = type(engine.pool).__name__
        if not any(base.__name__ == "AsyncAdaptedQueuePool" for base in type(engine.pool).__mro__):
            raise ArgumentError(
                f"the engine has a {kind}, which keeps no connections apart that could be warmed; leave out "
                f"poolclass={kind} in create_async_engine"
            )
        self.__wrapped__ = engine

    @property
    def name(self) -> str:
        """What logs and reports call this pool; never a password."""
        url = self.__wrapped__.url
        port = f":{url.port}" if url.port else ""
        return f"sqlalchemy {url.host or ''}{port}/{url.database or ''}"

    @property
    def size(self) -> int:
        """The most connections that the pool keeps: its `pool_size`, without overflow; 1000 if that is 0, no limit."""
        size: int = self.__wrapped__.pool.size()
        return size or 1000

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[EngineLease]:
        """Check one connection out; see :meth:`preheat.pools.Pool.lease`."""
        async with AsyncExitStack() as stack:
            connection = self.__wrapped__.connect()
            with connecting(self.name):
                await connection.start()
            stack.push_async_exit(connection)  # which ends in a task of its own when asyncio's cancellation meets it
            lease = EngineLease(connection, await connection.get_raw_connection())
            try:
                with using(self.name):
                    yield lease
                lease.passed = True
            finally:
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await lease.end()
