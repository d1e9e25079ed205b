"""How long one embedding takes to be checked and packed for the server, by the form in which a model gives it."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from typing import Any

from pgvector import Vector

from benchmarks.data.collection import questions
from benchmarks.report.records import Series
from preheat.storage.encoding.vectors import halfvec_binary, vector_binary

DIMENSIONS = (384, 1536)
CALLS = 500


def measure(*, rounds: int) -> Iterator[Series]:
    """A list, as HTTP APIs give it, and an array of float32, as local models do."""
    for dimensions in DIMENSIONS:
        array = next(questions(dimensions))
        given = array.tolist()
        ways: dict[str, Callable[[], Any]] = {
            "list of floats": lambda given=given, size=dimensions: vector_binary(given, size, True),
            "array of float32": lambda array=array, size=dimensions: vector_binary(array, size, True),
            "list of floats, halfvec": lambda given=given, size=dimensions: halfvec_binary(given, size, True),
            "array of float32, halfvec": lambda array=array, size=dimensions: halfvec_binary(array, size, True),
            "pgvector, list of floats, unchecked": lambda given=given: Vector(given).to_binary(),
        }
        for who, pack in ways.items():
            seconds = timeit.repeat(pack, number=CALLS, repeat=rounds)
            yield Series("packing", who, "time", "us", tuple(1e6 * each / CALLS for each in seconds), at=dimensions)
