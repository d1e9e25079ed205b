"""How a search goes through the index, as pgvector is told for one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from ...errors import ArgumentError

__all__ = ("DEFAULT_SCAN", "EXACT_SCAN", "IterativeScan", "Scan")

IterativeScan: TypeAlias = Literal["off", "strict_order", "relaxed_order"]
"""Whether an index scan that has run out of candidates looks for more; pgvector 0.8 and later."""

ITERATIVE_SCANS = get_args(IterativeScan)
MAX_EF_SEARCH = 1000


@dataclass(frozen=True, slots=True)
class Scan:
    """What a caller wants of the scan; None leaves it to the statement.

    Raises:
        ArgumentError: if `ef_search` is outside 1 to 1,000, or `iterative` no word that pgvector knows.
    """

    ef_search: int | None = None
    """How many candidates an HNSW scan keeps, and so the most rows that it yields."""
    iterative: IterativeScan | None = None
    """Whether it looks for more candidates when these have run out."""
    exact: bool = False
    """Whether the table is scanned instead of the index."""

    def __post_init__(self) -> None:
        if self.ef_search is not None and not 1 <= self.ef_search <= MAX_EF_SEARCH:
            raise ArgumentError(f"ef_search is {self.ef_search}; give a number from 1 to {MAX_EF_SEARCH}")
        if self.iterative is not None and self.iterative not in ITERATIVE_SCANS:
            raise ArgumentError(f"iterative_scan is {self.iterative!r}; choose one of {', '.join(ITERATIVE_SCANS)}")

    @property
    def candidates(self) -> str | None:
        """What to set `hnsw.ef_search` to; None leaves it to the statement."""
        return None if self.ef_search is None else str(self.ef_search)

    def may_end_before(self, rows: int) -> bool:
        """Whether it may yield fewer rows than there are, and than are asked for."""
        return self.ef_search is not None and self.ef_search < rows and self.iterative in (None, "off")

    def is_exact(self, k: int) -> bool:
        """Whether the table is scanned, because that was asked for or because nothing else can yield `k` rows."""
        return self.exact or (k > MAX_EF_SEARCH and self.iterative in (None, "off"))


DEFAULT_SCAN = Scan()
EXACT_SCAN = Scan(exact=True)
