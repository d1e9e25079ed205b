"""Workbooks to HTML, by openpyxl: one table for each sheet."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from datetime import datetime, time
from html import escape
from io import BytesIO
from typing import Any

from ...errors import ExtractionError, MissingExtraError
from .archives import Unpacked, reading

__all__ = ("read_sheets",)

WHAT = "a workbook (.xlsx)"
MOST_CELLS = 1_000_000
"""The most cells of a sheet, including empty cells, because each one is read."""
TOO_LARGE = f"has a sheet of more than {MOST_CELLS:,} cells; divide it into smaller sheets"
MERGED = re.compile(rb"""\bref\s*=\s*["']([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})["']""")
NOT_COMPUTED = re.compile(rb"</f>\s*(?:<v\s*/>|<v></v>)?\s*</c>|<f\b[^>]*/>\s*(?:<v\s*/>)?\s*</c>")
"""Matches a formula whose computed value was not saved."""


def read_sheets(name: str, data: bytes) -> tuple[str, str]:
    """Convert a workbook to HTML. The second value is its title, which may be empty.

    A cell has its computed value if the value was saved, or else its formula. Hidden sheets, rows and columns are left
    out.

    Raises:
        ExtractionError: if the file is not a workbook, or is damaged, encrypted or too large.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise MissingExtraError("reading workbooks", "documents") from error
    with reading(name, WHAT), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles, macros and pictures, which openpyxl leaves out
        with Unpacked(name, data, WHAT) as archive:
            sheets = [archive.read(entry) for entry in archive.namelist() if entry.startswith("xl/worksheets/")]
        has_formulas = any(NOT_COMPUTED.search(sheet) for sheet in sheets)
        if sum(_cells(*area) for sheet in sheets for area in MERGED.findall(sheet)) > MOST_CELLS:
            raise ExtractionError(name, TOO_LARGE)  # openpyxl would create each of them
        book = load_workbook(BytesIO(data), data_only=True, keep_links=False)
        formulas = load_workbook(BytesIO(data), keep_links=False) if has_formulas else None
        shown = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        parts = (part for sheet in shown for part in _sheet(name, sheet, formulas and formulas[sheet.title]))
        return "".join(parts), book.properties.title or ""


def _cells(first_column: bytes, first_row: bytes, last_column: bytes, last_row: bytes) -> int:
    """The number of cells in an area."""
    width = _column(last_column) - _column(first_column) + 1
    return width * (int(last_row) - int(first_row) + 1)


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + letter - 64
    return number


def _sheet(name: str, sheet: Any, formulas: Any) -> Iterator[str]:
    if sheet.max_row * sheet.max_column > MOST_CELLS:
        raise ExtractionError(name, TOO_LARGE)
    rows = {number for number, row in sheet.row_dimensions.items() if row.hidden}
    columns: set[int] = set()
    for column in sheet.column_dimensions.values():
        if column.hidden and column.min:
            columns.update(range(column.min, min(column.max or column.min, sheet.max_column) + 1))
    spans: dict[tuple[int, int], str] = {}
    covered: set[tuple[int, int]] = set()
    for area in sheet.merged_cells.ranges:
        height = len(set(range(area.min_row, min(area.max_row, sheet.max_row) + 1)) - rows)
        width = len(set(range(area.min_col, min(area.max_col, sheet.max_column) + 1)) - columns)
        spans[area.min_row, area.min_col] = f" rowspan={height} colspan={width}"
        covered.update((cell.row, cell.column) for line in sheet[area.coord] for cell in line)
    yield f"<h2>{escape(sheet.title)}</h2><table>"
    for line in sheet.iter_rows():
        if line[0].row in rows or all(cell.value is None and (cell.row, cell.column) not in covered for cell in line):
            continue
        yield "<tr>"
        for cell in line:
            place = (cell.row, cell.column)
            if cell.column in columns or (place in covered and place not in spans):
                continue
            value = cell.value
            if value is None and formulas is not None:
                value = formulas.cell(*place).value
            yield f"<td{spans.get(place, '')}>{escape(_shown(cell, value))}</td>"
        yield "</tr>"
    yield "</table>"


def _shown(cell: Any, value: Any) -> str:
    """A value as a reader sees it."""
    if value is None or (cell.has_style and cell.font is not None and cell.font.strike):
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "seconds")
    if isinstance(value, float | int):
        is_percentage = str(cell.number_format).endswith("%")
        return f"{100 * value:.10g}%" if is_percentage else f"{value:.15g}" if isinstance(value, float) else str(value)
    return str(value)
