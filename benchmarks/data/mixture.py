"""Clustered vectors with metadata to filter by, and what a search of them should find, by brute force.

Clusters are of unequal sizes and widths, as topics are, and questions come from the same clusters without being
stored. One kind of key is independent of the clusters; the other is the same throughout a cluster, as a language or a
tenant is, so that what passes may lie far from the question. That is harder for an index of vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.vectors import Vectors
from preheat import Chunk, F

CLUSTERS = 500
NARROWEST, WIDEST = 0.3, 1.0
"""How far the vectors of a cluster lie apart, beside 1 for the clusters."""
BATCH = 5000

PARTS = {"10 %": 10, "1 %": 100, "0.1 %": 1000}
"""Into how many equal parts a key divides the rows, by the share that one value of it keeps."""


@dataclass(frozen=True)
class Mixture:
    """Rows, questions, and two orders of the rows that keys are made of."""

    rows: Vectors
    questions: Vectors
    places: dict[str, NDArray[np.int64]]
    """The place of each row in an order at random (`spread`), and in one by clusters (`apart`)."""

    @cached_property
    def directions(self) -> Vectors:
        """The rows, each of length 1."""
        return self.rows / np.linalg.norm(self.rows, axis=1, keepdims=True)

    def chunks(self) -> Iterator[list[Chunk]]:
        """What is stored, in batches. The id of a chunk is the number of its row."""
        count = len(self.rows)
        for start in range(0, count, BATCH):
            yield [
                Chunk(f"text {n}", self.rows[n], self._metadata(n, count), f"{n // 10}.md", n % 10, id=str(n))
                for n in range(start, min(start + BATCH, count))
            ]

    def _metadata(self, n: int, count: int) -> dict[str, int]:
        found = {"row": n}
        for name, places in self.places.items():
            found[name] = int(places[n])
            found |= {f"{name}_{parts}": int(places[n]) * parts // count for parts in PARTS.values()}
        return found

    def equal(self, name: str, parts: int, value: int) -> tuple[Any, NDArray[np.bool_]]:
        """A filter by equality that keeps one of so many parts, and which rows pass it."""
        return F(f"{name}_{parts}") == value, self.places[name] * parts // len(self.rows) == value

    def below(self, name: str, parts: int) -> tuple[Any, NDArray[np.bool_]]:
        """A filter by comparison that keeps as many, which no index serves, and which rows pass it."""
        most = len(self.rows) // parts
        return F(name) < most, self.places[name] < most

    def nearest(self, question: int, k: int, passes: NDArray[np.bool_] | None = None) -> set[str]:
        """The ids of the `k` rows at the least angle to a question, of those that pass."""
        cosines = self.directions @ self.questions[question]
        ids = np.arange(len(cosines)) if passes is None else np.flatnonzero(passes)
        return set(map(str, ids[np.argsort(-cosines[ids])[:k]]))


def mixture(rows: int, dimensions: int, questions: int, seed: int = 5) -> Mixture:
    """Rows and questions around the same centers."""
    random = np.random.default_rng([seed, dimensions])
    centers = random.standard_normal((CLUSTERS, dimensions), dtype=np.float32)
    sizes, widths = random.lognormal(0, 1, CLUSTERS), random.uniform(NARROWEST, WIDEST, CLUSTERS).astype(np.float32)
    cluster = random.choice(CLUSTERS, size=rows + questions, p=sizes / sizes.sum())
    around = random.standard_normal((rows + questions, dimensions), dtype=np.float32)
    vectors = centers[cluster] + widths[cluster][:, None] * around
    by_cluster = np.lexsort((random.permutation(rows), random.permutation(CLUSTERS)[cluster[:rows]]))
    places = {"spread": random.permutation(rows), "apart": np.argsort(by_cluster)}
    return Mixture(vectors[:rows], vectors[rows:], places)
