"""Everything that a search is told but the vector."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args
from uuid import UUID

from ...errors import ArgumentError
from ..filters.sql import Condition, condition
from ..filters.tree import FilterLike, with_scope
from ..identifiers import check_metric
from ..models import Metric
from ..text_query import exclusion_query, text_query
from ..validation import check_k, check_min_score, check_text
from .sql import FIRST_OF_CONDITION

IterativeScan: TypeAlias = Literal["off", "strict_order", "relaxed_order"]
"""Whether an index scan that has run out of candidates looks for more; pgvector 0.8 and later."""

_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)+")
"""The name of a setting of an extension or an application. Those of the server itself have no dot."""

ITERATIVE_SCANS = get_args(IterativeScan)
MAX_EF_SEARCH = 1000
FEWEST_CANDIDATES = 20


class SearchOptions(NamedTuple):
    """Everything that a search is told but the vector. It is made by :meth:`checked`.

    A named tuple, since one is made for each search: a frozen dataclass takes three times as long to make.
    """

    k: int
    """How many hits are wanted."""
    candidates: int
    """How many rows are looked at by their vectors, and as many by their words."""
    text_query: str | None
    """The words that a hybrid search looks for, as `websearch_to_tsquery` reads them; None if it is not hybrid."""
    exclusion_query: str
    """The words that no hit may have, in the same form; empty if there are none."""
    mmr: float | None
    """How much relevance counts compared with novelty, 0 to 1."""
    metric: Metric | None
    """Another metric than the collection's."""
    ef_search: int | None
    """How many candidates an HNSW scan keeps, and so the most rows that it yields; None leaves it to the statement."""
    iterative_scan: IterativeScan | None
    """Whether the scan goes on when its candidates have run out; None leaves it to the statement."""
    condition: Condition | None
    """The filter in SQL; None if all rows pass. Its placeholders come after those of the rest of the statement."""
    min_score: float | None
    """The least score of a hit."""
    settings: tuple[str, ...]
    """Names and values, in turn, of settings of the server for this statement."""

    @classmethod
    def checked(
        cls,
        k: int = 5,
        *,
        text: str | None = None,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        ids: Sequence[str | UUID] | None = None,
        document: str | None = None,
        min_score: float | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> SearchOptions:
        """The options of :meth:`preheat.VectorStorage.search`, checked.

        Raises:
            ArgumentError: if one of them is invalid.
        """
        check_k(k)
        if min_score is not None:
            check_min_score(min_score)
        if mmr is not None:
            _check_mmr(mmr, k)
        if metric is not None:
            check_metric(metric)
        if ef_search is not None and not 1 <= ef_search <= MAX_EF_SEARCH:
            raise ArgumentError(f"ef_search is {ef_search}; give a number from 1 to {MAX_EF_SEARCH}")
        if iterative_scan is not None and iterative_scan not in ITERATIVE_SCANS:
            raise ArgumentError(f"iterative_scan is {iterative_scan!r}; choose one of {', '.join(ITERATIVE_SCANS)}")
        candidates = k
        if text is not None or mmr is not None:
            candidates = max(k, FEWEST_CANDIDATES, min(4 * k, MAX_EF_SEARCH))
        wanted = None if text is None else text_query(text)
        unwanted = exclusion_query(without) if without else ""
        passing = None
        if filter is not None or ids is not None or document is not None:
            asked = with_scope(filter, ids, document)
            first = FIRST_OF_CONDITION + 2 * (text is not None) + (unwanted != "")
            passing = condition(asked, first)
        set_to = check_settings(settings) if settings else ()
        return cls(k, candidates, wanted, unwanted, mmr, metric, ef_search, iterative_scan, passing, min_score, set_to)

    @property
    def may_miss_rows(self) -> bool:
        """Whether fewer hits than asked for may be found although there are more: the scan of the index ends when the
        caller's own `ef_search` has run out. With a condition the statement counts the rows, and goes on."""
        return (
            self.ef_search is not None
            and self.ef_search < self.candidates
            and self.iterative_scan in (None, "off")
            and self.condition is None
            and not self.settings
            and not self.exclusion_query
        )


def check_settings(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Names and values of settings, in turn.

    Raises:
        ArgumentError: if one of them is not a setting of an application, or has a value that is not a string.
    """
    flat: list[str] = []
    for name, value in settings.items():
        if not _SETTING.fullmatch(str(name)):
            raise ArgumentError(
                f"{name!r} is not a setting of an application; give a name with a dot, such as 'app.tenant'"
            )
        check_text(f"setting {name}", value)
        flat += (name, value)
    return tuple(flat)


def _check_mmr(mmr: object, k: int) -> None:
    if not (isinstance(mmr, (int, float)) and 0 <= mmr <= 1):
        raise ArgumentError(f"mmr is {mmr!r}; give a number from 0, novelty alone, to 1, relevance alone")
    if k > MAX_EF_SEARCH:
        raise ArgumentError(f"k is {k}; with mmr ask for at most {MAX_EF_SEARCH} hits")
