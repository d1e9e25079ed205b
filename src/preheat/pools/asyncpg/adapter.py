"""asyncpg on asyncio: a connection that is checked out, and a pool that the application already has.

The pool that :func:`preheat.open_pool` makes is in :mod:`preheat.pools.asyncpg.pool`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
import asyncpg

from ...errors import DatabaseError, PreheatError, describe
from ..protocol import Operation, Row
from .errors import connect_error, operation_error
from .places import Place

__all__ = ("AsyncpgLease", "AsyncpgPool")

logger: logging.Logger = logging.getLogger("preheat")

T = TypeVar("T")

RELEASE_SECONDS = 1.0
"""The most that putting a connection back may take: one reset, or one cancelled statement, on a slow network."""

CANCEL_SECONDS = 0.5
"""The most that the server is given to end a cancelled statement before its connection is closed all the same."""


def shielded() -> AbstractContextManager[Any]:
    """The shield on asyncio."""
    return anyio.CancelScope(shield=True)


class AsyncpgLease:
    """One asyncpg connection, checked out."""

    __slots__ = (
        "_connection",
        "_pool",
        "dirty",
        "discarded",
        "exposed",
        "is_unknown",
        "place",
        "taken_at",
        "was_cut_short",
    )

    def __init__(
        self, connection: Any, pool: AsyncpgPool, place: Place[Any] | None = None, taken_at: float = 0.0
    ) -> None:
        self._connection = connection
        self._pool = pool
        self.place: Place[Any] | None = place
        self.taken_at: float = taken_at
        self.exposed: bool = False
        self.discarded: bool = False
        self.dirty: bool = False
        """Whether what was done on it ended in an error or was cancelled, so that its state must be looked at."""
        self.was_cut_short: bool = False
        """Whether what was done on it was cancelled, or ran out of its time."""
        self.is_unknown: bool = False
        """Whether the server did not know a prepared statement that it should have, or not as it is now."""

    @property
    def pid(self) -> int | None:
        """The server's process id for this connection."""
        if self.place is not None:
            return self.place.pid
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
        self._pool.check()
        try:
            rows: Sequence[Row] = await self._connection.fetch(query, *args, timeout=self._pool.fetch_timeout)
        except Exception as error:
            self.explain(error)
            raise
        return rows

    async def execute(self, query: str, /) -> str:
        """Run a script that leaves no session state behind, in one round trip."""
        self._pool.check()
        try:
            tag: str = await self._connection.execute(query, timeout=self._pool.fetch_timeout)
        except Exception as error:
            self.explain(error)
            raise
        return tag

    def explain(self, error: Exception) -> None:
        """Raise the error that a caller should see for one of the driver's; return if `error` is that already."""
        told = self._pool.told(error, self._connection)
        if told is not None:
            raise told from error

    def discard(self) -> None:
        """Close the connection when the lease ends, instead of putting it back."""
        self.discarded = True

    def failed(self, error: BaseException) -> None:
        """What was done on it has ended in `error`: see what that says of the connection."""
        self.dirty = True
        self.was_cut_short |= isinstance(error, (asyncio.CancelledError, TimeoutError))
        state = getattr(error, "sqlstate", None)
        self.is_unknown |= state in UNKNOWN_STATEMENT and isinstance(error, (asyncpg.PostgresError, DatabaseError))
        # asyncpg has prepared it anew. A pooler that tracks statements answers that with the one that it has already.
        self.is_unknown |= isinstance(error, asyncpg.InvalidCachedStatementError)
        self.discarded |= self.is_unknown or state == READ_ONLY or isinstance(error, asyncpg.InternalClientError)


UNKNOWN_STATEMENT = ("26000", "42P05")
"""A prepared statement does not exist, or exists already: another statement has changed the session, or a pooler has
given it to other clients."""

READ_ONLY = "25006"
"""A write was refused: the server may have become a standby, and the next connection may find the primary."""


