"""What is drawn on a sheet: rows of marks, lines with names at their ends, scales with plain numbers, legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.report.canvas import BLUE, GREEN, GREY, INK, LINES, ORANGE, PALE_INK, PURPLE
from benchmarks.report.lookup import Part, is_ours
from benchmarks.report.records import Series


def rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a plot from top to bottom, preheat's in bold blue."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for label, name in zip(axes.get_yticklabels(), names, strict=False):  # a second panel shares the labels
        if is_ours(name):
            label.set(color=BLUE, fontweight="bold")
    axes.grid(axis="x")


def plain_numbers(axes: Axes, which: str, at: Sequence[float] | None = None) -> None:
    """Ticks such as `1,000` instead of powers, and only at `at` if given."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if at is not None:
        axis.set_ticks(list(at))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The places moved as little as needed for neighbors to be `gap` apart, in their order."""
    order = sorted(range(len(places)), key=places.__getitem__)
    groups: list[list[float]] = []  # of each: the sum of where its members want to start, and how many they are
    for rank, index in enumerate(order):
        groups.append([places[index] - gap * rank, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, members = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += members
    starts = [total / members for total, members in groups for _ in range(int(members))]
    moved = [0.0] * len(places)
    for rank, index in enumerate(order):
        moved[index] = starts[rank] + gap * rank
    return moved


def name_lines(axes: Axes, ends: Mapping[str, tuple[float, str]], height: float) -> None:
    """Write the name of each line where it ends, given its last value and color; `height` of the axes in inches."""
    figures = [
        axes.transAxes.inverted().transform(axes.transData.transform((1, value)))[1] for value, _ in ends.values()
    ]
    for (name, (_, color)), place in zip(ends.items(), apart(figures, 0.19 / height), strict=True):
        axes.text(
            1.02,
            place,
            name,
            transform=axes.transAxes,
            color=PALE_INK if color == GREY else color,
            fontsize=9,
            va="center",
            clip_on=False,
        )


def color_of(who: str) -> str:
    """The color of a contestant's line: one per event loop, grey for others."""
    if "halfvec" in who:
        return PURPLE
    return next((c for word, c in (("asyncio", BLUE), ("uvloop", GREEN), ("trio", ORANGE)) if word in who), GREY)


def marker_of(who: str) -> str:
    """The mark on a contestant's line, which differs as its color does."""
    if "halfvec" in who:
        return "v"
    return next((m for word, m in (("asyncio", "o"), ("uvloop", "D"), ("trio", "^")) if word in who), "s")


def beside(axes: Axes, value: float, place: float, text: str, color: str, size: int = 9, *, left: bool = False) -> None:
    """Write a figure to the right of its mark, or to the left."""
    axes.annotate(
        text,
        (value, place),
        (-8 if left else 6, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center_baseline",
        color=color,
        fontsize=size,
    )


def draw_line(
    axes: Axes, points: list[tuple[float, Series]], color: str, marker: str, dashes: tuple[int, ...] = ()
) -> None:
    """Medians as a line, and the quartiles as bars on it."""
    line = axes.errorbar(
        [at for at, _ in points],
        [series.median for _, series in points],
        yerr=[
            [series.median - series.spread[0] for _, series in points],
            [series.spread[1] - series.median for _, series in points],
        ],
        color=color,
        marker=marker,
        elinewidth=1,
    )[0]
    if dashes:
        line.set_dashes(dashes)


def draw_lines(axes: Axes, part: Part, what: str, sizes: list[float]) -> dict[str, tuple[float, str]]:
    """A line per contestant, others first so that preheat's are on top; where each ends, and its color."""
    ends = {}
    for who in reversed(part.contestants(what)):
        points = [(at, series) for at in sizes if (series := part.get(what, who, at=at))]
        if points:
            draw_line(axes, points, color_of(who) if is_ours(who) else GREY, marker_of(who) if is_ours(who) else "s")
            ends[who] = (points[-1][1].median, color_of(who) if is_ours(who) else GREY)
    return ends


def finish(
    axes: Axes,
    sizes: list[float],
    ends: Mapping[str, tuple[float, str]],
    below: str,
    beside: str,
    *,
    log: bool = False,
) -> None:
    """Scales, grid and names of a plot of lines; `log` asks for a logarithm upwards, which takes that all is positive.

    Else the axis starts at zero, so that heights can be compared.
    """
    axes.set_xscale("log")
    plain_numbers(axes, "x", sizes)
    if log and axes.dataLim.ymin > 0:
        axes.set_yscale("log")
        plain_numbers(axes, "y", round_numbers(*axes.get_ylim()))
        beside += ", logarithmic"
    else:
        axes.set_ylim(min(0, axes.dataLim.ymin), axes.get_ylim()[1])
    axes.grid(axis="y")
    axes.set_xlabel(below)
    axes.set_ylabel(beside)
    name_lines(axes, ends, LINES)


def round_numbers(low: float, high: float) -> list[float]:
    """Ticks for a logarithmic axis: round numbers between two limits, at most eight of them."""
    found: list[float] = []
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in range(-6, 9) for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) <= 8:
            break
    return found


def mark(marker: str, what: str) -> Line2D:
    """One entry of the legend of marks."""
    return Line2D([], [], color=INK, linestyle="", marker=marker, markeredgewidth=2 if marker == "|" else 1, label=what)


def legend(axes: Axes, handles: list[Line2D] | list[Patch]) -> None:
    """Above the plot, in one line."""
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(handles), borderpad=0, borderaxespad=0.3
    )
