"""Tables of all that was measured: `show` for a terminal, `markdown` for the docs.

Parts that were not measured have no table, and single figures that were not measured are dashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from rich.console import Console
from rich.text import Text

from benchmarks.layout import Cell, Table, markdown, on_terminal
from benchmarks.lookup import Part, bare, is_ours, least
from benchmarks.records import Limit, Results, Series
from benchmarks.words import MISSING, TIMES, median, milliseconds, quantity, ratio, spread, unit

__all__ = ["Table", "machine", "markdown", "show", "summary", "tables"]

CONTEST = (
    "cold flights",
    "cold first answer",
    "warm-up",
    "first of three after warm-up",
    "steady flights",
    "steady",
    "burst of 50",
)
SUMMARY = {
    "cold first answer": "first answer, cold",
    "first of three after warm-up": "first answer, after warm-up",
    "steady": "each further answer",
    "cold flights": "flights, cold",
    "steady flights": "flights, steady",
}
TLS = ("cold flights", "second connection flights", "cold first answer")
FLIGHTS = "A flight is one wait for the server."
MEDIANS = "Medians, with their quartiles below"
BEST = "Highlighted: the best of a column, and those whose quartiles reach into its own."

Compare = Callable[[str, float], Series | None]
"""The series that the one of a contestant at a size is compared with."""


def tables(results: Results) -> list[Table]:
    """All the tables of what was measured."""
    return [
        *_contest(Part(results, "contest")),
        *_ingest(Part(results, "ingest")),
        *_warming(Part(results, "warming")),
        *_callers(Part(results, "callers")),
        *_growth(Part(results, "growth")),
        *_parameters(Part(results, "parameters")),
        *_tls(Part(results, "tls")),
        *_costs(Part(results, "costs")),
        *_limits(results),
    ]


def show(results: Results, console: Console) -> None:
    """Print the machine, every table, and how many of the limits were kept. It takes 100 columns."""
    console.print(Text(", ".join(f"{row[0].text} {row[1].text}" for row in machine(results).rows), style="dim"))
    for table in tables(results):
        console.print()
        console.print(on_terminal(table))
    if results.limits:
        kept = sum(limit.kept for limit in results.limits)
        style = "bold green" if kept == len(results.limits) else "bold red"
        console.print()
        console.print(Text(f"{kept} of {len(results.limits)} limits kept", style=style))


def machine(results: Results) -> Table:
    """What was measured on, and of which versions. Of paths only the last name is told."""
    facts: Iterable[tuple[str, Mapping[str, Any]]] = (
        ("", {name.removesuffix("_gib"): _sized(name, value) for name, value in results.machine.items()}),
        ("", results.versions),
        ("", {"commit": results.commit}),
        ("option ", results.options),
    )
    rows = [(prefix + name.replace("_", " "), value) for prefix, group in facts for name, value in group.items()]
    return Table(
        "machine",
        "Measured on and with",
        ("", ""),
        tuple((Cell(name), Cell(_without_folder(value))) for name, value in rows),
    )


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
            cells = (_cell(series, top=best[what], small=True) for what, series in zip(SUMMARY, found, strict=True))
            rows.append((_name(who), *cells))
    return Table(
        "summary",
        f"Milliseconds over a round trip of {milliseconds(round_trip)} ms",
        ("", *SUMMARY.values()),
        tuple(rows),
        f"Medians. {FLIGHTS}",
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
            (_name(who), *(_cell(columns[what][who], _timed(ours[what]), best[what]) for what in CONTEST))
            for who in part.contestants()
        )
        yield Table(
            f"contest-{milliseconds(trip)}",
            ("Contest on one machine" if not trip else f"Contest over a round trip of {milliseconds(trip)} ms")
            + ", in milliseconds",
            ("", *CONTEST),
            tuple(rows),
            f"{MEDIANS}; {TIMES}: ratio to the best row of preheat. {FLIGHTS} {BEST}",
        )


def _ingest(part: Part) -> Iterator[Table]:
    if part:
        names = part.contestants("ingest")
        yield _by_size(
            part,
            "ingest",
            ("ingest", "Storing rows, in rows per second", "dimensions", f"{MEDIANS}; {TIMES}: ratio to bare COPY."),
            lambda who, at: _series(part, "ingest", bare(who, names), at),
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
                rows.append((label, *(_cell(series, one) for series in found)))
    yield Table(
        "warming",
        "Warming N connections, in milliseconds",
        ("on, round trip", *_sizes(sizes, "connection")),
        tuple(rows),
        f"{MEDIANS}; {TIMES}: ratio to one connection.",
    )


def _callers(part: Part) -> Iterator[Table]:
    if not part:
        return
    what, sizes = "concurrent first callers", part.sizes()
    rows = []
    for who in part.contestants():
        rows.append((_name(who), *(_cell(part.get(what, who, at=at)) for at in sizes)))
        warm_ups = [part.get("warm-ups", who, at=at) for at in sizes]
        if any(warm_ups):
            rows.append((Cell("  warm-ups"), *(_cell(series) for series in warm_ups)))
    yield Table(
        "callers",
        "First callers who come together, in microseconds per caller",
        ("", *_sizes(sizes, "caller")),
        tuple(rows),
        f"{MEDIANS}; and how many warm-ups they started between them.",
    )


def _growth(part: Part) -> Iterator[Table]:
    if part:
        names = part.contestants("steady search")
        yield _by_size(
            part,
            "steady search",
            (
                "growth",
                "Steady search in a growing collection, in milliseconds",
                "rows",
                f"{MEDIANS}; {TIMES}: ratio to bare asyncpg.",
            ),
            lambda who, at: _series(part, "steady search", bare(who, names), at),
        )


def _parameters(part: Part) -> Iterator[Table]:
    """One table per figure: the ways of sending a vector."""
    for what in part.whats():
        names = part.contestants(what)
        best = {at: least(part.get(what, who, at=at) for who in names) for at in part.sizes(what)}
        measured = next((unit(series.unit) for series in best.values() if series), "")
        yield _by_size(
            part,
            what,
            (
                f"parameters-{what.replace(' ', '-')}",
                f"Ways of sending a vector, {what}, in {measured}",
                "dimensions",
                f"{MEDIANS}; {TIMES}: ratio to the best. {BEST}",
            ),
            partial(_best_at, best),
            best,
        )


def _tls(part: Part) -> Iterator[Table]:
    if part:
        trip = part.round_trips()[-1]
        columns = {what: [part.get(what, who, round_trip=trip) for who in part.contestants()] for what in TLS}
        rows = (
            (Cell(who), *(_cell(columns[what][place]) for what in TLS)) for place, who in enumerate(part.contestants())
        )
        yield Table(
            "tls",
            "What TLS costs" + (f", over a round trip of {milliseconds(trip)} ms" if trip else ""),
            ("sslmode", *(_heading(what, columns[what]) for what in TLS)),
            tuple(rows),
            f"{MEDIANS}. {FLIGHTS}",
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
            tuple((Cell(_heading(what, found)), *map(_cell, found)) for what, found in columns.items()),
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


def _by_size(
    part: Part,
    what: str,
    words: tuple[str, str, str, str],
    compare: Compare,
    best: Mapping[float, Series | None] | None = None,
) -> Table:
    """A row per contestant and a column per size; `words` are the table's name, title, kind of size, and note."""
    name, title, kind, note = words
    sizes = part.sizes(what)
    rows = (
        (
            _name(who),
            *(_cell(part.get(what, who, at=at), compare(who, at), (best or {}).get(at)) for at in sizes),
        )
        for who in part.contestants(what)
    )
    return Table(name, title, (kind, *(f"{at:,g}" if at < 1e4 else f"{at:,.0f}" for at in sizes)), tuple(rows), note)


