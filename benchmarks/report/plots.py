"""Plots of what was measured, as SVG: `draw(results, folder)`.

Each title is a sentence that is worked out from the results, so that it is true of the run that it stands above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.report.canvas import BLUE, GREY, LINES, PALE_BLUE, PALE_GREY, PALE_INK, save, sheet, style
from benchmarks.report.lookup import Part, bare, is_ours
from benchmarks.report.marks import (
    beside,
    color_of,
    draw_line,
    draw_lines,
    finish,
    legend,
    mark,
    marker_of,
    plain_numbers,
    round_numbers,
    rows,
)
from benchmarks.report.records import Results
from benchmarks.report.words import count, median, milliseconds, number, ratio

ROUND_TRIP = 0.020
"""Seconds; what the contest is drawn at, if it was measured there."""
ROW = 0.36
"""Inches per contestant."""

Drawing = tuple[Figure, str]
"""A figure and its title."""


def draw(results: Results, folder: Path) -> list[Path]:
    """Write a plot of each part that was measured, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with style():
        for name, plot in PLOTS.items():
            drawing = plot(results)
            if drawing is not None:
                figure, title = drawing
                paths.append(save(figure, folder / f"{name}.svg", title))
    return paths


def first_answer(results: Results) -> Drawing | None:
    """Cold, after the warm-up and steady, of each contestant, on a logarithmic axis."""
    part = Part(results, "contest")
    marks = {"steady": "|", "first of three after warm-up": "D", "cold first answer": "o"}
    names = [who for who in part.contestants() if any(part.get(what, who) for what in marks)]
    trip = _trip(part)
    found = {who: {what: part.get(what, who, round_trip=trip) for what in marks} for who in names}
    names = [who for who in names if any(found[who].values())]
    if not names:
        return None
    cold, warm, steady = (
        found.get(_our_first(names), {}).get(what)
        for what in ("cold first answer", "first of three after warm-up", "steady")
    )
    title = f"First answers over a round trip of {milliseconds(trip)} ms"
    if cold and warm and steady:
        title += (
            f": {warm.who} takes {median(cold)} ms cold, {median(warm)} ms after its warm-up, "
            f"and {median(steady)} ms from then on"
        )
    figure, (axes,) = sheet(title, ROW * len(names) + 1.0)
    axes.set_xscale("log")
    for place, who in enumerate(names):
        color, ink = (BLUE, BLUE) if is_ours(who) else (GREY, PALE_INK)
        values = {what: series.median for what, series in found[who].items() if series}
        axes.plot([min(values.values()), max(values.values())], [place, place], color=color, linewidth=1.2, alpha=0.45)
        for what, series in found[who].items():
            if series is not None:
                axes.plot([*series.spread], [place, place], color=color, linewidth=3, alpha=0.35)
                axes.plot(
                    series.median,
                    place,
                    marker=marks[what],
                    color=color,
                    markersize=13 if marks[what] == "|" else 6,
                    markeredgewidth=2 if marks[what] == "|" else 1,
                )
        for what, edge in (("steady", min), ("cold first answer", max)):
            if what in values:
                beside(axes, edge(values.values()), place, number(values[what]), ink, left=edge is min)
    rows(axes, names)
    low, high = axes.get_xlim()
    axes.set_xlim(low * 0.75, high * 1.25)
    plain_numbers(axes, "x", round_numbers(*axes.get_xlim()))
    axes.set_xlabel("milliseconds, logarithmic; medians, with quartiles as bands")
    legend(axes, [mark(sign, what) for what, sign in marks.items()])
    return figure, title


def round_trips(results: Results) -> Drawing | None:
    """How often each contestant waits for the server."""
    part = Part(results, "contest")
    trip = _trip(part)
    names = [who for who in part.contestants() if part.get("cold round trips", who, round_trip=trip)]
    if not names:
        return None
    cold = {who: part.get("cold round trips", who, round_trip=trip) for who in names}
    ours = cold.get(_our_first(names))
    others = [series.median for who, series in cold.items() if series and not is_ours(who)]
    title = "How often a cold first answer waits for the server"
    if ours and others:
        others_wait = count(min(others)) + (f" to {count(max(others))}" if min(others) < max(others) else "")
        title = (
            f"A cold first answer waits for the server {median(ours)} times with preheat, "
            f"{others_wait} times with others"
        )
    figure, (axes,) = sheet(title, ROW * len(names) + 1.0)
    for place, who in enumerate(names):
        for what, offset, ours_in, theirs_in in (
            ("cold round trips", -0.18, BLUE, GREY),
            ("steady round trips", 0.18, PALE_BLUE, PALE_GREY),
        ):
            series = part.get(what, who, round_trip=trip)
            if series is not None:
                color = ours_in if is_ours(who) else theirs_in
                axes.barh(place + offset, series.median, height=0.34, color=color)
                beside(axes, series.median, place + offset, median(series), PALE_INK, size=8)
    rows(axes, names)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.03)
    axes.set_xlabel("round trips: waits of the client for the server")
    legend(axes, [Patch(color=GREY, label="cold first answer"), Patch(color=PALE_GREY, label="steady answer")])
    return figure, title


