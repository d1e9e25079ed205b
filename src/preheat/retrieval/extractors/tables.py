"""Tables of a page as tables of Markdown, each cell in the columns and rows that it spans."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

__all__ = ("Cell", "Table")

WIDEST_SPAN = 1000  # as in browsers (https://html.spec.whatwg.org/multipage/tables.html)


@dataclass(slots=True)
class Cell:
    """A cell as it is in the page."""

    text: str
    columns: int
    """How many columns it spans."""
    rows: int
    """How many rows it spans; 0 for all that are left."""


@dataclass(slots=True)
class _Placed:
    """A cell in the grid: its text, the first column, the one after the last, and for how many rows it goes on."""

    text: str
    start: int
    end: int
    more: int
    alone: bool = False
    """Whether it is a row by itself."""


@dataclass(slots=True)
class Table:
    """A table while it is read."""

    parts: dict[str, list[list[list[Cell]]]] = field(default_factory=lambda: {"thead": [], "tbody": [], "tfoot": []})
    """The rows of each part of each kind. No cell spans rows of two parts."""
    _rows: list[list[Cell]] | None = None

    def begin_part(self, kind: str) -> None:
        """What follows is part of the head, a body or the foot."""
        self._rows = []
        self.parts[kind].append(self._rows)

    def end_part(self) -> None:
        """What follows is part of none."""
        self._rows = None

    def begin_row(self) -> None:
        """What follows is a row."""
        if self._rows is None:
            self.begin_part("tbody")
        assert self._rows is not None
        self._rows.append([])

    def put(self, cell: Cell) -> None:
        """The next cell of the row."""
        if not self._rows:
            self.begin_row()
        assert self._rows is not None
        self._rows[-1].append(cell)

    def lines(self, spare: int) -> list[str]:
        """The table in Markdown, its first row as the head; nothing if no cell has a text.

        A cell that spans rows or columns is written in each of them, so that each row can be read alone. One that is a
        whole row is written once.

        Args:
            spare: how many characters may be written beyond each cell once, so that no page makes endless tables.
        """
        grid = [
            row
            for kind in ("thead", "tbody", "tfoot")
            for rows in self.parts[kind]
            for row in _placed(rows, spare)
            if any(cell.text for cell in row)
        ]
        starts = sorted({cell.start for row in grid for cell in row})
        lines: list[str] = []
        for row in grid:
            texts: list[str] = []
            for cell in row:
                first, end = bisect_left(starts, cell.start), bisect_left(starts, cell.end)
                gap, again = first - len(texts), end - first - 1
                spare -= 2 * gap + again * (3 + len(cell.text))
                if spare < 0:
                    gap = again = 0
                texts += [""] * gap + [cell.text] + [("" if cell.alone else cell.text)] * again
            if (missing := len(starts) - len(texts)) > 0 and (spare := spare - 3 * missing) >= 0:
                texts += [""] * missing
            lines.append(_line(texts))
            if len(lines) == 1:
                lines.append(_line(["---"] * len(texts)))
        return lines


def _placed(rows: list[list[Cell]], spare: int) -> list[list[_Placed]]:
    """The rows of a part, each with the cells of rows above that reach into it."""
    found: list[list[_Placed]] = []
    above: list[_Placed] = []
    for number, cells in enumerate(rows):
        spare -= sum(3 + len(cell.text) for cell in above)
        waiting = above if spare > 0 else []
        left = len(rows) - number - 1
        row: list[_Placed] = []
        place = reached = 0
        for cell in cells:
            while reached < len(waiting) and waiting[reached].start <= place:
                row.append(waiting[reached])
                place = max(place, waiting[reached].end)
                reached += 1
            end = place + min(max(cell.columns, 1), WIDEST_SPAN)
            more = left if cell.rows == 0 else min(cell.rows - 1, left)
            row.append(_Placed(cell.text, place, end, more, alone=len(cells) == 1 and not waiting))
            place = end
        row += waiting[reached:]
        found.append(row)
        above = [_Placed(cell.text, cell.start, cell.end, cell.more - 1, cell.alone) for cell in row if cell.more > 0]
    return found


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"
