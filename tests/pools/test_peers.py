"""Pools of other libraries, warmed against the real library and a real server."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from random import Random
from typing import Any

import anyio
import pytest
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.peers import ALL, BY_BACKEND, BY_BACKEND_AND_UVLOOP, Peer, opened, port_of, undisturbed, whole
from tests.support.redis_server import redis_server
from tests.support.waiting import PATIENCE, until
from tests.support.web_server import web_server

from preheat import ArgumentError, ConnectError, VectorStorage, ping, warm
from preheat.pools import HTTPPool, as_pool, as_sql_pool
from preheat.testing import FaultyNetwork, cancel_everywhere

PEERS = {peer.name: peer for peer in ALL}


ASYNCIO = pytest.mark.parametrize("anyio_backend", [pytest.param("asyncio", id="asyncio")])
ON_POSTGRES = ("psycopg", "engine-asyncpg", "engine-psycopg")


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with web_server() as port:
        yield f"postgresql://nobody@127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with redis_server() as port:
        yield f"postgresql://nobody@127.0.0.1:{port}/"


@pytest.fixture
def network(request: pytest.FixtureRequest, peer: Peer) -> Iterator[FaultyNetwork]:
    """A network in front of the server of a peer, which is installed."""
    for package in peer.needs:
        pytest.importorskip(package)
    dsn = request.getfixturevalue("dsn" if peer.server == "postgres" else peer.server)
    with FaultyNetwork(dsn) as network:
        yield network


@pytest.fixture(autouse=True)
def _nothing_is_reported(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A library has nothing to complain about: no connection that was put back in the midst of a transaction."""
    caplog.set_level(logging.INFO)
    yield
    gc.collect()
    complaints = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert [words for words in complaints if "warm-up" not in words and "error connecting" not in words] == []


def hot(report: Any) -> set[int | None]:
    return {connection.pid for connection in report.connections if connection.status == "hot"}


@BY_BACKEND_AND_UVLOOP
async def test_connections_are_opened_at_the_same_time_and_stay_in_the_pool(peer: Peer, network: FaultyNetwork) -> None:
    async with opened(peer, network, 5) as pool:
        report = await warm(pool, timeout=PATIENCE)
        assert report.ok, report
        assert len(hot(report)) == network.connections == 3
        assert hot(report) <= await whole(pool)
        assert (await warm(pool, connections=5, timeout=PATIENCE)).ok
        assert network.accepted == 5, "connections were opened anew"
        assert str(network.port) in report.pool or peer.name == "psycopg"


@pytest.mark.timeout(600)  # many runs, on a machine that may be busy
@pytest.mark.slow
@BY_BACKEND
@pytest.mark.parametrize("latency", [0.0, 0.01], ids=["near", "20ms"])
async def test_all_are_hot_in_each_of_fifty_runs(peer: Peer, network: FaultyNetwork, latency: float) -> None:
    network.latency = latency
    for _ in range(50):
        async with opened(peer, network, 6) as pool:
            report = await warm(pool, timeout=PATIENCE)
        assert report.ok, report
        assert len(hot(report)) == 3


@pytest.mark.slow
@BY_BACKEND
async def test_warm_ups_of_one_pool_do_not_fail_each_other(peer: Peer, network: FaultyNetwork) -> None:
    reports = []

    async def probe(lease: Any) -> None:
        await lease.ping()

    async def call(**options: Any) -> None:
        reports.append(await warm(pool, timeout=PATIENCE, **options))

    async with opened(peer, network, 4) as pool:
        async with anyio.create_task_group() as tasks:
            for connections, how in ((2, ping), (4, ping), (3, probe)):
                tasks.start_soon(lambda n=connections, how=how: call(connections=n, probe=how))
        assert [report.ok for report in reports] == [True] * 3, reports
        assert network.accepted == 4
        assert len(await whole(pool)) == 4


@pytest.mark.slow
@BY_BACKEND
async def test_a_probe_that_fails_closes_its_connection_and_no_other(peer: Peer, network: FaultyNetwork) -> None:
    tried: list[Any] = []

    async def probe(lease: Any) -> None:
        tried.append(lease.pid)
        number = len(tried)
        await lease.ping()
        if number == 2:
            lease.discard()
            raise ValueError("planned")

    async with opened(peer, network, 3) as pool:
        report = await warm(pool, timeout=PATIENCE, probe=probe)
        assert sorted(one.status for one in report.connections) == ["failed", "hot", "hot"]
        assert [str(one.error) for one in report.connections if one.error] == ["planned"]
        pids = await whole(pool)
        assert hot(report) <= pids
        assert tried[1] not in pids or peer.name == "redis", "redis connects the same object anew"
        await until(lambda: network.connections == 3)
        assert network.accepted == 4


