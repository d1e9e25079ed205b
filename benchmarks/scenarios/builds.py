"""Building the index of the vectors: with the memory that preheat estimates, and with PostgreSQL's own default."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

from tests.support.server import Server

from benchmarks.data.collection import DIMENSIONS
from benchmarks.data.collection import rows as made_up
from benchmarks.report.records import Series
from benchmarks.runner.server_cpu import ServerCPU
from benchmarks.runner.timing import run
from preheat import IndexProgress, VectorStorage

NAME = "builds"
WAYS = {"preheat": None, "PostgreSQL's 64 MB": "64MB"}
SETTINGS = "&maintenance_work_mem=64MB"
"""Of the session, in place of the benchmark's own: the default of PostgreSQL."""


def measure(server: Server, *, rows: int, rounds: int) -> Iterator[Series]:
    for who, figures in run("asyncio", _measured, server, rows, rounds).items():
        for what, samples in figures.items():
            yield Series("builds", who, what, "s", tuple(samples), at=rows)


async def _measured(server: Server, rows: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {who: {"time": [], "server CPU": []} for who in WAYS}
    dsn = server.dsn() + SETTINGS
    async with VectorStorage(dsn, NAME, DIMENSIONS, index=False, warm="never", size=2) as storage:
        for batch in made_up(rows):
            await storage.add(batch)
        await storage.create_index()
        meter = ServerCPU(server)
        for _ in range(rounds):
            for who, memory in WAYS.items():
                async with storage.get_connection() as connection:
                    await connection.execute(f'DROP INDEX "preheat_{NAME}.embedding"; CHECKPOINT')
                seen: list[IndexProgress] = []
                meter.restart()
                started = perf_counter()
                await storage.create_index(progress=seen.append, memory=memory)
                found[who]["time"].append(perf_counter() - started)
                found[who]["server CPU"].append(meter.milliseconds() / 1000)
                if memory is None and any(one.notice for one in seen):
                    raise AssertionError("the memory that preheat estimates is too small")
        await storage.drop()
    return found
