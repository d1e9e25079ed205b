"""Opens the asyncpg connections of one pool, with what all of them have in common.

:class:`~preheat.pools.asyncpg.connector.Connector` finds the server. This adds what makes a connection fit for a pool:
prepared statements without a life time, and start-up parameters that a pooler may refuse.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import os
import secrets
import select
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

import asyncpg

from ...errors import ConnectError, PreheatError
from ..dsn.parameters import ConnectionParameters
from ..options import PoolOptions
from .connector import Connector
from .errors import operation_error

__all__ = ("NO_SESSION", "Opener", "has_hung_up", "is_pooled", "watch")

CHECK_CLIENT = "client_connection_check_interval"
"""The start-up parameter by which the server looks from time to time whether the client of a running statement is
still there: without it, it goes on working for a client that was killed."""

LARGEST_PID = 2**22
"""No process of Linux has a larger number. A pooler sends its clients a number of 32 bits that it has made up."""

NO_SESSION = "a pooler has taken the connection, and has no session of the server for it"

_TOKEN = secrets.token_hex(4)
_numbers = itertools.count(1)


class _Connection(asyncpg.Connection):  # type: ignore[misc, unused-ignore]
    """Its prepared statements have names that no other client uses, and its reset leaves no role and no table behind.

    asyncpg counts from 1 in each process. Behind a pooler in transaction mode one process may so execute the statement
    of another, without an error.
    """

    __slots__ = ()

    def get_reset_query(self) -> str:
        """What the server runs when a connection goes back that a caller had to itself.

        `RESET ALL` leaves the role as it is, under which the next caller may see other rows. A temporary table hides
        the one of the same name.
        """
        query: str = super().get_reset_query()
        more = "SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; DISCARD TEMP;\n"
        return more + query if self._server_caps.sql_reset else query

    async def _copy_in(self, copy_stmt: Any, source: Any, timeout: Any) -> Any:
        try:
            return await super()._copy_in(copy_stmt, source, timeout)
        except asyncpg.InternalClientError:
            # The server has said its last words, and the end of the connection is on its way. asyncpg has made a future
            # for the end of the COPY and does not wait for it, so asyncio would log its error as one nobody has seen.
            for held in gc.get_referents(self._protocol):
                if isinstance(held, asyncio.Future):
                    held.add_done_callback(lambda future: future.cancelled() or future.exception())
            raise

    def _get_unique_id(self, prefix: str) -> str:
        return f"__preheat_{prefix}_{_TOKEN}_{os.getpid():x}_{next(_numbers):x}__"


class Opener:
    """Opens one connection at a time; called for each.

    Args:
        password: as of the options, but asyncio-flavored.
        init: as of the options, but asyncio-flavored.
    """

    def __init__(
        self,
        parameters: ConnectionParameters,
        options: PoolOptions,
        *,
        password: Any = None,
        init: Callable[[Any], Awaitable[object]] | None = None,
    ) -> None:
        self.connector: Connector = Connector(
            parameters, name=options.name, connect=options.connect, max_lag=options.max_replica_lag
        )
        self._password = password
        self._init = init
        self._statement_timeout = options.statement_timeout
        self.is_named: bool = options.prepare is not False
        """Whether statements are prepared under a name, which saves a round trip for each that is used again."""
        self._checking: WeakSet[Any] = WeakSet()  # connections to a pooler that have no session of the server yet
        self._has_transactions = False  # whether a pooler has allowed one
        self._settings = {CHECK_CLIENT: "2000", "application_name": options.application_name}

    def forget(self) -> None:
        """A connection was lost, so the next one may meet another server."""
        self.connector.forget()
        self._has_transactions = False

    async def __call__(self, deadline: float) -> Any:
        """Open a connection.

        Args:
            deadline: when to give up, on the clock of the event loop.

        Raises:
            ConnectError: if no host could be used; the driver's own error is the `__cause__`.
            ArgumentError: if the server does not have a parameter of the DSN, or a file that it names cannot be used.
            Exception: what `init` or `password` raises.
        """
        try:
            connection = await self.connector(deadline, **self._arguments())
        except PreheatError as error:
            if CHECK_CLIENT not in str(error):
                raise
            # A pooler that does not pass it on, or a server before PostgreSQL 14: it is useful, not needed.
            self._settings = {name: value for name, value in self._settings.items() if name != CHECK_CLIENT}
            connection = await self.connector(deadline, **self._arguments())
        limit = asyncio.timeout_at(None if deadline == math.inf else deadline)
        try:
            async with limit:
                if not (connection.is_closed() or 0 < connection.get_server_pid() <= LARGEST_PID):
                    await self._check_pooler(connection)
                if self._init is not None:
                    await self._init(connection)
        except BaseException as error:
            told = operation_error(error, self.connector.name, connection) if isinstance(error, Exception) else None
            is_checking = connection in self._checking
            self._checking.discard(connection)
            connection.terminate()
            if isinstance(told, ConnectError):  # the connection was lost, which is no error of init
                raise told from error
            if isinstance(error, TimeoutError) and limit.expired() and is_checking:
                raise self.no_session() from error
            if isinstance(error, TimeoutError) and limit.expired():
                reason, remedy = "init did not end in time", "do less in init, or give it longer with connect_timeout"
                raise ConnectError(self.connector.name, reason, remedy, transient=True) from error
            raise
        return connection

    async def _check_pooler(self, connection: Any) -> None:
        """Wait until a pooler has a session of the server for a connection, and look whether it allows transactions.

        In session mode a pooler with too few sessions takes a connection, and then lets its first statement wait.
        Meanwhile the pool's callers use the connections that it has.
        """
        self._checking.add(connection)
        if self._has_transactions:
            await connection.execute("SELECT 1")
        else:
            await connection.execute("BEGIN")
            await connection.execute("ROLLBACK")
            self._has_transactions = True
        self._checking.discard(connection)

    @property
    def waits_for_session(self) -> bool:
        """Whether a pooler has taken a connection, and has no session of the server for it yet."""
        return len(self._checking) > 0

    def no_session(self) -> ConnectError:
        """The error for a connection to which a pooler gives no session of the server."""
        remedy = (
            "give the pool at most as many connections as the pooler has sessions for it (default_pool_size of "
            "PgBouncer), or let the pooler keep a session for a transaction only (pool_mode = transaction)"
        )
        return ConnectError(self.connector.name, NO_SESSION, remedy, transient=True)

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "server_settings": self._settings,
            "max_cached_statement_lifetime": 0,  # a statement that was prepared stays prepared
            "connection_class": _Connection,
        }
        if not self.is_named:
            arguments["statement_cache_size"] = 0
        if self._password is not None:
            arguments["password"] = self._password
        if self._statement_timeout is not None and not math.isinf(self._statement_timeout):
            arguments["command_timeout"] = self._statement_timeout
        return arguments


async def is_pooled(connection: Any) -> bool:
    """Whether a pooler is in between that gives each transaction to another session of the server, or may do so.

    The process id that a pooler tells its client is one of its own making.
    """
    try:
        pid = await connection.fetchval("SELECT pg_catalog.pg_backend_pid()")
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
        return True  # prepared a moment ago, and unknown already
    return bool(pid != connection.get_server_pid())


def watch(connection: Any) -> Any:
    """What :func:`has_hung_up` asks; None where the system has no such thing."""
    sock = _socket(connection)
    if sock is None or not hasattr(select, "POLLRDHUP"):
        return None
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return poll


def has_hung_up(watched: Any) -> bool:
    """Whether the server has closed a connection, though the event loop has not seen it yet. Waits for nothing.

    So it is after a process was stopped, or busy, for longer than the server kept its sessions.
    """
    return watched is not None and bool(watched.poll(0))


def _socket(connection: Any) -> Any:
    """The socket of a connection, through an attribute of asyncpg's that is not public; None without it."""
    transport = getattr(connection, "_transport", None)
    return None if transport is None else transport.get_extra_info("socket")
