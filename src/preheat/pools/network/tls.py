"""TLS on the way to the server: libpq's words keep their meaning, and a refusal is paid for once.

`sslmode=prefer`, the default, asks the server for TLS and goes on without it if the server has none: a round trip for
nothing, on each connection. A server that has refused is not asked again for a while.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from ..dsn.parameters import Host

__all__ = ("NOT_LET_IN", "REMEMBERED_SECONDS", "RefusedTLS")

REMEMBERED_SECONDS = 300.0
"""For how long a refusal is believed: a server may be given a certificate without its clients noticing."""

NOT_LET_IN = "28000"  # no entry in pg_hba.conf; perhaps one for TLS alone


class RefusedTLS:
    """The hosts that have refused TLS.

    A refusal is forgotten when a connection fails or is lost, since the next one may meet another server.
    """

    def __init__(self) -> None:
        self._since: dict[Host, float] = {}

    def notice(self, host: Host, connection: Any) -> None:
        """Remember a refusal, if a connection that asked for TLS has none."""
        if not host.is_socket and _is_plain(connection):
            self._since[host] = monotonic()

    def is_remembered(self, host: Host) -> bool:
        """Whether a host has refused not long ago."""
        return host in self._since and monotonic() < self._since[host] + REMEMBERED_SECONDS

    def forget(self, host: Host | None = None) -> None:
        """Ask for TLS again at the next connection to a host, or to any."""
        if host is None:
            self._since.clear()
        else:
            self._since.pop(host, None)


def _is_plain(connection: Any) -> bool:
    """Whether a connection is known to be without TLS. asyncpg tells nobody; without its transport nothing is known."""
    transport = getattr(connection, "_transport", None)
    return transport is not None and transport.get_extra_info("sslcontext") is None
