"""What the contest measures, in which order: pure, decided before anything runs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.contestants import CONTESTANTS, Contestant, by_name

ALL = tuple(contestant.name for contestant in CONTESTANTS)


@dataclass(frozen=True)
class Options:
    """How long and how large the contest is."""

    rounds: int = 5
    rows: int = 50_000
    """In the searched table."""
    round_trips: Sequence[float] = (0.0, 0.005, 0.020)
    """Seconds."""
    contestants: Sequence[str] = ALL
    steady: int = 20
    """Searches one after the other, of each contestant in each round."""
    sets: int = 10
    """Sets of three searches at once, likewise."""
    ingest_rounds: int = 6
    ingest_rows: int = 10_000
    """The most that is stored in one ingest."""
    ingest_batch: int = 1_000
    """Rows of one call."""
    ingest_seconds: float = 1.0
    """After how long one ingest begins no further batch."""
    ingest_dimensions: Sequence[int] = (384, 1536)


QUICK = Options(
    rounds=1,
    rows=5_000,
    round_trips=(0.0, 0.020),
    steady=6,
    sets=3,
    ingest_rounds=1,
    ingest_batch=500,
    ingest_seconds=0.3,
)
"""Rough figures of everything in about a minute and a half."""


@dataclass(frozen=True)
class Task:
    """One worker's job and where its samples belong."""

    contestant: Contestant
    kind: str
    """`search`, `round trips` or `ingest`."""
    at: float
    """The round trip in seconds, or the dimensions of an ingest."""
    seed: int

    @property
    def metered(self) -> bool:
        """Whether a meter is in between; directly at the server nothing takes time but the two."""
        return self.kind == "round trips" or (self.kind == "search" and self.at > 0)

    def __str__(self) -> str:
        where = f"{self.at:g} dimensions" if self.kind == "ingest" else f"{1000 * self.at:g} ms"
        return f"{self.contestant.name}: {self.kind}, {where}"


def plan(options: Options) -> Iterator[Task]:
    """Every task in the order of running.

    Round trips are counted wherever a meter is in between. Directly at the server nobody counts them; if there is no
    other round trip, a short pass through a meter does, once, as counts do not vary.
    """
    contestants = [by_name(name) for name in options.contestants]
    searching = [contestant for contestant in contestants if contestant.searches]
    ingesting = [contestant for contestant in contestants if contestant.ingests]

    def shuffled(of: Sequence[Contestant], seed: str) -> list[Contestant]:
        return random.Random(seed).sample(of, len(of))

    for number in range(options.rounds):
        for round_trip in options.round_trips:
            for contestant in shuffled(searching, f"search {number} {round_trip}"):
                yield Task(contestant, "search", round_trip, number)
    if not any(options.round_trips):
        for contestant in searching:
            yield Task(contestant, "round trips", 0.0, 0)
    for number in range(options.ingest_rounds):
        for dimensions in options.ingest_dimensions:
            for contestant in shuffled(ingesting, f"ingest {number} {dimensions}"):
                yield Task(contestant, "ingest", dimensions, number)
