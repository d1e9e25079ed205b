"""The cells of tables: how a series is shown, beside what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.report.layout import Cell
from benchmarks.report.lookup import Part, bare, is_ours
from benchmarks.report.records import Series
from benchmarks.report.words import MISSING, median, ratio, spread, unit

Columns = tuple[str, ...]
Rows = tuple[tuple[Cell, ...], ...]
Compare = Callable[[str, float], Series | None]
"""The series that the one of a contestant at a size is compared with."""


def figure(series: Series | None, base: Series | None = None, top: Series | None = None) -> Cell:
    """A median with its spread, beside its ratio to `base`; see :func:`good` for `top`."""
    if series is None:
        return Cell(MISSING)
    return Cell(median(series), ratio(series, base), spread(series), "best" if good(series, top) else "plain")


def plain(series: Series | None, top: Series | None = None) -> Cell:
    """A median and no more."""
    return Cell(MISSING) if series is None else Cell(median(series), tone="best" if good(series, top) else "plain")


def good(series: Series, top: Series | None) -> bool:
    """Whether the quartiles of a series reach into those of the best, which it then may be as good as."""
    return top is not None and series.spread[0] <= top.spread[1]


def name(who: str) -> Cell:
    """Who it is."""
    return Cell(who, tone="ours" if is_ours(who) else "plain")


def heading(what: str, column: Iterable[Series | None]) -> str:
    """What was measured, and in which unit where that is not in the name."""
    measured = next((series.unit for series in column if series), "round trips")
    return what if measured == "round trips" else f"{what}, {unit(measured)}"


def size_headings(values: Sequence[float], thing: str) -> list[str]:
    """Headings such as `1 caller` and `1,000 callers`."""
    return [f"{at:,.0f} {thing}{'' if at == 1 else 's'}" for at in values]


def by_size(
    part: Part, what: str, kind: str, compare: Compare, best: Mapping[float, Series | None] | None = None
) -> tuple[Columns, Rows]:
    """A row per contestant and a column per size, which is of some `kind`; `best` is what there is to reach."""
    values = part.sizes(what)
    rows = (
        (name(who), *(figure(part.get(what, who, at=at), compare(who, at), (best or {}).get(at)) for at in values))
        for who in part.contestants(what)
    )
    return (kind, *(f"{at:,.0f}" for at in values)), tuple(rows)


def to_bare(part: Part, what: str) -> Compare:
    """Compare with the contestant that uses no library."""
    names = part.contestants(what)

    def compare(who: str, at: float) -> Series | None:
        base = bare(who, names)
        return None if base is None else part.get(what, base, at=at)

    return compare
