"""The right pool for the running backend, and for a pool that the application already has."""

from __future__ import annotations

import math
import re
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ArgumentError, MissingExtraError
from .protocol import Lease, Pool, SQLPool

__all__ = ("as_pool", "as_sql_pool", "open_pool")


def open_pool(
    dsn: str, *, size: int = 10, name: str | None = None, connect_timeout: float = 10.0
) -> AbstractAsyncContextManager[SQLPool]:
    """Open a pool of PostgreSQL connections on asyncio or trio, whichever is running.

    Entering the context manager opens no connection, so it succeeds even for a server that is down; leaving it closes
    them all. On trio the driver's own asyncio loop is opened and closed with the pool.

    A connection that was opened stays open: there is no idle time-out.

    Args:
        dsn: `postgresql://user:password@host:port/database`, with libpq's parameters.
        size: the most connections that the pool ever has open.
        name: what logs and reports call the pool; by default `host:port/database`.
        connect_timeout: seconds for one connection attempt.

    Raises:
        ArgumentError: if the DSN is not a PostgreSQL URL, `size` is below 1 or `connect_timeout` is not positive.
        MissingExtraError: on trio, if the extra `trio` is not installed.

    Cancellation: leaving closes the connections even when it is cancelled, within 5 seconds.
    """
    if size < 1:
        raise ArgumentError(f"size is {size}, and a pool has at least 1 connection; give size=1 or more")
    if not connect_timeout > 0 or math.isnan(connect_timeout):
        raise ArgumentError(f"connect_timeout is {connect_timeout}; give a positive number of seconds")
    name = name or target(dsn)
    if running_backend() == "trio":
        try:
            from .trio_asyncpg import open_trio_asyncpg_pool
        except ImportError as error:
            raise MissingExtraError("asyncpg on trio", "trio") from error
        return open_trio_asyncpg_pool(dsn, size=size, name=name, connect_timeout=connect_timeout)
    from .asyncpg import open_asyncpg_pool

    return open_asyncpg_pool(dsn, size=size, name=name, connect_timeout=connect_timeout)


def as_pool(pool: Any) -> Pool[Lease]:
    """`pool` itself if it has the two members of the protocol, or an adapter for a driver's own pool.

    Raises:
        ArgumentError: if it is neither, or is a pool that cannot work on the running backend.
    """
    if isinstance(pool, Pool):
        return pool
    return as_sql_pool(pool)


def as_sql_pool(pool: Any) -> SQLPool:
    """`pool` itself if it can run operations, or an adapter for an :class:`asyncpg.Pool`.

    Raises:
        ArgumentError: if it is neither, or is a pool that cannot work on the running backend.
    """
    if isinstance(pool, SQLPool):
        return pool
    if hasattr(pool, "acquire") and hasattr(pool, "release") and hasattr(pool, "get_max_size"):
        if running_backend() == "trio":
            raise ArgumentError(
                "an asyncpg pool belongs to an asyncio loop and trio is running; open it with preheat.open_pool(dsn)"
            )
        from .asyncpg import AsyncpgPool, shielded

        return AsyncpgPool(pool, name="asyncpg", shield=shielded)
    raise ArgumentError(
        f"a {type(pool).__name__} is not a pool that preheat knows; "
        "give a DSN, an asyncpg pool, or an object with `size` and `lease()`"
    )


def target(dsn: str) -> str:
    """`host:port/database` of a DSN: what may be shown of it.

    Raises:
        ArgumentError: if it is not a PostgreSQL URL, or so written that it cannot be told where the password ends.
    """
    try:
        parts = urlsplit(dsn)
        parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:  # whose words may hold a part of the password
        raise _not_taken_apart() from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ArgumentError("the DSN is not a PostgreSQL URL; write postgresql://user:password@host:port/database")
    hosts = parts.netloc.rpartition("@")[2]
    after = parts.path + parts.fragment + ("" if "@" in parts.netloc else parts.query)
    if "@" in after or not all(map(_is_host, hosts.split(","))):
        raise _not_taken_apart()
    return f"{unquote(hosts) or 'local socket'}/{unquote(parts.path.lstrip('/'))}".rstrip("/")


_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?")  # a name, an address or an IPv6 address in brackets, and a port


def _not_taken_apart() -> ArgumentError:
    return ArgumentError(
        "the DSN cannot be taken apart; give a port up to 65535 and parameters as name=value, "
        "and percent-encode what is special in user and password (@ is %40, / is %2F)"
    )


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found[2] or 0) <= 65535


def running_backend() -> str:
    """`"asyncio"` or `"trio"`. Nobody runs on trio without having imported it."""
    if "trio" in sys.modules:
        from sniffio import AsyncLibraryNotFoundError, current_async_library

        try:
            return current_async_library()
        except AsyncLibraryNotFoundError:
            return "asyncio"
    return "asyncio"
