"""Ways to send a query vector: what each costs steadily, and on a connection that has never seen one."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import asyncpg
import orjson
from pgvector.asyncpg import register_vector
from tests.support.network.round_trip_meter import MeterProcess
from tests.support.server import Server

from benchmarks.data.collection import K, fill, questions
from benchmarks.report.records import Series
from benchmarks.runner.timing import run

ROWS = 1000
NETWORK = 0.020


@dataclass(frozen=True)
class Way:
    """One way to send a vector."""

    name: str
    parameter: str
    encode: Callable[[Any], Any]
    prepare: Callable[[asyncpg.Connection], Awaitable[object]] | None = None


def _joined(vector: Any) -> str:
    return ("[" + ",".join(["%.9g"] * len(vector)) + "]") % tuple(vector.tolist())


def _dumped(vector: Any) -> str:
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()


WAYS = (
    Way("text by orjson", "$1::text::vector", _dumped),
    Way("text by %", "$1::text::vector", _joined),
    Way("text by str", "$1::text::vector", lambda vector: str(vector.tolist())),
    Way("float4[]", "$1::float4[]::vector", lambda vector: vector.tolist()),
    Way("binary, codec", "$1", lambda vector: vector, register_vector),
)


def measure(server: Server, *, searches: int, rounds: int) -> Iterator[Series]:
    """Each way at 384, 768 and 1,536 dimensions."""
    for dimensions in (384, 768, 1536):
        name = f"parameters_{dimensions}"
        run("asyncio", fill, server, ROWS, name, dimensions)
        steady = run("asyncio", _steady, server.dsn(), name, dimensions, searches)
        for way, samples in steady.items():
            yield Series("parameters", way, "steady", "ms", tuple(samples), at=dimensions)
        with MeterProcess(server.port, NETWORK) as meter:
            cold: dict[str, list[tuple[float, int]]] = {way.name: [] for way in WAYS}
            for _ in range(rounds):
                for way in random.sample(WAYS, k=len(WAYS)):
                    cold[way.name].append(
                        run("asyncio", _cold, server.dsn(port=meter.port), meter, name, dimensions, way)
                    )
        for who, taken in cold.items():
            yield Series("parameters", who, "cold", "ms", tuple(ms for ms, _ in taken), NETWORK, dimensions)
            counts = tuple(float(count) for _, count in taken)
            yield Series("parameters", who, "cold round trips", "round trips", counts, NETWORK, dimensions)


async def _steady(dsn: str, name: str, dimensions: int, searches: int) -> dict[str, list[float]]:
    """Milliseconds of searches, in turn, each way on a connection of its own; encoding included."""
    vectors = questions(dimensions)
    taken: dict[str, list[float]] = {way.name: [] for way in WAYS}
    connections = {way.name: await asyncpg.connect(dsn) for way in WAYS}
    try:
        for way in WAYS:
            if way.prepare is not None:
                await way.prepare(connections[way.name])
        for number in range(searches + 10):
            vector = next(vectors)
            for way in random.sample(WAYS, k=len(WAYS)):
                connection = connections[way.name]
                sql = _search(name, way.parameter)
                started = perf_counter()
                await connection.fetch(sql, way.encode(vector), K)
                seconds = perf_counter() - started
                if number >= 10:
                    taken[way.name].append(1000 * seconds)
    finally:
        for connection in connections.values():
            await connection.close()
    return taken


async def _cold(dsn: str, meter: MeterProcess, name: str, dimensions: int, way: Way) -> tuple[float, int]:
    """Milliseconds and round trips from connecting to the first answer."""
    vector, before = next(questions(dimensions)), sum(meter.round_trips())
    started = perf_counter()
    async with _connected(dsn) as connection:
        if way.prepare is not None:
            await way.prepare(connection)
        await connection.fetch(_search(name, way.parameter), way.encode(vector), K)
        return 1000 * (perf_counter() - started), sum(meter.round_trips()) - before


@asynccontextmanager
async def _connected(dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def _search(name: str, parameter: str) -> str:
    return f'SELECT id, text, metadata FROM "preheat_{name}" ORDER BY embedding <=> {parameter} LIMIT $2'
