"""PostgreSQL's TLS for a PostgreSQL that has none, as the one in the wheel that the tests run."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
from tests.support.network.traffic import CANCEL_REQUEST, CLIENT_HELLO, GSS_REQUEST, HEAD, SSL_REQUEST, code_of

from preheat.testing.network.forwarder import Forwarder
from preheat.testing.network.tcp_server import TCPServer

ALPN = "postgresql"
LONGEST_START_UP = 10_000
"""Bytes; PostgreSQL reads no more before it knows who is there."""


@dataclass(frozen=True)
class Greeting:
    """What a client wants, once it has said so."""

    head: bytes
    """Bytes that it has sent and the server has to see."""
    tls: bool
    direct: bool = False
    """TLS from the first byte, which since PostgreSQL 17 needs ALPN."""


class TLSTerminator(TCPServer):
    """Speaks TLS 1.3 with clients in front of a PostgreSQL on loopback, and forwards what is within.

    Like PostgreSQL it answers SSLRequest with 'S', accepts TLS from the first byte if the client offers ALPN
    "postgresql", gives no session tickets, and has no GSS encryption.

    Args:
        port: the server's port.
        plain: whether clients may go on without TLS; if not, they are told off as by `hostssl` in pg_hba.conf.
            Cancel requests pass in any case.
    """

    def __init__(self, port: int, *, plain: bool = True) -> None:
        super().__init__()
        self.offers_tls = True
        """Whether TLS is to be had, as with `ssl = on`; may be changed at any time, for connections to come."""
        self.certificate: Path
        """The authority that vouches for "localhost" and 127.0.0.1, a PEM file that exists while this is entered."""
        self.requests = 0
        """SSLRequests that have come."""
        self.refusals = 0
        """SSLRequests that were answered with 'N'."""
        self.handshakes = 0
        """TLS handshakes that have succeeded, direct ones too."""
        self.direct = 0
        """Connections that began with TLS, whatever came of it."""
        self._server_port = port
        self._plain = plain
        self._context: ssl.SSLContext
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="terminator-")))
            authority = trustme.CA()
            self.certificate = folder / "root.crt"
            authority.cert_pem.write_to_path(str(self.certificate))
            self._context = server_context(authority)
            super().__enter__()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._cleanup:
            super().__exit__(kind, error, trace)

    async def handle(self, connection: socket.socket) -> None:
        """Hear what the client wants on the bare socket, then forward, through TLS if it is to be."""
        loop = asyncio.get_running_loop()
        greeting = await self._greet(connection)
        if greeting is None:
            return
        async with Forwarder() as forwarder:
            if greeting.head:
                forwarder.client.data_received(greeting.head)
            transport, _ = await loop.connect_accepted_socket(
                lambda: forwarder.client, connection, ssl=self._context if greeting.tls else None
            )
            if greeting.tls:
                if greeting.direct and transport.get_extra_info("ssl_object").selected_alpn_protocol() != ALPN:
                    return
                self.handshakes += 1
            await loop.create_connection(lambda: forwarder.server, "127.0.0.1", self._server_port)
            await forwarder.ended()

    async def _greet(self, connection: socket.socket) -> Greeting | None:
        """Talk until the client has TLS or goes without; None turns it away."""
        loop = asyncio.get_running_loop()
        if await peek(connection) == CLIENT_HELLO:
            self.direct += 1
            return Greeting(b"", tls=True, direct=True) if self.offers_tls else None
        while True:
            head = await receive(connection, HEAD)
            code = code_of(head)
            if code == SSL_REQUEST:
                self.requests += 1
                if self.offers_tls:
                    await loop.sock_sendall(connection, b"S")
                    return Greeting(b"", tls=True)
                self.refusals += 1
                await loop.sock_sendall(connection, b"N")
            elif code == GSS_REQUEST:
                await loop.sock_sendall(connection, b"N")
            elif self._plain or code == CANCEL_REQUEST:
                return Greeting(head, tls=False)
            else:
                # All of it has to be read: closing a socket with bytes unread would destroy the answer on its way.
                length = int.from_bytes(head[:4], "big")
                await receive(connection, min(length, LONGEST_START_UP) - HEAD)
                await loop.sock_sendall(connection, NO_ENCRYPTION)
                return None


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """TLS as PostgreSQL has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    # PostgreSQL gives none either; they would come unasked, and be counted as turns of the traffic.
    context.num_tickets = 0
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def refusal(code: str, message: str) -> bytes:
    """PostgreSQL's ErrorResponse that ends a connection."""
    fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
    return b"E" + (4 + len(fields)).to_bytes(4, "big") + fields


NO_ENCRYPTION = refusal("28000", "the terminator lets nobody in without TLS (no encryption)")


async def peek(connection: socket.socket) -> bytes:
    """The first byte that has come, which stays to be read; nothing at the stream's end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)


async def receive(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes.

    Raises:
        ConnectionError: if the stream ends before.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        piece = await loop.sock_recv(connection, count - len(data))
        if not piece:
            raise ConnectionError("the client has left in the middle of a message")
        data += piece
    return data
