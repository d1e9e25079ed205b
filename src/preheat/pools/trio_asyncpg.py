"""asyncpg from trio.

asyncpg needs asyncio, so it lives in a trio-asyncio loop that the pool opens and closes with itself. Everything that
talks to the driver is an asyncio-flavoured coroutine which :class:`AsyncpgPool` already has; here it only crosses over,
once for each operation. A single statement on a connection that is open is run by the trio task itself; all else needs
a task of asyncio's. A trio cancellation reaches the coroutine as one `CancelledError`, and the crossing ends when the
coroutine has cleaned up.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any, TypeVar

import anyio

from ..errors import describe, without_secrets
from .asyncpg import AsyncpgLease, AsyncpgPool, open_asyncpg_pool
from .crossing import WakingFuture, drive
from .protocol import Operation, Row

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it names a class that asyncio is about to drop
    import trio_asyncio

__all__ = ("TrioAsyncpgPool", "TrioConnection", "open_trio_asyncpg_pool")

logger = logging.getLogger("preheat")

T = TypeVar("T")


class TrioConnection:
    """An asyncpg connection whose methods can be awaited from trio; each call is one crossing."""

    def __init__(self, connection: Any, loop: Any) -> None:
        self.asyncpg = connection
        """The asyncpg connection itself, for asyncio-flavoured code."""
        self._loop = loop

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement and return its rows."""
        rows: Sequence[Row] = await drive(self.asyncpg.fetch(query, *args))
        return rows

    async def fetchrow(self, query: str, /, *args: Any) -> Row | None:
        """Run one statement and return its first row, or None."""
        row: Row | None = await drive(self.asyncpg.fetchrow(query, *args))
        return row

    async def fetchval(self, query: str, /, *args: Any) -> Any:
        """Run one statement and return the first column of its first row, or None."""
        return await drive(self.asyncpg.fetchval(query, *args))

    async def execute(self, query: str, /, *args: Any) -> str:
        """Run one statement, or a script without arguments, and return the command tag."""
        tag: str = await drive(self.asyncpg.execute(query, *args))
        return tag

    async def executemany(self, query: str, args: Sequence[Sequence[Any]], /) -> None:
        """Run one statement for each sequence of arguments, all or nothing."""
        await self._cross(self.asyncpg.executemany(query, args))

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncGenerator[None]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        transaction = self.asyncpg.transaction(**options)
        await self._cross(transaction.start())
        try:
            yield
        except BaseException:
            # A connection that cannot roll back is broken, and dropped when it goes back.
            with anyio.move_on_after(1, shield=True), suppress(Exception):
                await self._cross(transaction.rollback())
            raise
        await self._cross(transaction.commit())

    def get_server_pid(self) -> int:
        """The server's process id for this connection."""
        pid: int = self.asyncpg.get_server_pid()
        return pid

    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        closed: bool = self.asyncpg.is_closed()
        return closed

    async def _cross(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await self._loop.run_aio_coroutine(coroutine)


class TrioAsyncpgLease:
    """One asyncpg connection, checked out from trio."""

    __slots__ = ("_lease", "_loop")

    def __init__(self, lease: AsyncpgLease, loop: Any) -> None:
        self._lease = lease
        self._loop = loop

    @property
    def pid(self) -> int | None:
        """The server's process id for this connection."""
        return self._lease.pid

    @property
    def connection(self) -> TrioConnection:
        """The connection, to be awaited from trio; it is reset when it goes back."""
        return TrioConnection(self._lease.connection, self._loop)

    async def ping(self) -> str:
        """`SELECT 1`: one round trip."""
        return await self.execute("SELECT 1")

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement that leaves no session state behind."""
        return await drive(self._lease.fetch(query, *args))

    async def execute(self, query: str, /) -> str:
        """Run a script that leaves no session state behind, in one round trip."""
        return await drive(self._lease.execute(query))

    def explain(self, error: Exception) -> None:
        """Raise the error that a caller should see for one of the driver's; return if `error` is that already."""
        self._lease.explain(error)

    def discard(self) -> None:
        """Close the connection when the lease ends, instead of putting it back."""
        self._lease.discard()


class TrioAsyncpgPool:
    """A pool of asyncpg connections, used from trio."""

    def __init__(self, pool: AsyncpgPool, loop: Any) -> None:
        self._pool = pool
        self._loop = loop

    def __repr__(self) -> str:
        return f"<TrioAsyncpgPool {self.name} size={self.size}>"

    @property
    def __wrapped__(self) -> AsyncpgPool:
        return self._pool

    @property
    def name(self) -> str:
        """What logs and reports call this pool."""
        return self._pool.name

    @property
    def size(self) -> int:
        """The most connections that the pool ever has open."""
        return self._pool.size

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[TrioAsyncpgLease]:
        """Check one connection out; see :meth:`preheat.pools.Pool.lease`."""
        lease: AsyncpgLease = await self._loop.run_aio_coroutine(self._pool.acquire())
        try:
            yield TrioAsyncpgLease(lease, self._loop)
        except BaseException:
            lease.disturbed = True
            raise
        finally:
            with anyio.CancelScope(shield=True):  # give_back() bounds itself
                await self._loop.run_aio_coroutine(self._pool.give_back(lease))

    async def run(self, operation: Operation[T], /) -> T:
        """Run `operation` on one connection, in one crossing; see :meth:`preheat.pools.SQLPool.run`."""
        result: T = await self._loop.run_aio_coroutine(self._pool.run(operation))
        return result

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement on one connection; see :meth:`preheat.pools.SQLPool.fetch`."""
        lease = self._pool.at_hand()
        if lease is None:  # to open one, or to wait for one, takes a task of asyncio's
            rows: Sequence[Row] = await self._loop.run_aio_coroutine(self._pool.fetch(query, *args))
            return rows
        try:
            return await drive(lease.fetch(query, *args))
        except BaseException as error:
            self._pool.disturbed(lease, error)
            raise
        finally:
            if not self._pool.shelve(lease):
                with anyio.CancelScope(shield=True):  # give_back() bounds itself
                    await self._loop.run_aio_coroutine(self._pool.give_back(lease))


@asynccontextmanager
async def open_trio_asyncpg_pool(
    dsn: str, *, size: int, name: str, connect_timeout: float
) -> AsyncGenerator[TrioAsyncpgPool]:
    """Open a pool on trio, and the asyncio loop in which its driver lives; see :func:`preheat.open_pool`."""
    async with _asyncio_loop() as loop:
        manager = open_asyncpg_pool(dsn, size=size, name=name, connect_timeout=connect_timeout, shield=nullcontext)
        pool = await loop.run_aio_coroutine(manager.__aenter__())
        try:
            yield TrioAsyncpgPool(pool, loop)
        finally:
            with anyio.CancelScope(shield=True):  # closing bounds itself
                await loop.run_aio_coroutine(manager.__aexit__(None, None, None))


@asynccontextmanager
async def _asyncio_loop() -> AsyncGenerator[Any]:
    """A trio-asyncio loop that never sees an exception of the block.

    The loop is a pair of nurseries, and a nursery wraps what leaves its block in an exception group. What the user's
    code raises is none of the loop's business, so it passes by. Nor does what the driver only reports to its loop, such
    as a transaction that somebody left open, end the loop and all that runs in it, as trio-asyncio would have it.
    """
    manager = trio_asyncio.open_loop()
    loop = await manager.__aenter__()
    loop.set_exception_handler(_report)
    loop.create_future = partial(WakingFuture, loop=loop)
    try:
        yield loop
    finally:
        await manager.__aexit__(None, None, None)


def _report(_loop: Any, context: Mapping[str, Any]) -> None:
    """What asyncio would log."""
    error = context.get("exception")
    words = without_secrets(str(context.get("message", "")))
    logger.warning("asyncpg reports: %s%s", words, f": {describe(error)}" if error is not None else "")
