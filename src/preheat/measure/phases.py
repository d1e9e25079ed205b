"""Divide a first answer into phases, from the times of its steps and the traffic of its connection. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .records import Segment
from .wire import Turn, Wire

__all__ = ("Steps", "segments")

CLOSING = {"C", "S", "H"}
"""Messages that only close a prepared statement."""

TYPES = "pg_type"
"""The catalog that drivers look types up in."""


@dataclass(frozen=True, slots=True)
class Steps:
    """When the application took its steps, on the clock of the wire."""

    asked: float
    """It asked the pool for a connection."""
    leased: float
    """It had one."""
    first: float
    """It had the rows of the first run."""
    second: float
    """It had the rows of the second run."""
    released: float
    """The connection was back in the pool."""


def segments(steps: Steps, wire: Wire | None, query: str) -> tuple[Segment, ...]:
    """The phases between asking and having released, without a gap.

    A phase lasts until the next one begins. So the work of the client after an answer belongs to the phase of the
    answer, and the sum of all phases is the whole.

    Args:
        wire: the traffic of the connection; None if it is not known.
        query: the statement that was run twice.
    """
    marks: list[tuple[float, str, int]] = [] if wire is None else _opening(wire)
    if wire is not None:
        marks += [(turn.began, _phase(turn, said, steps, query, wire.types_at), 1) for turn, said in wire.statements()]
    # Until the first statement is sent, the client prepares whatever comes first.
    start = next((phase for began, phase, _ in marks if steps.leased <= began <= steps.first), "first run")
    marks += [
        (steps.asked, "acquire", 0),
        (steps.leased, start, 0),
        (steps.first, "second run", 0),
        (steps.second, "release", 0),
    ]
    marks = sorted((mark for mark in marks if steps.asked <= mark[0] <= steps.released), key=lambda mark: mark[0])
    found: list[Segment] = []
    for (began, phase, trips), (ended, _, _) in pairwise([*marks, (steps.released, "", 0)]):
        part = Segment(phase, began - steps.asked, ended - began, trips)
        if found and found[-1].phase == phase:
            last = found.pop()
            part = Segment(phase, last.start, last.seconds + part.seconds, last.round_trips + trips)
        found.append(part)
    return tuple(found)


def _opening(wire: Wire) -> list[tuple[float, str, int]]:
    """Where the name is looked up, and where the connect begins."""
    if wire.connecting_at is None:
        return []
    looked_up = [] if wire.resolving_at is None else [(wire.resolving_at, "name resolution", 0)]
    return [*looked_up, (wire.connecting_at, "TCP", 0 if wire.is_socket else 1)]


def _phase(turn: Turn, said: list[tuple[str, str]], steps: Steps, query: str, types_at: float | None) -> str:
    """The phase that a round trip belongs to."""
    if turn.began >= steps.second:
        return "release"
    if turn.is_tls:
        return "TLS"
    kinds = {kind for kind, _ in said}
    if types_at is not None and types_at <= turn.began < steps.leased:
        return "type look-ups"
    if turn.began < steps.leased and (not said or kinds <= {"p"}):
        return "log-in"
    texts = [text for _, text in said if text]
    if any(TYPES in text and text != query for text in texts):
        return "type look-ups"
    if turn.began < steps.leased or (texts and query not in texts) or (kinds and kinds <= CLOSING):
        return "set-up"
    if turn.began >= steps.first:
        return "second run"
    return "prepare" if "P" in kinds and "B" not in kinds else "first run"
