"""Lay out tables as grids: a cell is repeated in the columns and rows that it spans."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

__all__ = ("Cell", "Table")

WIDEST_SPAN = 1000  # as in browsers (https://html.spec.whatwg.org/multipage/tables.html)
PARTS = ("thead", "tbody", "tfoot")


@dataclass(slots=True)
class Cell:
    """A cell of a table: its spans, the size of its text, and its place in the grid."""

    element: Any
    columns: int
    rows: int  # 0 for all remaining rows
    size: int = 0
    start: int = 0  # the first column
    end: int = 0  # the column after the last
    last: int = 0  # the last row
    alone: bool = False  # whether the cell is a whole row


@dataclass(slots=True)
class Table:
    """A table: its rows, by part. No cell spans rows of two parts."""

    parts: dict[str, list[list[list[Cell]]]] = field(default_factory=lambda: {name: [] for name in PARTS})
    rows: list[list[Cell]] | None = None

    def begin(self, name: str) -> None:
        """Begin a `thead`, `tbody`, `tfoot` or `tr`."""
        if name != "tr" or self.rows is None:
            self.rows = []
            self.parts["tbody" if name == "tr" else name].append(self.rows)
        if name == "tr":
            self.rows.append([])

    def put(self, cell: Cell) -> None:
        """Append a cell to the row."""
        if not self.rows:
            self.begin("tr")
        assert self.rows
        self.rows[-1].append(cell)

    def spread(self, empty: Any, spare: int) -> tuple[list[list[Any]], int]:
        """The elements of each row. A cell is repeated in each row and column that it spans, so that each row can be
        read alone. A cell that is a whole row is written once.

        Args:
            empty: the element for an empty cell.
            spare: how many characters of repeated cells may be written, so that a small page cannot make a huge table.

        Returns:
            The rows, and the rest of `spare`.
        """
        grid: list[list[Cell]] = []
        for rows in (rows for name in PARTS for rows in self.parts[name]):
            above: list[Cell] = []
            for number, cells in enumerate(rows):
                spare -= sum(3 + cell.size for cell in above)
                grid.append(_placed(cells, above if spare > 0 else [], number, len(rows) - 1))
                above = [cell for cell in grid[-1] if cell.last > number]
        starts = sorted({cell.start for row in grid for cell in row})
        spread: list[list[Any]] = []
        for row in grid:
            elements: list[Any] = []
            for cell in row:
                first, end = bisect_left(starts, cell.start), bisect_left(starts, cell.end)
                gap, again = first - len(elements), end - first - 1
                spare -= 3 * gap + again * (3 + cell.size)
                if spare < 0:
                    gap = again = 0
                elements += [empty] * gap + [cell.element] + [empty if cell.alone else cell.element] * again
            if (missing := len(starts) - len(elements)) > 0 and (spare := spare - 3 * missing) >= 0:
                elements += [empty] * missing
            spread.append(elements)
        return spread, spare


def _placed(cells: list[Cell], above: list[Cell], number: int, last: int) -> list[Cell]:
    """A row, with the cells of rows above that span it."""
    row: list[Cell] = []
    place = reached = 0
    for cell in cells:
        while reached < len(above) and above[reached].start <= place:
            row.append(above[reached])
            place = max(place, above[reached].end)
            reached += 1
        cell.start, cell.end = place, place + min(max(cell.columns, 1), WIDEST_SPAN)
        cell.last = min(last, number + cell.rows - 1) if cell.rows else last
        cell.alone = len(cells) == 1 and not above
        place = cell.end
        row.append(cell)
    return row + above[reached:]
