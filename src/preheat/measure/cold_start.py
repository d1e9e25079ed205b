"""Measure first answers: of a cold pool, after `SELECT 1`, and after preheat's warm-up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any

import anyio

from ..errors import ArgumentError, ConnectError, PreheatError
from ..pools import open_pool
from ..warming import WarmReport, warm
from .advice import advise
from .contestants import CONTESTANTS, Opened
from .phases import Steps, segments
from .pooler import pooler_mode
from .records import Answer, Measurement, Server
from .sql import CREATE_EXTENSION, FACTS, PLAIN, nearest
from .wire import Wire

__all__ = ("measure",)

WARM_SECONDS = 30.0

Open = Callable[[Callable[[], Wire]], AbstractAsyncContextManager[Opened]]
"""Opens a fresh pool; the argument makes the watcher of each of its connections."""
Watched = tuple[Answer, list[Wire]]


async def measure(
    dsn: str,
    *,
    via: str = "preheat",
    query: str | None = None,
    connections: int = 1,
    rounds: int = 3,
    backend: str = "asyncio",
    bounds: dict[str, Any] | None = None,
    create_extension: bool = False,
) -> Measurement:
    """Measure first answers of fresh pools.

    Each of `connections` callers asks the pool for a connection, runs the query twice and puts the connection back; all
    begin at the same time. The answer of a round is that of its slowest caller, and the result is the round with the
    median time.

    Args:
        dsn: of the database. Only `query` touches its tables.
        via: the pool: `"preheat"`, `"asyncpg"`, `"psycopg"` or `"sqlalchemy"`.
        query: the statement; by default a search by vectors over constants.
        connections: how many callers there are, and connections of the pool.
        rounds: how many fresh pools are measured for each answer.
        backend: the running event loop, for the report.
        create_extension: whether to create pgvector in the database if it is missing.
        bounds: time limits of preheat's own pool, as arguments of :func:`preheat.open_pool`.

    Raises:
        ArgumentError: if an argument is invalid.
        MissingExtraError: if the library of `via` is not installed.
        PreheatError: what a pool raises if the database cannot be reached or refuses the query.
    """
    for name, number in (("connections", connections), ("rounds", rounds)):
        if number < 1:
            raise ArgumentError(f"{name} is {number}; give 1 or more")
    contestant = CONTESTANTS[via]
    contestant.check(backend)
    target, facts, pooler = await _look(dsn, bounds or {}, create_extension=create_extension)
    notes: list[str] = []
    has_vectors = query is None and facts["pgvector"] is not None
    if query is None and not has_vectors:
        notes.append(
            "This database has no pgvector, so a query without vectors was measured. Install the extension with "
            "CREATE EXTENSION vector, or give your own query with --query."
        )
    statement = query or (nearest(facts["schema"]) if has_vectors else PLAIN)

    def opener(watch: Callable[[], Wire]) -> AbstractAsyncContextManager[Opened]:
        return contestant.open(dsn, connections, watch, facts["schema_name"] if has_vectors else None, bounds or {})

    probes = {"nothing": None, "SELECT 1": "SELECT 1", "warm-up": statement}
    found: dict[str, list[Watched]] = {after: [] for after in probes}
    for _ in range(rounds):
        for after, probe in probes.items():
            found[after].append(await _first_answer(opener, statement, connections, after, probe))
    wires = [wire for results in found.values() for _, watched in results for wire in watched]
    answers = tuple(_median([answer for answer, _ in results]) for results in found.values())
    rtt = _round_trip_seconds(wires)
    server = _server(facts, wires, pooler)
    return Measurement(
        target=target,
        via=via,
        backend=backend,
        query=statement,
        connections=connections,
        rounds=rounds,
        rtt_seconds=rtt,
        server=server,
        answers=answers,
        notes=tuple(notes),
        advice=tuple(advise(server, rtt, answers)),
    )


async def _look(dsn: str, bounds: dict[str, Any], *, create_extension: bool) -> tuple[str, dict[str, Any], str | None]:
    """What the database is called, what has to be known about it, and the mode of the pooler in between."""
    async with open_pool(dsn, size=2, prepare=False, **bounds) as pool:
        if create_extension:
            await pool.run(lambda connection: connection.execute(CREATE_EXTENSION))
        (row,) = await pool.fetch(FACTS)
        return pool.name, dict(row), await pooler_mode(pool)


async def _first_answer(opener: Open, statement: str, connections: int, after: str, probe: str | None) -> Watched:
    """The slowest first answer of a fresh pool, and the traffic of all of its connections."""
    wires: list[Wire] = []

    def watch() -> Wire:
        wires.append(Wire())
        return wires[-1]

    callers: list[tuple[Steps, int | None]] = []
    errors: list[PreheatError] = []
    async with opener(watch) as pool:
        warmed = None
        if probe is not None:
            warmed = await warm(
                pool.to_warm,
                connections=connections,
                timeout=WARM_SECONDS,
                probe=lambda lease: pool.fetch_of(lease, probe),
            )
            _raise_if_cold(warmed)
        async with anyio.create_task_group() as group:
            for _ in range(connections):
                group.start_soon(_ask, pool, statement, callers, errors)
    if errors:
        raise errors[0]
    by_key = {wire.key: wire for wire in wires}
    steps, key = max(callers, key=lambda caller: caller[0].released - caller[0].asked)
    found = segments(steps, by_key.get(key), statement)
    seconds = warmed.seconds if warmed is not None else 0.0
    return Answer(after, steps.released - steps.asked, found, seconds), wires


async def _ask(
    pool: Opened, statement: str, callers: list[tuple[Steps, int | None]], errors: list[PreheatError]
) -> None:
    """One caller: what it took is in `callers`, or its error in `errors`."""
    asked = perf_counter()
    try:
        async with pool.lease() as lease:
            leased = perf_counter()
            await lease.fetch(statement)
            first = perf_counter()
            await lease.fetch(statement)
            second = perf_counter()
            key = lease.pid
    except PreheatError as error:
        errors.append(error)
        return
    callers.append((Steps(asked, leased, first, second, perf_counter()), key))


def _raise_if_cold(report: WarmReport) -> None:
    if not report.ok:
        error = next((one.error for one in report.connections if one.error is not None), None)
        if error is not None:
            raise error
        reason = f"only {report.hot} of {report.requested} connections were hot after {WARM_SECONDS:.0f} s"
        raise ConnectError(report.pool, reason, "try fewer with --connections")


def _median(answers: list[Answer]) -> Answer:
    """The answer with the median time; the lower one of two."""
    return sorted(answers, key=lambda answer: answer.seconds)[(len(answers) - 1) // 2]


def _round_trip_seconds(wires: list[Wire]) -> float | None:
    """The quickest answer of all. A connect says less: something near may accept it for a server that is far."""
    took = [turn.answered - turn.sent_at for wire in wires for turn in wire.turns if turn.answered is not None]
    return min(took) if took and not any(wire.is_socket for wire in wires) else None


def _server(facts: dict[str, Any], wires: list[Wire], pooler: str | None) -> Server:
    return Server(
        version=facts["version"],
        version_number=facts["version_number"],
        pgvector=facts["pgvector"],
        max_connections=facts["max_connections"],
        pooler=pooler,
        is_socket=any(wire.is_socket for wire in wires),
        is_encrypted=any(wire.is_encrypted for wire in wires),
        is_direct=any(wire.is_direct for wire in wires),
        refuses_tls=any(turn.is_refused_tls for wire in wires for turn in wire.turns),
    )