@pytest.mark.slow
@BY_BACKEND
async def test_a_server_that_comes_back_is_waited_for(peer: Peer, network: FaultyNetwork) -> None:
    network.refuse()
    async with opened(peer, network, 3) as pool, anyio.create_task_group() as tasks:

        async def heal() -> None:
            await anyio.sleep(0.2)
            network.heal()

        tasks.start_soon(heal)
        report = await warm(pool, timeout=PATIENCE)
        assert report.ok, report
        assert report.attempts > 1 or peer.name == "psycopg", "psycopg_pool itself tries again, too"
        assert len(await whole(pool)) == 3


@pytest.mark.slow
@BY_BACKEND
async def test_a_silent_server_costs_the_timeout_and_leaves_the_pool_usable(peer: Peer, network: FaultyNetwork) -> None:
    async with opened(peer, network, 2) as pool:
        network.mute()
        report = await warm(pool, timeout=0.2)
        assert report.timed_out
        assert report.hot == 0
        network.heal()
        network.reset()
        network.heal()
        assert (await warm(pool, timeout=PATIENCE)).ok
        assert len(await whole(pool)) == 2


@pytest.mark.timeout(600)  # many runs, on a machine that may be busy
@pytest.mark.slow
@BY_BACKEND
@pytest.mark.parametrize("how", ["scope", "native"])
async def test_a_warm_up_cancelled_anywhere_loses_no_connection(
    peer: Peer, network: FaultyNetwork, how: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def attempt() -> None:
        async with opened(peer, network, 2) as pool:

            async def check() -> None:
                assert len(await whole(pool)) == 2

            try:
                await warm(pool, timeout=PATIENCE)
            finally:
                await undisturbed(check)

    sweep = await cancel_everywhere(attempt, how=how)
    assert sweep.points >= 10
    print(peer.name, sweep)
    caplog.clear()  # connections that were cancelled in the midst of something are closed, and libraries say so


@pytest.mark.slow
@BY_BACKEND
@pytest.mark.parametrize("seed", range(4))
async def test_property_whatever_goes_wrong_reports_add_up_and_every_lease_comes_back(
    peer: Peer, network: FaultyNetwork, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Several warm-ups, some cancelled, some with a probe that fails, on a network that fails and heals."""
    random = Random(seed)
    size = random.randint(1, 4)

    async def probe(lease: Any) -> None:
        await lease.ping()
        if random.random() < 0.2:
            raise ValueError("planned")

    async def call() -> None:
        await anyio.sleep(random.uniform(0.0, 0.2))
        asked = random.randint(1, size)
        with anyio.move_on_after(random.choice([0.05, 0.3, PATIENCE])):
            how = random.choice([ping, probe])
            report = await warm(pool, connections=asked, timeout=random.uniform(0.1, 1.0), probe=how)
            pids = [one.pid for one in report.connections if one.status == "hot"]
            assert report.requested == len(report.connections) == asked
            assert report.hot == len(pids) == len(set(pids))
            assert report.ok == (report.hot == asked)
            assert report.timed_out == any(one.status == "unfinished" for one in report.connections)
            assert all((one.status == "failed") == (one.error is not None) for one in report.connections)

    async with opened(peer, network, size) as pool:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(call)
            for _ in range(4):
                await anyio.sleep(random.uniform(0.0, 0.1))
                random.choice([network.refuse, network.mute, network.reset, network.heal])()
            await anyio.sleep(0.1)
            network.heal()
        network.reset()
        network.heal()
        assert (await warm(pool, connections=size, timeout=PATIENCE)).ok
        assert len(await whole(pool)) == size
    caplog.clear()  # libraries tell of connections that were lost


@ASYNCIO
@pytest.mark.parametrize("name", ["psycopg", "engine-psycopg"])
async def test_a_probe_prepares_its_statement_at_once_with_psycopg(dsn: str, name: str) -> None:
    """By itself psycopg prepares a statement at its fifth execution, which costs a round trip then."""
    for package in ("sqlalchemy", "psycopg_pool"):
        pytest.importorskip(package)
    from sqlalchemy import text

    query = "SELECT relname FROM pg_class WHERE relpages > 100000"

    async def execute(connection: Any) -> None:
        await connection.execute(text(query) if name == "engine-psycopg" else query)

    async def probe(lease: Any) -> None:
        await execute(lease.connection)

    async def trips_of(pool: Any, meter: RoundTripMeter) -> list[int]:
        trips = []
        async with pool.connect() if name == "engine-psycopg" else pool.connection() as connection:
            await execute(connection)  # it begins a transaction, too
            for _ in range(6):
                before = sum(meter.round_trips)
                await execute(connection)
                trips.append(sum(meter.round_trips) - before)
        return trips

    with RoundTripMeter(port_of(dsn)) as meter:
        through = dsn.replace(f":{port_of(dsn)}/", f":{meter.port}/")
        async with PEERS[name].opened(through, 1) as pool:
            assert sum(await trips_of(pool, meter)) == 7, "one of seven executions prepares"
        async with PEERS[name].opened(through, 1) as pool:
            assert (await warm(pool, connections=1, timeout=PATIENCE, probe=probe)).ok
            assert await trips_of(pool, meter) == [1] * 6
            async with as_pool(pool).lease() as lease:
                raw = lease._connection if name == "psycopg" else lease._driver
                assert raw.prepare_threshold == 5


@ASYNCIO
async def test_a_psycopg_pool_without_prepared_statements_stays_so(dsn: str) -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool")
    threshold: list[Any] = []

    async def probe(lease: Any) -> None:
        threshold.append(lease.connection.prepare_threshold)

    options = {"prepare_threshold": None, "autocommit": True}
    async with psycopg_pool.AsyncConnectionPool(dsn, kwargs=options, min_size=1, open=False) as pool:
        assert (await warm(pool, connections=1, timeout=PATIENCE, probe=probe)).ok
    assert threshold == [None]


@pytest.mark.slow
@ASYNCIO
@pytest.mark.parametrize("name", ON_POSTGRES)
async def test_the_default_probe_costs_few_round_trips(dsn: str, name: str) -> None:
    """One for psycopg; SQLAlchemy's ping with asyncpg is a transaction around an empty statement."""
    for package in PEERS[name].needs:
        pytest.importorskip(package)
    with RoundTripMeter(port_of(dsn)) as meter:
        async with PEERS[name].opened(dsn.replace(f":{port_of(dsn)}/", f":{meter.port}/"), 1) as pool:
            assert (await warm(pool, connections=1, timeout=PATIENCE)).ok
            before = sum(meter.round_trips)
            assert (await warm(pool, connections=1, timeout=PATIENCE)).ok
            assert sum(meter.round_trips) - before == {"psycopg": 1, "engine-asyncpg": 3, "engine-psycopg": 1}[name]


@ASYNCIO
async def test_overflow_of_an_engine_is_not_counted(dsn: str) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy.ext.asyncio")
    for pool_size, size in ((2, 2), (0, 1000)):
        engine = sqlalchemy.create_async_engine("postgresql+asyncpg://u@h:1/d", pool_size=pool_size, max_overflow=10)
        assert as_pool(engine).size == size
    engine = sqlalchemy.create_async_engine("postgresql+asyncpg://u@h:1/d", pool_size=2, max_overflow=10)
    with pytest.raises(ArgumentError, match="connections is 3 and the pool has 2"):
        await warm(engine, connections=3)


@pytest.mark.slow
@ASYNCIO
@pytest.mark.parametrize("name", ON_POSTGRES)
async def test_a_wrong_password_ends_the_warm_up_at_once(dsn: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    for package in PEERS[name].needs:
        pytest.importorskip(package)
    async with PEERS[name].opened(dsn.replace("s3cret", "n0t-the-one"), 3) as pool:
        report = await warm(pool, timeout=PATIENCE)
    assert [one.status for one in report.connections] == ["failed"] * 3
    assert report.attempts == 1
    assert "password authentication failed" in str(report)
    assert "n0t-the-one" not in str(report) + str(report.as_dict())


async def test_pools_that_keep_no_connection_are_refused_by_name() -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    psycopg_pool = pytest.importorskip("psycopg_pool")
    from sqlalchemy.ext.asyncio import create_async_engine

    url = "postgresql+asyncpg://u@h:1/d"
    for kind in (sqlalchemy.NullPool, sqlalchemy.StaticPool):
        with pytest.raises(ArgumentError, match=rf"{kind.__name__}.*leave out poolclass=|works on asyncio alone"):
            await warm(create_async_engine(url, poolclass=kind))
    with pytest.raises(ArgumentError, match=r"AsyncNullConnectionPool of psycopg_pool keeps no connection"):
        await warm(psycopg_pool.AsyncNullConnectionPool("", open=False))


async def test_a_synchronous_pool_is_refused_with_the_name_of_the_asynchronous_one() -> None:
    psycopg_pool, redis = pytest.importorskip("psycopg_pool"), pytest.importorskip("redis")
    engine = pytest.importorskip("sqlalchemy").create_engine("postgresql+psycopg://u@h:1/d")
    for pool, remedy in (
        (psycopg_pool.ConnectionPool("", open=False), "AsyncConnectionPool"),
        (engine, "create_async_engine"),
        (redis.Redis(), "redis.asyncio.Redis"),
        (redis.ConnectionPool(), "redis.asyncio.ConnectionPool"),
    ):
        with pytest.raises(ArgumentError, match=rf"is synchronous; .*{remedy}"):
            await warm(pool)


@pytest.mark.parametrize("anyio_backend", [pytest.param("trio", id="trio")])
async def test_on_trio_a_pool_that_needs_asyncio_is_refused_with_a_remedy() -> None:
    psycopg_pool, redis = pytest.importorskip("psycopg_pool"), pytest.importorskip("redis.asyncio")
    engine = pytest.importorskip("sqlalchemy.ext.asyncio").create_async_engine("postgresql+asyncpg://u@h:1/d")
    for pool, remedy in (
        (psycopg_pool.AsyncConnectionPool("", open=False), r"preheat\.open_pool"),
        (engine, r"preheat\.open_pool"),
        (redis.Redis(), "run the application on asyncio"),
    ):
        with pytest.raises(ArgumentError, match=rf"works on asyncio alone and trio is running; .*{remedy}"):
            await warm(pool)


async def test_storage_on_another_drivers_pool_is_refused_in_a_sentence() -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool")
    engine = pytest.importorskip("sqlalchemy.ext.asyncio").create_async_engine("postgresql+psycopg://u@h:1/d")
    for pool in (psycopg_pool.AsyncConnectionPool("", open=False), engine):
        with pytest.raises(ArgumentError, match=r"can be warmed, but not stored on or searched.*give the DSN"):
            as_sql_pool(pool)
        with pytest.raises(ArgumentError, match=r"can be warmed, but not stored on or searched.*give the DSN"):
            async with VectorStorage(pool, "papers", 3):
                ...


@pytest.mark.slow
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_a_client_is_warmed_for_its_base_url_or_a_url(web: str, library: str) -> None:
    httpx = pytest.importorskip(library)
    url = f"http://127.0.0.1:{port_of(web)}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await warm(client)).ok
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(ArgumentError, match=r"HTTPPool\(client, url\), or give the client a base_url"):
            await warm(client)
        assert (await warm(HTTPPool(client, f"{url}/404"))).ok, "a status below 500 says that the server is there"
        assert HTTPPool(client, "http://user:secret@127.0.0.1/").name == "http http://127.0.0.1"
        for path, words in (("503", "it answered 503"), ("close", "closes the connection after each answer")):
            report = await warm(HTTPPool(client, f"{url}/{path}"), timeout=0.3)
            assert not report.ok
            assert words in str(report)
    async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=4), trust_env=False) as client:
        assert HTTPPool(client, url).size == 4


@pytest.mark.slow
@ASYNCIO
async def test_a_redis_probe_runs_commands_and_two_clients_of_one_pool_share_a_warm_up(redis: str) -> None:
    library = pytest.importorskip("redis.asyncio")
    pool = library.ConnectionPool(port=port_of(redis))
    blocking = library.BlockingConnectionPool(port=port_of(redis), max_connections=2)
    answers = []

    async def probe(lease: Any) -> None:
        answers.append(await lease.execute("ECHO", "hello"))

    async with anyio.create_task_group() as tasks:
        for one in (library.Redis(connection_pool=pool), pool):
            tasks.start_soon(lambda one=one: warm(one, probe=probe, timeout=PATIENCE))
    assert len(answers) == 3, "two warm-ups"
    assert (await warm(blocking, timeout=PATIENCE)).requested == 2
    await pool.disconnect()
    await blocking.disconnect()


@pytest.mark.slow
@ASYNCIO
async def test_a_wrong_password_for_redis_is_not_tried_again() -> None:
    library = pytest.importorskip("redis.asyncio")
    with redis_server() as port:
        admin = library.Redis(port=port)
        await admin.config_set("requirepass", "right")
        await admin.aclose()
        client = library.Redis(port=port, password="wr0ng-secret")
        report = await warm(client, timeout=PATIENCE)
        await client.aclose()
    assert (report.hot, report.attempts) == (0, 1)
    assert "wr0ng-secret" not in str(report)


@pytest.mark.slow
@ASYNCIO
async def test_a_refused_connection_says_what_to_check() -> None:
    library = pytest.importorskip("redis.asyncio")
    report = await warm(library.Redis(port=1, retry=None), timeout=0.2)
    [error, *_] = [one.error for one in report.connections]
    assert isinstance(error, ConnectError)
    assert error.transient
    assert "check that Redis is running there" in str(error)
