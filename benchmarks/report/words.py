"""How figures are written: as many digits as mean something, and the same in tables, plots and pages."""

from __future__ import annotations

from math import isfinite

from benchmarks.report.records import Series

DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
MISSING = DASH
COUNTED = {"round trips", "warm-ups", "count", "connections", ""}
UNITS = {"us": "\N{MICRO SIGN}s", "x": TIMES}


def unit(name: str) -> str:
    """The unit as people write it."""
    return UNITS.get(name, name)


def number(value: float, like: float | None = None) -> str:
    """Three digits that mean something, thousands in groups; as many decimals as `like` has, if given."""
    if not isfinite(value):
        return MISSING
    size = abs(value if like is None else like)
    decimals = 0 if size >= 99.95 or size == 0 else 1 if size >= 9.995 else 2 if size >= 0.1 else 3
    return f"{value:,.{decimals}f}"


def count(value: float) -> str:
    """A number of things: whole if it is, with one decimal if it is the median of unequal ones."""
    return f"{value:,.{0 if float(value).is_integer() else 1}f}" if isfinite(value) else MISSING


def quantity(value: float, of: str) -> str:
    """A figure with its unit, such as `47.1 ms` or `6 round trips`."""
    if of == "x":
        return number(value) + TIMES
    if of in COUNTED:
        return f"{count(value)} {of.removesuffix('s') if value == 1 else of}".rstrip()
    return f"{number(value)} {unit(of)}"


def median(series: Series) -> str:
    """The median, without its unit."""
    return count(series.median) if is_count(series) else number(series.median)


def spread(series: Series) -> str:
    """The quartiles, with the decimals of the median; nothing for a count that was always the same."""
    low, high = series.spread
    if is_count(series):
        return "" if low == high else f"{count(low)}{DASH}{count(high)}"
    return f"{number(low, series.median)}{DASH}{number(high, series.median)}"


def ratio(series: Series, base: Series | None) -> str:
    """How many times the median of `base`; nothing if there is nothing to compare with."""
    if base is None or base.median == 0:
        return ""
    times = series.median / base.median
    return f"{times:,.{2 if times < 1.995 else 1 if times < 19.95 else 0}f}{TIMES}"


def is_count(series: Series) -> bool:
    """True of what is counted and not timed."""
    return series.unit in COUNTED


def milliseconds(round_trip: float | None) -> str:
    """A round trip, given in seconds, in milliseconds without their unit: `20`."""
    return f"{1000 * (round_trip or 0):g}"
