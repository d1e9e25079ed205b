"""Watch the traffic of a connection from inside the process: what is sent and received, with TLS and within it.

Asyncio-flavored. A driver that is given an event loop opens its connection through it, so it is given one that passes
everything on and reports it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ("WatchedLoop", "Watcher")


class Watcher(Protocol):
    """Sees one connection. Every method returns at once."""

    def resolving(self) -> None:
        """The look-up of the name of the server begins."""
        ...

    def connecting(self, *, is_socket: bool) -> None:
        """The address of the server is known, and a connection to it begins.

        Args:
            is_socket: whether through a Unix socket.
        """
        ...

    def said(self, data: bytes) -> None:
        """The driver sends `data`; with TLS it is encrypted now."""
        ...

    def sent(self, data: bytes) -> None:
        """The socket is given `data`."""
        ...

    def received(self, data: bytes) -> None:
        """The socket has brought `data`."""
        ...

    def heard(self, data: bytes) -> None:
        """The driver gets `data`; with TLS it was decrypted."""
        ...


class WatchedLoop:
    """An event loop that reports the connections that it opens; in all else it is the loop within."""

    def __init__(self, loop: Any, watcher: Watcher) -> None:
        self._loop = loop
        self._watcher = watcher
        self.is_watching: bool = True
        """Whether new connections are reported. A driver opens further ones to cancel statements."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    # `asyncio.current_task(loop)` finds the tasks of the loop within.

    def __eq__(self, other: object) -> bool:
        return bool(self._loop == (other._loop if isinstance(other, WatchedLoop) else other))

    def __hash__(self) -> int:
        return hash(self._loop)

    async def sock_connect(self, connection: socket.socket, address: Any) -> None:
        """As an event loop's."""
        if self.is_watching:
            self._watcher.connecting(is_socket=False)
        await self._loop.sock_connect(connection, address)

    async def create_unix_connection(self, factory: Callable[[], Any], path: str, **options: Any) -> Any:
        """As an event loop's."""
        if not self.is_watching:
            return await self._loop.create_unix_connection(factory, path, **options)
        self._watcher.connecting(is_socket=True)
        watched = _WatchedProtocol(factory(), self._watcher, within_tls=False)
        await self._loop.create_unix_connection(lambda: watched, path, **options)
        return watched.transport, watched.driver

    async def create_connection(
        self, factory: Callable[[], Any], host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """As an event loop's."""
        if not self.is_watching:
            return await self._loop.create_connection(factory, host, port, **options)
        tls, name = options.pop("ssl", None), options.pop("server_hostname", None)
        if options.get("sock") is None:
            options["sock"] = await self._reach(host, port)
        driver = factory()
        outer = asyncio.Protocol() if tls else driver
        watched = _WatchedProtocol(outer, self._watcher, within_tls=False)
        await self._loop.create_connection(lambda: watched, **options)
        if not tls:
            return watched.transport, driver
        try:
            transport = await self.start_tls(watched.transport, outer, tls, server_hostname=name or host)
            if transport is None:
                raise ConnectionError("the connection was closed during the TLS handshake")
        except BaseException:
            watched.transport.abort()
            raise
        transport.set_protocol(driver)
        driver.connection_made(transport)
        return transport, driver

    async def start_tls(self, transport: Any, protocol: Any, context: Any, **options: Any) -> Any:
        """As an event loop's."""
        within = await self._loop.start_tls(transport, protocol, context, **options)
        return _WatchedTransport(within, self._watcher, within_tls=True) if self.is_watching and within else within

    async def _reach(self, host: str, port: int) -> socket.socket:
        """Connect to the first address of a host that can be reached."""
        error: OSError | None = None
        self._watcher.resolving()
        for family, kind, protocol, _, address in await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            made = socket.socket(family, kind, protocol)
            try:
                made.setblocking(False)
                await self.sock_connect(made, address)
            except OSError as failed:
                made.close()
                error = failed
            except BaseException:
                made.close()
                raise
            else:
                return made
        raise error or OSError(f"{host} has no address")


class _WatchedTransport:
    """A transport that reports what is written to it."""

    def __init__(self, transport: Any, watcher: Watcher, *, within_tls: bool) -> None:
        self._transport = transport
        self._watcher = watcher
        self._within_tls = within_tls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: Any) -> None:
        """As a transport's."""
        (self._watcher.said if self._within_tls else self._watcher.sent)(bytes(data))
        self._transport.write(data)

    def writelines(self, pieces: Any) -> None:
        """As a transport's."""
        self.write(b"".join(pieces))

    def set_protocol(self, protocol: Any) -> None:
        """As a transport's."""
        watched = _WatchedProtocol(protocol, self._watcher, within_tls=self._within_tls)
        watched.transport = self
        self._transport.set_protocol(watched)


class _WatchedProtocol(asyncio.Protocol):
    """Stands between a transport and a protocol, and reports what comes."""

    def __init__(self, driver: Any, watcher: Watcher, *, within_tls: bool) -> None:
        self.driver: Any = driver
        self.transport: Any = None
        self._watcher = watcher
        self._within_tls = within_tls

    def connection_made(self, transport: Any) -> None:
        """The socket is connected."""
        self.transport = _WatchedTransport(transport, self._watcher, within_tls=self._within_tls)
        self.driver.connection_made(self.transport)

    def data_received(self, data: bytes) -> None:
        """The server has sent `data`."""
        (self._watcher.heard if self._within_tls else self._watcher.received)(bytes(data))
        if not isinstance(self.driver, asyncio.BufferedProtocol):
            self.driver.data_received(data)
            return
        while data:
            buffer = memoryview(self.driver.get_buffer(len(data)))
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            self.driver.buffer_updated(count)
            data = data[count:]

    def eof_received(self) -> bool | None:
        """The server sends no more."""
        closes: bool | None = self.driver.eof_received()
        return closes

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self.driver.connection_lost(exc)

    def pause_writing(self) -> None:
        """The server is too slow."""
        self.driver.pause_writing()

    def resume_writing(self) -> None:
        """The server has caught up."""
        self.driver.resume_writing()
