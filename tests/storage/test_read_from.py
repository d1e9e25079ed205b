"""Searches on standbys and writes on the primary: `read_from="replica"`, on a real primary and its standbys."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio import to_thread
from tests.pools.test_own_pool import own
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.replication import Node, dsn_of, reachable_folder, replicated
from tests.support.server import PASSWORD
from tests.support.waiting import until

from preheat import ArgumentError, Chunk, CollectionError, ConnectError, SQLPool, VectorStorage, open_pool
from preheat.pools.asyncpg import connector
from preheat.pools.asyncpg import pool as own_pool

slow = pytest.mark.slow

VECTOR = [1.0, 0.0, 0.0]


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """A primary and a standby, which the tests leave as they are."""
    with reachable_folder() as folder, replicated(folder, standbys=1) as nodes:
        yield nodes


@pytest.fixture
def doomed() -> Iterator[list[Node]]:
    """A primary and a standby, for a test that changes their parts."""
    with reachable_folder() as folder, replicated(folder, standbys=1) as nodes:
        yield nodes


async def port_of(pool: SQLPool) -> int:
    [row] = await pool.fetch("SELECT inet_server_port() AS port")
    port: int = row["port"]
    return port


@asynccontextmanager
async def stored(nodes: list[Node], collection: str, **options: Any) -> AsyncGenerator[VectorStorage]:
    """A storage that reads from the standby, with one chunk that the standby has replayed."""
    dsn = options.pop("dsn", dsn_of(*nodes))
    async with VectorStorage(dsn, collection, 3, read_from="replica", size=3, **options) as storage:
        await storage.add([Chunk("a", VECTOR, id="00000000-0000-0000-0000-000000000001")])
        await to_thread.run_sync(nodes[1].catch_up, nodes[0])
        yield storage


@slow
async def test_searches_go_to_the_standby_and_writes_to_the_primary(nodes: list[Node], collection: str) -> None:
    primary, standby = nodes
    async with stored(nodes, collection) as storage:
        assert storage.state == "cold"
        assert await storage.warm_pool()
        assert storage.state == "warm"
        report = storage.warm_report
        assert report is not None
        assert (report.ok, report.requested, report.hot) == (True, 6, 6)
        assert report.pool == f"{storage.pool.name} and {storage.pool.name} (replicas)"
        assert await port_of(storage.pool) == primary.port
        assert await port_of(storage.read_pool) == standby.port
        [hit] = await storage.search(VECTOR)
        assert hit.text == "a"
        assert (await storage.explain(VECTOR)).tree.rows == 1
        assert await storage.neighbors(hit) == []
        await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_pause()", "tests")
        try:
            await storage.add([Chunk("b", [0.9, 0.1, 0.0], id="00000000-0000-0000-0000-000000000002")])
            assert [hit.text for hit in await storage.search(VECTOR)] == ["a"]
            assert await storage.count() == 2  # the primary knows
            assert [hit.text for hit in await storage.more_like("00000000-0000-0000-0000-000000000002")] == ["a"]
        finally:
            await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_resume()", "tests")


@slow
async def test_a_warm_search_is_one_round_trip_and_none_to_the_primary(nodes: list[Node], collection: str) -> None:
    with ExitStack() as stack:
        dsn = dsn_of(*nodes)
        meters = [stack.enter_context(RoundTripMeter(node.port)) for node in nodes]
        for node, meter in zip(nodes, meters, strict=True):
            dsn = dsn.replace(str(node.port), str(meter.port))
        async with stored(nodes, collection, dsn=dsn, max_replica_lag=3600) as storage:
            assert await storage.warm_pool()
            before = [sum(meter.round_trips) for meter in meters]
            for _ in range(5):
                assert await storage.search(VECTOR)
            after = [sum(meter.round_trips) for meter in meters]

    assert [late - early for early, late in zip(before, after, strict=True)] == [0, 5]


@slow
async def test_a_collection_that_a_standby_does_not_know_yet_is_searched_on_the_primary(
    nodes: list[Node], collection: str
) -> None:
    standby = nodes[1]
    await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_pause()", "tests")
    try:
        async with VectorStorage(dsn_of(*nodes), collection, 3, read_from="replica") as storage:
            await storage.add([Chunk("new", VECTOR)])
            assert [hit.text for hit in await storage.search(VECTOR)] == ["new"]
            with pytest.raises(CollectionError, match="no chunk with the id"):
                await storage.more_like("00000000-0000-0000-0000-000000000009")
    finally:
        await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_resume()", "tests")


@slow
async def test_a_read_that_the_replay_cancels_is_answered_by_the_primary(nodes: list[Node], collection: str) -> None:
    primary, standby = nodes
    await to_thread.run_sync(standby.sql, "ALTER SYSTEM SET max_standby_streaming_delay = 0")
    await to_thread.run_sync(standby.sql, "SELECT pg_reload_conf()")
    async with stored(nodes, collection) as storage, anyio.create_task_group() as tasks:
        answers: list[Any] = []

        async def read() -> None:
            table = storage.executor.collection.identifiers.table
            query = f"SELECT id, inet_server_port() AS port, pg_sleep(0.7) FROM {table}"
            answers.extend(await storage.executor.fetch(lambda _: query, from_replica=True))

        tasks.start_soon(read)
        question = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.7)%' AND state = 'active'"

        async def is_running() -> bool:
            [row] = await to_thread.run_sync(standby.sql, question)
            return bool(row["n"] > 1)

        await until(is_running)
        await storage.delete(["00000000-0000-0000-0000-000000000001"])
        await storage.add([Chunk("c", VECTOR, id="00000000-0000-0000-0000-000000000003")])
        table = storage.executor.collection.identifiers.table
        await to_thread.run_sync(primary.sql, f"VACUUM {table}", "tests")

    assert [row["port"] for row in answers] == [primary.port]


@slow
async def test_a_standby_that_lags_is_left_until_it_has_caught_up(
    nodes: list[Node], collection: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(own_pool, "SECOND_LOOK_SECONDS", 0.2)
    primary, standby = nodes
    async with stored(nodes, collection, max_replica_lag=1, keep_warm=True) as storage:
        assert await storage.warm_pool()
        assert await port_of(storage.read_pool) == standby.port
        await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_pause()", "tests")
        try:
            await storage.add([Chunk("b", [0.9, 0.1, 0.0])])
            with anyio.fail_after(30):
                while len(await storage.search(VECTOR)) < 2:
                    await anyio.sleep(0.02)
            assert await port_of(storage.read_pool) == primary.port
            assert await storage.wait_warm(30)
        finally:
            await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_resume()", "tests")
        with anyio.fail_after(30):
            while await port_of(storage.read_pool) != standby.port:
                await anyio.sleep(0.02)
        assert len(await storage.search(VECTOR)) == 2

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line for line in warnings if f"{standby.port} are closed: it is a standby that lags behind" in line]
    assert len([line for line in warnings if "no standby can be used, so the primary serves" in line]) == 1


@slow
async def test_connections_in_use_are_asked_for_the_lag_when_they_come_back(
    nodes: list[Node],
) -> None:
    primary, standby = nodes
    async with open_pool(dsn_of(*nodes), size=1, target_session_attrs="prefer-standby", max_replica_lag=1) as pool:
        async with pool.lease() as lease:
            await lease.ping()
            await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_pause()", "tests")
            try:
                await to_thread.run_sync(primary.sql, "SELECT txid_current()", "tests")
                with anyio.fail_after(30):
                    while not next(iter(own(pool)._places.lent)).is_due:
                        await anyio.sleep(0.02)
                await anyio.sleep(1)  # the lag is a matter of real time
            except BaseException:
                await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_resume()", "tests")
                raise
        try:
            assert await port_of(pool) == primary.port
        finally:
            await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_resume()", "tests")


@slow
async def test_a_long_transaction_of_the_primary_is_no_lag(nodes: list[Node]) -> None:
    primary, standby = nodes
    await to_thread.run_sync(primary.sql, "CREATE TABLE IF NOT EXISTS loaded (n int)", "tests")
    await to_thread.run_sync(standby.catch_up, primary)
    await anyio.sleep(1)  # the last transaction is longer ago than a standby may lag
    load = """
        DO $$ BEGIN
            FOR i IN 1..200 LOOP
                INSERT INTO loaded SELECT generate_series(1, 2000);
                PERFORM pg_sleep(0.005);
            END LOOP;
        END $$
    """
    ports = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(to_thread.run_sync, primary.sql, load, "tests")
        for _ in range(10):
            dsn = dsn_of(*nodes)
            async with open_pool(dsn, size=1, target_session_attrs="prefer-standby", max_replica_lag=1) as pool:
                ports.append(await port_of(pool))

    # A record that is not there in full cannot be replayed, so a look may come at the wrong moment.
    assert ports.count(standby.port) >= 5


@slow
async def test_the_lag_is_known_to_a_role_without_privileges(nodes: list[Node]) -> None:
    primary, standby = nodes
    quoted = PASSWORD.replace("'", "''")
    role = f"CREATE ROLE reader LOGIN PASSWORD '{quoted}'"
    if not await to_thread.run_sync(primary.sql, "SELECT FROM pg_roles WHERE rolname = 'reader'"):
        await to_thread.run_sync(primary.sql, role)
    await to_thread.run_sync(standby.catch_up, primary)
    await anyio.sleep(1)  # the last transaction is longer ago than a standby may lag
    dsn = dsn_of(*nodes).replace("postgres:", "reader:")
    async with open_pool(dsn, size=1, target_session_attrs="standby", max_replica_lag=1) as pool:
        assert await port_of(pool) == standby.port


@slow
async def test_searches_go_on_when_the_standby_ends_and_return_to_it(
    doomed: list[Node], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(own_pool, "SECOND_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(connector, "CHECK_SECONDS", 0.2)
    primary, standby = doomed
    async with stored(doomed, "papers", keep_warm=True) as storage:
        assert await storage.warm_pool()
        await to_thread.run_sync(standby.stop, signal.SIGKILL)
        assert [hit.text for hit in await storage.search(VECTOR)] == ["a"]
        assert await port_of(storage.read_pool) == primary.port
        assert await storage.wait_warm(30)
        await to_thread.run_sync(standby.start)
        with anyio.fail_after(30):
            while await port_of(storage.read_pool) != standby.port:
                await anyio.sleep(0.02)
        assert [hit.text for hit in await storage.search(VECTOR)] == ["a"]

    assert len([one for one in caplog.records if "no standby can be used, so the primary" in one.getMessage()]) == 1


@slow
async def test_searches_go_on_while_the_standby_becomes_the_primary(doomed: list[Node]) -> None:
    primary, standby = doomed
    async with stored(doomed, "papers", keep_warm=True) as storage:
        assert await storage.warm_pool()
        await to_thread.run_sync(primary.stop, signal.SIGKILL)
        assert [hit.text for hit in await storage.search(VECTOR)] == ["a"]
        await until(lambda: storage.state != "warm")
        await to_thread.run_sync(standby.promote)
        assert await storage.wait_warm(30)
        await storage.add([Chunk("b", [0.9, 0.1, 0.0])])
        assert [hit.text for hit in await storage.search(VECTOR)] == ["a", "b"]
        assert await port_of(storage.pool) == standby.port


@slow
async def test_a_standby_that_has_lost_its_primary_may_not_serve_for_longer_than_the_lag(doomed: list[Node]) -> None:
    primary, standby = doomed
    options: dict[str, Any] = {"keep_warm": True, "connect_timeout": 2.0, "warm_timeout": 2.0}
    async with stored(doomed, "papers", max_replica_lag=2, **options) as storage:
        assert await storage.warm_pool()
        await to_thread.run_sync(primary.stop, signal.SIGKILL)
        with anyio.fail_after(30), pytest.raises(ConnectError, match="max_replica_lag is 2 s") as caught:
            while True:
                assert [hit.text for hit in await storage.search(VECTOR)] == ["a"]
                await anyio.sleep(0.05)
        assert caught.value.transient
        await to_thread.run_sync(standby.promote)
        assert await storage.wait_warm(30)
        assert [hit.text for hit in await storage.search(VECTOR)] == ["a"]


@slow
async def test_without_a_standby_the_primary_serves(nodes: list[Node], collection: str) -> None:
    async with VectorStorage(dsn_of(nodes[0]), collection, 3, read_from="replica", warm="startup") as storage:
        await storage.add([Chunk("a", VECTOR)])
        assert storage.state == "warm"
        assert [hit.text for hit in await storage.search(VECTOR)] == ["a"]


@slow
async def test_a_dsn_that_leaves_no_server_for_writes_is_refused(nodes: list[Node]) -> None:
    dsn = dsn_of(*nodes, words="target_session_attrs=standby")
    with pytest.raises(ArgumentError, match="leaves no server for writes"):
        async with VectorStorage(dsn, "papers", 3, read_from="replica"):
            pass


def test_read_from_is_checked_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = "postgresql://primary.example,standby.example/app"
    with pytest.raises(ArgumentError, match="read_from is 'standby'; choose one of primary, replica"):
        VectorStorage(dsn, read_from="standby")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="give a DSN of the primary and its replicas"):
        VectorStorage(open_pool(dsn), read_from="replica")
    for lag in (0.5, -1, float("nan")):
        with pytest.raises(ArgumentError, match="max_replica_lag is"):
            VectorStorage(dsn, max_replica_lag=lag)
    with pytest.raises(ArgumentError, match="target_session_attrs is 'master'; choose one of any, read-write"):
        open_pool(dsn, target_session_attrs="master")  # type: ignore[arg-type]
    monkeypatch.setenv("PREHEAT_READ_FROM", "elsewhere")
    with pytest.raises(ArgumentError, match="read_from is 'elsewhere'"):
        VectorStorage(dsn)
    VectorStorage(open_pool(dsn))  # the setting is for pools that a storage opens
    monkeypatch.setenv("PREHEAT_READ_FROM", "replica")
    assert VectorStorage(dsn).executor.reads_from_replica
    assert not VectorStorage(dsn, read_from="primary").executor.reads_from_replica
