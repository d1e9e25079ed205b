"""How long a warm-up of N connections takes, and when its first connection is hot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

from tests.support.network.round_trip_meter import MeterProcess
from tests.support.server import Server

from benchmarks.data.collection import COLLECTION, DIMENSIONS
from benchmarks.report.records import Series
from benchmarks.runner.timing import run
from preheat import VectorStorage, WarmReport

NETWORK = 0.020


def measure(server: Server, *, connections: tuple[int, ...], rounds: int) -> Iterator[Series]:
    """Warm-ups on loopback and over a network, on asyncio and trio, in turn."""
    for round_trip in (0.0, NETWORK):
        with MeterProcess(server.port, round_trip) if round_trip else nullcontext(server) as way:
            taken: dict[tuple[str, int], list[WarmReport]] = {}
            for _ in range(rounds):
                for count in connections:
                    for backend in ("asyncio", "trio"):
                        report = run(backend, _warm, server.dsn(port=way.port), count)
                        taken.setdefault((backend, count), []).append(report)
        for (backend, count), reports in taken.items():
            who = f"preheat on {backend}"
            seconds = tuple(1000 * report.seconds for report in reports)
            first = tuple(1000 * min(_hot_after(report)) for report in reports)
            yield Series("warming", who, "warm-up", "ms", seconds, round_trip, count)
            yield Series("warming", who, "first connection hot", "ms", first, round_trip, count)


async def _warm(dsn: str, connections: int) -> WarmReport:
    async with VectorStorage(
        dsn, COLLECTION, DIMENSIONS, size=connections, warm_connections=connections, warm_timeout=60.0
    ) as storage:
        await storage.warm_pool()
    report = storage.warm_report
    assert report is not None
    assert report.ok, report
    return report


def _hot_after(report: WarmReport) -> list[float]:
    """Seconds from the start until each connection was hot."""
    return [
        connection.connect_seconds + connection.probe_seconds
        for connection in report.connections
        if connection.connect_seconds is not None and connection.probe_seconds is not None
    ]
