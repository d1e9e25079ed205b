"""First answers of real pools, measured through a network that counts round trips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import sniffio
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.network.tls_terminator import TLSTerminator
from tests.support.pgbouncer import pgbouncer
from tests.support.server import Server

from preheat import ArgumentError, ConnectError, DatabaseError
from preheat.measure import Measurement, cold_start, measure
from preheat.measure.contestants import Contestant
from preheat.measure.wire import Wire

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])  # uvloop refuses TLS on watched transports

ROUND_TRIP = 0.02


@pytest.fixture
def far(server: Server, dsn: str) -> Iterator[RoundTripMeter]:
    """The server at a distance."""
    with RoundTripMeter(server.port, ROUND_TRIP) as meter:
        yield meter


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch) -> list[Wire]:
    """The traffic of each connection that is measured, to its end."""
    made: list[Wire] = []

    class Kept(Wire):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(cold_start, "Wire", Kept)
    return made


async def check(measured: Measurement, wires: list[Wire], network: RoundTripMeter) -> None:
    """The parts are the whole, and the round trips are those that the network has counted."""
    with anyio.fail_after(10):
        while network.open:  # the last words of a connection may be under way
            await anyio.sleep(0.005)
    # The first connection has only asked for facts.
    assert [1 + len(wire.turns) for wire in wires] == network.round_trips[1:]
    assert measured.rtt_seconds is not None
    assert measured.rtt_seconds >= ROUND_TRIP
    for answer, wire in zip(measured.answers, wires, strict=True):
        assert sum(part.seconds for part in answer.segments) == pytest.approx(answer.seconds, rel=1e-6)
        for part, after in zip(answer.segments, answer.segments[1:], strict=False):
            assert part.start + part.seconds == pytest.approx(after.start, abs=1e-9)
        assert answer.seconds >= answer.round_trips * ROUND_TRIP
        assert answer.round_trips <= 1 + len(wire.turns)
    cold = measured.answers[0]
    goodbye = [turn for turn in wires[0].turns if turn.text.startswith(b"X")]
    assert cold.round_trips == 1 + (wires[0].turns.index(goodbye[0]) if goodbye else len(wires[0].turns))


async def test_the_parts_are_the_whole_and_the_round_trips_are_those_of_the_network(
    server: Server, far: RoundTripMeter, wires: list[Wire]
) -> None:
    backend = sniffio.current_async_library()
    measured = await measure(server.dsn("tests", port=far.port), rounds=1, backend=backend)
    await check(measured, wires, far)
    cold, pinged, warmed = measured.answers
    assert [cold.of(phase)[1] for phase in ("TCP", "TLS", "log-in", "prepare", "first run")] == [1, 0, 3, 1, 1]
    assert [pinged.of(phase)[1] for phase in ("prepare", "first run", "second run")] == [1, 1, 1]
    assert [warmed.of(phase)[1] for phase in ("prepare", "first run", "second run", "release")] == [0, 1, 1, 0]
    assert any("to another region" in sentence for sentence in measured.advice)
    assert any("max_connections, which is 60" in sentence for sentence in measured.advice)
    assert "s3cret" not in str(measured.as_dict())


@pytest.mark.slow
async def test_the_pool_of_asyncpg_looks_types_up_and_resets(
    server: Server, far: RoundTripMeter, wires: list[Wire]
) -> None:
    dsn = server.dsn("tests", port=far.port)
    if sniffio.current_async_library() == "trio":
        with pytest.raises(ArgumentError, match="runs on asyncio only"):
            await measure(dsn, via="asyncpg", backend="trio")
        return
    measured = await measure(dsn, via="asyncpg", rounds=1)
    cold, _, warmed = measured.answers
    await check(measured, wires, far)
    assert cold.of("type look-ups")[1] > 0
    assert warmed.of("release")[1] == 1
    assert any("The driver looks types up" in sentence for sentence in measured.advice)
    assert any("Giving a connection back costs 1 round trip" in sentence for sentence in measured.advice)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["disable", "require"])
@pytest.mark.parametrize("via", ["psycopg", "sqlalchemy"])
async def test_pools_of_other_libraries_are_measured(
    server: Server, dsn: str, wires: list[Wire], via: str, words: str
) -> None:
    pytest.importorskip(f"preheat.measure.peers.{via}", reason=f"{via} is not installed")
    if sniffio.current_async_library() == "trio":
        with pytest.raises(ArgumentError, match="runs on asyncio only"):
            await measure(dsn, via=via, backend="trio")
        return
    with TLSTerminator(server.port) as terminator, RoundTripMeter(terminator.port, ROUND_TRIP) as meter:
        through = server.dsn("tests", port=meter.port).replace("sslmode=disable", f"sslmode={words}")
        measured = await measure(through, via=via, rounds=1)
        await check(measured, wires, meter)
        with pytest.raises(DatabaseError, match="nowhere"):
            await measure(through, via=via, rounds=1, query="SELECT * FROM nowhere")
    cold, _, warmed = measured.answers
    assert cold.of("TLS")[1] == (2 if words == "require" else 0)
    assert cold.of("log-in")[1] == 3
    assert cold.of("type look-ups")[1] > 0
    assert warmed.of("log-in")[1] == warmed.of("type look-ups")[1] == 0
    assert warmed.of("release")[1] >= 1
    assert measured.server.is_encrypted == (words == "require")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "trips", "saves"),
    [("require", 2, True), ("require&sslnegotiation=direct", 1, False), ("prefer", 2, True)],
)
async def test_tls_is_a_phase_and_its_round_trips_are_counted(
    server: Server, dsn: str, wires: list[Wire], words: str, trips: int, saves: bool
) -> None:
    with TLSTerminator(server.port) as terminator, RoundTripMeter(terminator.port, ROUND_TRIP) as meter:
        through = server.dsn("tests", port=meter.port).replace("sslmode=disable", f"sslmode={words}")
        measured = await measure(through, rounds=1)
        await check(measured, wires, meter)
    assert measured.answers[0].of("TLS")[1] == trips
    assert measured.server.is_encrypted
    assert any("sslnegotiation=direct" in sentence for sentence in measured.advice) == saves


@pytest.mark.slow
async def test_a_server_without_tls_that_is_asked_for_it_costs_a_round_trip(
    server: Server, far: RoundTripMeter, wires: list[Wire]
) -> None:
    through = server.dsn("tests", port=far.port).replace("disable", "prefer")
    measured = await measure(through, rounds=1)
    await check(measured, wires, far)
    assert measured.server.refuses_tls
    assert any("The server has no TLS" in sentence for sentence in measured.advice)


@pytest.mark.slow
async def test_the_slowest_of_several_callers_is_shown(server: Server, far: RoundTripMeter) -> None:
    measured = await measure(server.dsn("tests", port=far.port), connections=3, rounds=1)
    assert len(far.round_trips) == 1 + 3 * 3
    assert measured.connections == 3
    assert all(answer.of("first run")[1] == 1 for answer in measured.answers)


@pytest.mark.slow
async def test_a_query_of_ones_own_is_run_and_its_error_is_told(dsn: str, database: str, server: Server) -> None:
    measured = await measure(dsn, query="SELECT count(*) FROM pg_type", rounds=1)
    assert measured.query == "SELECT count(*) FROM pg_type"
    assert measured.answers[0].of("type look-ups") == (0, 0)
    with pytest.raises(DatabaseError, match="nowhere"):
        await measure(dsn, query="SELECT * FROM nowhere", connections=2)
    with pytest.raises(ArgumentError, match="rounds is 0"):
        await measure(dsn, rounds=0)
    with pytest.raises(ConnectError):
        await measure(server.dsn("no_such_database"))

    measured = await measure(server.dsn(database), rounds=1)
    assert "no pgvector" in " ".join(measured.notes)
    assert measured.server.pgvector is None
    measured = await measure(server.dsn(database), rounds=1, create_extension=True)
    assert measured.server.pgvector is not None
    assert measured.notes == ()


@pytest.mark.slow
async def test_measuring_touches_no_table(server: Server, database: str) -> None:
    server.sql("CREATE EXTENSION vector;", database)
    role = server.role(f"looker_{database}", database)
    server.sql(
        f"REVOKE ALL ON DATABASE {database} FROM public; GRANT CONNECT ON DATABASE {database} TO looker_{database};",
        database,
    )
    measured = await measure(f"{role}&default_transaction_read_only=on", rounds=1)
    assert len(measured.answers) == 3
    tables = "SELECT count(*) AS n FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert server.sql(tables, database)[0]["n"] == 0


@pytest.mark.slow
async def test_a_pooler_is_seen(server: Server, dsn: str) -> None:
    with pgbouncer(server, "transaction") as through:
        measured = await measure(through, rounds=1)
    assert measured.server.pooler == "transaction"
    assert any("A pooler in transaction mode" in sentence for sentence in measured.advice)


async def test_cancelling_leaves_no_connection(server: Server, far: RoundTripMeter) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel_when_connected() -> None:
                while not far.round_trips:
                    await anyio.sleep(0.001)
                scope.cancel()

            group.start_soon(cancel_when_connected)
            await measure(server.dsn("tests", port=far.port))
    assert scope.cancelled_caught
    with anyio.fail_after(10):
        while far.open:
            await anyio.sleep(0.005)


async def test_a_library_that_is_missing_is_named() -> None:
    def never(*_: object) -> Any:
        raise AssertionError

    with pytest.raises(ArgumentError, match="pip install no-such-library"):
        Contestant("x", never, ("no-such-library",)).check("asyncio")
