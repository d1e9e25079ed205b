"""Round trips and milliseconds of a first answer under each word of `sslmode`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.network.round_trip_meter import MeterProcess
from tests.support.network.tls_terminator import TLSTerminator
from tests.support.server import Server

from benchmarks.data.collection import COLLECTION, DIMENSIONS, questions
from benchmarks.report.records import Series
from benchmarks.runner.timing import run, timed
from preheat import VectorStorage

NETWORK = 0.020
WORDS = (
    ("disable", "sslmode=disable", True),
    ("prefer, server without TLS", "sslmode=prefer", False),
    ("prefer", "sslmode=prefer", True),
    ("require", "sslmode=require", True),
    ("require, direct", "sslmode=require&sslnegotiation=direct", True),
)


def measure(server: Server, *, rounds: int) -> Iterator[Series]:
    """A terminator who speaks TLS stands before the server; the network is between the client and him."""
    with TLSTerminator(server.port) as terminator, MeterProcess(terminator.port, NETWORK) as meter:
        for who, words, offered in WORDS:
            terminator.offers_tls = offered
            dsn = f"{server.dsn(port=meter.port).partition('?')[0]}?{words}"
            taken = [run("asyncio", _first_answers, dsn, meter) for _ in range(rounds)]
            for what, unit, samples in zip(
                ("cold first answer", "cold round trips", "second connection round trips"),
                ("ms", "round trips", "round trips"),
                zip(*taken, strict=True),
                strict=True,
            ):
                yield Series("tls", who, what, unit, samples, NETWORK)


async def _first_answers(dsn: str, meter: MeterProcess) -> tuple[float, float, float]:
    """Milliseconds and round trips to the first answer, and the round trips of a second connection to its first one."""
    vectors, before = questions(), sum(meter.round_trips())
    async with VectorStorage(dsn, COLLECTION, DIMENSIONS, size=2, warm="never") as storage:
        seconds = await timed(lambda: storage.search(next(vectors)))
        first = sum(meter.round_trips())
        async with storage.pool.lease():  # the first connection is in use
            await storage.search(next(vectors))
            second = sum(meter.round_trips())
    return 1000 * seconds, first - before, second - first
