"""Tables of all that was measured: `show` for a terminal, `markdown` for the docs.

Parts that were not measured have no table, and single figures that were not measured are dashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from rich.console import Console
from rich.text import Text

from benchmarks.report.cells import by_size, figure, heading, name, plain, size_headings, to_bare
from benchmarks.report.layout import Cell, Table, markdown, on_terminal
from benchmarks.report.lookup import Part, is_ours, least
from benchmarks.report.provenance import machine
from benchmarks.report.records import Limit, Results, Series
from benchmarks.report.words import TIMES, milliseconds, quantity

__all__ = ["Table", "machine", "markdown", "show", "summary", "tables"]

CONTEST = (
    "cold round trips",
    "cold first answer",
    "warm-up",
    "first of three after warm-up",
    "steady round trips",
    "steady",
    "burst of 50",
)
SUMMARY = {
    "cold first answer": "first answer, cold",
    "first of three after warm-up": "first answer, after warm-up",
    "steady": "each further answer",
    "cold round trips": "round trips, cold",
    "steady round trips": "round trips, steady",
}
WIDTH = 100
"""Columns of a terminal that every table fits in."""
FIGURES = {
    "parameters": ("Ways of sending a vector", "dimensions"),
    "packing": ("Packing one embedding", "dimensions"),
    "crowd": ("Callers with one question at once", "callers"),
    "filters": ("Searches with a filter", "rows"),
    "prefixes": ("Ten documents by a prefix of their keys", "rows"),
    "builds": ("Building the index of the vectors", "rows"),
    "words": ("Hybrid searches", "rows"),
    "near answers": ("Answers to similar questions", "answers"),
}
"""Parts with a table for each figure: the beginning of its title, and what the columns count."""
TLS = ("cold round trips", "second connection round trips", "cold first answer")
ROUND_TRIPS = "A round trip is one wait for the server."
MEDIANS = "Medians, with their quartiles below"
BEST = "Highlighted: the best of a column, and those whose quartiles reach into its own."


def tables(results: Results) -> list[Table]:
    """All the tables of what was measured."""
    return [
        *_contest(Part(results, "contest")),
        *_ingest(Part(results, "ingest")),
        *_warming(Part(results, "warming")),
        *_callers(Part(results, "callers")),
        *_growth(Part(results, "growth")),
        *(
            table
            for part, (title, kind) in FIGURES.items()
            for table in _figures(Part(results, part), part, title, kind)
        ),
        *_tls(Part(results, "tls")),
        *_costs(Part(results, "costs")),
        *_startup(Part(results, "startup")),
        *_limits(results),
    ]


def show(results: Results, console: Console) -> None:
    """Print the machine, every table, and how many of the limits were kept. It takes 100 columns; a file has them."""
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(Text(", ".join(f"{row[0].text} {row[1].text}" for row in machine(results).rows), style="dim"))
    for table in tables(results):
        console.print()
        console.print(on_terminal(table))
    if results.limits:
        kept = sum(limit.kept for limit in results.limits)
        style = "bold green" if kept == len(results.limits) else "bold red"
        console.print()
        console.print(Text(f"{kept} of {len(results.limits)} limits kept", style=style))


def summary(results: Results, round_trip: float = 0.020) -> Table | None:
    """The contest in small, over one round trip in seconds; None if that was not measured."""
    part = Part(results, "contest")
    if round_trip not in part.round_trips():
        return None
    best = {what: least(part.get(what, who, round_trip=round_trip) for who in part.contestants()) for what in SUMMARY}
    rows = []
    for who in part.contestants():
        found = [part.get(what, who, round_trip=round_trip) for what in SUMMARY]
        if any(found):
            cells = (plain(series, best[what]) for what, series in zip(SUMMARY, found, strict=True))
            rows.append((name(who), *cells))
    return Table(
        "summary",
        f"Milliseconds over a round trip of {milliseconds(round_trip)} ms",
        ("", *SUMMARY.values()),
        tuple(rows),
        f"Medians. {ROUND_TRIPS} {BEST}",
    )


def _contest(part: Part) -> Iterator[Table]:
    """One table per round trip, each figure beside its ratio to the best row of preheat."""
    if not part:
        return
    for trip in part.round_trips():
        columns: dict[str, dict[str, Series | None]] = {
            what: {who: part.get(what, who, round_trip=trip) for who in part.contestants()} for what in CONTEST
        }
        ours = {what: least(column[who] for who in column if is_ours(who)) for what, column in columns.items()}
        best = {what: least(column.values()) for what, column in columns.items()}
        rows = (
            (name(who), *(figure(columns[what][who], _timed(ours[what]), best[what]) for what in CONTEST))
            for who in part.contestants()
        )
        yield Table(
            f"contest-{milliseconds(trip)}",
            ("Contest on one machine" if not trip else f"Contest over a round trip of {milliseconds(trip)} ms")
            + ", in milliseconds",
            ("", *CONTEST),
            tuple(rows),
            f"{MEDIANS}; {TIMES}: ratio to the best row of preheat. {ROUND_TRIPS} {BEST}",
        )


def _ingest(part: Part) -> Iterator[Table]:
    if part.sizes("ingest"):
        yield Table(
            "ingest",
            "Storing rows, in rows per second",
            *by_size(part, "ingest", "dimensions", to_bare(part, "ingest")),
            f"{MEDIANS}; {TIMES}: ratio to bare COPY.",
        )


def _warming(part: Part) -> Iterator[Table]:
    """Rows are backends, over one round trip after the other."""
    sizes = part.sizes("warm-up")
    if not part:
        return
    rows = []
    for trip in part.round_trips("warm-up"):
        for who in part.contestants("warm-up"):
            found = [part.get("warm-up", who, round_trip=trip, at=at) for at in sizes]
            one = part.get("warm-up", who, round_trip=trip, at=1)
            if any(found):
                label = Cell(f"{who}, {milliseconds(trip)} ms", tone="ours")
                rows.append((label, *(figure(series, one) for series in found)))
            first = [part.get("first connection hot", who, round_trip=trip, at=at) for at in sizes]
            if any(first):
                rows.append((Cell("  first connection hot"), *(figure(series) for series in first)))
    yield Table(
        "warming",
        "Warming N connections, in milliseconds",
        ("on, round trip", *size_headings(sizes, "connection")),
        tuple(rows),
        f"{MEDIANS}; {TIMES}: ratio to one connection.",
    )


def _callers(part: Part) -> Iterator[Table]:
    if not part:
        return
    what, sizes = "concurrent first callers", part.sizes()
    rows = []
    for who in part.contestants():
        rows.append((name(who), *(figure(part.get(what, who, at=at)) for at in sizes)))
        warm_ups = [part.get("warm-ups", who, at=at) for at in sizes]
        if any(warm_ups):
            rows.append((Cell("  warm-ups"), *(figure(series) for series in warm_ups)))
    yield Table(
        "callers",
        "First callers who come together, in microseconds per caller",
        ("", *size_headings(sizes, "caller")),
        tuple(rows),
        f"{MEDIANS}; and how many warm-ups they started between them.",
    )


def _growth(part: Part) -> Iterator[Table]:
    if part.sizes("steady search"):
        yield Table(
            "growth",
            "Steady search in a growing collection, in milliseconds",
            *by_size(part, "steady search", "rows", to_bare(part, "steady search")),
            f"{MEDIANS}; {TIMES}: ratio to bare asyncpg.",
        )


def _figures(part: Part, slug: str, title: str, kind: str) -> Iterator[Table]:
    """One table per figure."""
    for what in part.whats():
        columns = {at: [part.get(what, who, at=at) for who in part.contestants(what)] for at in part.sizes(what)}
        title_of = heading(f"{title}, {what}", [series for column in columns.values() for series in column])
        name = f"{slug}-{what}".replace(" ", "-")
        if any(series is not None and series.unit == "share" for column in columns.values() for series in column):
            yield Table(name, title_of, *by_size(part, what, kind, partial(_best_at, {})), "More is better.")
            continue
        best = {at: least(column) for at, column in columns.items()}
        yield Table(
            name,
            title_of,
            *by_size(part, what, kind, partial(_best_at, best), best),
            f"{MEDIANS}; {TIMES}: ratio to the best. {BEST}",
        )


def _tls(part: Part) -> Iterator[Table]:
    if part:
        trip = part.round_trips()[-1]
        columns = {what: [part.get(what, who, round_trip=trip) for who in part.contestants()] for what in TLS}
        rows = (
            (Cell(who), *(figure(columns[what][place]) for what in TLS)) for place, who in enumerate(part.contestants())
        )
        yield Table(
            "tls",
            "What TLS costs" + (f", over a round trip of {milliseconds(trip)} ms" if trip else ""),
            ("sslmode", *(heading(what, columns[what]) for what in TLS)),
            tuple(rows),
            f"{MEDIANS}. {ROUND_TRIPS}",
        )


def _startup(part: Part) -> Iterator[Table]:
    if part:
        whats = part.whats()
        columns = {what: [part.get(what, who) for who in part.contestants()] for what in whats}
        rows = (
            (name(who), *(figure(columns[what][place]) for what in whats))
            for place, who in enumerate(part.contestants())
        )
        yield Table(
            "startup",
            "A first answer of a process that has just started",
            ("", *(heading(what, columns[what]) for what in whats)),
            tuple(rows),
            f"{MEDIANS}. From the start of Python to its end.",
        )


def _costs(part: Part) -> Iterator[Table]:
    """Whatever else was measured, each figure with its unit."""
    if part:
        names = part.contestants()
        columns: dict[str, list[Series | None]] = {
            what: [part.get(what, who) for who in names] for what in part.whats()
        }
        yield Table(
            "costs",
            "What preheat itself costs",
            ("", *names),
            tuple((Cell(heading(what, found)), *map(figure, found)) for what, found in columns.items()),
            f"{MEDIANS}.",
        )


def _limits(results: Results) -> Iterator[Table]:
    if results.limits:
        yield Table(
            "limits",
            "What was promised",
            ("", "measured", "promised", ""),
            tuple(
                (
                    Cell(limit.what),
                    Cell(quantity(limit.value, limit.unit)),
                    Cell(_promise(limit)),
                    Cell("kept", tone="kept") if limit.kept else Cell("missed", tone="missed"),
                )
                for limit in results.limits
            ),
        )


def _promise(limit: Limit) -> str:
    return f"{limit.at_most:g}" if limit.at_most is not None and limit.at_most == limit.at_least else limit.promised


def _timed(series: Series | None) -> Series | None:
    """The series, if ratios of it say something: round trips are few enough to compare by eye."""
    return None if series is None or series.unit == "round trips" else series


def _best_at(best: Mapping[float, Series | None], _who: str, at: float) -> Series | None:
    return best.get(at)
