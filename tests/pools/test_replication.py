"""A primary and two streaming standbys: which of them a pool uses, and what a fail-over costs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack

import anyio
import pytest
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.replication import Node, dsn_of, reachable_folder, replicated

from preheat import Chunk, ConnectError, DatabaseError, SQLPool, VectorStorage, open_pool, warm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """A primary and two standbys, which the tests leave as they are."""
    with reachable_folder() as folder, replicated(folder) as nodes:
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


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ("any", [1]),
        ("read-write", [0]),
        ("primary", [0]),
        ("read-only", [1]),
        ("standby", [1]),
        ("prefer-standby", [1]),
    ],
)
async def test_the_first_server_of_the_kind_that_is_wanted_is_used(
    nodes: list[Node], session: str, expected: list[int]
) -> None:
    primary, one, two = nodes
    dsn = dsn_of(one, primary, two, words=f"target_session_attrs={session}")
    async with open_pool(dsn, size=2) as pool:
        assert (await warm(pool, connections=2)).ok
        assert await port_of(pool) in [nodes[each].port for each in expected]


@pytest.mark.parametrize("session", ["read-write", "primary", "read-only", "standby", "prefer-standby"])
async def test_the_right_kind_of_server_is_found_in_any_order(nodes: list[Node], session: str) -> None:
    primary, *standbys = nodes
    words = f"target_session_attrs={session}&load_balance_hosts=random"
    right = [primary.port] if session in ("read-write", "primary") else [node.port for node in standbys]
    async with open_pool(dsn_of(*nodes, words=words), size=6) as pool:
        assert (await warm(pool, connections=6)).ok
        async with AsyncExitStack() as stack:
            leases = [await stack.enter_async_context(pool.lease()) for _ in range(6)]
            ports = {(await lease.fetch("SELECT inet_server_port() AS port"))[0]["port"] for lease in leases}
        assert ports <= set(right)


async def test_a_primary_serves_where_a_standby_is_only_preferred(nodes: list[Node]) -> None:
    async with open_pool(dsn_of(nodes[0], words="target_session_attrs=prefer-standby"), size=1) as pool:
        assert await port_of(pool) == nodes[0].port


async def test_asking_for_a_kind_of_server_costs_no_round_trip(nodes: list[Node]) -> None:
    with RoundTripMeter(nodes[0].port) as meter:
        for session in ("any", "read-write"):
            dsn = dsn_of(nodes[0], words=f"target_session_attrs={session}")
            async with open_pool(dsn.replace(str(nodes[0].port), str(meter.port)), size=1) as pool:
                await pool.fetch("SELECT 1")

        assert meter.round_trips[0] == meter.round_trips[1]


async def test_the_server_that_was_good_last_comes_first(nodes: list[Node]) -> None:
    primary, standby, _ = nodes
    with ExitStack() as stack:
        meters = [stack.enter_context(RoundTripMeter(node.port)) for node in (standby, primary)]
        dsn = dsn_of(standby, primary, words="target_session_attrs=read-write")
        for node, meter in zip((standby, primary), meters, strict=True):
            dsn = dsn.replace(str(node.port), str(meter.port))
        async with open_pool(dsn, size=3) as pool:
            async with pool.lease() as one, pool.lease() as two, pool.lease() as three:
                for lease in (one, two, three):
                    await lease.ping()

        assert [len(meter.round_trips) for meter in meters] == [1, 3]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_pool_finds_the_new_primary_after_a_failover(doomed: list[Node]) -> None:
    primary, heir = doomed
    dsn = dsn_of(primary, heir, words="target_session_attrs=read-write")
    async with VectorStorage(dsn, "failover", 3, size=2) as storage:
        await storage.add([Chunk("before", [1.0, 0.0, 0.0])])
        heir.catch_up(primary)
        primary.stop(signal.SIGKILL)
        heir.promote()
        with anyio.fail_after(30):
            while True:
                try:
                    await storage.add([Chunk("after", [0.0, 1.0, 0.0])])
                    break
                except ConnectError:
                    await anyio.sleep(0.05)

        assert {hit.text for hit in await storage.search([1.0, 1.0, 0.0], k=2)} == {"before", "after"}
        assert await port_of(storage.pool) == heir.port


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_demoted_primary_is_left_for_the_new_one(doomed: list[Node]) -> None:
    primary, heir = doomed
    async with open_pool(dsn_of(primary, heir, words="target_session_attrs=read-write"), size=1) as pool:
        await pool.fetch("SELECT 1")
        primary.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        primary.sql("SELECT pg_reload_conf()")
        heir.promote()
        with pytest.raises(DatabaseError) as caught:  # the session learns of it with its next transaction
            for _ in range(1000):
                await pool.fetch("CREATE TABLE IF NOT EXISTS anything (n int)")
                await anyio.sleep(0.01)
        assert caught.value.sqlstate == "25006"

        assert await port_of(pool) == heir.port
