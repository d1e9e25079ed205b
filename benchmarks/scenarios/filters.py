"""Searches with filters: what they take of the server's processors, and how many of the nearest they find.

Rows are made by :mod:`benchmarks.data.mixture`. *Spread* is a filter that has nothing to do with the clusters of the
vectors; with *clusters* whole clusters pass, which may be far from the question. The limit is the same search without
a filter: any filtered search has to look at least as far.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import numpy as np
from tests.support.server import Server

from benchmarks.data.mixture import PARTS, Mixture, mixture
from benchmarks.report.records import Series
from benchmarks.runner.server_cpu import ServerCPU
from benchmarks.runner.timing import run
from preheat import VectorStorage

DIMENSIONS = 384
QUESTIONS = 100
WIDTHS = (5, 10)
KINDS = {"spread": "spread", "apart": "clusters"}

Samples = dict[str, tuple[list[float], list[float]]]


def measure(server: Server, *, sizes: tuple[int, ...]) -> Iterator[Series]:
    """One collection of each size."""
    for rows in sizes:
        data, name = mixture(rows, DIMENSIONS, QUESTIONS), f"filters_{rows}"
        for who, (cpu, recall) in run("asyncio", _measured, server, data, name).items():
            yield Series("filters", who, "server CPU", "ms", tuple(cpu), at=rows)
            yield Series("filters", who, "recall", "share", (fmean(recall),), at=rows)
        server.sql(f"DROP TABLE \"preheat_{name}\"; DELETE FROM preheat_collections WHERE name = '{name}'")


async def _measured(server: Server, data: Mixture, name: str) -> Samples:
    async with VectorStorage(server.dsn(), name, DIMENSIONS, index=False, warm="never", size=1) as storage:
        for chunks in data.chunks():
            await storage.add(chunks)
        await storage.create_index()
        async with storage.get_connection() as connection:
            await connection.execute("VACUUM ANALYZE")
        return await searched(storage, data, ServerCPU(server))


async def searched(storage: VectorStorage, data: Mixture, meter: ServerCPU) -> Samples:
    """Each question with every filter: milliseconds of the server, and the share of the nearest that was found."""
    found: Samples = {}
    for k in WIDTHS:
        for number, vector in enumerate(data.questions):
            ways = [("no filter", None, None)]
            for share, parts in PARTS.items():
                for kind, word in KINDS.items():
                    ways.append((f"{share}, {word}", *data.equal(kind, parts, 7 * number % parts)))
            for way, kept, passes in ways:
                await storage.search(vector, k, filter=kept)  # for its pages and its plan
                meter.restart()
                hits = await storage.search(vector, k, filter=kept)
                taken = meter.milliseconds()
                expected = data.nearest(number, k, passes)
                assert len(hits) == len(expected)
                cpu, recall = found.setdefault(f"{way}, k={k}", ([], []))
                cpu.append(taken)
                recall.append(len({hit.id for hit in hits} & expected) / len(expected))
    return {who: figures for who, figures in found.items() if np.isfinite(figures[0]).all()}
