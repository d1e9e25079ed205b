"""The contest: preheat beside what its users would pick instead, at several round trips.

Every measurement is made by a fresh process. In each round, for each round trip, the contestants come in an order of
the round's own, so that whatever else the machine does hits everybody alike.

    python -m benchmarks.runner.contest --rounds 1 --rows 2000 --round-trips 0 20
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from tests.support.network.round_trip_meter import MeterProcess
from tests.support.server import Server, running_server

from benchmarks.contestants import Contestant, by_name
from benchmarks.data import dataset
from benchmarks.report.records import Series
from benchmarks.runner.jobs import Job
from benchmarks.runner.peers import WorkerError, ensure, work
from benchmarks.runner.schedule import ALL, QUICK, Options, Task, plan

SEARCHED, INGESTED = "contest", "contest_ingest"
"""Databases of the contest's own: nobody's leftovers are in anybody's way."""


@dataclass
class Outcome:
    """What a contest has measured."""

    samples: dict[tuple[str, str, str, float], list[float]] = field(default_factory=dict)
    """By part, who, what and where, in the order of measuring."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the server and of everything that was measured; see :func:`merge_versions`."""
    failures: dict[str, str] = field(default_factory=dict)
    """By what was being measured: the last line of the error."""

    def note(self, task: Task, results: Mapping[str, Any]) -> None:
        part = "ingest" if task.kind == "ingest" else "contest"
        for what, values in results["samples"].items():
            self.samples.setdefault((part, task.contestant.name, what, task.at), []).extend(values)

    @property
    def series(self) -> list[Series]:
        """The samples as records, contestant by contestant: round trips in seconds, of an ingest the dimensions."""
        by_contestant = sorted(self.samples.items(), key=lambda item: (item[0][0], ALL.index(item[0][1])))
        return [
            Series(part, who, what, "rows/s", tuple(values), at=where)
            if part == "ingest"
            else Series(part, who, what, unit(what), tuple(values), round_trip=where)
            for (part, who, what, where), values in by_contestant
        ]


def unit(what: str) -> str:
    """Of a figure of the part `contest`."""
    return "round trips" if what.endswith("round trips") else "ms"


def merge_versions(into: dict[str, str], found: Mapping[str, str], who: str) -> None:
    """Note versions; one that differs from what others have is noted as the one that `who` has."""
    for name, version in found.items():
        if into.setdefault(name, version) != version:
            into[f"{name} ({who})"] = version