def warming(results: Results) -> Drawing | None:
    """How long N connections take, over each round trip and on each backend."""
    part = Part(results, "warming")
    sizes = part.sizes("warm-up")
    if not sizes:
        return None
    measured = {
        (who, trip): [(at, series) for at in sizes if (series := part.get("warm-up", who, round_trip=trip, at=at))]
        for trip in part.round_trips("warm-up")
        for who in part.contestants("warm-up")
    }
    measured = {key: points for key, points in measured.items() if points}
    title = "How long warming takes, by the number of connections"
    slowest = max((trip or 0.0 for _, trip in measured), default=0.0)
    for (who, trip), points in measured.items():
        if (trip or 0.0) == slowest and len(points) > 1 and points[0][0] == 1:
            at, last = points[-1]
            title = (
                f"Over a round trip of {milliseconds(trip)} ms, warming {at:,.0f} connections takes "
                f"{ratio(last, points[0][1])[:-1]} times as long as warming one, with {who}"
            )
            break
    figure, (axes,) = sheet(title, LINES + 0.6)
    ends = {}
    for (who, trip), points in measured.items():
        name = f"{who}, {milliseconds(trip)} ms"
        color = color_of(who)
        draw_line(axes, points, color, marker=marker_of(who), dashes=(4, 2) if (trip or 0.0) < slowest else ())
        ends[name] = (points[-1][1].median, color)
    finish(axes, sizes, ends, "connections warmed together, logarithmic", "milliseconds", log=True)
    return figure, title


def callers(results: Results) -> Drawing | None:
    """What one of many first callers pays."""
    what = "concurrent first callers"
    part = Part(results, "callers")
    sizes = part.sizes(what)
    if not sizes:
        return None
    names = part.contestants(what)
    most = sizes[-1]
    title = f"What each of {most:,.0f} first callers pays for the warm-up that they share"
    ours = part.get(what, _our_first(names), at=most)
    warm_ups = [series.median for who in names if (series := part.get("warm-ups", who, at=most))]
    if ours and warm_ups and max(warm_ups) == 1:
        title = f"{most:,.0f} first callers share one warm-up, at {median(ours)} µs for each with {ours.who}"
    figure, (axes,) = sheet(title, LINES + 0.6)
    ends = draw_lines(axes, part, what, sizes)
    finish(axes, sizes, ends, "first callers who come together, logarithmic", "µs per caller", log=True)
    return figure, title


def growth(results: Results) -> Drawing | None:
    """A steady search, the more rows there are."""
    what = "steady search"
    part = Part(results, "growth")
    sizes = part.sizes(what)
    if not sizes:
        return None
    names = part.contestants(what)
    most = sizes[-1]
    title = "How long a steady search takes, by the rows of its collection"
    ours = part.get(what, _our_first(names), at=most)
    base = part.get(what, (ours and bare(ours.who, names)) or "", at=most)
    if ours and base:
        title = (
            f"A search of {most:,.0f} rows takes {median(ours)} ms with {ours.who}, "
            f"{ratio(ours, base)[:-1]} times what {base.who} takes"
        )
    figure, (axes,) = sheet(title, LINES + 0.6)
    ends = draw_lines(axes, part, what, sizes)
    finish(axes, sizes, ends, "rows in the collection, logarithmic", "milliseconds per search")
    return figure, title


def ingest(results: Results) -> Drawing | None:
    """Rows per second, one panel per number of dimensions."""
    part = Part(results, "ingest")
    sizes = part.sizes("ingest")
    names = part.contestants("ingest")
    if not sizes:
        return None
    found = {(who, at): part.get("ingest", who, at=at) for who in names for at in sizes}
    ours = found.get((_our_first(names), sizes[0]))
    base = found.get((bare("", names) or "", sizes[0]))
    title = "How many rows are stored in a second"
    if ours and base:
        title = (
            f"{ours.who} stores {median(ours)} rows of {sizes[0]:,.0f} dimensions in a second, "
            f"{100 * ours.median / base.median:.0f} % of a bare COPY"
        )
    figure, panels = sheet(title, ROW * len(names) + 0.8, len(sizes))
    for axes, at in zip(panels, sizes, strict=True):
        for place, who in enumerate(names):
            series = found[who, at]
            if series is not None:
                axes.barh(place, series.median, height=0.62, color=BLUE if is_ours(who) else GREY)
                beside(axes, series.median, place, median(series), PALE_INK)
        rows(axes, names)
        axes.set_xlim(0, axes.get_xlim()[1] * 1.22)
        axes.locator_params(axis="x", nbins=4)
        plain_numbers(axes, "x")
        axes.set_xlabel(f"rows per second, {at:,.0f} dimensions")
    return figure, title


PLOTS: Mapping[str, Callable[[Results], Drawing | None]] = {
    "first-answer": first_answer,
    "round-trips": round_trips,
    "warming": warming,
    "callers": callers,
    "growth": growth,
    "ingest": ingest,
}
"""All plots, by the names of their files."""


def _trip(part: Part) -> float | None:
    """The round trip to draw the contest at: 20 ms, or the longest that was measured."""
    trips = part.round_trips()
    return ROUND_TRIP if ROUND_TRIP in trips else trips[-1]


def _our_first(names: list[str]) -> str:
    """The contestant that titles speak of: always the first of preheat's, and not the best of the run."""
    return next(filter(is_ours, names), "")
