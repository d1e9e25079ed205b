"""`preheat measure`: where the time of a first answer goes."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.table import Table
from rich.text import Text

from ...errors import ArgumentError
from ...measure import HEADINGS, PHASES, Answer, Measurement, html_page
from ...measure import measure as measure_first_answers
from ..console import err, escape, milliseconds, out, run, show
from ..database import database
from ..options import Database

__all__ = ("measure",)

COLORS = {
    "acquire": "bright_black",
    "name resolution": "cyan",
    "TCP": "yellow",
    "TLS": "magenta",
    "log-in": "bright_magenta",
    "set-up": "bright_black",
    "type look-ups": "red",
    "prepare": "bright_yellow",
    "first run": "green",
    "second run": "blue",
    "release": "bright_black",
}
NAMES = max(map(len, PHASES))
FIGURES = 20
"""Columns for the milliseconds and the round trips of a phase, and the gaps."""


class Via(StrEnum):
    """The pools that can be measured."""

    preheat = "preheat"
    asyncpg = "asyncpg"
    psycopg = "psycopg"
    sqlalchemy = "sqlalchemy"


def measure(
    where: Database,
    query: Annotated[
        str | None,
        typer.Option(
            help="The SQL to run, several times; by default a search by vectors that touches no table.",
            show_default=False,
        ),
    ] = None,
    connections: Annotated[int, typer.Option(help="How many callers ask for a first answer at the same time.")] = 1,
    rounds: Annotated[int, typer.Option(help="How many fresh pools are measured; the median is shown.")] = 3,
    via: Annotated[Via, typer.Option(help="The pool to measure.")] = Via.preheat,
    html: Annotated[
        Path | None, typer.Option(help="Write the result to this file, as a page of HTML.", show_default=False)
    ] = None,
) -> None:
    """Show where the time of a first answer goes: cold, after `SELECT 1`, and after preheat's warm-up."""

    async def work() -> Measurement:
        async with database(where) as dsn:
            with err.status("measuring first answers"):
                return await measure_first_answers(
                    dsn,
                    via=via.value,
                    query=query,
                    connections=connections,
                    rounds=rounds,
                    backend=where.backend.value,
                    bounds=where.bounds,
                    create_extension=not where.url,  # the embedded server is the user's own
                )

    def measured_and_written() -> Measurement:
        result = run(where.backend, work)
        if html is not None:
            run(where.backend, partial(_write, html, html_page(result)))
        return result

    show(measured_and_written(), _show_measurement, json=where.json)
    if html is not None:
        err.print(f"written to {escape(str(html))}", soft_wrap=True)


async def _write(path: Path, text: str) -> None:
    try:
        await anyio.Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArgumentError(
            f"--html: {path} cannot be written ({error.strerror or error}); name a file in a folder that exists"
        ) from error


def _show_measurement(measurement: Measurement) -> None:
    """Three waterfalls on one scale, and the advice."""
    out.print(f"[bold]Where a cold start goes: {escape(measurement.target)}[/]", soft_wrap=True)
    out.print(f"[dim]{escape(', '.join(measurement.facts()))}[/]", soft_wrap=not out.is_terminal)
    for note in measurement.notes:
        out.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=not out.is_terminal)
    longest = max(answer.seconds for answer in measurement.answers)
    for answer in measurement.answers:
        out.print()
        _show_answer(answer, longest)
    out.print()
    for sentence in measurement.advice:
        if not out.is_terminal:
            out.print(f"- {escape(sentence)}", soft_wrap=True)
            continue
        table = Table.grid(padding=(0, 1))
        table.add_row("•", escape(sentence))
        out.print(table)


def _show_answer(answer: Answer, longest: float) -> None:
    count = answer.round_trips_until_first
    trips = "1 round trip" if count == 1 else f"{count} round trips"
    out.print(f"[bold]{HEADINGS[answer.after]}[/]: first rows after {milliseconds(answer.until_first)}, {trips}")
    width = max(10, min(out.width, 140) - NAMES - FIGURES - 4)
    table = Table.grid(padding=(0, 1))
    table.add_column(width=NAMES, no_wrap=True)
    table.add_column(width=width, no_wrap=True)
    table.add_column(width=11, justify="right", no_wrap=True)
    table.add_column(width=6, justify="right", no_wrap=True)
    for phase in PHASES:
        if any(part.phase == phase for part in answer.segments):
            seconds, count = answer.of(phase)
            table.add_row(
                phase,
                _bar(answer, phase, longest, width),
                milliseconds(seconds),
                f"{count} RT" if count else "",
                style=None if count or seconds > longest / 100 else "dim",
            )
    out.print(table)


def _bar(answer: Answer, phase: str, longest: float, width: int) -> Text:
    """The segments of one phase where they lie on the scale; what is too short for a column is a thin line."""
    cells = [" "] * width
    for part in answer.segments:
        if part.phase == phase:
            begin, end = width * part.start / longest, width * (part.start + part.seconds) / longest
            first = min(round(begin), width - 1)
            for column in range(first, max(first + 1, round(end))):
                cells[min(column, width - 1)] = "█" if end - begin >= 0.5 else "▏"
    return Text("".join(cells), style=COLORS[phase])
