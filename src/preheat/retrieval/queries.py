"""Questions: what one must be, what else is asked, and the vectors of the latest, so that none is embedded again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from typing import Any

from ..errors import ArgumentError
from ..storage import FilterLike, SearchOptions, as_filter, check_text

__all__ = ("LatestQueries", "check_query", "search_options")


def check_query(query: str, called: str = "query") -> None:
    """Raise :class:`ArgumentError`, which names it by `called`, unless `query` is a text that says something."""
    check_text(called, query)
    if not query.strip():
        raise ArgumentError(f"the {called} is empty; ask for something")


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


def search_options(
    filter: FilterLike | None, min_score: float | None, without: Sequence[str], mmr: float | None, k: int
) -> dict[str, Any]:
    """The options of a storage's search that were given, checked before anything is embedded."""
    tree = None if filter is None else as_filter(filter)
    SearchOptions(k, filter=tree, min_score=min_score, without=without, mmr=mmr)
    options = {"filter": tree, "min_score": min_score, "without": without or None, "mmr": mmr}
    return {name: value for name, value in options.items() if value is not None}
