"""What the tests of answers share: a model whose distances one can tell, and research that counts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.lowlevel import checkpoint


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


@dataclass
class Research:
    """Finds an answer to everything, after a while, and counts."""

    takes: float = 0.0
    error: Exception | None = None
    value: Any = None
    started: Counter[str] = field(default_factory=Counter)
    returned: Counter[str] = field(default_factory=Counter)

    async def __call__(self, query: str) -> Any:
        self.started[query] += 1
        await anyio.sleep(self.takes)
        await checkpoint()
        if self.error is not None:
            raise self.error
        self.returned[query] += 1
        return {"to": query} if self.value is None else self.value
