"""What passes between a client and a PostgreSQL, told from the bytes alone.

A *round trip* is one turn of the traffic from client to server: bytes of the client after bytes of the server, or
after the connect, which is a round trip itself. Over a network, the time of the round trips is most of the time of a
first answer. Their number is the same on every machine.

A turn is taken for a wait. If a client goes on sending while the server answers (a pipeline), or while it sends
something unasked (a notice, a NOTIFY, a TLS session ticket), each such piece counts as one round trip more, although
the client did not wait. Their number then depends on timing. This does not happen between a query and the end of its
answer if the client sends nothing meanwhile, as asyncpg does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
HEAD = 8
"""Bytes that tell what a PostgreSQL client wants first: a length and a code, 4 bytes each."""
CLIENT_HELLO = b"\x16"
"""The first byte of TLS; a length that begins so would be far too long for a start-up."""

Opening = Literal["silent", "plain", "gss-request", "ssl-request", "refused", "direct tls", "other"]


@dataclass(frozen=True)
class Traffic:
    """One connection so far."""

    round_trips: int
    """Turns from client to server; the connect is one."""
    sent: int
    """Bytes that the client has sent."""
    received: int
    """Bytes that the client has been given."""
    opening: Opening
    """How it began: nothing yet, without TLS, asking for TLS, asking and being told no, TLS from the first byte, or
    not like PostgreSQL."""
    cancel: bool
    """Whether all it brought was a CancelRequest. Within TLS this shows only behind whoever takes the TLS off."""


def code_of(head: bytes) -> int:
    """The code in the first 8 bytes from a client."""
    return int.from_bytes(head[4:HEAD], "big")


class Tally:
    """Counts one connection's traffic, seen at the client's door.

    There, what the server says counts when the client gets it: earlier, the client cannot have waited for it.
    """

    def __init__(self) -> None:
        self.round_trips = 1  # the connect
        self._sent = 0
        self._received = 0
        self._opening: Opening = "silent"
        self._cancel = False
        self._head = b""
        self._servers_turn = False
        self._asked = False  # for encryption, and not answered yet
        self._known = False

    def from_client(self, data: bytes) -> None:
        if not self._servers_turn:
            self.round_trips += 1
        self._servers_turn = True
        self._sent += len(data)
        if not self._known and not self._asked:
            self._head += data[: HEAD - len(self._head)]
            self._look()

    def to_client(self, data: bytes) -> None:
        self._servers_turn = False
        self._received += len(data)
        if self._asked:
            self._asked = False
            if data != b"N":
                self._known = True
            elif self._opening == "ssl-request":
                self._opening = "refused"

    def traffic(self) -> Traffic:
        return Traffic(self.round_trips, self._sent, self._received, self._opening, self._cancel)

    def _look(self) -> None:
        first = self._opening == "silent"
        if first and self._head.startswith(CLIENT_HELLO):
            self._opening = "direct tls"
            self._known = True
        elif len(self._head) == HEAD:
            code = code_of(self._head)
            self._head = b""
            if code in (SSL_REQUEST, GSS_REQUEST):
                self._opening = "ssl-request" if code == SSL_REQUEST else "gss-request"
                self._asked = True
                return
            self._known = True
            self._cancel = code == CANCEL_REQUEST
            if self._opening in ("silent", "gss-request"):
                self._opening = "plain" if self._cancel or code >> 16 == 3 else "other"
