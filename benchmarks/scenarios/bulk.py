"""A large ingest, killed half-way and run again; how much memory it takes, and how long.

Run it with `python -m benchmarks.scenarios.bulk`. Made-up documents of a hundred paragraphs are cut, embedded by
WordLlama and stored, by a process of its own that tells its progress a line at a time. It is killed with SIGKILL when
half of the chunks are there. A second process runs the same ingest to its end, and a third runs it once more, with
nothing left to do. Then the table is compared with what it should be, row by row.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import numpy as np
import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tests.support.server import Server, running_server

from benchmarks.data.vectors import texts
from preheat import Document, IngestReport, ResearchRetriever, VectorStorage, WordLlamaEmbedder

COLLECTION = "bulk"
PARAGRAPHS = 100
"""Of a document; each is a chunk."""
CHARACTERS = 260
"""The most of a chunk: so that no two paragraphs fit into one."""
SERVER = ("shared_buffers=1GB", "maintenance_work_mem=2GB", "max_wal_size=8GB")
MIB = 2**20


@dataclass(slots=True)
class Run:
    """What one process told of itself."""

    name: str
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def chunks(self) -> list[int]:
        return [line["chunks"] for line in self.lines]

    @property
    def memory(self) -> list[float]:
        """MiB that the process had."""
        return [line["rss"] / MIB for line in self.lines]

    @property
    def loading(self) -> list[dict[str, Any]]:
        """The lines until the indexes were begun."""
        return [line for line in self.lines if line["step"] is None]

    @property
    def growth(self) -> float | None:
        """MiB more in the last tenth of the batches than in the second tenth: of those that were written, if any."""
        found = [line for line in self.loading if line["added"]] or self.loading
        if len(found) < 20:
            return None
        tenth = len(found) // 10
        early, late = found[tenth : 2 * tenth], found[-tenth:]
        return float(np.median([line["rss"] for line in late]) - np.median([line["rss"] for line in early])) / MIB


def documents(chunks: int) -> Iterator[Document]:
    """Made-up documents, the same ones each time."""
    for number in range(chunks // PARAGRAPHS):
        paragraphs = (f"{number} {text}" for text in texts(PARAGRAPHS, seed=number))
        yield Document(f"made-up/{number:05}.txt", "\n\n".join(paragraphs), {"number": number})


async def child(dsn: str, chunks: int) -> None:
    """Ingest, and tell on the output how far it is and how much memory there is."""
    process = psutil.Process()

    def tell(report: IngestReport) -> None:
        step = report.index.step if report.index else None
        line = {**report.as_dict(), "step": step, "rss": process.memory_info().rss}
        print(json.dumps(line), flush=True)

    embedder = WordLlamaEmbedder()
    embedder.load()  # or a run that finds the first half stored would load it half-way
    async with VectorStorage(dsn, COLLECTION, embedder.dimensions, size=3, warm="never") as storage:
        tell(await ResearchRetriever(storage, embedder).ingest(documents(chunks), chunk_size=CHARACTERS, progress=tell))


def run(name: str, dsn: str, chunks: int, progress: Progress, kill_at: int | None = None) -> Run:
    """Run an ingest in a process of its own, and kill it when so many chunks are stored."""
    task = progress.add_task(name, total=chunks)
    outcome = Run(name)
    command = [sys.executable, "-m", "benchmarks.scenarios.bulk", "--child", "--chunks", str(chunks)]
    environment = {**os.environ, "BULK_DSN": dsn}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for text in process.stdout:
            line = json.loads(text)
            outcome.lines.append(line)
            progress.update(task, completed=line["chunks"], description=f"{name}: {line['step'] or 'loading'}")
            if kill_at is not None and line["chunks"] >= kill_at:
                process.kill()
                break
        code = process.wait()
    assert (code == 0) == (kill_at is None), f"{name} ended with {code}"
    progress.remove_task(task)
    return outcome


def check(server: Server, chunks: int) -> dict[str, bool]:
    """Whether the table holds what it should, from outside."""
    table = f'"preheat_{COLLECTION}"'
    (row,) = server.sql(
        "SELECT count(*) AS chunks, count(DISTINCT (document, position)) AS places, count(DISTINCT text) AS texts, "
        f"count(DISTINCT document) AS documents, max(position) AS last FROM {table}"
    )
    expected = {}
    for one in documents(chunks):
        expected |= {chunk.id: chunk.position for chunk in one.chunks(CHARACTERS)}
    stored = {one["id"]: one["position"] for one in server.sql(f"SELECT id, position FROM {table}")}
    return {
        "complete: every chunk of every document, and no other": stored == expected,
        "no duplicates: each place and each text once": row["places"] == row["texts"] == row["chunks"] == chunks,
        "no half a document": (row["documents"], row["last"]) == (chunks // PARAGRAPHS, PARAGRAPHS - 1),
    }


def show(runs: Sequence[Run], checks: dict[str, bool], console: Console) -> None:
    """A row for each process, and what was found in the end."""
    table = Table(title="ingest, killed half-way and run again", title_justify="left", title_style="bold")
    for name in ("run", "chunks", "added", "unchanged", "seconds", "chunks/s", "peak MiB", "growth MiB"):
        table.add_column(name, justify="left" if name == "run" else "right")
    for one in runs:
        last, load = one.lines[-1], one.loading[-1]
        growth = "" if one.growth is None else f"{one.growth:+.1f}"
        table.add_row(
            one.name,
            *(f"{last[name]:,}" for name in ("chunks", "added", "unchanged")),
            f"{last['seconds']:.0f}",
            f"{load['chunks'] / load['seconds']:,.0f}",
            f"{max(one.memory):.0f}",
            growth,
        )
    console.print(table)
    for what, is_so in checks.items():
        console.print(f"[{'green' if is_so else 'red'}]{'yes' if is_so else 'NO'}[/]  {what}")


def draw(runs: Sequence[Run], folder: Path) -> None:
    """Memory over chunks, of the process that was killed and of the one after it."""
    from benchmarks.report.canvas import BLUE, LINES, ORANGE, save, sheet, style

    killed, second = runs[:2]
    title = f"An ingest of {second.chunks[-1]:,} chunks takes {max(*killed.memory, *second.memory):.0f} MiB"
    if killed.growth is not None and second.growth is not None:
        growth = max(killed.growth, second.growth)
        title += f"; from early to late, while it writes, it grows by {growth:.1f} MiB"
    with style():
        figure, (axes,) = sheet(title, LINES)
        for one, color in ((killed, ORANGE), (second, BLUE)):
            load = Run(one.name, one.loading)
            axes.plot(load.chunks, load.memory, color=color, label=one.name)
        axes.plot(killed.chunks[-1], killed.memory[-1], marker="X", color=ORANGE, markersize=9)
        axes.set_ylim(0, 1.25 * max(*killed.memory, *second.memory))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("chunks looked at")
        axes.set_ylabel("MiB of the process")
        axes.grid(axis="y")
        axes.legend(loc="lower right")
        figure.savefig(folder / "bulk.png", dpi=110)
        save(figure, folder / "bulk.svg", title)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scenarios.bulk", description=__doc__)
    parser.add_argument("--chunks", type=int, default=200_000, help="how many, rounded down to hundreds")
    parser.add_argument("--output", type=Path, default=Path(), help="the folder that the plot and the samples go to")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    chunks = options.chunks // PARAGRAPHS * PARAGRAPHS
    if options.child:
        anyio.run(child, os.environ["BULK_DSN"], chunks)
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console()
    started = perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="bulk-") as folder,
        running_server(Path(folder) / "data", *SERVER) as server,
        Progress(console=console, transient=True) as progress,
    ):
        dsn = server.dsn()
        runs = [
            run("killed half-way", dsn, chunks, progress, kill_at=chunks // 2),
            run("run again", dsn, chunks, progress),
            run("and once more", dsn, chunks, progress),
        ]
        (options.output / "bulk.json").write_text(json.dumps({one.name: one.lines for one in runs}), encoding="utf-8")
        checks = check(server, chunks)
    for one in runs:
        checks[f"{one.name}: it only ever went on"] = all(a <= b for a, b in pairwise(one.chunks))
    last = runs[-1].lines[-1]
    checks["once more changed nothing"] = (last["unchanged"], last["added"], last["changed"]) == (chunks, 0, 0)
    draw(runs, options.output)
    show(runs, checks, console)
    console.print(f"{perf_counter() - started:.0f} s in all; the plot is {options.output / 'bulk.svg'}")
    return int(not all(checks.values()))


if __name__ == "__main__":
    raise SystemExit(main())
