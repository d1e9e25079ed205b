"""Finding series among the results, where any of them may be missing.

A benchmark is long, and a peer may fail in the midst of it. What was not measured is None here, and a dash in the
tables; nothing raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from benchmarks.report.records import Results, Series

OURS = "preheat"


class Part:
    """The series of one part of the benchmark, by contestant, figure, round trip and size.

    Series without samples, or with one that is not finite, count as not measured.
    """

    def __init__(self, results: Results, part: str) -> None:
        self._series = [
            series
            for series in results.series
            if series.part == part and series.samples and all(map(isfinite, series.samples))
        ]

    def __bool__(self) -> bool:
        return bool(self._series)

    def get(self, what: str, who: str, *, round_trip: float | None = None, at: float | None = None) -> Series | None:
        """The series of a figure; at `round_trip` seconds, or else of none, and at one size where these are given."""
        found = [
            series
            for series in self._series
            if (series.what, series.who) == (what, who)
            and at in {None, series.at}
            and (round_trip is None or series.round_trip in {None, round_trip})
        ]
        return min(found, key=lambda series: series.round_trip != round_trip, default=None)

    def whats(self) -> list[str]:
        """What was measured, in the order of measuring."""
        return _unique(series.what for series in self._series)

    def contestants(self, what: str | None = None) -> list[str]:
        """Who was measured: preheat first, then the others in the order of measuring."""
        names = _unique(series.who for series in self._series if what in {None, series.what})
        return sorted(names, key=lambda who: not is_ours(who))

    def round_trips(self, what: str | None = None) -> list[float | None]:
        """The round trips in seconds, ascending; `[None]` where nothing depends on one."""
        found = {series.round_trip for series in self._series if what in {None, series.what}}
        return [*sorted(value for value in found if value is not None)] or [None]

    def sizes(self, what: str | None = None) -> list[float]:
        """The numbers of connections, callers, rows or dimensions, ascending."""
        found = {series.at for series in self._series if what in {None, series.what}}
        return sorted(value for value in found if value is not None)


def is_ours(who: str) -> bool:
    """True of every contestant that is preheat."""
    return who.startswith(OURS)


def least(candidates: Iterable[Series | None]) -> Series | None:
    """The series with the least median, of those that were measured."""
    return min((series for series in candidates if series), key=lambda series: series.median, default=None)


def bare(who: str, contestants: Iterable[str]) -> str | None:
    """The contestant without a library that `who` is compared with.

    That is the one whose name starts with `bare` and ends as `who` does after its first comma, if there is one, else
    the first bare one.
    """
    found = [name for name in contestants if name.startswith("bare")]
    _, _, variant = who.partition(",")
    alike = [name for name in found if name.partition(",")[2] == variant]
    return next(iter([*alike, *found]), None)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