def _cell(series: Series | None, base: Series | None = None, top: Series | None = None, *, small: bool = False) -> Cell:
    """A median; beside it its ratio to `base`, and highlighted if its quartiles reach those of `top`."""
    if series is None:
        return Cell(MISSING)
    good = top is not None and series.spread[0] <= top.spread[1]
    beside, below = (ratio(series, base), spread(series)) if not small else ("", "")
    return Cell(median(series), beside, below, "best" if good else "plain")


def _name(who: str) -> Cell:
    return Cell(who, tone="ours" if is_ours(who) else "plain")


def _timed(series: Series | None) -> Series | None:
    """The series, if ratios of it say something: flights are few enough to compare by eye."""
    return None if series is None or series.unit == "flights" else series


def _heading(what: str, column: Iterable[Series | None]) -> str:
    """What was measured, and in which unit."""
    measured = next((series.unit for series in column if series), "")
    return what if measured in {"", "flights"} else f"{what}, {unit(measured)}"


def _sizes(sizes: Sequence[float], thing: str) -> list[str]:
    return [f"{at:,.0f} {thing}{'' if at == 1 else 's'}" for at in sizes]


def _best_at(best: Mapping[float, Series | None], _who: str, at: float) -> Series | None:
    return best.get(at)


def _series(part: Part, what: str, who: str | None, at: float) -> Series | None:
    return None if who is None else part.get(what, who, at=at)


def _sized(name: str, value: object) -> str:
    return f"{value} GiB" if name.endswith("_gib") else str(value)


def _without_folder(value: object) -> str:
    text = str(value)
    return PurePath(text).name if PurePath(text).is_absolute() else text
