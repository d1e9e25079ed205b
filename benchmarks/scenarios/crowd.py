"""Many callers with one question at once: one look-up and one research, and what that takes of the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from time import perf_counter, process_time
from typing import Any

import anyio
import numpy as np
from tests.support.server import Server

from benchmarks.data.collection import COLLECTION, DIMENSIONS
from benchmarks.report.records import Series
from benchmarks.runner.server_cpu import ServerCPU
from benchmarks.runner.timing import run
from preheat import ResearchRetriever, VectorStorage
from preheat.retrieval.answers import CANDIDATES, THRESHOLD
from preheat.storage import answer_key

KEPT = 400
"""Other answers that are stored."""
RESEARCH_SECONDS = 0.2
SHARED, APART = "the look-up shared", "each looks up"

Samples = dict[str, list[float]]


def measure(server: Server, *, crowds: tuple[int, ...], rounds: int) -> Iterator[Series]:
    """Crowds of several sizes, beside crowds in which only the research is shared."""
    for backend in ("asyncio", "uvloop", "trio"):
        for callers in crowds:
            for what, samples in run(backend, _crowd, server, callers, rounds).items():
                way, _, unit = what.rpartition(", ")
                who = f"preheat on {backend}" if way == SHARED else f"{way}, on {backend}"
                yield Series("crowd", who, unit, "ms", tuple(samples), at=callers)


class Unlike:
    """An embedder that gives each text a vector in a direction of its own."""

    name, dimensions = "instant", DIMENSIONS

    def __init__(self) -> None:
        self._random = np.random.default_rng(4)

    async def embed(self, texts: Any) -> Any:
        return list(self._random.standard_normal((len(texts), DIMENSIONS), dtype=np.float32))


async def _research(_query: str) -> str:
    await anyio.sleep(RESEARCH_SECONDS)
    return "an answer"


async def _crowd(server: Server, callers: int, rounds: int) -> Samples:
    """Milliseconds until all callers have their answer, and of the processors, for each way in turn."""
    questions, samples = count(), {}
    async with VectorStorage(server.dsn(), COLLECTION, DIMENSIONS, embedder="instant") as storage:
        retriever = ResearchRetriever(storage, Unlike())
        table = storage.answer_table
        await retriever.retrieve("warm")
        await table.clear()
        for number in range(KEPT):
            (vector,) = await retriever.embedder.embed(["kept"])
            await table.store(f"kept {number}", "", "instant", f"kept {number}", vector, '"an answer"', None)
        meter = ServerCPU(server)

        async def shared(query: str, _vector: Any) -> None:
            assert (await retriever.retrieve_or_research(query, _research)).tier == "fresh"

        async def apart(query: str, vector: Any) -> None:
            key = answer_key("", "instant", query)
            if await table.exact(key) or await table.nearest(vector, "", "instant", THRESHOLD, CANDIDATES):
                raise AssertionError("a question of this crowd was answered before")
            await table.flights.run(key, lambda _: _research(query))

        ways: dict[str, Callable[[str, Any], Awaitable[None]]] = {SHARED: shared, APART: apart}
        for _ in range(rounds):
            for way, ask in ways.items():
                query = f"question {next(questions)}"
                (vector,) = await retriever.embedder.embed([query])
                meter.restart()
                started, worked = perf_counter(), process_time()
                async with anyio.create_task_group() as tasks:
                    for _ in range(callers):
                        tasks.start_soon(ask, query, vector)
                samples.setdefault(f"{way}, time", []).append(1000 * (perf_counter() - started))
                samples.setdefault(f"{way}, client CPU", []).append(1000 * (process_time() - worked))
                samples.setdefault(f"{way}, server CPU", []).append(meter.milliseconds())
        await table.clear()
    return samples
