"""The sheet that every plot is drawn on: colors, type, and a file that is the same each time.

A plot brings its own light page with a frame, so that it can be read on white pages and on dark ones. Its text stays
text. The colors are those of Okabe and Ito, which people see apart whatever their eyes; marks differ as well.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

PAGE, FRAME, GRID = "#fcfcfa", "#c9ced4", "#e4e7ea"
INK, PALE_INK = "#1f2933", "#52606d"
BLUE, GREEN, ORANGE, PURPLE = "#0072b2", "#00805c", "#c04f00", "#a2477f"
GREY, PALE_GREY, PALE_BLUE = "#7b8794", "#cbd2d9", "#a6cfe6"
FONTS = "'DejaVu Sans', Verdana, 'Helvetica Neue', Arial, sans-serif"

WIDTH = 8.0
"""Inches; browsers scale it to the column that it stands in."""
LINES = 3.1
"""Inches of height of a plot of lines."""
TITLE_LINE = 0.24
"""Inches from one line of the title to the next."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "preheat",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FRAME,
    "axes.labelcolor": PALE_INK,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "xtick.color": FRAME,
    "ytick.color": FRAME,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Everything is drawn within it, whatever the user's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def sheet(title: str, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A page with its sentence on top and panels side by side, `height` inches without the title."""
    lines = textwrap.wrap(title, 74)
    top = TITLE_LINE * len(lines) + 0.22
    figure = Figure(figsize=(WIDTH, height + top), layout="constrained", facecolor="none")
    margin = 0.012
    figure.add_artist(
        FancyBboxPatch(
            (margin / 4, margin / 4),
            1 - margin / 2,
            1 - margin / 2,
            boxstyle="square,pad=0",
            facecolor=PAGE,
            edgecolor=FRAME,
            zorder=-10,
        )
    )
    for place, line in enumerate(lines):
        figure.text(
            0.025,
            1 - (0.2 + TITLE_LINE * place) / (height + top),
            line,
            ha="left",
            va="center",
            fontsize=12,
            fontweight="bold",
        ).set_in_layout(False)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0.015, 0.015, 0.965, (height - 0.05) / (height + top)))  # type: ignore[call-arg]
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)
    return figure, list(axes[0])


def save(figure: Figure, path: Path, title: str) -> Path:
    """Write the figure as SVG: no date, no version, and fonts that any reader has one of."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = re.sub(r"'DejaVu Sans'", FONTS, path.read_text(encoding="utf-8"))
    text = "\n".join(line.rstrip() for line in text.splitlines())
    path.write_text(text + "\n", encoding="utf-8")
    return path
