"""asyncpg from trio.

asyncpg needs asyncio, so it lives in an asyncio loop that the pool opens and closes with itself. Everything that
talks to the driver is an asyncio-flavored coroutine which :class:`OwnAsyncpgPool` already has; here it only crosses
over, once for each operation. A single statement, and the wait for a connection, are run by the trio task itself; an
operation needs a task of asyncio's. A trio cancellation reaches the coroutine as one `CancelledError`, and the crossing
ends when the coroutine has cleaned up. So does Ctrl-C: on the way from here to the driver and back it interrupts waits
only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from inspect import isawaitable
from typing import Any, TypeVar

import anyio
from trio import Cancelled
from trio.lowlevel import current_trio_token, enable_ki_protection

from ...errors import ConnectError
from ..asyncpg.adapter import AsyncpgLease, is_cancelling
from ..asyncpg.opener import Opener
from ..asyncpg.pool import OwnAsyncpgPool
from ..dsn.parameters import ConnectionParameters
from ..options import PoolOptions
from ..protocol import Operation, Row
from ..statistics import PoolHook, PoolStatistics
from .bridge import drive, uninterrupted
from .driver_loop import DriverLoop, trio_asyncio

__all__ = ("TrioAsyncpgPool", "TrioConnection", "open_trio_asyncpg_pool")

T = TypeVar("T")


class TrioConnection:
    """An asyncpg connection whose methods can be awaited from trio; each call is one crossing.

    Errors are the driver's own, except that each call raises :class:`ConnectError` once the pool is closed.
    """

    def __init__(self, connection: Any, pool: TrioAsyncpgPool) -> None:
        self.asyncpg = connection
        """The asyncpg connection itself, for asyncio-flavored code."""
        self._pool = pool

    @enable_ki_protection
    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement and return its rows."""
        rows: Sequence[Row] = await self._pool.drive(self.asyncpg.fetch, query, *args)
        return rows

    @enable_ki_protection
    async def fetchrow(self, query: str, /, *args: Any) -> Row | None:
        """Run one statement and return its first row, or None."""
        row: Row | None = await self._pool.drive(self.asyncpg.fetchrow, query, *args)
        return row

    @enable_ki_protection
    async def fetchval(self, query: str, /, *args: Any) -> Any:
        """Run one statement and return the first column of its first row, or None."""
        return await self._pool.drive(self.asyncpg.fetchval, query, *args)

    @enable_ki_protection
    async def execute(self, query: str, /, *args: Any) -> str:
        """Run one statement, or a script without arguments, and return the command tag."""
        tag: str = await self._pool.drive(self.asyncpg.execute, query, *args)
        return tag

    @enable_ki_protection
    async def executemany(self, query: str, args: Sequence[Sequence[Any]], /) -> None:
        """Run one statement for each sequence of arguments, all or nothing."""
        await self._pool.cross(self.asyncpg.executemany, query, args)

    @uninterrupted
    async def transaction(self, **options: Any) -> AsyncGenerator[None]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        transaction = await self._pool.drive(_transaction, self.asyncpg, options)
        await self._pool.cross(transaction.start)
        try:
            yield
        except BaseException:
            # A connection that cannot roll back is broken, and dropped when it goes back.
            with anyio.move_on_after(1, shield=True), suppress(Exception):
                await self._pool.cross(transaction.rollback)
            raise
        await self._pool.cross(transaction.commit)

    def get_server_pid(self) -> int:
        """The server's process id for this connection."""
        pid: int = self.asyncpg.get_server_pid()
        return pid

    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        closed: bool = self.asyncpg.is_closed()
        return closed


async def _transaction(connection: Any, options: dict[str, Any]) -> Any:
    return connection.transaction(**options)


class TrioAsyncpgLease:
    """One asyncpg connection, checked out from trio."""

    __slots__ = ("_lease", "_pool")

    def __init__(self, lease: AsyncpgLease, pool: TrioAsyncpgPool) -> None:
        self._lease = lease
        self._pool = pool

    @property
    def pid(self) -> int | None:
        """The server's process id for this connection."""
        return self._lease.pid

    @property
    def connection(self) -> TrioConnection:
        """The connection, to be awaited from trio; it is reset when it goes back."""
        return TrioConnection(self._lease.connection, self._pool)

    async def ping(self) -> str:
        """`SELECT 1`: one round trip."""
        return await self.execute("SELECT 1")

    @enable_ki_protection
    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement that leaves no session state behind."""
        return await self._pool.drive(self._lease.fetch, query, *args)

    @enable_ki_protection
    async def execute(self, query: str, /) -> str:
        """Run a script that leaves no session state behind, in one round trip."""
        return await self._pool.drive(self._lease.execute, query)

    def explain(self, error: Exception) -> None:
        """Raise the error that a caller should see for one of the driver's; return if `error` is that already."""
        self._lease.explain(error)

    def discard(self) -> None:
        """Close the connection when the lease ends, instead of putting it back."""
        self._lease.discard()