class AsyncpgPool:
    """A pool of asyncpg connections, used from asyncio.

    It wraps an :class:`asyncpg.Pool` that the application already has. That is never closed here, and goes on resetting
    its own connections.
    """

    fetch_timeout: float | None = None
    """Seconds for a single statement; None if there is no limit here."""

    def __init__(self, pool: Any, *, name: str, shield: Callable[[], AbstractContextManager[Any]] = shielded) -> None:
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
        async with self._checked_out(await self.acquire()) as lease:
            yield lease

    @asynccontextmanager
    async def _checked_out(self, lease: AsyncpgLease) -> AsyncGenerator[AsyncpgLease]:
        try:
            yield lease
        except BaseException as error:
            lease.failed(error)
            raise
        finally:
            await self.release(lease)

    async def run(self, operation: Operation[T], /) -> T:
        """Run `operation` on one connection; see :meth:`preheat.pools.SQLPool.run`."""
        lease = await self.acquire()
        try:
            return await operation(lease._connection)
        except BaseException as error:
            lease.failed(error)
            if isinstance(error, Exception):
                lease.explain(error)
            raise
        finally:
            await self.release(lease)

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement on one connection; see :meth:`preheat.pools.SQLPool.fetch`."""
        return await self.run(lambda connection: connection.fetch(query, *args))

    def check(self) -> None:
        """Raise :class:`PreheatError` where the pool must not be used."""

    def told(self, error: Exception, connection: Any) -> PreheatError | None:
        """The error that a caller should see for `error`, which came of `connection`; None for `error` itself."""
        return None if isinstance(error, PreheatError) else operation_error(error, self._name, connection)

    async def acquire(self) -> AsyncpgLease:
        """The first half of :meth:`lease`, for callers that cannot hold a context manager."""
        try:
            return AsyncpgLease(await self._pool.acquire(), self)
        except Exception as error:
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
                        await end_statement(connection)
                        drop(connection)
                    await self._pool.release(connection, timeout=RELEASE_SECONDS)
        except Exception as error:
            # The work is done or its own error is under way; a connection that cannot be put back is no reason to
            # fail it. asyncpg terminates a connection whose release failed.
            words = "pool %s: a connection was dropped: %s"
            logger.warning(words, self._name, describe(error), extra={"pool": self._name})
            drop(connection)
        except BaseException:
            drop(connection)  # asyncio's own cancellation goes through anyio's shield
            raise


class _Ended:
    """In place of the connection of a lease that has ended."""

    def __getattr__(self, name: str) -> Any:
        raise PreheatError("the lease has ended and its connection may be in use elsewhere; take another lease")


ENDED = _Ended()


def is_cancelling(connection: Any) -> bool:
    """Whether a statement was cut off by a time limit of asyncpg's, which has no public way to ask."""
    protocol = getattr(connection, "_protocol", None)
    return protocol is not None and bool(protocol._is_cancelling())


def has_lost_count(connection: Any) -> bool:
    """Whether asyncpg takes a transaction for open whose end was cancelled. There is no public way to ask.

    It would begin the next one as a savepoint.
    """
    return getattr(connection, "_top_xact", None) is not None


def drop(connection: Any) -> None:
    """Close a connection without a word to the server, if it is still checked out; its pool notices by itself."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


async def end_statement(connection: Any) -> None:
    """Give the server a moment to end a statement that was cancelled, and to let go of the locks of its session,
    before its connection is closed.

    asyncpg asks it to in the background, and drops the request with the connection; the next statement waits for
    the answer. Without it a server in trouble would go on working for clients that have long gone, and the next caller
    might find the session's locks held by a session that is just about to end.
    """
    with suppress(Exception):  # the connection is about to be closed, whatever state it is in
        if not connection.is_closed():
            await connection.execute("SELECT pg_catalog.pg_advisory_unlock_all()", timeout=CANCEL_SECONDS)
