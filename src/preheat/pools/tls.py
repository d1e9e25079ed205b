"""TLS on the way to the server: libpq's words keep their meaning, and a refusal is paid for once.

`sslmode=prefer`, the default, asks the server for TLS and goes on without it if the server has none: a round trip for
nothing, on each connection. A server that has refused is not asked again for a while.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ("Connector",)

REMEMBERED_SECONDS = 300.0
"""For how long a refusal is believed: a server may be given a certificate without its clients noticing."""

NOT_LET_IN = "28000"  # no entry in pg_hba.conf; perhaps one for TLS alone


class Connector:
    """Opens the connections of one pool, through the driver's `connect`, whose place it takes.

    What it remembers is forgotten when a connection fails or is lost, since the next one may meet another server. Where
    the DSN names several hosts or a service file nothing is remembered.
    """

    def __init__(self, connect: Callable[..., Awaitable[Any]], dsn: str) -> None:
        self._connect = connect
        self.dsn = dsn
        self._may_remember = _prefers(dsn)
        self._refused_at: float | None = None

    async def __call__(self, *args: Any, **options: Any) -> Any:
        """Open one connection; takes and raises what the driver does."""
        if self._is_refused():
            try:
                return await self._connect(*args, **{**options, "ssl": "disable"})
            except BaseException as error:
                self.forget()
                if getattr(error, "sqlstate", None) != NOT_LET_IN:
                    raise
        connection = await self._connect(*args, **options)
        if self._may_remember and _is_plain(connection):
            self._refused_at = monotonic()
        return connection

    def forget(self) -> None:
        """Ask for TLS again at the next connection."""
        self._refused_at = None

    def _is_refused(self) -> bool:
        return self._refused_at is not None and monotonic() < self._refused_at + REMEMBERED_SECONDS


def _prefers(dsn: str) -> bool:
    """Whether a DSN asks for `sslmode=prefer`, in so many words or by default, of one server."""
    parts = urlsplit(dsn)
    words = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2]
    if not hosts or "," in hosts or "host" in words or "service" in words or "PGSERVICE" in os.environ:
        return False
    return (words["sslmode"][-1] if "sslmode" in words else os.environ.get("PGSSLMODE", "prefer")) == "prefer"


def _is_plain(connection: Any) -> bool:
    """Whether a connection is known to be without TLS. asyncpg tells nobody; without its transport nothing is known."""
    transport = getattr(connection, "_transport", None)
    return transport is not None and transport.get_extra_info("sslcontext") is None
