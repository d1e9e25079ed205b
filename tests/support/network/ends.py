"""Both ends of a connection in the hands of one thread."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from tests.support.waiting import PATIENCE, wait_until

from preheat.testing.network.tcp_server import TCPServer


class Echo(TCPServer):
    """Says what it hears, and ends when the client does."""

    async def handle(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(connection, 65536):
            await loop.sock_sendall(connection, data)


class Pair:
    """A client and the server's end of the same connection, with something between them."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server

    def client_says(self, data: bytes) -> None:
        self.client.sendall(data)
        assert receive(self.server, len(data)) == data

    def server_says(self, data: bytes) -> None:
        self.server.sendall(data)
        assert receive(self.client, len(data)) == data


class Ends:
    """A server that the test plays itself."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port = self._listener.getsockname()[1]

    @contextmanager
    def connected(self, port: int) -> Iterator[Pair]:
        """Connect to `port`, which leads here."""
        with connect(port) as client, self.accepted() as server:
            yield Pair(client, server)

    def accepted(self) -> socket.socket:
        """The server's end of the next connection that comes."""
        server, _ = self._listener.accept()
        server.settimeout(PATIENCE)
        return server

    def close(self) -> None:
        self._listener.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def receive(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or fewer at the end of the stream."""
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data


def is_closed_by_its_peer(connection: socket.socket) -> bool:
    """Whether the stream ends now, orderly or not."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def all_gone(server: TCPServer) -> None:
    """Wait until each connection has ended, with all of its bytes."""
    wait_until(lambda: not server.open)


def query(dsn: str, sslmode: str, **options: object) -> None:
    """Connect with asyncpg, ask once and close."""

    async def go() -> None:
        connection = await asyncpg.connect(dsn.replace("sslmode=disable", f"sslmode={sslmode}"), **options)
        try:
            assert await connection.fetchval("SELECT 42") == 42
        finally:
            await connection.close()

    asyncio.run(go())


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never speaks."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]
