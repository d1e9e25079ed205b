"""asyncpg on asyncio.

The pool's methods are asyncio-flavored: :mod:`preheat.pools.trio` runs them in an asyncio loop on top of trio,
where anyio does not know which world it is in. So they use asyncio's own time-outs; what must not be cancelled is put
into a shield that the pool is given, anyio's on asyncio, and none on trio, where the crossing itself is shielded.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
import asyncpg

from ..errors import ConnectError, PreheatError, describe
from .asyncpg_connector import Connector
from .asyncpg_errors import connect_error, is_lost, operation_error
from .dsn import ConnectionParameters
from .idle_list import IdleList
from .protocol import Operation, Row

__all__ = ("AsyncpgLease", "AsyncpgPool", "OwnAsyncpgPool", "make_asyncpg_pool", "open_asyncpg_pool")

logger: logging.Logger = logging.getLogger("preheat")

T = TypeVar("T")

RELEASE_SECONDS = 1.0
"""The most that putting a connection back may take: one reset, or one cancelled statement, on a slow network."""

CANCEL_SECONDS = 0.5
"""The most that the server is given to end a cancelled statement before its connection is closed all the same."""

CLOSE_SECONDS = 5.0
"""The most that closing a pool may take before its connections are dropped."""


def shielded() -> AbstractContextManager[Any]:
    """The shield on asyncio."""
    return anyio.CancelScope(shield=True)


class AsyncpgLease:
    """One asyncpg connection, checked out."""

    __slots__ = ("_connection", "_pool", "dirty", "discarded", "exposed")

    def __init__(self, connection: Any, pool: AsyncpgPool) -> None:
        self._connection = connection
        self._pool = pool
        self.exposed: bool = False
        self.discarded: bool = False
        self.dirty: bool = False
        """Whether what was done on it ended in an error or was cancelled, so that its state must be looked at."""

    @property
    def pid(self) -> int | None:
        """The server's process id for this connection."""
        pid = self._connection.get_server_pid()
        return pid if isinstance(pid, int) else None

    @property
    def connection(self) -> Any:
        """The :class:`asyncpg.Connection` itself; it is reset when it goes back."""
        self.exposed = True
        return self._connection

    async def ping(self) -> str:
        """`SELECT 1` as a simple query: one round trip, and no prepared statement."""
        return await self.execute("SELECT 1")

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement that leaves no session state behind."""
        try:
            rows: Sequence[Row] = await self._connection.fetch(query, *args)
        except Exception as error:
            self.explain(error)
            raise
        return rows

    async def execute(self, query: str, /) -> str:
        """Run a script that leaves no session state behind, in one round trip."""
        try:
            tag: str = await self._connection.execute(query)
        except Exception as error:
            self.explain(error)
            raise
        return tag

    def explain(self, error: Exception) -> None:
        """Raise the error that a caller should see for one of the driver's; return if `error` is that already."""
        self._pool.raise_if_closed(error)
        told = None if isinstance(error, PreheatError) else operation_error(error, self._pool.name, self._connection)
        if told is not None:
            raise told from error

    def discard(self) -> None:
        """Close the connection when the lease ends, instead of putting it back."""
        self.discarded = True


