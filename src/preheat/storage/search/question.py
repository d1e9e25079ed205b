"""What a search asks for, as one value, and the statement that answers it, as a pure function."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...errors import ArgumentError
from ..encoding.vectors import FLOAT16_TOO_LARGE, LONGEST, SHORTEST, check_rounding
from ..filters.sql import Condition, condition
from ..filters.tree import Filter, FilterLike, as_filter
from ..identifiers import Names
from ..models import Metric, VectorType
from ..validation import check_k, check_min_score
from .hnsw_settings import DEFAULT_SCAN, MAX_EF_SEARCH, IterativeScan, Scan
from .sql import FIRST_OF_CONDITION, Shape, filtered_search, ranked_search, search
from .text_query import excluded, words

__all__ = (
    "Question",
    "Statement",
    "check_direction",
    "check_mmr",
    "may_lose_direction",
    "plain_statement",
    "scan_for",
    "statement",
)

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
"""A text, and what its placeholders stand for."""

FEWEST_CANDIDATES = 20


def scan_for(ef_search: int | None, iterative_scan: IterativeScan | None) -> Scan:
    """How to go through the index, checked."""
    return DEFAULT_SCAN if ef_search is None and iterative_scan is None else Scan(ef_search, iterative_scan)


def check_mmr(mmr: object, k: int) -> None:
    """Raise :class:`ArgumentError` unless `k` hits can be chosen with `mmr`."""
    if not (isinstance(mmr, (int, float)) and 0 <= mmr <= 1):
        raise ArgumentError(f"mmr is {mmr!r}; give a number from 0, novelty alone, to 1, relevance alone")
    if k > MAX_EF_SEARCH:
        raise ArgumentError(f"k is {k}; with mmr ask for at most {MAX_EF_SEARCH} hits")


SURELY_KEPT = 2e-4
"""A vector with a larger number keeps its direction: float16 changes each of 4,000 numbers by at most `2**-25`, or by a
two-thousandth, which together is less than a hundredth of this."""

_large = re.compile(r"e[+0-9]").search


def may_lose_direction(vector: str) -> bool:
    """Whether the text of a vector has to be looked at more closely: hardly ever."""
    if _large(vector):
        return True
    end = vector.find(",")
    if abs(float(vector[1 : end if end > 0 else -1])) > SURELY_KEPT:
        return False
    return all(abs(float(number)) <= SURELY_KEPT for number in vector[1:-1].split(","))


def check_direction(vector: str, type: VectorType, metric: Metric) -> None:
    """Raise :class:`ArgumentError` if a search for the text of a vector would be one for another direction: pgvector
    knows no cosine of it, so that all distances from it would not be a number, or float16 changes it. By l2 what is
    small is as near as the server makes it."""
    if metric == "l2":
        return
    numbers = [float(number) for number in vector[1:-1].split(",")]
    if metric == "cosine":
        _check_cosine(math.hypot(*numbers), type)
    if type == "halfvec" and max(map(abs, numbers)) < FLOAT16_TOO_LARGE:  # the server refuses what is larger
        check_rounding("vector to search for", numbers)


def _check_cosine(length: float, type: VectorType) -> None:
    if length == 0:
        raise ArgumentError(
            "the vector to search for is zero, and so near to nothing by cosine; look at what the model returned for "
            "the query, or search with metric='l2'"
        )
    if length < SHORTEST or (length > LONGEST and type == "vector"):
        raise ArgumentError(
            f"the length of the vector to search for is {length:.3g}, and pgvector knows the cosine of lengths from "
            f"{SHORTEST:g} to {LONGEST:g} alone; scale it to a length of 1"
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A search, but for the collection it is made in."""

    vector: str
    """The text of a vector; or the id of the chunk whose vector it is, if `like` says so."""
    k: int = 5
    """How many hits are wanted."""
    metric: Metric | None = None
    """Another metric than the collection's."""
    scan: Scan = DEFAULT_SCAN
    """How to go through the index."""
    filter: Filter | None = None
    """Which chunks are looked at."""
    min_score: float | None = None
    """The least score of a hit."""
    words: str | None = None
    """What a hybrid search looks for by its words, as `websearch_to_tsquery` reads it."""
    excluded: str = ""
    """The words that no hit may have, in the same form; empty if there are none."""
    mmr: float | None = None
    """How much relevance counts beside novelty, 0 to 1."""
    like: bool = False
    """Whether `vector` is the id of a chunk, which is left out itself."""

    @classmethod
    def checked(
        cls,
        vector: str,
        k: int,
        *,
        metric: Metric | None,
        ef_search: int | None,
        iterative_scan: IterativeScan | None,
        filter: FilterLike | None,
        min_score: float | None,
        text: str | None = None,
        without: Sequence[str] = (),
        mmr: float | None = None,
        like: bool = False,
    ) -> Question:
        """A question made of a caller's arguments.

        Raises:
            ArgumentError: if one of them cannot be right.
        """
        check_k(k)
        if min_score is not None:
            check_min_score(min_score)
        if mmr is not None:
            check_mmr(mmr, k)
        return cls(
            vector,
            k,
            metric,
            scan_for(ef_search, iterative_scan),
            None if filter is None else as_filter(filter),
            min_score,
            None if text is None else words(text),
            excluded(without),
            mmr,
            like,
        )

    @property
    def is_plain(self) -> bool:
        """Whether the order of one index answers it."""
        return self.words is None and not self.excluded and self.mmr is None and not self.like

    @property
    def candidates(self) -> int:
        """How many rows are looked at by their vectors, and by their words."""
        if self.words is None and self.mmr is None:
            return self.k
        return max(self.k, FEWEST_CANDIDATES, min(4 * self.k, MAX_EF_SEARCH))


def statement(names: Names, collection: str, metric: Metric, asked: Question) -> Statement:
    """The one statement that answers a question."""
    if asked.is_plain:
        where = None if asked.filter is None else condition(asked.filter, FIRST_OF_CONDITION)
        return plain_statement(names, collection, metric, asked.vector, asked.k, asked.scan, where)
    scan, candidates = asked.scan, asked.candidates
    parameters: list[Any] = [
        asked.vector,
        candidates,
        collection,
        scan.candidates,
        scan.iterative,
    ]
    if asked.words is not None:
        parameters += [asked.words, candidates if asked.mmr is not None else asked.k]
    if asked.excluded:
        parameters.append(asked.excluded)
    where = None if asked.filter is None else condition(asked.filter, len(parameters) + 1)
    shape = Shape(
        metric,
        like=asked.like,
        hybrid=asked.words is not None,
        excluding=asked.excluded != "",
        diverse=asked.mmr is not None,
        filter="" if where is None else where.sql,
        exact=scan.is_exact(candidates + asked.like),
    )
    return ranked_search(names, shape), (*parameters, *(() if where is None else where.parameters))


def plain_statement(
    names: Names, collection: str, metric: Metric, vector: str, k: int, scan: Scan, where: Condition | None
) -> Statement:
    """The statement of a search for the order of one index."""
    if where is None:
        sql = search(names, metric, exact=scan.is_exact(k))
        return sql, (vector, k, collection, scan.candidates, scan.iterative)
    sql = filtered_search(names, metric, where.sql, exact=scan.is_exact(k))
    return sql, (vector, k, collection, scan.candidates, scan.iterative, *where.parameters)
