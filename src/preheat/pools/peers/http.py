"""The connections that an `httpx.AsyncClient`, or one of httpx2, keeps to one URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from ...errors import ArgumentError, ConnectError
from .common import RELEASE_SECONDS, connecting

__all__ = ("HTTPLease", "HTTPPool")


class HTTPLease:
    """One connection, on which a request has been answered and whose response is still open."""

    def __init__(self, response: Any, target: str) -> None:
        self.connection: Any = response
        self._target = target
        self._stream = response.extensions.get("network_stream")
        self.discarded: bool = False

    @property
    def pid(self) -> int | None:
        """The local port of this connection, which tells it from others; None if there is none."""
        address = self._stream.get_extra_info("client_addr") if self._stream is not None else None
        return address[1] if isinstance(address, tuple) else None

    async def ping(self) -> None:
        """Look at the status of the answer, which has come already: no round trip.

        Raises:
            ConnectError: if it is 500 or above, or the server keeps no connection open.
        """
        if self.connection.status_code >= 500:
            remedy = "look at the log of the service, or at the proxy in between"
            raise ConnectError(self._target, f"it answered {self.connection.status_code}", remedy, transient=True)
        if (
            self.connection.headers.get("connection", "").lower() == "close"
            or self.connection.http_version == "HTTP/1.0"
        ):
            remedy = "let the service keep connections alive; there is nothing to warm"
            raise ConnectError(self._target, "the server closes the connection after each answer", remedy)

    def discard(self) -> None:
        """Close the connection when the lease ends."""
        self.discarded = True

    async def end(self) -> None:
        """Let the client keep the connection, which it does when the whole answer was read, or close it."""
        await (self.connection.aclose() if self.discarded else self.connection.aread())


class HTTPPool:
    """The connections that a client keeps to one URL, for :func:`preheat.warm`; on asyncio and trio.

    A lease sends one request, which opens the connection with its name resolution and its TLS, and holds the response
    open, so that no other request has the same connection.

    By default a client closes a connection that was not used for 5 seconds: give it a longer time,
    `httpx.Limits(keepalive_expiry=300)`, and one that is shorter than the server's.

    Args:
        client: an :class:`httpx.AsyncClient`, or one of httpx2.
        url: what to ask for; by default the `base_url` of the client.
        method: how; by default `HEAD`, which brings no body. The status does not matter unless it is 500 or above.
    """

    def __init__(self, client: Any, url: str = "", *, method: str = "HEAD") -> None:
        self._client = client
        self._request = client.build_request(method, url)
        at = self._request.url
        if not at.host:
            raise ArgumentError(
                "a client has connections to each server that it is used for; give warm() a preheat.pools.HTTPPool("
                "client, url), or give the client a base_url"
            )
        self.name: str = f"http {at.scheme}://{at.netloc.decode('ascii').rpartition('@')[2]}"

    @property
    def size(self) -> int:
        """The most connections that the client keeps open: its `max_keepalive_connections`; 1 if HTTP/2 is on."""
        pool = getattr(self._client._transport_for_url(self._request.url), "_pool", None)  # there is no public way
        if getattr(pool, "_http2", False):
            return 1
        kept = getattr(pool, "_max_keepalive_connections", 20)
        size: int = max(1, min(kept, getattr(pool, "_max_connections", kept), 1000))
        return size

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[HTTPLease]:
        """Check one connection out; see :meth:`preheat.pools.Pool.lease`."""
        request = self._client.build_request(self._request.method, self._request.url)
        with connecting(self.name, "check that the service is running there and that the URL is right"):
            response = await self._client.send(request, stream=True)
        lease = HTTPLease(response, self.name)
        try:
            yield lease
        finally:
            try:
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await lease.end()
            finally:  # a cancellation of asyncio's own goes through the shield
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await response.aclose()
