"""A `psycopg_pool.AsyncConnectionPool`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import anyio
from psycopg_pool import PoolTimeout

from .common import RELEASE_SECONDS, connecting, using

__all__ = ("PsycopgLease", "PsycopgPool")

MOMENT = 0.02
"""Seconds for which a warm-up holds a connection that it was lent again, and for which it then does without one."""


LOOK_SECONDS = 0.25
"""How long a caller waits before it looks why a pool that has failed to connect lends nothing."""


class PsycopgLease:
    """One psycopg connection, checked out."""

    def __init__(self, connection: Any, pool: Any) -> None:
        self._connection = connection
        self._pool = pool
        self._threshold = connection.prepare_threshold
        self.pid: int = connection.info.backend_pid
        self.discarded: bool = False
        self.passed: bool = False

    @property
    def connection(self) -> Any:
        """The :class:`psycopg.AsyncConnection`. A probe's statements are prepared at once, not at the fifth time."""
        if self._threshold is not None:  # None: the application wants no prepared statements
            self._connection.prepare_threshold = 0
        return self._connection

    async def ping(self) -> None:
        """The pool's own check: an empty statement outside of a transaction, one round trip."""
        await self._pool.check_connection(self._connection)

    def discard(self) -> None:
        """Close the connection when the lease ends, instead of putting it back."""
        self.discarded = True

    async def end(self) -> None:
        """Leave no transaction open, and the threshold as it was. At a rollback psycopg forgets what was prepared."""
        connection = self._connection
        connection.prepare_threshold = self._threshold
        await (connection.close() if self.discarded else connection.commit() if self.passed else connection.rollback())


class PsycopgPool:
    """A pool of psycopg connections that the application already has, on asyncio."""

    def __init__(self, pool: Any) -> None:
        self.__wrapped__ = pool
        self._returned: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """What logs and reports call this pool."""
        return f"psycopg {self.__wrapped__.name}"

    @property
    def size(self) -> int:
        """The most connections that the pool ever has open."""
        size: int = self.__wrapped__.max_size
        return size

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[PsycopgLease]:
        """Check one connection out; see :meth:`preheat.pools.Pool.lease`."""
        async with self._checked_out(await self._getconn()) as lease:
            yield lease

    @asynccontextmanager
    async def lease_new(self) -> AsyncGenerator[PsycopgLease]:
        """Check one connection out, but none that was given back since this call began."""
        async with self._checked_out(await self._another(anyio.current_time())) as lease:
            yield lease

    async def _getconn(self) -> Any:
        """A connection. The pool itself tries again and again to connect and does not tell why it fails."""
        pool = self.__wrapped__
        try:
            return await pool.getconn(timeout=min(LOOK_SECONDS, pool.timeout))
        except PoolTimeout:
            if pool.get_stats().get("connections_errors"):
                await self._look()
            return await pool.getconn()

    async def _look(self) -> None:
        """Connect once as the pool does.

        Raises:
            ConnectError: with the cause, if that fails.
        """
        pool = self.__wrapped__
        if not (callable(pool.conninfo) or callable(pool.kwargs)):
            with connecting(self.name):
                connection = await pool.connection_class.connect(pool.conninfo, **(pool.kwargs or {}))
            await connection.close()

    async def _another(self, began: float) -> Any:
        """A connection that was not given back since `began`.

        The pool opens one connection after another, only while a caller waits and none is idle. Meanwhile it lends
        those again that a warm-up has put back, so they are held for a moment, and left to other callers for another.
        """
        while True:
            held: list[Any] = []
            try:
                while True:
                    held.append(await (self.__wrapped__.getconn(timeout=MOMENT) if held else self._getconn()))
                    if self._returned.get(held[-1], -1.0) < began:
                        return held.pop()
            except PoolTimeout:
                if not held:
                    raise
            finally:
                for connection in held:
                    await self.__wrapped__.putconn(connection)  # as it came, so there is nothing to wait for
            await anyio.sleep(MOMENT)

    @asynccontextmanager
    async def _checked_out(self, connection: Any) -> AsyncGenerator[PsycopgLease]:
        lease = PsycopgLease(connection, self.__wrapped__)
        try:
            with using(self.name):
                yield lease
            lease.passed = True
        finally:
            try:
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await lease.end()
            finally:  # a cancellation of asyncio's own goes through the shield
                self._returned[connection] = anyio.current_time()
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await self.__wrapped__.putconn(connection)
