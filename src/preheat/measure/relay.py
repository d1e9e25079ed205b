"""A relay on loopback through which a driver is watched that opens its sockets itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream, SocketAttribute, SocketStream

from ..pools.dsn.parameters import Host
from .wire import Wire

__all__ = ("relay",)


@asynccontextmanager
async def relay(host: Host, watch: Callable[[], Wire]) -> AsyncGenerator[int]:
    """Forward connections to a server, and return the port to connect to on 127.0.0.1.

    The bytes pass as they are, so TLS ends at the driver. Each connection has the port of its client as its key.

    Args:
        host: the server.
        watch: makes the watcher of one connection.
    """

    async def serve(client: SocketStream) -> None:
        wire = watch()
        wire.key = client.extra(SocketAttribute.remote_port)  # noqa: S610
        async with client, await _reach(host, wire) as server, anyio.create_task_group() as both:
            both.start_soon(_pump, client, server, wire.sent)
            await _pump(server, client, wire.received)
            both.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(SocketAttribute.local_port)  # noqa: S610
        tasks.cancel_scope.cancel()


async def _reach(host: Host, wire: Wire) -> ByteStream:
    if host.is_socket:
        wire.connecting(is_socket=True)
        return await anyio.connect_unix(host.socket)
    wire.resolving()
    addresses = await anyio.getaddrinfo(host.address or host.name, host.port)
    wire.connecting(is_socket=False)
    return await anyio.connect_tcp(str(addresses[0][4][0]), host.port)


async def _pump(source: ByteReceiveStream, target: ByteSendStream, tell: Callable[[bytes], None]) -> None:
    """Pass on until one side has ended, which ends the other side, too."""
    try:
        async for data in source:
            tell(data)
            await target.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    with anyio.CancelScope(shield=True):
        await target.aclose()
