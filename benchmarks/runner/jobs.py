"""What a worker is asked to do. Standard library only: every environment imports it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, Self

K = 5
"""How many hits a search asks for."""
POOL_SIZE = 10
"""The most connections that anybody's pool has open."""


@dataclass(frozen=True)
class Job:
    """One worker's work; it travels as a line of JSON."""

    contestant: str
    """The contestant's name, as the results have it."""
    kind: Literal["search", "ingest", "prepare"]
    """Time answers, time storing, or make and fill a table of the contestant's own layout."""
    dsn: str
    """Where the database is; the role's password is in it."""
    collection: str
    """The collection's name. Its table, preheat's own, is `preheat_` and this name."""
    dimensions: int
    """Of every vector."""
    backend: Literal["asyncio", "uvloop", "trio"] = "asyncio"
    seed: int = 0
    """Of the query vectors' order in a search, of the rows in an ingest."""
    connections: int = 1
    """How many connections to warm; for those whose opening is their warm-up, to open."""
    control: int = 0
    """The meter's control port; 0 if the DSN does not lead through a meter, and round trips are not counted."""
    timed: bool = True
    """Whether milliseconds are wanted; without, as few searches are run as counting round trips needs."""
    steady: int = 20
    """Searches, one after the other, of a steady state."""
    sets: int = 10
    """Sets of three searches at once, of a steady state."""
    rows: int = 0
    """The most rows to store in an ingest: whole batches, the first one in any case."""
    batch: int = 1_000
    """Rows of one call of a contestant's bulk way."""
    seconds: float = 1.0
    """After how many seconds an ingest begins no further batch."""

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Self:
        return cls(**json.loads(line))
