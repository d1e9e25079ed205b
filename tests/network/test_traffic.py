"""Whose turn it is, and how a connection began, told from bytes with no socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.network.traffic import CANCEL_REQUEST, GSS_REQUEST, SSL_REQUEST, Opening, Tally, Traffic


def packet(code: int, body: bytes = b"") -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body


START_UP = packet(3 << 16, b"user\0postgres\0\0")
NEWER_START_UP = packet(3 << 16 | 2, b"user\0postgres\0\0")
CANCEL = packet(CANCEL_REQUEST, bytes(8))
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01"

# what the client says, each turn followed by what the server answers; how it opened; whether it cancels
OPENINGS: list[tuple[list[tuple[bytes, bytes]], Opening, bool]] = [
    ([], "silent", False),
    ([(START_UP[:3], b"")], "silent", False),
    ([(START_UP, b"R")], "plain", False),
    ([(NEWER_START_UP, b"R"), (packet(SSL_REQUEST), b"N")], "plain", False),
    ([(CANCEL, b"")], "plain", True),
    ([(packet(SSL_REQUEST), b"")], "ssl-request", False),
    ([(packet(SSL_REQUEST), b"S"), (HELLO, HELLO), (CANCEL, b"")], "ssl-request", False),
    ([(packet(SSL_REQUEST), b"E...")], "ssl-request", False),
    ([(packet(SSL_REQUEST), b"N"), (START_UP, b"R")], "refused", False),
    ([(packet(SSL_REQUEST), b"N"), (CANCEL, b"")], "refused", True),
    ([(packet(GSS_REQUEST), b"N"), (START_UP, b"R")], "plain", False),
    ([(packet(GSS_REQUEST), b"N"), (packet(SSL_REQUEST), b"N"), (START_UP, b"R")], "refused", False),
    ([(packet(GSS_REQUEST), b"G"), (START_UP, b"R")], "gss-request", False),
    ([(HELLO, HELLO)], "direct tls", False),
    ([(b"GET / HTTP/1.1", b"")], "other", False),
]


@given(st.sampled_from(OPENINGS), st.data())
def test_an_opening_is_told_however_the_bytes_are_cut(
    case: tuple[list[tuple[bytes, bytes]], Opening, bool], data: st.DataObject
) -> None:
    turns, opening, cancel = case
    tally = Tally()
    for said, answer in turns:
        at = data.draw(st.integers(1, len(said)))
        for piece in (said[:at], said[at:]):
            if piece:
                tally.from_client(piece)
        if answer:
            tally.to_client(answer)
    traffic = tally.traffic()
    assert (traffic.opening, traffic.cancel) == (opening, cancel)
    assert traffic.sent == sum(len(said) for said, _ in turns)
    assert traffic.received == sum(len(answer) for _, answer in turns)


@pytest.mark.parametrize(("case"), OPENINGS, ids=lambda case: f"{case[1]}-{len(case[0])}-{case[2]}")
def test_an_opening_is_told_from_whole_pieces(case: tuple[list[tuple[bytes, bytes]], Opening, bool]) -> None:
    tally = Tally()
    for said, answer in case[0]:
        tally.from_client(said)
        if answer:
            tally.to_client(answer)
    assert (tally.traffic().opening, tally.traffic().cancel) == case[1:]


def test_an_unrequested_message_between_two_writes_counts_as_a_turn() -> None:
    """The limit that the module's docstring owns up to."""
    tally = Tally()
    tally.from_client(START_UP)
    tally.to_client(b"notice")
    tally.from_client(b"more")
    assert tally.traffic() == Traffic(round_trips=3, sent=len(START_UP) + 4, received=6, opening="plain", cancel=False)
