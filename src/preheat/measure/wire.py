"""The traffic of one connection: when each round trip began, and what it was about.

A *round trip* is one turn of the traffic: what the client sends after it has received something, or after the
connect. The connect itself is one, too, except through a Unix socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

__all__ = ("Turn", "Wire")

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
HANDSHAKE = b"\x16"
"""The first byte of a TLS handshake. No message of PostgreSQL begins so."""
REFUSED = b"N"
"""The answer of a server without TLS to the request for it."""


@dataclass
class Turn:
    """One round trip after the connect."""

    began: float
    """When its first byte was sent; all times are those of the clock of the wire, in seconds."""
    sent_at: float
    """When its last byte was sent."""
    head: bytes = b""
    """The first bytes as the socket was given them."""
    text: bytes = b""
    """What the driver said, without TLS."""
    answered: float | None = None
    """When the first byte of the answer came."""
    reply: bytes = b""
    """The first byte of the answer, as the socket brought it."""

    @property
    def is_tls(self) -> bool:
        """Whether it asks for TLS or is a part of its handshake, and carries nothing else."""
        return self.head.startswith(SSL_REQUEST) or (self.head.startswith(HANDSHAKE) and not self.text)

    @property
    def is_refused_tls(self) -> bool:
        """Whether it asks for TLS and the server has none."""
        return self.head.startswith(SSL_REQUEST) and self.reply == REFUSED


class Wire:
    """Watches one connection; a :class:`preheat.pools.network.watched.Watcher`.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self.resolving_at: float | None = None
        """When the look-up of the name began."""
        self.connecting_at: float | None = None
        """When the address was known."""
        self.is_socket: bool = False
        """Whether it is a Unix socket."""
        self.turns: list[Turn] = []
        self.key: int | None = None
        """The process id that the server gave, or whatever tells connections apart."""
        self.types_at: float | None = None
        """When the driver was asked to look types up, which it does until the connection is lent; None if that shows in
        what it says."""
        self.is_encrypted: bool = False
        self.is_direct: bool = False
        """Whether TLS began with the first byte."""
        self._pending = b""
        self._is_servers_turn = False
        self._heard = b""

    def now(self) -> float:
        """The time on its clock."""
        return self._clock()

    def resolving(self) -> None:
        """The look-up of the name of the server begins."""
        if self.resolving_at is None:
            self.resolving_at = self._clock()

    def connecting(self, *, is_socket: bool) -> None:
        """The address of the server is known, and a connection to it begins."""
        if self.connecting_at is None:
            self.connecting_at = self._clock()
            self.is_socket = is_socket

    def said(self, data: bytes) -> None:
        """The driver sends `data`, which is encrypted now."""
        self._pending += data

    def sent(self, data: bytes) -> None:
        """The socket is given `data`."""
        now = self._clock()
        if not self._is_servers_turn or not self.turns:
            self.turns.append(Turn(now, now))
        self._is_servers_turn = True
        turn = self.turns[-1]
        turn.sent_at = now
        turn.head += data[: len(SSL_REQUEST) - len(turn.head)]
        if data.startswith(HANDSHAKE) and not self.is_encrypted:
            self.is_encrypted = True
            self.is_direct = len(self.turns) == 1
        if not self.is_encrypted:
            self._pending += data
        turn.text += self._pending
        self._pending = b""

    def received(self, data: bytes) -> None:
        """The socket has brought `data`."""
        self._is_servers_turn = False
        if self.turns and self.turns[-1].answered is None:
            self.turns[-1].answered = self._clock()
            self.turns[-1].reply = data[:1]
        if not self.is_encrypted and not (self.turns and self.turns[-1].is_tls):
            self.heard(data)

    def heard(self, data: bytes) -> None:
        """The driver gets `data`, without TLS."""
        if self.key is None:
            self._heard += data
            self.key = process_id(self._heard)
            if self.key is not None:
                self._heard = b""

    def statements(self) -> Iterator[tuple[Turn, list[tuple[str, str]]]]:
        """Each turn with its messages: their type, and the text of the statement that they are about."""
        known: dict[bytes, str] = {}
        for turn in self.turns:
            yield turn, [_message(kind, body, known) for kind, body in _messages(turn.text)]


def _messages(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The messages of a client after the log-in; nothing for other bytes."""
    start = 0
    while start + 5 <= len(text):
        length = int.from_bytes(text[start + 1 : start + 5], "big")
        if not 65 <= text[start] <= 122 or length < 4:
            return  # the start-up, which has no type
        yield chr(text[start]), text[start + 5 : start + 1 + length]
        start += 1 + length


def _message(kind: str, body: bytes, known: dict[bytes, str]) -> tuple[str, str]:
    """The type of a message and its statement; a statement that is prepared is kept in `known`."""
    if kind == "P":
        name, _, rest = body.partition(b"\0")
        known[name] = rest.partition(b"\0")[0].decode(errors="replace")
        return kind, known[name]
    if kind == "Q":
        return kind, body.partition(b"\0")[0].decode(errors="replace")
    if kind == "B":
        return kind, known.get(body.split(b"\0", 2)[1] if body.count(b"\0") > 1 else b"", "")
    return kind, ""


def process_id(heard: bytes) -> int | None:
    """The process id in the messages of a server, once it has come."""
    start = 0
    while start + 5 <= len(heard):
        length = int.from_bytes(heard[start + 1 : start + 5], "big")
        if heard[start : start + 1] == b"K" and start + 9 <= len(heard):
            return int.from_bytes(heard[start + 5 : start + 9], "big")
        start += 1 + max(length, 4)
    return None
