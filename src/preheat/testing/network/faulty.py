"""A network that fails when it is told to."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from ...errors import ArgumentError
from ...pools.dsn.parameters import Host, connection_parameters, parameters_of
from .forwarder import Delay, Forwarder, Line, Side, Watcher
from .tcp_server import TCPServer

__all__ = ("FaultyNetwork",)

CHUNKS_PER_SECOND = 20
"""Into how many pieces a second's worth of a slow line is cut."""


class FaultyNetwork(TCPServer):
    """Forwards the connections of a client to a database, and fails in the ways of a network when it is told to.

    It is a context manager, and lives in a thread of its own: the program under test may run on asyncio, on trio or on
    neither. Faults can be set before and while connections are open, and combined. They may be set from any thread.

    Attributes:
        latency: seconds that everything takes, each way; connecting takes three ways.
        jitter: up to so many seconds more, at random; the order of what is sent stays.
        bandwidth: bytes per second, each way; None for no limit.

    Args:
        dsn: of the database, as :func:`preheat.open_pool` takes it. Of several hosts the first is used.
        seed: of the jitter.
    """

    def __init__(self, dsn: object, *, seed: int = 0) -> None:
        super().__init__()
        self.latency: float = 0.0
        self.jitter: float = 0.0
        self.bandwidth: float | None = None
        self.accepted: int = 0
        """How many connections have come so far."""
        self._words = parameters_of(dsn)
        self._host: Host = connection_parameters(dsn).hosts[0]
        self._random = random.Random(seed)  # noqa: S311
        self._links: set[_Link] = set()
        self._is_mute = False
        self._bytes_until_close: int | None = None
        self._closes_by_reset = False

    @property
    def dsn(self) -> str:
        """The DSN that leads through this network. Available once the network is entered.

        It encrypts as the given DSN does, but `sslmode=verify-full` fails: the name of the host is another.
        """
        if not self.port:
            raise ArgumentError("the network is not running; use it as a context manager: with FaultyNetwork(dsn) as n")
        words = dict(self._words)
        user, password = (quote(words.pop(name, ""), safe="") for name in ("user", "password"))
        database = quote(words.pop("dbname", ""), safe="")
        for name in ("host", "hostaddr", "port"):
            words.pop(name, None)
        if self._host.is_socket:
            words.setdefault("sslmode", "disable")  # a server does not encrypt on a Unix socket
        who = f"{user}:{password}@" if password else f"{user}@" if user else ""
        rest = f"?{urlencode(words, quote_via=quote)}" if words else ""
        return f"postgresql://{who}127.0.0.1:{self.port}/{database}{rest}"

    @property
    def connections(self) -> int:
        """How many connections are open now, as the network sees it."""
        return len(self._links)

    def refuse(self) -> None:
        """Refuse new connections, as a machine does on which no server listens. Open connections stay."""
        self._call(partial(self._listen, False))

    def mute(self) -> None:
        """Accept new connections and never say a word, as a server that hangs. Open connections stay."""
        self._is_mute = True

    def reset(self) -> None:
        """End every open connection at once, with a TCP reset to both sides."""
        self._call(partial(self._cut, by_reset=True))

    def close(self) -> None:
        """End every open connection at once, in the orderly way."""
        self._call(partial(self._cut, by_reset=False))

    def close_after(self, count: int, *, reset: bool = False) -> None:
        """End each connection, open or new, when `count` more bytes have gone from the database to the client.

        Args:
            count: bytes; 0 ends a new connection before its first answer.
            reset: whether with a TCP reset.
        """
        if count < 0:
            raise ArgumentError(f"count is {count}; give 0 or more bytes")

        def change() -> None:
            self._bytes_until_close, self._closes_by_reset = count, reset
            for link in self._links:
                link.remaining = count

        self._call(change)

    def half_open(self) -> None:
        """Lose whatever is sent on the open connections, both ways, and tell neither side, as a firewall does that has
        forgotten them. New connections work."""
        self._call(self._lose)

    def heal(self) -> None:
        """End all faults. What was lost stays lost: a half-open or mute connection never speaks again."""

        def change() -> None:
            self.latency = self.jitter = 0.0
            self.bandwidth = None
            self._is_mute = False
            self._bytes_until_close = None
            for link in self._links:
                link.remaining = None
            self._listen(True)

        self._call(change)

    def _cut(self, *, by_reset: bool) -> None:
        for link in set(self._links):
            link.cut(by_reset=by_reset)

    def _lose(self) -> None:
        for link in self._links:
            link.is_lost = True

    async def handle(self, connection: socket.socket) -> None:
        """Forward one connection."""
        loop = asyncio.get_running_loop()
        self.accepted += 1
        link = _Link(self._closes_by_reset, self._bytes_until_close)
        self._links.add(link)
        try:
            if link.remaining == 0:
                if link.closes_by_reset:
                    _linger(connection)
                return
            delay = _FaultyDelay(self)
            opens = loop.time() + 2 * self.latency
            async with Forwarder(delay, opens=opens, side=partial(_FaultySide, link)) as forwarder:
                link.sides = (forwarder.client, forwarder.server)
                if self._is_mute:
                    link.is_lost = True
                await loop.connect_accepted_socket(lambda: forwarder.client, connection)
                if not link.is_lost:
                    await asyncio.sleep(3 * self.latency)
                    await self._reach(lambda: forwarder.server)
                else:
                    forwarder.server.lost.set()
                await forwarder.ended()
        finally:
            self._links.discard(link)

    async def _reach(self, side: Any) -> None:
        loop = asyncio.get_running_loop()
        if self._host.is_socket:
            await loop.create_unix_connection(side, self._host.socket)
        else:
            await loop.create_connection(side, self._host.address or self._host.name, self._host.port)


