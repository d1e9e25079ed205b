"""The vectors of the latest questions, so that one that is asked again is not embedded again."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from typing import Any

from ..errors import ArgumentError

__all__ = ("LatestQueries",)


class LatestQueries:
    """The vectors of the questions that were asked last: what was not asked for longest goes first.

    Args:
        size: how many to remember; 0 remembers none.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ArgumentError(f"query_cache is {size}; give the number of questions to remember, or 0 for none")
        self._size = size
        self._vectors: OrderedDict[str, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, query: str) -> Any:
        """The vector of `query`, or None."""
        try:
            self._vectors.move_to_end(query)
            return self._vectors[query]
        except KeyError:
            return None

    def put(self, query: str, vector: Any) -> None:
        """Remember the vector of `query`: a copy, as a model may use its array again, or give a row of a large one."""
        if not self._size:
            return
        self._vectors[query] = copy(vector)
        self._vectors.move_to_end(query)
        if len(self._vectors) > self._size:
            self._vectors.popitem(last=False)

    def forget(self, query: str) -> None:
        """Remember `query` no more."""
        self._vectors.pop(query, None)
