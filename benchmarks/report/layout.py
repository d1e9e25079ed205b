"""One table, and its two forms: rich on a terminal, Markdown in the docs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

Tone = Literal["plain", "ours", "best", "kept", "missed"]
COLORS: dict[Tone, str] = {"plain": "", "ours": "bold", "best": "green", "kept": "green", "missed": "bold red"}
DIM = "dim"
RATIO = "cyan"
FEW, HEADING = 5, 18
"""Tables of so few columns have room for headings of so many characters on a terminal."""
SMALL = '<small style="white-space: nowrap">'
MANY = 6
"""Tables of more columns are wide on a page."""


@dataclass(frozen=True)
class Cell:
    """One figure or name of a table."""

    text: str
    ratio: str = ""
    """Stands beside the text."""
    spread: str = ""
    """Stands below the text."""
    tone: Tone = "plain"

    def lines(self) -> list[str]:
        """What it says, as it stands on a terminal."""
        return [" ".join(filter(None, (self.text, self.ratio))), *([self.spread] if self.spread else [])]


@dataclass(frozen=True)
class Table:
    """A table that knows nothing about where it is shown."""

    name: str
    """The name of its fragment in the docs, such as `contest-20`."""
    title: str
    columns: tuple[str, ...]
    """Headings; the first column has names."""
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """What one has to know to read it."""
    figures: bool = True
    """Whether the other columns have figures, which end below each other, or words."""


def markdown(table: Table) -> str:
    """The table in Markdown of GitHub's kind, which MyST reads too: its title, itself and its note."""
    lines = [
        f"**{_escape(table.title)}**",
        "",
        _line(map(_escape, table.columns)),
        _line("---:" if place and table.figures else "---" for place in range(len(table.columns))),
        *(_line(_markdown_cell(cell, wide=len(table.columns) > MANY) for cell in row) for row in table.rows),
    ]
    if table.note:
        lines += ["", _escape(table.note)]
    return "\n".join(lines) + "\n"


def on_terminal(table: Table) -> Group:
    """Title, table and note for rich: only names and sentences wrap, figures never do."""
    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="")
    for place, heading in enumerate(table.columns):
        cells = [row[place] for row in table.rows]
        if place == 0:
            shown.add_column(heading, vertical="top", overflow="fold", min_width=12)
        else:
            width = max((len(line) for cell in cells for line in cell.lines()), default=0)
            width = max(width, HEADING if len(table.columns) <= FEW else 0)
            shown.add_column(
                _wrapped(heading, width), justify="right" if table.figures else "left", vertical="top", no_wrap=True
            )
    for row in table.rows:
        shown.add_row(*map(_rich_cell, row))
    note = [Text(table.note, style=DIM)] if table.note else []
    return Group(Text(table.title, style="bold"), shown, *note)


def _rich_cell(cell: Cell) -> Text:
    text = Text(cell.text, style=COLORS[cell.tone])
    if cell.ratio:
        text = Text.assemble(text, " ", (cell.ratio, RATIO))
    if cell.spread:
        text = Text.assemble(text, "\n", (cell.spread, DIM))
    return text


def _markdown_cell(cell: Cell, *, wide: bool) -> str:
    """A wide table has the ratio below the figure, where there is room."""
    text = _escape(cell.text)
    if cell.tone in {"best", "missed"}:
        text = f"**{text}**"
    small = "<br>".join(filter(None, (cell.ratio if wide else "", cell.spread)))
    if cell.ratio and not wide:
        text += f"&nbsp;<small>{cell.ratio}</small>"
    return f"{text}<br>{SMALL}{small}</small>" if small else text


def _wrapped(heading: str, width: int) -> str:
    """The heading in lines no wider than the figures below it, or than its longest word."""
    longest = max(map(len, heading.split()), default=1)
    return "\n".join(textwrap.wrap(heading, max(width, longest), break_long_words=False, break_on_hyphens=False))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    for sign in ("|", "<", "*"):
        text = text.replace(sign, f"\\{sign}")
    return text