class _FaultyDelay(Delay):
    def __init__(self, network: FaultyNetwork) -> None:
        super().__init__()
        self._network = network

    def seconds_to_send(self, length: int) -> float:
        bandwidth = self._network.bandwidth
        return length / bandwidth if bandwidth else 0.0

    def seconds_under_way(self) -> float:
        jitter = self._network.jitter
        return self._network.latency + (self._network._random.uniform(0, jitter) if jitter else 0.0)

    def largest(self) -> int | None:
        """The largest piece that goes as one."""
        bandwidth = self._network.bandwidth
        return max(1, int(bandwidth / CHUNKS_PER_SECOND)) if bandwidth else None


class _Link:
    """One connection, and what is to become of it."""

    def __init__(self, closes_by_reset: bool, remaining: int | None) -> None:
        self.closes_by_reset = closes_by_reset
        self.remaining = remaining
        self.is_lost = False
        self.sides: tuple[Side, ...] = ()

    def cut(self, *, by_reset: bool) -> None:
        for side in self.sides:
            if side.transport is None:
                continue
            if by_reset:
                _linger(side.transport.get_extra_info("socket"))
                side.transport.abort()
            else:
                side.transport.close()


def _linger(connection: Any) -> None:
    """Let closing a socket reset its connection. One that is closed already stays as it is."""
    if connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _FaultySide(Side):
    def __init__(self, link: _Link, outgoing: Line, incoming: Line, watcher: Watcher | None) -> None:
        super().__init__(outgoing, incoming, watcher)
        self._link = link

    @property
    def _is_client(self) -> bool:
        return bool(self._link.sides) and self._link.sides[0] is self

    def data_received(self, data: bytes) -> None:
        if self._link.is_lost:
            return
        delay = self._outgoing.delay
        largest = delay.largest() if isinstance(delay, _FaultyDelay) else None
        for start in range(0, len(data), largest or len(data)):
            super().data_received(data[start : start + (largest or len(data))])

    def eof_received(self) -> bool:
        if self._link.is_lost:
            self._ended = True
            return False
        return super().eof_received()

    def write(self, data: bytes) -> None:
        link = self._link
        if link.is_lost:
            return
        if link.remaining is None or not self._is_client:
            super().write(data)
            return
        super().write(data[: link.remaining])
        link.remaining = max(0, link.remaining - len(data))
        if not link.remaining:
            link.cut(by_reset=link.closes_by_reset)

    def finish(self) -> None:
        if not self._link.is_lost:
            super().finish()

    def close(self) -> None:
        if not self._link.is_lost:
            super().close()
