"""Queries: check their text and options, embed them, and remember the vectors of the latest ones."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from ..errors import ArgumentError
from ..storage import Embed, FilterLike, SearchOptions, as_filter, check_text, has_direction
from .refusals import naming_queries

__all__ = ("QueryVectors", "RetrievalOptions", "check_query")


def check_query(query: str, name: str = "query") -> None:
    """Raise :class:`ArgumentError`, with this name, unless `query` is a text that is not empty."""
    check_text(name, query)
    if not query.strip():
        raise ArgumentError(f"the {name} is empty; ask for something")


@dataclass(frozen=True, slots=True)
class RetrievalOptions:
    """The options of a retrieval, checked before anything is embedded.

    Raises:
        ArgumentError: if one of them is invalid.
    """

    k: int
    filter: FilterLike | None
    min_score: float | None
    hybrid: bool
    without: Sequence[str]
    mmr: float | None

    def __post_init__(self) -> None:
        if self.filter is not None:
            object.__setattr__(self, "filter", as_filter(self.filter))
        SearchOptions.checked(self.k, filter=self.filter, min_score=self.min_score, without=self.without, mmr=self.mmr)

    def arguments(self, query: str) -> dict[str, Any]:
        """The keyword arguments of a storage's search for `query`. An option that was not given is left out."""
        options = {
            "text": query if self.hybrid else None,
            "filter": self.filter,
            "min_score": self.min_score,
            "without": self.without or None,
            "mmr": self.mmr,
        }
        return {name: value for name, value in options.items() if value is not None}


class QueryVectors:
    """Embeds queries, and remembers the vectors of the latest ones.

    Args:
        embed: embeds texts.
        size: how many vectors to remember; 0 remembers none.
    """

    def __init__(self, embed: Embed, size: int) -> None:
        if size < 0:
            raise ArgumentError(f"query_cache is {size}; give the number of questions to remember, or 0 for none")
        self._embed = embed
        self._latest: LRUCache[str, Any] = LRUCache(size)

    async def vector_of(self, query: str) -> Any:
        """The vector of `query`."""
        vector = self._latest.get(query)
        if vector is None:
            vector = (await self._embed([query]))[0]
            self._remember(query, vector)
        return vector

    async def vectors_of(self, queries: Sequence[str]) -> dict[str, Any]:
        """The vector of each query. The model is called once, for those that are not remembered."""
        vectors = {query: self._latest.get(query) for query in queries}
        missing = [query for query, vector in vectors.items() if vector is None]
        if missing:
            embed = naming_queries(self._embed, queries)
            for query, vector in zip(missing, await embed(missing), strict=True):
                vectors[query] = vector
                self._remember(query, vector)
        return vectors

    @contextmanager
    def forgotten_if_refused(self, query: str) -> Generator[None]:
        """Forget the vector of `query` if the storage refuses it: the model may return a better one next time."""
        try:
            yield
        except ArgumentError:
            self._latest.pop(query, None)
            raise

    def _remember(self, query: str, vector: Any) -> None:
        """Remember a copy, because a model may use its array again. A vector without a direction is not remembered."""
        if self._latest.maxsize and has_direction(vector):
            self._latest[query] = copy(vector)
