"""`just bench`: preheat side by side with what one would use instead, and what it costs by itself.

Everything runs against a PostgreSQL on loopback with TCP and SCRAM. Counts (round trips) hold on any machine;
milliseconds do not, their ratios mostly do.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tests.support.server import Server, running_server

from benchmarks.data.collection import fill
from benchmarks.report import pages, tables
from benchmarks.report.limits import limits
from benchmarks.report.records import Results, Series, commit, machine
from benchmarks.runner import schedule
from benchmarks.runner.contest import Contest
from benchmarks.scenarios import (
    builds,
    callers,
    costs,
    crowd,
    encryption,
    filters,
    growth,
    near_answers,
    packing,
    parameters,
    prefixes,
    startup,
    warming,
    words,
)

SERVER = ("max_connections=300", "shared_buffers=4GB", "maintenance_work_mem=4GB", "max_wal_size=8GB")
"""So that a hundred connections find room, and a million rows the memory that a real server would give them."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    contest: schedule.Options = field(default_factory=schedule.Options)
    rows: int = 50_000
    rounds: int = 5
    samples: int = 300
    """Searches of a steady state, for figures of a single process."""
    connections: tuple[int, ...] = (1, 3, 10, 30, 100)
    callers: tuple[int, ...] = (1, 10, 100, 1000)
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    filtered: tuple[int, ...] = (10_000, 50_000, 100_000)
    worded: tuple[int, ...] = (10_000, 200_000)
    answers: tuple[int, ...] = (1_000, 10_000, 50_000)


QUICK = Plan(schedule.QUICK, 5_000, 2, 60, (1, 10), (1, 1000), (1_000, 10_000), (5_000,), (5_000,), (1_000,))

Part = Callable[[Server, Plan], Iterator[Series]]

PARTS: dict[str, Part] = {
    "costs": lambda server, plan: costs.measure(server, rounds=3 * plan.rounds, searches=plan.samples),
    "callers": lambda _, plan: callers.measure(crowds=plan.callers, rounds=3 * plan.rounds),
    "crowd": lambda server, plan: crowd.measure(server, crowds=plan.callers, rounds=plan.rounds),
    "filters": lambda server, plan: filters.measure(server, sizes=plan.filtered),
    "prefixes": lambda server, plan: prefixes.measure(server, sizes=plan.sizes, rounds=plan.rounds),
    "warming": lambda server, plan: warming.measure(server, connections=plan.connections, rounds=plan.rounds),
    "tls": lambda server, plan: encryption.measure(server, rounds=plan.rounds),
    "parameters": lambda server, plan: parameters.measure(server, searches=plan.samples, rounds=plan.rounds),
    "packing": lambda _, plan: packing.measure(rounds=3 * plan.rounds),
    "startup": lambda server, plan: startup.measure(server, rounds=2 * plan.rounds),
    "words": lambda server, plan: words.measure(server, sizes=plan.worded, searches=10),
    "near answers": lambda server, plan: near_answers.measure(server, sizes=plan.answers),
    "builds": lambda server, plan: builds.measure(server, rows=plan.rows, rounds=max(1, plan.rounds // 2)),
    "growth": lambda server, plan: growth.measure(server, sizes=plan.sizes, searches=plan.samples),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows, in under 3 minutes")
    parser.add_argument("--only", choices=["contest", *PARTS], action="append", help="this part alone; may be repeated")
    parser.add_argument("--output", type=Path, default=Path("results.json"), help="where the samples go")
    parser.add_argument("--docs", action="store_true", help="write tables and plots into the docs and the README")
    parser.add_argument("--rounds", type=int, help="of everything, in place of 5")
    parser.add_argument("--largest", type=int, default=1_000_000, help="rows of the largest table of `growth`")
    options = parser.parse_args()
    plan = shortened(QUICK if options.quick else Plan(), options.rounds, options.largest)
    chosen = options.only or ["contest", *PARTS]
    console = Console()
    results = Results(machine(), {}, commit(), {"quick": options.quick, "parts": chosen, **asdict(plan)})

    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        running_server(Path(folder) / "data", *SERVER) as server,
    ):
        measure(server, plan, chosen, results, console)
    results.limits.extend(limits(results))

    tables.show(results, console)
    results.write(options.output)
    written = pages.write(results) if options.docs else []
    console.print(f"all samples are in {options.output}", *(f"; {path}" for path in written), soft_wrap=True)
    return int(not all(limit.kept for limit in results.limits))


def shortened(plan: Plan, rounds: int | None, largest: int) -> Plan:
    """The plan with other numbers of rounds and rows."""
    if rounds is not None:
        plan = replace(plan, rounds=rounds, contest=replace(plan.contest, rounds=rounds))
    return replace(plan, sizes=tuple(size for size in plan.sizes if size <= largest))


def measure(server: Server, plan: Plan, chosen: list[str], results: Results, console: Console) -> None:
    """Run the chosen parts one after the other, and tell on the terminal which."""
    if "contest" in chosen:
        outcome = Contest(server, plan.contest, console).run()
        results.add(outcome.series)
        results.versions = outcome.versions
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        parts = [name for name in PARTS if name in chosen]
        if parts:
            filling = progress.add_task(f"storing {plan.rows:,} rows", total=None)
            anyio.run(fill, server, plan.rows)
            progress.remove_task(filling)
        for name in parts:
            task = progress.add_task(name, total=None)
            for series in PARTS[name](server, plan):
                results.add([series])
                progress.update(task, description=f"{name}: {series.who}, {series.what}")
            progress.remove_task(task)


if __name__ == "__main__":
    raise SystemExit(main())
