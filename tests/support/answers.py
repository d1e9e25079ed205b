"""What the tests of answers share: a model whose distances one can tell, and research that counts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from tests.support.waiting import until

from preheat import VectorStorage

TRYING = """
SELECT count(*) AS n FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND strpos(query, 'pg_try_advisory_lock') > 0
"""
"""Counts the sessions whose latest statement tries to get a lock, whether it got it or not."""


class Angles:
    """A model that looks at the last number in a text and takes it for an angle in degrees; without one it is 180."""

    dimensions = 2

    def __init__(self, name: str = "angles") -> None:
        self.name = name
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Any:
        await checkpoint()
        self.texts += texts
        return [[math.cos(angle), math.sin(angle)] for angle in map(self._angle, texts)]

    def _angle(self, text: str) -> float:
        numbers = re.findall(r"\d+", text)
        return math.radians(float(numbers[-1]) if numbers else 180.0)


def callers_of(*storages: VectorStorage) -> int:
    """How many callers wait for research of these storages."""
    flights = [flight for storage in storages for flight in storage.answer_table.flights._flights.values()]
    return sum(flight.waiters for flight in flights if isinstance(flight.key, str))  # look-ups have a tuple as key


@dataclass
class Research:
    """Finds an answer to everything, and counts."""

    takes: float = 0.0
    """Seconds, in virtual time."""
    waits_for: Callable[[], object] | None = None
    """In real time: what must be true before the answer is found, such as that all callers are waiting."""
    error: Exception | None = None
    value: Any = None
    started: Counter[str] = field(default_factory=Counter)
    returned: Counter[str] = field(default_factory=Counter)

    async def __call__(self, query: str) -> Any:
        self.started[query] += 1
        await anyio.sleep(self.takes)
        if self.waits_for is not None:
            await until(self.waits_for)
        if self.error is not None:
            raise self.error
        self.returned[query] += 1
        return {"to": query} if self.value is None else self.value
