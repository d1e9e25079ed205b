"""What was measured, as frozen records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ("PHASES", "Answer", "Measurement", "Segment", "Server")

PHASES = (
    "acquire",
    "name resolution",
    "TCP",
    "TLS",
    "log-in",
    "set-up",
    "type look-ups",
    "prepare",
    "first run",
    "second run",
    "release",
)
"""The phases of a first answer, in the order in which they happen. `acquire` is the time that the pool and the driver
take before anything is sent; `set-up` are statements that they run by themselves on a new connection."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time that belongs to one phase."""

    phase: str
    """One of :data:`PHASES`."""
    start: float
    """Seconds after the application asked for a connection."""
    seconds: float
    round_trips: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A first answer: from asking the pool for a connection to having put it back, with the query run twice."""

    after: str
    """What was done to the pool before: `"nothing"`, `"SELECT 1"` or `"warm-up"`."""
    seconds: float
    segments: tuple[Segment, ...]
    """Without a gap: their seconds sum to `seconds`."""
    warm_seconds: float
    """Seconds of the warm-up before; 0 for a cold pool."""

    @property
    def round_trips(self) -> int:
        """Round trips of all segments."""
        return sum(segment.round_trips for segment in self.segments)

    @property
    def until_first(self) -> float:
        """Seconds until the first rows were there."""
        return sum(part.seconds for part in self._before_the_rows())

    @property
    def round_trips_until_first(self) -> int:
        """Round trips until the first rows were there."""
        return sum(part.round_trips for part in self._before_the_rows())

    def _before_the_rows(self) -> Iterator[Segment]:
        return (part for part in self.segments if part.phase not in ("second run", "release"))

    def of(self, phase: str) -> tuple[float, int]:
        """The seconds and the round trips of one phase."""
        parts = [segment for segment in self.segments if segment.phase == phase]
        return sum(part.seconds for part in parts), sum(part.round_trips for part in parts)

    def as_dict(self) -> dict[str, Any]:
        """The answer for JSON."""
        phases = {phase: self.of(phase) for phase in PHASES}
        return {
            "after": self.after,
            "seconds": self.seconds,
            "until_first_seconds": self.until_first,
            "until_first_round_trips": self.round_trips_until_first,
            "round_trips": self.round_trips,
            "warm_seconds": self.warm_seconds,
            "phases": {name: {"seconds": took, "round_trips": trips} for name, (took, trips) in phases.items()},
            "segments": [asdict(segment) for segment in self.segments],
        }


@dataclass(frozen=True, slots=True)
class Server:
    """The server and the way to it."""

    version: str
    version_number: int
    """As `server_version_num`, such as 180004."""
    pgvector: str | None
    """The version of the extension in this database."""
    max_connections: int
    pooler: str | None
    """The mode of the pooler in between, `"session"` or `"transaction"`; None if there is none."""
    is_socket: bool
    """Whether it is reached through a Unix socket."""
    is_encrypted: bool
    is_direct: bool
    """Whether TLS began with the first byte."""
    refuses_tls: bool
    """Whether it was asked for TLS in vain."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Where the time of a first answer goes."""

    target: str
    """`host:port/database`."""
    via: str
    """The pool: `"preheat"`, `"asyncpg"`, `"psycopg"` or `"sqlalchemy"`."""
    backend: str
    query: str
    connections: int
    rounds: int
    rtt_seconds: float | None
    """The estimated round-trip time of the network: the quickest answer of all. None for a Unix socket."""
    server: Server
    answers: tuple[Answer, ...]
    """Cold, after `SELECT 1`, and after preheat's warm-up."""
    notes: tuple[str, ...]
    """What the measurement could not do as asked."""
    advice: tuple[str, ...]
    """What would make the first answer faster, in sentences."""

    def facts(self) -> Iterator[str]:
        """What was measured, in a few words each."""
        yield f"PostgreSQL {self.server.version}"
        yield f"pgvector {self.server.pgvector}" if self.server.pgvector else "no pgvector"
        yield f"pool of {self.via} on {self.backend}"
        yield "1 caller" if self.connections == 1 else f"the slowest of {self.connections} callers"
        yield "Unix socket" if self.rtt_seconds is None else f"round trip {1000 * self.rtt_seconds:.1f} ms"
        yield f"median of {self.rounds} rounds" if self.rounds > 1 else "one round"

    def as_dict(self) -> dict[str, Any]:
        """The measurement for JSON; all times are seconds."""
        return {
            "target": self.target,
            "via": self.via,
            "backend": self.backend,
            "query": self.query,
            "connections": self.connections,
            "rounds": self.rounds,
            "rtt_seconds": self.rtt_seconds,
            "server": asdict(self.server),
            "answers": [answer.as_dict() for answer in self.answers],
            "notes": list(self.notes),
            "advice": list(self.advice),
        }