class AsyncpgPool:
    """A pool of asyncpg connections, used from asyncio.

    It wraps an :class:`asyncpg.Pool` that the application already has. That is never closed here, and goes on resetting
    its own connections.
    """

    _resets_itself = True

    def __init__(self, pool: Any, *, name: str, shield: Callable[[], AbstractContextManager[Any]]) -> None:
        self._pool = pool
        self._name = name
        self._shield = shield

    def __repr__(self) -> str:
        return f"<AsyncpgPool {self._name} size={self.size}>"

    @property
    def __wrapped__(self) -> Any:
        return self._pool

    @property
    def name(self) -> str:
        """What logs and reports call this pool."""
        return self._name

    @property
    def size(self) -> int:
        """The most connections that the pool ever has open."""
        size: int = self._pool.get_max_size()
        return size

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[AsyncpgLease]:
        """Check one connection out; see :meth:`preheat.pools.Pool.lease`."""
        lease = await self.acquire()
        try:
            yield lease
        except BaseException:
            lease.dirty = True
            raise
        finally:
            await self.release(lease)

    async def run(self, operation: Operation[T], /) -> T:
        """Run `operation` on one connection; see :meth:`preheat.pools.SQLPool.run`."""
        lease = self.acquire_nowait() or await self.acquire()
        try:
            return await operation(lease._connection)
        except BaseException as error:
            self.mark_dirty(lease, error)
            raise
        finally:
            if not self.release_nowait(lease):
                await self.release(lease)

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement on one connection; see :meth:`preheat.pools.SQLPool.fetch`."""
        return await self.run(lambda connection: connection.fetch(query, *args))

    def mark_dirty(self, lease: AsyncpgLease, error: BaseException) -> None:
        """An operation has ended in `error`: raise the one that its caller should see, if that is another."""
        lease.dirty = True
        lease.discarded |= isinstance(error, asyncpg.InternalClientError)
        if isinstance(error, Exception):
            lease.explain(error)

    def raise_if_closed(self, error: BaseException) -> None:
        """Raise :class:`ConnectError` if `error` comes of the pool's end."""

    def acquire_nowait(self) -> AsyncpgLease | None:
        """An idle connection that can be had without a wait, checked out."""
        return None

    def release_nowait(self, lease: AsyncpgLease) -> bool:
        """Put a connection back as it is, without a wait, if nothing can have happened to it."""
        return False

    async def acquire(self) -> AsyncpgLease:
        """The first half of :meth:`lease`, for callers that cannot hold a context manager."""
        try:
            return AsyncpgLease(await self._take(), self)
        except Exception as error:
            self.raise_if_closed(error)
            refused = None if isinstance(error, PreheatError) else connect_error(error, self._name)
            if refused is None:
                raise
            raise refused from error

    async def release(self, lease: AsyncpgLease) -> None:
        """The second half of :meth:`lease`: never raises for a connection that is broken, it is only dropped."""
        connection = lease._connection
        try:
            with self._shield():
                async with asyncio.timeout(2 * RELEASE_SECONDS):
                    if lease.discarded:
                        await self._end_statement(connection)
                        _drop(connection)
                    elif not self._resets_itself and not is_lost(connection):
                        if connection.is_in_transaction():  # its rollback was cancelled with all the rest
                            await connection.execute("ROLLBACK", timeout=RELEASE_SECONDS)
                        if lease.exposed:
                            await connection.reset(timeout=RELEASE_SECONDS)
                    await self._pool.release(connection, timeout=RELEASE_SECONDS)
        except Exception as error:
            # The work is done or its own error is under way; a connection that cannot be put back is no reason to
            # fail it. asyncpg terminates a connection whose release failed; one whose reset failed is ours to drop.
            logger.warning("pool %s: a connection was dropped: %s", self._name, describe(error))
            _drop(connection)
        except BaseException:
            _drop(connection)  # asyncio's own cancellation goes through anyio's shield
            raise

    async def _take(self) -> Any:
        """An asyncpg connection, opened if there is no idle one."""
        return await self._pool.acquire()

    async def _end_statement(self, connection: Any) -> None:
        """Give the server a moment to end a statement that was cancelled, and to let go of the locks of its session,
        before its connection is closed.

        asyncpg asks it to in the background, and drops the request with the connection; the next statement waits for
        the answer. Without it a server in trouble would go on working for clients that have long gone, and whoever
        comes next might find the session's locks held by a session that is just about to end.
        """
        with suppress(Exception):  # the connection is about to be closed, whatever state it is in
            if not connection.is_closed():
                await connection.execute("SELECT pg_catalog.pg_advisory_unlock_all()", timeout=CANCEL_SECONDS)


class _Ended:
    """In place of the connection of a lease that has ended."""

    def __getattr__(self, name: str) -> Any:
        raise PreheatError("the lease has ended and its connection is somebody else's; take another lease")


_ENDED = _Ended()


