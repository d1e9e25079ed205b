"""Results that nobody has measured, to try the tables, plots and pages on.

`python -m tests.benchmarks.made_up results.json` writes them to a file.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.report.records import Limit, Results, Series

# cold round trips, cold work in ms, round trips after the warm-up, steady round trips, steady work in ms
CONTESTANTS = {
    "preheat on asyncio": (6, 21.0, 1, 1, 3.1),
    "preheat on uvloop": (6, 19.0, 1, 1, 2.9),
    "preheat on trio": (6, 24.0, 1, 1, 3.6),
    "asyncpg pool": (22, 31.0, 22, 2, 3.4),
    "asyncpg pool, min_size=10": (22, 31.0, 4, 2, 3.4),
    "psycopg_pool": (12, 27.0, 3, 2, 4.4),
    "SQLAlchemy": (29, 55.0, 9, 3, 6.2),
    "langchain-postgres": (33, 85.0, 12, 3, 9.9),
    "llama-index": (41, 1200.0, 15, 4, 12.5),
    "triopg": (22, 40.0, 22, 2, 5.0),
}


def made_up() -> Results:
    """A whole run's results, the same each time."""
    results = Results(
        machine={"cores": 2, "processor": "Imaginary 4004 at 0.74 MHz", "memory_gib": 4, "system": "Nowhere made-up"},
        versions={"python": "3.0.0", "PostgreSQL": "0.1", "pgvector": "0.0.1", "asyncpg": "0.0.0"},
        commit="made-up",
        options={"rounds": 7, "rows": 20_000, "quick": False, "output": "/nowhere/at/all/results.json"},
    )
    dice = random.Random(4)

    def about(value: float, samples: int = 7) -> tuple[float, ...]:
        return tuple(round(value * dice.uniform(0.97, 1.06), 4) for _ in range(samples))

    for trip in (0.0, 0.005, 0.020):
        results.add(_contest(trip, about))
    for at, scale in ((384, 1.0), (1536, 0.3)):
        for who, rate in (
            ("preheat on asyncio", 6100),
            ("preheat on trio", 5700),
            ("langchain-postgres", 410),
            ("llama-index", 380),
            ("bare COPY", 7300),
        ):
            results.add([Series("ingest", who, "ingest", "rows/s", about(rate * scale), at=at)])
    for trip in (0.0, 0.020):
        for who, more in (("asyncio", 2.4), ("trio", 3.1)):
            for at in (1, 3, 10, 30, 100):
                took = about(7 * 1000 * trip + 12 + more * at)
                results.add([Series("warming", who, "warm-up", "ms", took, trip, at)])
    for who, floor in (("preheat on asyncio", 3.0), ("preheat on trio", 9.0)):
        for at in (1, 10, 100, 1000):
            cost = about(floor + 18_000 / at)
            results.add([Series("callers", who, "concurrent first callers", "us", cost, at=at)])
            results.add([Series("callers", who, "warm-ups", "count", (1.0,) * 7, at=at)])
    for who, factor in (
        ("preheat on asyncio", 1.03),
        ("preheat on trio", 1.2),
        ("preheat on asyncio, halfvec", 0.9),
        ("bare asyncpg", 1.0),
    ):
        for at, base in ((1_000, 0.9), (10_000, 1.6), (100_000, 2.7), (1_000_000, 4.9)):
            results.add([Series("growth", who, "steady search", "ms", about(base * factor), at=at)])
    for what, base in (("steady", 0.6), ("cold", 9.0)):
        for who, factor in (("text", 1.5), ("text by orjson", 1.1), ("binary, codec", 1.0), ("binary, by hand", 0.97)):
            for at in (256, 384, 1536, 3072):
                results.add([Series("parameters", who, what, "ms", about(base * factor + at / 4000), at=at)])
    for who, cold, second in (("disable", 6, 5), ("prefer", 8, 5), ("require", 8, 7), ("verify-full", 8, 7)):
        results.add(
            [
                Series("tls", who, "cold round trips", "round trips", (float(cold),)),
                Series("tls", who, "second connection round trips", "round trips", (float(second),)),
                Series("tls", who, "cold first answer", "ms", about(20.0 * cold + 14), 0.020),
            ]
        )
    for who, added in (("preheat on asyncio", 3.2), ("preheat on trio", 3.3)):
        results.add([Series("costs", who, "retrieve, beyond embed and search", "us", about(added))])
    for who, each in (("preheat on asyncio", 0.05), ("each looks up, on asyncio", 1.1)):
        for at in (1, 1000):
            results.add([Series("crowd", who, "time", "ms", about(210 + each * at), at=at)])
    for who, took in (("list of floats", 4.1), ("array of float32", 3.9)):
        results.add([Series("packing", who, "time", "us", about(took), at=384)])
    for who, took in (("asyncpg", 70.0), ("preheat, SELECT 1 in a pool", 101.0)):
        results.add([Series("startup", who, "processor time", "ms", about(took))])
    results.limits += [
        Limit("round trips to a first answer, cold", 6, "round trips", at_most=6),
        Limit("round trips of a steady search", 1, "round trips", at_most=1, at_least=1),
        Limit("first answer after warm-up / steady, on asyncio", 1.03, "x", at_most=1.5),
        Limit("warming 3 / warming 1, 20 ms round trip, on trio", 1.42, "x", at_most=1.3),
        Limit("retrieve, beyond embed and search", 3.19, "us", at_most=5),
        Limit("ingest of preheat / bare COPY", 0.84, "x", at_least=0.8),
    ]
    return results


def _contest(trip: float, about: Callable[[float], tuple[float, ...]]) -> list[Series]:
    series = []
    for who, (cold_round_trips, cold, first_round_trips, steady_round_trips, steady) in CONTESTANTS.items():
        wait = 1000 * trip
        timed = {
            "cold first answer": cold_round_trips * wait + cold,
            "first of three after warm-up": first_round_trips * wait + steady * 1.1,
            "steady": steady_round_trips * wait + steady,
            "steady three at once": steady_round_trips * wait + steady * 1.6,
            "burst of 50": cold_round_trips * wait + 17 * steady * 3 + steady_round_trips * wait * 5,
        }
        if who.startswith("preheat") or "min_size" in who or who == "psycopg_pool":
            timed["warm-up"] = (cold_round_trips + 1) * wait + cold * 1.4
        series += [Series("contest", who, what, "ms", about(value), trip) for what, value in timed.items()]
        for what, value in (
            ("cold round trips", cold_round_trips),
            ("warm-up round trips", cold_round_trips + 1),
            ("first after warm-up round trips", first_round_trips),
            ("steady round trips", steady_round_trips),
        ):
            series.append(Series("contest", who, what, "round trips", (float(value),), trip))
    return series


if __name__ == "__main__":
    made_up().write(Path(sys.argv[1]))
