"""asyncpg's errors as those that a caller sees."""

from __future__ import annotations

import re
from typing import Any

import asyncpg

from ...errors import ArgumentError, ConnectError, PreheatError, describe, without_secrets
from .. import causes
from ..dsn.parameters import ConnectionParameters

__all__ = ("connect_error", "is_lost", "operation_error")

BAD_MESSAGE = "08P01"
"""What COPY says of a row with too few bytes; no end of a connection."""

LAST_WORDS = ("25", "53", "57")
"""The classes of what a server says of why it ends a session: a time-out, a lack of resources, an administrator."""


def connect_error(error: Exception, target: str, parameters: ConnectionParameters | None = None) -> PreheatError | None:
    """The error that a caller should see if a connection attempt ended in `error`; None if that is not about it.

    Args:
        parameters: what the connection was to be made of, if that is known.
    """
    state = _sqlstate(error)
    if state in ("42704", "22023"):  # no such parameter, or not with this value
        return ArgumentError(
            f"the server does not take a parameter of the DSN: {without_secrets(str(error))}; remove it, "
            "or set it in another way if it is one of libpq's that asyncpg does not know"
        )
    if (words := re.search(r"unsupported startup parameter(?: in options)?: (\S+)", str(error))) is not None:
        return ArgumentError(
            f"the pooler in between does not pass on {words[1]!r}; remove it from the DSN, and set it for the role "
            f"(ALTER ROLE ... SET), or let the pooler ignore it (ignore_startup_parameters = {words[1]} of PgBouncer)"
        )
    if isinstance(error, asyncpg.ClientConfigurationError) and "root certificate" in str(error):
        return ArgumentError(
            f"{str(error).partition(chr(10))[0]}; name the authority that signed the server's certificate in the DSN, "
            "as sslrootcert=/path/to/root.crt"
        )
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ArgumentError(
            f"the DSN is not usable: {without_secrets(str(error))}; write postgresql://user@host/database"
        )
    if isinstance(error, asyncpg.InternalClientError):
        return ConnectError(target, describe(error), "check that PostgreSQL is what listens on that host and port")
    if isinstance(error, asyncpg.InterfaceError):
        return ConnectError(target, describe(error), "use the pool after it is opened and before it is closed")
    told = causes.connect_error(error, target, state, parameters)
    if told is None and isinstance(error, ValueError):
        return ConnectError(target, describe(error), "check the DSN")
    return told


def operation_error(error: Exception, target: str, connection: Any) -> PreheatError | None:
    """The error that a caller should see if something done on a connection ended in `error`; None if that is not the
    server's or the driver's, but of the code in between."""
    if "statement pooling mode" in str(error):  # PgBouncer's words; its code says nothing
        return causes.no_transactions(error, target)
    state = _sqlstate(error)
    ended = isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)) and is_lost(connection)
    before = error.__context__
    if ended and isinstance(before, (asyncpg.PostgresError, ConnectionError)):
        error, state = before, _sqlstate(before)  # the end of the connection, which the end of a transaction has met
    words = error.__cause__ if isinstance(error, asyncpg.ConnectionDoesNotExistError) else None
    if isinstance(words, asyncpg.PostgresError) and (_sqlstate(words) or "")[:2] in LAST_WORDS:
        error, state = words, _sqlstate(words)
    said = getattr(error, "severity_en", None)
    if state is not None and state.startswith("08") and state != BAD_MESSAGE:
        return causes.lost(error, target, state)
    if state is not None and causes.is_end_of_connection(state, said):
        return causes.connect_error(error, target, state)
    of_driver = isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError))
    # The server's last words may have come, while the end of the connection is still on its way.
    if isinstance(error, asyncpg.InternalClientError) or (
        state is None and isinstance(error, (asyncpg.InterfaceError, ConnectionError)) and is_lost(connection)
    ):
        return causes.lost(error, target, state)
    return causes.statement_error(error, state) if of_driver else None


def _sqlstate(error: Exception) -> str | None:
    """The server's own classification; None for all that it has not said."""
    return getattr(error, "sqlstate", None) if isinstance(error, asyncpg.PostgresError) else None


def is_lost(connection: Any) -> bool:
    """Whether a connection that is checked out has been closed; asyncpg may have given it back by itself since."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True
