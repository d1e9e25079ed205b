"""A pool of preheat's own behind PgBouncer, in each of its modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from tests.pools.test_own_pool import own
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.pgbouncer import pgbouncer
from tests.support.server import Server

from preheat import ArgumentError, Chunk, ConnectError, VectorStorage, open_pool, warm

pytestmark = pytest.mark.slow

VECTOR = [1.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def transactions(server: Server, dsn: str) -> Iterator[str]:
    """The DSN of a PgBouncer in transaction mode."""
    with pgbouncer(server, "transaction") as through:
        yield through


async def many_searches(storage: VectorStorage, searches: int) -> list[Exception]:
    """The errors of searches by several callers at a time."""
    errors: list[Exception] = []

    async def caller() -> None:
        for _ in range(searches // 8):
            try:
                assert [hit.text for hit in await storage.search(VECTOR)] == ["a"]
            except Exception as error:
                errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(caller)
    return errors


async def test_no_search_fails_behind_a_pooler_in_transaction_mode(transactions: str, collection: str) -> None:
    async with VectorStorage(transactions, collection, 3, size=6, warm_connections=3) as storage:
        await storage.add([Chunk("a", VECTOR)])
        assert await storage.warm_pool()
        assert await many_searches(storage, 200) == []
        for number in range(5):
            await storage.add([Chunk(f"b{number}", [0.0, 1.0, float(number)])])

        assert await storage.count() == 6


async def test_a_statement_that_another_session_was_prepared_for_is_run_again_without_a_name(
    transactions: str,
) -> None:
    query = "SELECT $1::int + 1 AS answer"
    async with open_pool(transactions, size=1) as pool, open_pool(transactions, size=1, prepare=False) as other:
        await pool.fetch(query, 1)
        async with other.lease() as lease:
            await lease.execute("BEGIN")  # which takes the session that was used last
            [row] = await pool.fetch(query, 41)
            await lease.execute("ROLLBACK")

        assert row["answer"] == 42
        assert not own(pool)._opener.is_named
        assert pool.statistics().opened == 2


async def test_several_pools_do_not_meet_each_others_statements(transactions: str) -> None:
    """Their clients share the sessions of the server."""
    async with open_pool(transactions, size=3) as one, open_pool(transactions, size=3) as other:
        answers: list[tuple[Any, str]] = []

        async def caller(pool: Any, word: str) -> None:
            for _ in range(20):
                [row] = await pool.fetch(f"SELECT '{word}' || $1::text AS word", "!")
                answers.append((row["word"], f"{word}!"))

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(caller, one, f"one{number}")
                tasks.start_soon(caller, other, f"other{number}")

    assert len(answers) == 160
    assert all(got == wanted for got, wanted in answers)


async def test_statements_without_names_need_no_detection(transactions: str) -> None:
    async with open_pool(transactions, size=3, prepare=False) as pool:
        assert (await warm(pool, connections=3)).ok
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(pool.fetch, "SELECT $1::int", 1)

        assert pool.statistics().opened == 3


async def test_a_pooler_in_session_mode_keeps_prepared_statements(server: Server, dsn: str, collection: str) -> None:
    with pgbouncer(server, "session") as through:
        async with VectorStorage(through, collection, 3, size=2, warm_connections=2) as storage:
            await storage.add([Chunk("a", VECTOR)])
            assert await storage.warm_pool()
            assert await many_searches(storage, 40) == []

            assert own(storage.pool)._opener.is_named


async def test_statement_mode_is_refused_with_the_reason(server: Server, dsn: str, collection: str) -> None:
    with pgbouncer(server, "statement") as through:
        async with VectorStorage(through, collection, 3) as storage:
            assert not await storage.warm_pool()
            assert storage.warm_report is not None
            assert "pool_mode = transaction" in str(storage.warm_report)
            with pytest.raises(ConnectError, match="pool_mode = transaction"):
                await storage.add([Chunk("a", VECTOR)])
            with pytest.raises(ConnectError, match="pool_mode = transaction"):
                await storage.search(VECTOR)


async def test_a_warm_up_names_a_pooler_with_too_few_sessions(
    server: Server, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pgbouncer(server, "session", default_pool_size=2) as through:
        async with open_pool(through, size=3) as pool:
            report = await warm(pool, connections=3, timeout=1)
            assert (report.hot, report.timed_out) == (2, True)
            [error] = report.errors
            assert "has no session of the server for it" in str(error)
            assert "default_pool_size" in caplog.text
            async with anyio.create_task_group() as tasks:  # they use the two connections
                for _ in range(6):
                    tasks.start_soon(pool.fetch, "SELECT pg_sleep(0.01)")


async def test_a_connection_without_a_session_of_the_pooler_fails_with_the_remedy(server: Server, dsn: str) -> None:
    with pgbouncer(server, "session", default_pool_size=1) as through:
        async with open_pool(through, size=1) as first, open_pool(through, size=1, connect_timeout=0.5) as second:
            await first.fetch("SELECT 1")
            with pytest.raises(ConnectError, match="default_pool_size") as caught:
                await second.fetch("SELECT 1")
            assert caught.value.transient


async def test_discard_all_behind_a_pooler_in_session_mode_costs_the_names(server: Server, dsn: str) -> None:
    """Nothing tells this pooler from one in transaction mode, which would lose the statements again."""
    query = "SELECT $1::int + 1 AS answer"
    with pgbouncer(server, "session") as through:
        for prepare, named in (("auto", False), (True, True)):
            async with open_pool(through, size=1, prepare=prepare) as pool:
                await pool.fetch(query, 1)
                async with pool.lease() as lease:
                    await lease.execute("DISCARD ALL")
                assert [row["answer"] for row in await pool.fetch(query, 41)] == [42]
                assert own(pool)._opener.is_named is named


@pytest.fixture(scope="module")
def tracked(server: Server, dsn: str) -> Iterator[str]:
    """The DSN of a PgBouncer in transaction mode that keeps track of prepared statements."""
    with pgbouncer(server, "transaction", tracking=True) as through:
        yield through


async def test_a_pooler_that_tracks_statements_keeps_their_names(tracked: str, collection: str) -> None:
    with RoundTripMeter(port_of(tracked)) as meter:
        dsn = tracked.replace(f":{port_of(tracked)}/", f":{meter.port}/")
        async with VectorStorage(dsn, collection, 3, size=6, warm_connections=3) as storage:
            await storage.add([Chunk("a", VECTOR)])
            assert await storage.warm_pool()
            assert await many_searches(storage, 200) == []
            for number in range(5):
                await storage.add([Chunk(f"b{number}", [0.0, 1.0, float(number)])])

            assert await storage.count() == 6
            assert own(storage.pool)._opener.is_named
            assert storage.pool.statistics().lost == 0
            await storage.search(VECTOR)
            before = sum(meter.round_trips)
            for _ in range(5):
                await storage.search(VECTOR)
            assert sum(meter.round_trips) - before == 5


async def test_a_tracked_statement_whose_table_has_changed_is_mended(tracked: str, collection: str) -> None:
    query = f'SELECT * FROM "{collection}"'
    async with open_pool(tracked, size=2) as pool:
        async with pool.lease() as lease:
            await lease.execute(f'CREATE TABLE "{collection}" AS SELECT 1 AS one')
        assert [dict(row) for row in await pool.fetch(query)] == [{"one": 1}]
        async with pool.lease() as lease:
            await lease.execute(f'ALTER TABLE "{collection}" ADD COLUMN two int DEFAULT 2')
        for _ in range(3):
            assert [dict(row) for row in await pool.fetch(query)] == [{"one": 1, "two": 2}]
        assert not own(pool)._opener.is_named  # the pooler would go on with the old one


async def test_a_tracked_statement_survives_another_server_session(tracked: str) -> None:
    """The sessions of the server end; the pooler opens others, and prepares the statements there itself."""
    query = "SELECT $1::int + 1 AS answer"
    async with open_pool(tracked, size=2) as pool:
        await pool.fetch(query, 1)
        async with pool.lease() as lease:
            await lease.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = 'tests' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        assert [row["answer"] for row in await pool.fetch(query, 41)] == [42]
        assert own(pool)._opener.is_named


def port_of(dsn: str) -> int:
    port = urlsplit(dsn).port
    assert port is not None
    return port


async def test_a_parameter_that_the_pooler_does_not_pass_on_is_named(transactions: str) -> None:
    async with open_pool(transactions + "&search_path=public") as pool:
        with pytest.raises(ArgumentError, match=r"search_path.*ignore_startup_parameters"):
            await pool.fetch("SELECT 1")


async def test_callers_wait_when_the_pooler_takes_no_more_clients(server: Server, dsn: str) -> None:
    with pgbouncer(server, "session", max_client_conn=2, default_pool_size=5) as through:
        async with open_pool(through, size=5) as pool, anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(pool.fetch, "SELECT pg_sleep(0.01)")


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_pooler_with_tls_serves_a_warmed_pool(server: Server, dsn: str, mode: str) -> None:
    with pgbouncer(server, mode, tls=True) as through:
        async with open_pool(through, size=2) as pool:
            assert (await warm(pool, connections=2)).ok
            assert (await pool.fetch("SELECT 42 AS n"))[0]["n"] == 42
        without = through.partition("?")[0] + "?sslmode=disable"
        async with open_pool(without, size=1) as pool:
            with pytest.raises(ConnectError, match="SSL required"):
                await pool.fetch("SELECT 1")


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_the_kind_of_server_is_seen_through_a_pooler(server: Server, dsn: str, mode: str) -> None:
    with pgbouncer(server, mode) as through:
        async with open_pool(f"{through}&target_session_attrs=read-write", size=2) as pool:
            assert (await warm(pool, connections=2)).ok
        async with open_pool(f"{through}&target_session_attrs=standby", size=1) as pool:
            with pytest.raises(ConnectError, match="is a primary"):
                await pool.fetch("SELECT 1")