class Contest:
    """A contest on a server, from filling the tables to the last ingest.

    Args:
        server: on loopback, with TCP and passwords.
        options: how long and how large.
        console: where to show what is running.
    """

    def __init__(self, server: Server, options: Options, console: Console) -> None:
        self.outcome = Outcome()
        self._server = server
        self._options = options
        self._console = console
        self._out: set[Contestant] = set()
        self._meters: dict[float, MeterProcess] = {}

    def run(self) -> Outcome:
        """Measure everything; a contestant that fails is reported, and left out if it has no environment or table.

        Blocks, and has event loops of its own: call it from synchronous code.
        """
        tasks = list(plan(self._options))
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console, transient=True) as progress, ExitStack() as stack:
            bar = progress.add_task("", total=len(tasks))
            stack.enter_context(dataset.new_database(self._server, SEARCHED))
            self._prepare(lambda doing: progress.update(bar, description=doing))
            for round_trip in {task.at for task in tasks if task.metered}:
                self._meters[round_trip] = stack.enter_context(MeterProcess(self._server.port, round_trip))
            for task in tasks:
                progress.update(bar, description=str(task))
                if task.contestant not in self._out:
                    self._try(task)
                progress.advance(bar)
        return self.outcome

    def _prepare(self, doing: Callable[[str], None]) -> None:
        """The environments and the tables."""
        contestants = [by_name(name) for name in self._options.contestants]
        for contestant in contestants:
            doing(f"{contestant.name}: its environment")
            try:
                ensure(contestant.environment)
            except WorkerError as error:
                self._failed(f"{contestant.name}: its environment", error)
                self._out.add(contestant)
        dsn = self._server.dsn(SEARCHED)
        doing(f"{self._options.rows} rows and their index")
        asyncio.run(dataset.fill(dsn, self._options.rows))
        doing("tables of the peers' own layout")
        own = [contestant for contestant in contestants if contestant.own_table and contestant not in self._out]
        for contestant, error in asyncio.run(dataset.fill_own_tables(dsn, own)).items():
            self._failed(f"{contestant.name}: its table", error)
            self._out.add(contestant)
        self.outcome.versions.update(asyncio.run(dataset.versions(dsn)), Python=platform.python_version())

    def _try(self, task: Task) -> None:
        try:
            results = self._ingest(task) if task.kind == "ingest" else work(task.contestant, self._search_job(task))
        except WorkerError as error:
            self._failed(str(task), error)
            return
        self.outcome.note(task, results)
        merge_versions(self.outcome.versions, results["versions"], task.contestant.name)

    def _search_job(self, task: Task) -> Job:
        """Directly at the server where there is no round trip: a meter in between takes time of its own."""
        meter = self._meters[task.at] if task.metered else None
        return Job(
            task.contestant.name,
            "search",
            self._server.dsn(SEARCHED, port=meter.port if meter else 0),
            dataset.COLLECTION,
            dataset.DIMENSIONS,
            backend=task.contestant.backend,
            seed=task.seed,
            control=meter.control if meter else 0,
            timed=task.kind == "search",
            steady=self._options.steady,
            sets=self._options.sets,
        )

    def _ingest(self, task: Task) -> dict[str, Any]:
        """Into a database that is new for each."""
        job = Job(
            task.contestant.name,
            "ingest",
            self._server.dsn(INGESTED),
            dataset.COLLECTION,
            int(task.at),
            backend=task.contestant.backend,
            seed=task.seed,
            rows=self._options.ingest_rows,
            batch=self._options.ingest_batch,
            seconds=self._options.ingest_seconds,
        )
        with dataset.new_database(self._server, INGESTED):
            results = work(task.contestant, job)
            stored = dataset.most_rows(self._server, INGESTED)
            if stored != results["rows"]:
                raise WorkerError(f"has stored {stored} of {results['rows']} rows")
        return results

    def _failed(self, what: str, error: Exception) -> None:
        self.outcome.failures[what] = str(error)
        self._console.print(f"failed: {what}: {error}", style="red", markup=False, highlight=False)


def table(outcome: Outcome, part: str, where: float, title: str) -> Table:
    """Medians of one round trip, or of one number of dimensions: a line for each contestant."""
    found = [one for one in outcome.series if one.part == part and where in (one.round_trip, one.at)]
    figures = list(dict.fromkeys(one.what for one in found))
    shown = Table(title=title, title_justify="left")
    shown.add_column("")
    for figure in figures:
        shown.add_column(figure, justify="right")
    for who in dict.fromkeys(one.who for one in found):
        medians = {one.what: f"{one.median:.1f}" for one in found if one.who == who}
        shown.add_row(who, *(medians.get(figure, "") for figure in figures))
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner.contest", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rough figures; the other options go before")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--rows", type=int, help="of the searched table")
    parser.add_argument("--round-trips", type=float, nargs="+", metavar="MS")
    parser.add_argument("--contestants", nargs="+", choices=ALL, metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--ingest-rounds", type=int)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    options = QUICK if given.pop("quick") else Options()
    if "round_trips" in given:
        given["round_trips"] = [milliseconds / 1000 for milliseconds in given["round_trips"]]
    options = replace(options, **given)
    console = Console()
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        outcome = Contest(server, options, console).run()
    for round_trip in options.round_trips:
        console.print(table(outcome, "contest", round_trip, f"{1000 * round_trip:g} ms round trip"))
    for dimensions in options.ingest_dimensions if options.ingest_rounds else ():
        console.print(table(outcome, "ingest", dimensions, f"{dimensions:g} dimensions, rows/s"))
    console.print(outcome.versions)
    return int(bool(outcome.failures))


if __name__ == "__main__":
    raise SystemExit(main())