class OwnAsyncpgPool(AsyncpgPool):
    """A pool that :func:`preheat.open_pool` made; nobody else uses it.

    Its asyncpg pool opens and closes the connections. Between operations they are in an idle list.
    """

    _resets_itself = False

    def __init__(
        self, pool: Any, connector: Connector, *, name: str, shield: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        super().__init__(pool, name=name, shield=shield)
        self._connector = connector
        self._idle: IdleList[Any] = IdleList(self.size)
        self._attempts: set[asyncio.Timeout] = set()  # what ends each connection attempt that is under way

    async def _take(self) -> Any:
        connection = await self._idle.take()
        if connection is not None:
            if not is_lost(connection):
                return connection
            self._connector.forget()
            _drop(connection)  # its slot is ours
        try:
            return await self._connect()
        except BaseException:
            self._idle.free_slot()
            raise

    async def _connect(self) -> Any:
        """Open a connection, unless the pool is closed first."""
        attempt = asyncio.timeout(None)
        self._attempts.add(attempt)
        try:
            if self._idle.is_open:
                async with attempt:
                    connection = await self._pool.acquire()
                if self._idle.is_open:
                    return connection
                _drop(connection)
        except TimeoutError:
            if not attempt.expired():
                raise
        finally:
            self._attempts.discard(attempt)
        raise self.closed()

    def closed(self) -> ConnectError:
        """What each call of a closed pool raises."""
        return ConnectError(self._name, "the pool is closed", "use it before it is closed, or open another one")

    def acquire_nowait(self) -> AsyncpgLease | None:
        """The connection that was put back last, checked out; None if there is none, or it has been lost."""
        connection = self._idle.take_nowait()
        if connection is None:
            return None
        if not is_lost(connection):
            return AsyncpgLease(connection, self)
        self._connector.forget()
        _drop(connection)
        self._idle.free_slot()
        return None

    def release_nowait(self, lease: AsyncpgLease) -> bool:
        """Put a connection back into the idle list and return True, unless something may have happened to it."""
        connection = lease._connection
        untouched = not (lease.exposed or lease.dirty or lease.discarded)
        if untouched and self._idle.is_open and not (is_lost(connection) or connection.is_in_transaction()):
            lease._connection = _ENDED
            self._idle.put(connection)
            return True
        return False

    async def release(self, lease: AsyncpgLease) -> None:
        """Put a connection back as it is if nothing can have happened to it, without a wait; look after it if not."""
        if self.release_nowait(lease):
            return
        if is_lost(lease._connection):
            self._connector.forget()
        try:
            await super().release(lease)
        finally:
            self._idle.free_slot()

    async def close(self) -> None:
        """Close the connections; those in use are waited for, a few seconds. A connection that dies is no error.

        Cancellation: drops them all.
        """
        idle = self._idle.clear()
        while self._attempts:
            self._attempts.pop().reschedule(-math.inf)
        try:
            with self._shield():
                async with asyncio.timeout(CLOSE_SECONDS):
                    for connection in idle:
                        try:
                            await self._pool.release(connection)
                        except Exception:
                            _drop(connection)
                    await self._pool.close()
        except TimeoutError:
            logger.warning("pool %s: closed with connections still in use, or a mute server; dropped", self._name)
        except Exception as error:
            logger.warning("pool %s: connections were lost as it closed: %s", self._name, describe(error))
        finally:
            self._pool.terminate()  # does nothing after a clean end

    def raise_if_closed(self, error: BaseException) -> None:
        """Raise :class:`ConnectError` if `error` comes of the pool's end."""
        ends = (asyncpg.InterfaceError, asyncpg.PostgresConnectionError, OSError, asyncio.CancelledError)
        if not self._idle.is_open and isinstance(error, ends):
            raise self.closed() from error


def _drop(connection: Any) -> None:
    """Close a connection without a word to the server, if it is still checked out; its pool notices by itself."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _leave_session(connection: Any) -> None:
    """Instead of asyncpg's `RESET ALL`, a round trip after every operation: operations leave no session state."""


async def make_asyncpg_pool(
    parameters: ConnectionParameters,
    *,
    size: int,
    name: str,
    connect_timeout: float,
    shield: Callable[[], AbstractContextManager[Any]] = shielded,
) -> OwnAsyncpgPool:
    """A pool that is to be closed; see :func:`preheat.open_pool`, which checks the arguments."""
    connector = Connector(parameters, name=name)

    async def connect(*_: Any, loop: Any, **options: Any) -> Any:
        return await connector(loop.time() + connect_timeout, **options)

    raw = asyncpg.create_pool(
        connect=connect,
        min_size=0,  # opening a pool opens no connection: that is what warming does
        max_size=size,
        max_inactive_connection_lifetime=0,  # what was warmed stays warm
        reset=_leave_session,
    )
    await raw
    return OwnAsyncpgPool(raw, connector, name=name, shield=shield)


@asynccontextmanager
async def open_asyncpg_pool(
    parameters: ConnectionParameters, *, size: int, name: str, connect_timeout: float
) -> AsyncGenerator[AsyncpgPool]:
    """Open a pool on asyncio; see :func:`preheat.open_pool`."""
    pool = await make_asyncpg_pool(parameters, size=size, name=name, connect_timeout=connect_timeout)
    try:
        yield pool
    finally:
        await pool.close()
