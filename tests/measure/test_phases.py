"""The phases of a first answer, from made-up traffic."""

from __future__ import annotations

from itertools import pairwise

from preheat.measure.phases import Steps, segments
from preheat.measure.wire import Wire

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
START_UP = (9).to_bytes(4, "big") + (196608).to_bytes(4, "big") + b"\0"
QUERY = "SELECT 7"


def message(kind: str, *fields: str) -> bytes:
    body = b"".join(field.encode() + b"\0" for field in fields)
    return kind.encode() + (4 + len(body)).to_bytes(4, "big") + body


def parse(name: str, text: str) -> bytes:
    return message("P", name, text) + message("D", name) + message("H")


def run(name: str) -> bytes:
    return message("B", "", name) + message("E", "") + message("S")


class Talk:
    """A connection whose clock moves by one second with everything that passes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wire = Wire(lambda: self.now)

    def tick(self) -> float:
        self.now += 1
        return self.now

    def ask(self, data: bytes, *, within: bytes = b"", answer: bytes = b"R") -> None:
        """Send, and receive one second later; one more second passes until anything else."""
        if within:
            self.wire.said(within)
        self.wire.sent(data)
        self.tick()
        self.wire.received(answer)
        self.tick()

    def connect(self) -> None:
        self.tick()
        self.wire.resolving()
        self.tick()
        self.wire.connecting(is_socket=False)
        self.tick()


def phases(steps: Steps, wire: Wire | None) -> list[tuple[str, float, int]]:
    found = segments(steps, wire, QUERY)
    assert sum(part.seconds for part in found) == steps.released - steps.asked
    assert all(part.start + part.seconds == after.start for part, after in pairwise(found))
    return [(part.phase, part.seconds, part.round_trips) for part in found]


def answer(talk: Talk, asked: float, *turns: bytes) -> Steps:
    leased = talk.now
    for turn in turns:
        talk.ask(turn)
    first = talk.tick()
    talk.ask(run("a"))
    second = talk.now
    return Steps(asked, leased, first, second, talk.tick())


def test_a_plain_connection_has_each_phase_once() -> None:
    talk = Talk()
    talk.connect()
    talk.ask(START_UP)
    talk.ask(message("p", "x"))
    found = phases(answer(talk, 0.0, parse("a", QUERY), run("a")), talk.wire)
    assert found == [
        ("acquire", 1, 0),
        ("name resolution", 1, 0),
        ("TCP", 1, 1),
        ("log-in", 4, 2),
        ("prepare", 2, 1),
        ("first run", 3, 1),
        ("second run", 2, 1),
        ("release", 1, 0),
    ]


def test_tls_ends_where_the_start_up_is_sent() -> None:
    talk = Talk()
    talk.connect()
    talk.ask(SSL_REQUEST, answer=b"S")
    talk.ask(b"\x16hello", answer=b"\x16hello")
    talk.ask(b"\x14\x17sealed", within=START_UP, answer=b"\x17sealed")
    talk.wire.heard(message("R") + message("K", "abcdefg"))
    found = phases(answer(talk, 0.0), talk.wire)
    assert ("TLS", 4, 2) in found
    assert ("log-in", 2, 1) in found
    assert talk.wire.is_encrypted
    assert not talk.wire.is_direct
    assert talk.wire.key == int.from_bytes(b"abcd", "big")


def test_earlier_tls_takes_a_round_trip_more_and_direct_tls_one_less() -> None:
    talk = Talk()
    talk.connect()
    talk.ask(b"\x16hello")
    talk.ask(b"\x16key")
    talk.ask(b"\x17sealed", within=START_UP)
    assert ("TLS", 4, 2) in phases(answer(talk, 0.0), talk.wire)
    assert talk.wire.is_direct


def test_a_refusal_of_tls_is_noticed() -> None:
    talk = Talk()
    talk.connect()
    talk.ask(SSL_REQUEST, answer=b"N")
    talk.ask(START_UP)
    assert talk.wire.turns[0].is_refused_tls
    assert not talk.wire.is_encrypted


def test_look_ups_and_statements_of_the_pool_are_told_apart() -> None:
    talk = Talk()
    talk.connect()
    talk.ask(START_UP)
    talk.ask(parse("t", "SELECT oid FROM pg_catalog.pg_type"))
    talk.ask(run("t"))
    talk.ask(message("Q", "SET x = 1"))
    closing = message("C", "t") + message("S")
    found = phases(answer(talk, 0.0, closing, message("Q", QUERY)), talk.wire)
    assert [phase for phase, _, _ in found][3:] == [
        "log-in",
        "type look-ups",
        "set-up",
        "first run",
        "second run",
        "release",
    ]
    assert ("type look-ups", 4, 2) in found
    assert ("set-up", 4, 2) in found


def test_a_warm_connection_has_no_earlier_traffic_in_its_phases() -> None:
    talk = Talk()
    talk.connect()
    talk.ask(START_UP)
    talk.ask(parse("a", QUERY))
    asked = talk.tick()
    talk.tick()
    found = phases(answer(talk, asked, run("a")), talk.wire)
    assert found == [("acquire", 1, 0), ("first run", 3, 1), ("second run", 2, 1), ("release", 1, 0)]


def test_without_traffic_the_steps_alone_are_the_phases() -> None:
    found = phases(Steps(1, 2, 4, 7, 11), None)
    assert found == [("acquire", 1, 0), ("first run", 2, 0), ("second run", 3, 0), ("release", 4, 0)]