class TrioAsyncpgPool:
    """A pool of asyncpg connections, used from trio."""

    def __init__(self, pool: OwnAsyncpgPool, loop: DriverLoop) -> None:
        self._pool = pool
        self._loop = loop

    def __repr__(self) -> str:
        return f"<TrioAsyncpgPool {self.name} size={self.size}>"

    @property
    def __wrapped__(self) -> OwnAsyncpgPool:
        return self._pool

    @property
    def name(self) -> str:
        """What logs and reports call this pool."""
        return self._pool.name

    @property
    def size(self) -> int:
        """The most connections that the pool ever has open."""
        return self._pool.size

    def statistics(self) -> PoolStatistics:
        """The state of the pool now, and what it has done since it was opened."""
        return self._pool.statistics()

    def add_hook(self, hook: PoolHook) -> None:
        """See :meth:`preheat.pools.OpenablePool.add_hook`."""
        self._pool.add_hook(hook)

    def remove_hook(self, hook: PoolHook) -> None:
        """See :meth:`preheat.pools.OpenablePool.remove_hook`."""
        self._pool.remove_hook(hook)

    def lease(self) -> AbstractAsyncContextManager[TrioAsyncpgLease]:
        """Check one connection out; see :meth:`preheat.pools.Pool.lease`."""
        return self._lease(self._pool.acquire)

    def lease_new(self) -> AbstractAsyncContextManager[TrioAsyncpgLease]:
        """Check one connection out; see :meth:`OwnAsyncpgPool.lease_new`."""
        return self._lease(self._pool.acquire_new)

    @uninterrupted
    async def _lease(
        self, acquire: Callable[[], Coroutine[Any, Any, AsyncpgLease]]
    ) -> AsyncGenerator[TrioAsyncpgLease]:
        lease = await self.drive(acquire)
        try:
            yield TrioAsyncpgLease(lease, self)
        except BaseException as error:
            lease.failed(asyncio.CancelledError() if isinstance(error, Cancelled) else error)
            raise
        finally:
            with anyio.CancelScope(shield=True), suppress(ConnectError):  # closed, and its connections with it
                await self.drive(self._pool.release, lease)  # which bounds itself

    @enable_ki_protection
    async def run(self, operation: Operation[T], /) -> T:
        """Run `operation` on one connection, in one crossing; see :meth:`preheat.pools.SQLPool.run`."""
        return await self.cross(lambda: self._pool.run(operation))

    @enable_ki_protection
    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement on one connection; see :meth:`preheat.pools.SQLPool.fetch`."""
        self._check()
        return await drive(self._pool.fetch(query, *args))

    @enable_ki_protection
    async def cross(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Await a function of the driver's in a task of asyncio's.

        Raises:
            ConnectError: if the pool is closed, or is closed meanwhile.
            PreheatError: in another event loop or process than the pool's.
        """
        self._check()
        try:
            return await self._loop.run(function(*args))
        except (Exception, asyncio.CancelledError) as error:
            self._pool.raise_if_closed(error)
            raise

    @enable_ki_protection
    async def drive(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """As :meth:`cross`, in this task of trio's; see :func:`preheat.pools.trio.bridge.drive`.

        A connection whose statement was cancelled waits for the server's word on that before its next one, with an
        `asyncio.timeout`, which needs a task of asyncio's.
        """
        owner = getattr(function, "__self__", None)
        connection = getattr(owner, "_connection", owner)
        if is_cancelling(connection):
            return await self.cross(function, *args)
        self._check()
        try:
            return await drive(function(*args))
        except (Exception, asyncio.CancelledError) as error:
            self._pool.raise_if_closed(error)
            raise

    def _check(self) -> None:
        self._pool.check()
        if not self._loop.is_open:  # it has ended with trio if nobody closed the pool
            raise self._pool.closed()

    async def close(self) -> None:
        """Close the connections; see :meth:`OwnAsyncpgPool.close`."""
        with anyio.CancelScope(shield=True), suppress(ConnectError):
            await self.cross(self._pool.close)  # which bounds itself


@uninterrupted
async def open_trio_asyncpg_pool(
    parameters: ConnectionParameters, options: PoolOptions
) -> AsyncGenerator[TrioAsyncpgPool]:
    """Open a pool on trio, and the asyncio loop in which its driver lives; see :func:`preheat.open_pool`."""
    loop = DriverLoop()
    pool: TrioAsyncpgPool | None = None

    async def init(connection: Any) -> None:
        if options.init is not None and pool is not None:
            await trio_asyncio.trio_as_aio(options.init)(TrioConnection(connection, pool))

    async def run_probe(probe: Any, lease: AsyncpgLease) -> None:
        if pool is not None:
            await trio_asyncio.trio_as_aio(probe)(TrioAsyncpgLease(lease, pool))

    async def make() -> OwnAsyncpgPool:
        opener = Opener(
            parameters,
            options,
            password=_asyncio_flavored(options.password),
            init=init if options.init is not None else None,
        )
        return OwnAsyncpgPool(opener, options, current=current_trio_token, shield=nullcontext, run_probe=run_probe)

    try:
        await loop.open()
        pool = TrioAsyncpgPool(await loop.run(make()), loop)
        try:
            yield pool
        finally:
            await pool.close()
    finally:
        await loop.close()


def _asyncio_flavored(password: Any) -> Any:
    """A password, or a function that asyncpg can await for one."""
    if not callable(password):
        return password

    async def ask() -> str:
        answer = password()
        if not isawaitable(answer):
            return str(answer)

        async def wait() -> Any:
            return await answer

        return str(await trio_asyncio.trio_as_aio(wait)())

    return ask
