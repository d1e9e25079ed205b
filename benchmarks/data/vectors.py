"""Seeded vectors and texts, the same wherever they are made. Needs nothing but numpy.

Vectors are clustered, as embeddings are: without clusters every vector is as far from a query as every other, and an
HNSW index has no way to go.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
"""float32, of shape `(n, dimensions)`."""

CLUSTERS = 100
SPREAD = 0.6
"""How far the vectors of a cluster lie apart, beside 1 for the clusters."""
QUERIES = 200

_QUERY_STREAM, _ROW_STREAM = 1, 2
_WORDS = (
    *("vector", "index", "search", "query", "answer", "latency", "connection", "pool", "server", "network", "batch"),
    *("cluster", "neighbor", "distance", "database", "statement", "table", "column", "round", "trip", "cold", "hot"),
)


def vectors(n: int, dimensions: int, *, stream: int) -> Vectors:
    """`n` vectors around centers that are the same in every stream, shape `(n, dimensions)`."""
    centers = np.random.default_rng(0).standard_normal((CLUSTERS, dimensions), dtype=np.float32)
    random = np.random.default_rng([stream, dimensions])
    around = centers[random.integers(CLUSTERS, size=n)]
    return around + np.float32(SPREAD) * random.standard_normal((n, dimensions), dtype=np.float32)


def row_vectors(n: int, dimensions: int) -> Vectors:
    """What is stored."""
    return vectors(n, dimensions, stream=_ROW_STREAM)


def query_vectors(dimensions: int, seed: int) -> Vectors:
    """What is asked, the same :data:`QUERIES` questions in an order of the seed's own."""
    queries = vectors(QUERIES, dimensions, stream=_QUERY_STREAM)
    order: NDArray[Any] = np.random.default_rng(seed).permutation(QUERIES)
    return queries[order]


def texts(n: int, seed: int = 0) -> list[str]:
    """`n` texts of about 200 characters, all different: with a vector of 384 dimensions a row stays within one page."""
    random = np.random.default_rng([seed, n])
    words = np.array(_WORDS)[random.integers(len(_WORDS), size=(n, 28))]
    return [f"{number} {' '.join(row)}" for number, row in enumerate(words)]
