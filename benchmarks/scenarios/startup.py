"""What a first answer costs in a process that has just started, imports included.

Each program is a process of its own, which connects, asks one question and ends. The processor time is that of the
whole process, so it does not depend on what the machine does at the same time as much as the clock does.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter

from tests.support.server import Server

from benchmarks.data.collection import COLLECTION, DIMENSIONS
from benchmarks.report.records import Series

ASYNCPG = """
import asyncio, sys, asyncpg
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    await connection.fetch("SELECT 1")
    await connection.close()
asyncio.run(main())
"""

POOL = """
import asyncio, sys
from preheat import open_pool
async def main():
    async with open_pool(sys.argv[1], size=1) as pool:
        await pool.fetch("SELECT 1")
asyncio.run(main())
"""

STORAGE = f"""
import asyncio, sys
from preheat import VectorStorage
async def main():
    async with VectorStorage(sys.argv[1], {COLLECTION!r}, {DIMENSIONS}, size=1) as storage:
        await storage.search([1.0] * {DIMENSIONS})
asyncio.run(main())
"""

PROGRAMS = {
    "Python alone": "import sys",
    "asyncpg": ASYNCPG,
    "asyncpg, with anyio imported": f"import anyio.lowlevel, anyio._backends._asyncio\n{ASYNCPG}",
    "preheat, SELECT 1 in a pool": POOL,
    "preheat, a search": STORAGE,
}


def measure(server: Server, *, rounds: int) -> Iterator[Series]:
    """Each program, in turn; the first round writes the compiled modules and does not count."""
    taken: dict[str, list[tuple[float, float]]] = {who: [] for who in PROGRAMS}
    for number in range(rounds + 1):
        for who in random.sample(list(PROGRAMS), k=len(PROGRAMS)):
            figures = _run(PROGRAMS[who], server.dsn())
            if number:
                taken[who].append(figures)
    for who, figures in taken.items():
        yield Series("startup", who, "processor time", "ms", tuple(cpu for cpu, _ in figures))
        yield Series("startup", who, "time", "ms", tuple(clock for _, clock in figures))


def _run(program: str, dsn: str) -> tuple[float, float]:
    """Milliseconds of processor time and of the clock that a process takes."""
    before, started = getrusage(RUSAGE_CHILDREN), perf_counter()
    subprocess.run([sys.executable, "-c", program, dsn], check=True)
    clock, after = perf_counter() - started, getrusage(RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * used, 1000 * clock
