"""Everything that a search is told but the vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ...errors import ArgumentError
from ..filters.sql import Condition, condition
from ..filters.tree import FilterLike, as_filter
from ..identifiers import check_metric
from ..models import Metric
from ..validation import check_k, check_min_score
from .sql import FIRST_OF_CONDITION
from .text_query import excluded, words

__all__ = ("MAX_EF_SEARCH", "IterativeScan", "SearchOptions")

IterativeScan: TypeAlias = Literal["off", "strict_order", "relaxed_order"]
"""Whether an index scan that has run out of candidates looks for more; pgvector 0.8 and later."""

MAX_EF_SEARCH = 1000
FEWEST_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of :meth:`preheat.VectorStorage.search`, checked once, when they are made.

    Raises:
        ArgumentError: if one of them is invalid.
    """

    k: int = 5
    """How many hits are wanted."""
    text: str | None = None
    """The words to look for, which makes the search hybrid."""
    without: Sequence[str] = ()
    """The words and phrases that no hit may have."""
    mmr: float | None = None
    """How much relevance counts compared with novelty, 0 to 1."""
    metric: Metric | None = None
    """Another metric than the collection's."""
    ef_search: int | None = None
    """How many candidates an HNSW scan keeps, and so the most rows that it yields; None leaves it to the statement."""
    iterative_scan: IterativeScan | None = None
    """Whether the scan goes on when its candidates have run out; None leaves it to the statement."""
    filter: FilterLike | None = None
    """The chunks to look at."""
    min_score: float | None = None
    """The least score of a hit."""
    words: str | None = field(default=None, init=False, repr=False)
    """`text` as `websearch_to_tsquery` reads it."""
    excluded: str = field(default="", init=False, repr=False)
    """`without` in the same form."""
    condition: Condition | None = field(default=None, init=False, repr=False)
    """`filter` in SQL; None if all rows pass. Its placeholders come after those of the rest of the statement."""

    def __post_init__(self) -> None:
        check_k(self.k)
        if self.min_score is not None:
            check_min_score(self.min_score)
        if self.mmr is not None:
            _check_mmr(self.mmr, self.k)
        if self.metric is not None:
            check_metric(self.metric)
        if self.ef_search is not None and not 1 <= self.ef_search <= MAX_EF_SEARCH:
            raise ArgumentError(f"ef_search is {self.ef_search}; give a number from 1 to {MAX_EF_SEARCH}")
        if self.iterative_scan is not None and self.iterative_scan not in get_args(IterativeScan):
            names = ", ".join(get_args(IterativeScan))
            raise ArgumentError(f"iterative_scan is {self.iterative_scan!r}; choose one of {names}")
        if self.text is not None:
            object.__setattr__(self, "words", words(self.text))
        if self.without:
            object.__setattr__(self, "excluded", excluded(self.without))
        if self.filter is not None:
            first = FIRST_OF_CONDITION + 2 * (self.words is not None) + (self.excluded != "")
            object.__setattr__(self, "condition", condition(as_filter(self.filter), first))

    @property
    def candidates(self) -> int:
        """How many rows are looked at by their vectors, and as many by their words."""
        if self.words is None and self.mmr is None:
            return self.k
        return max(self.k, FEWEST_CANDIDATES, min(4 * self.k, MAX_EF_SEARCH))

    @property
    def may_miss_rows(self) -> bool:
        """Whether fewer hits than asked for may be found although there are more: the scan of the index ends when the
        caller's own `ef_search` has run out. With a condition the statement counts the rows, and goes on."""
        return (
            self.ef_search is not None
            and self.ef_search < self.candidates
            and self.iterative_scan in (None, "off")
            and self.condition is None
            and not self.excluded
        )


def _check_mmr(mmr: object, k: int) -> None:
    if not (isinstance(mmr, (int, float)) and 0 <= mmr <= 1):
        raise ArgumentError(f"mmr is {mmr!r}; give a number from 0, novelty alone, to 1, relevance alone")
    if k > MAX_EF_SEARCH:
        raise ArgumentError(f"k is {k}; with mmr ask for at most {MAX_EF_SEARCH} hits")
