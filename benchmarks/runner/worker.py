"""One fresh process measures one contestant: a `Job` as a line on the input, the results as a line on the output.

It runs in the contestant's own environment, so it imports numpy, the contestant, and nothing else that is installed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import warnings
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from time import perf_counter
from types import ModuleType
from typing import Any

from benchmarks.contestants import Contestant, by_name
from benchmarks.data.vectors import query_vectors, row_vectors, texts
from benchmarks.runner.concurrently import run, together
from benchmarks.runner.jobs import Job, K
from benchmarks.runner.round_trips import RoundTrips

Samples = dict[str, list[float]]
"""By the name of what was measured; milliseconds, or round trips where the name says so, or rows per second."""

THREE = 3
"""Callers at once, and connections warmed for them."""
BURST = 50
"""Callers at once on a whole pool."""
STEADY_ROUND_TRIPS = 5
"""Searches that are enough to count round trips."""


class SearchJob:
    """How long one contestant's answers take, from cold to busy."""

    def __init__(self, job: Job, contestant: Contestant, module: ModuleType) -> None:
        self.samples: Samples = {}
        self._job = job
        self._contestant = contestant
        self._module = module
        self._queries = itertools.cycle(query_vectors(job.dimensions, job.seed))
        self._round_trips = RoundTrips(job.control)

    async def measure(self) -> None:
        await self.cold()
        await self.warmed()
        if self._job.timed:
            await self.burst()

    async def cold(self) -> None:
        """From before opening to the first answer, of as small a pool as the contestant can open."""
        self._round_trips.new_pool()
        started = perf_counter()
        async with self._module.opened(self._job) as contestant:
            await self.search(contestant)
            self.milliseconds("cold first answer", perf_counter() - started)
            waited = sum if self._contestant.connects_in_turn else longest
            self.count("cold round trips", waited(self._round_trips.now()))

    async def warmed(self) -> None:
        """Warmed for three callers: what they wait, and what callers wait from then on."""
        async with self.opened_warm(THREE, "warm-up") as contestant:
            self.count("warm-up round trips", longest(self._round_trips.now()))
            before = self._round_trips.now()
            self.milliseconds("first of three after warm-up", max(await self.at_once(contestant, THREE)))
            self.count("first after warm-up round trips", sum(self._round_trips.since(before)) / THREE)

            searches = self._job.steady if self._job.timed else STEADY_ROUND_TRIPS
            before = self._round_trips.now()
            for _ in range(searches):
                self.milliseconds("steady", await self.search(contestant))
            self.count("steady round trips", sum(self._round_trips.since(before)) / searches)
            for _ in range(self._job.sets if self._job.timed else 0):
                self.milliseconds("steady three at once", max(await self.at_once(contestant, THREE)))

    async def burst(self) -> None:
        """Many callers at once, on a pool of ten that is warmed as a whole."""
        async with self.opened_warm(10) as contestant:
            self.milliseconds("burst of 50", max(await self.at_once(contestant, BURST)))

    @asynccontextmanager
    async def opened_warm(self, connections: int, what: str = "") -> AsyncGenerator[Any]:
        """The contestant opened anew and warmed its own way; opening counts, as some warm while they open."""
        self._round_trips.new_pool()
        started = perf_counter()
        async with self._module.opened(replace(self._job, connections=connections)) as contestant:
            await contestant.warm(connections)
            if what:
                self.milliseconds(what, perf_counter() - started)
            yield contestant

    async def at_once(self, contestant: Any, callers: int) -> list[float]:
        """Seconds that each of `callers` waits, from when all of them began."""
        waited: list[float] = []
        started = perf_counter()

        async def call() -> None:
            await self.search(contestant)
            waited.append(perf_counter() - started)

        await together(self._job.backend, [call] * callers)
        return waited

    async def search(self, contestant: Any) -> float:
        """One search with a vector of its own: its seconds."""
        vector = next(self._queries)
        started = perf_counter()
        ids = await contestant.search(vector)
        seconds = perf_counter() - started
        if len(set(ids)) != K:
            raise RuntimeError(f"a search has found {ids} instead of {K} rows")
        return seconds

    def milliseconds(self, what: str, seconds: float) -> None:
        if self._job.timed:
            self.samples.setdefault(what, []).append(1000 * seconds)

    def count(self, what: str, round_trips: float) -> None:
        if self._round_trips.counting:
            self.samples.setdefault(what, []).append(round_trips)


def longest(round_trips: Sequence[int]) -> int:
    """How many round trips are waited for if the connections open at the same time; 0 if none has opened."""
    return max(round_trips, default=0)


async def ingest(job: Job, module: ModuleType) -> tuple[Samples, int]:
    """Rows per second, and how many rows: whole batches until the rows or the seconds are used up."""
    batch, vectors = texts(job.batch, job.seed), row_vectors(job.batch, job.dimensions)
    async with module.opened(job) as contestant:
        await contestant.create()
        rows, seconds = 0, 0.0
        while rows == 0 or (rows < job.rows and seconds < job.seconds):
            fresh = [f"{rows} {text}" for text in batch]
            started = perf_counter()
            await contestant.ingest(fresh, vectors)
            seconds += perf_counter() - started
            rows += job.batch
    return {"ingest": [rows / seconds]}, rows


def work(job: Job) -> dict[str, Any]:
    """Do a job: its samples, its rows, and the versions of what was measured."""
    contestant = by_name(job.contestant)
    module = contestant.load()
    samples: Samples = {}
    rows = 0
    gc.collect()
    gc.freeze()  # what importing has left is nobody's garbage
    if job.kind == "search":
        search = SearchJob(job, contestant, module)
        run(job.backend, search.measure)
        samples = search.samples
    elif job.kind == "ingest":
        samples, rows = run(job.backend, lambda: ingest(job, module))
    else:
        asyncio.run(module.prepare(job))
    return {"samples": samples, "rows": rows, "versions": {name: version(name) for name in contestant.distributions}}


def main() -> None:
    warnings.simplefilter("ignore")  # the peers' own
    job = Job.from_line(sys.stdin.readline())
    print(json.dumps(work(job)), flush=True)


if __name__ == "__main__":
    main()
