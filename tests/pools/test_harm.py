"""What must not happen to a caller of the pool, however the server, the network and other callers behave."""

from __future__ import annotations

import traceback
from typing import Any

import anyio
import pytest
from tests.pools.test_own_pool import in_use, own
from tests.support.server import Server

from preheat import Chunk, ConnectError, PoolBusyError, VectorStorage, open_pool, warm
from preheat.pools.asyncpg import places
from preheat.testing import FaultyNetwork


def lose_answers(network: FaultyNetwork) -> None:
    """Close each open connection in the moment that its server answers. New ones work."""

    def change() -> None:
        for link in network._links:
            link.remaining = 0

    network._call(change)


# Effects


async def test_a_function_that_writes_runs_once_if_its_answer_is_lost(server: Server, dsn: str) -> None:
    server.sql(
        "DROP TABLE IF EXISTS charges; CREATE TABLE charges (n int); CREATE OR REPLACE FUNCTION charge() RETURNS int "
        "LANGUAGE sql AS 'INSERT INTO charges VALUES (1) RETURNING n';",
        "tests",
    )
    with FaultyNetwork(dsn) as network:
        async with open_pool(network.dsn, size=2) as pool:
            await pool.fetch("SELECT charge()")
            lose_answers(network)
            with pytest.raises(ConnectError):
                await pool.fetch("SELECT charge()")

            [row] = await pool.fetch("SELECT count(*) AS n FROM charges")
            assert row["n"] == 2


async def test_a_read_runs_again_if_its_answer_is_lost(dsn: str) -> None:
    with FaultyNetwork(dsn) as network:
        async with open_pool(network.dsn, size=2) as pool:
            await pool.fetch("SELECT 1")
            lose_answers(network)

            assert [row["n"] for row in await pool.fetch("SELECT generate_series(1, 3) AS n")] == [1, 2, 3]
            assert pool.statistics().lost == 1
            async with pool.lease() as lease:
                assert await lease.fetch("SHOW transaction_read_only") == [("off",)]


async def test_a_search_runs_again_if_its_answer_is_lost(dsn: str, collection: str) -> None:
    """Its statement sets parameters of the transaction, which end with a lost connection."""
    with FaultyNetwork(dsn) as network:
        async with VectorStorage(network.dsn, collection, 3, size=2, warm="never") as storage:
            await storage.add([Chunk("a", [1.0, 0.0, 0.0])])
            lose_answers(network)

            assert [hit.text for hit in await storage.search([1.0, 0.0, 0.0])] == ["a"]


# State that a caller leaves behind


@pytest.mark.parametrize(
    ("script", "question", "answer"),
    [
        ("SET ROLE pg_monitor", "SELECT current_user::text", "postgres"),
        ("SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user::text", "postgres"),
        ("CREATE TEMP TABLE left_behind (n int)", "SELECT to_regclass('left_behind')::text", None),
        ("SET search_path = pg_catalog", "SHOW search_path", '"$user", public'),
        ("SET statement_timeout = 1", "SHOW statement_timeout", "0"),
        ("LISTEN news", "SELECT string_agg(name, '') FROM pg_listening_channels() AS name", None),
        ("SELECT pg_advisory_lock(1)", "SELECT max(pid)::text FROM pg_locks WHERE locktype = 'advisory'", None),
    ],
)
async def test_a_connection_is_as_new_when_the_next_caller_gets_it(
    dsn: str, script: str, question: str, answer: str | None
) -> None:
    async with open_pool(dsn, size=1) as pool:
        async with pool.lease() as lease:
            await lease.connection.execute(script)

        [row] = await pool.fetch(question)

        assert tuple(row.values()) == (answer,)
        assert pool.statistics().opened == 1


# Waiting


async def test_closing_waits_for_no_attempt_that_has_not_begun(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    refused: list[Exception] = []

    async def caller(pool: Any) -> None:
        try:
            await pool.fetch("SELECT 1")
        except ConnectError as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        for checkpoints in range(5):
            async with open_pool(dsn, size=2) as pool:
                tasks.start_soon(caller, pool)
                for _ in range(checkpoints):
                    await anyio.lowlevel.checkpoint()

    assert len(refused) == 5
    assert "still in use" not in caplog.text  # as it says when its time is up


async def test_two_callers_get_a_connection_when_a_full_server_has_places_again(
    server: Server, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused a moment after the first, and must not wait for more than the next try."""
    monkeypatch.setattr("preheat.pools.asyncpg.pool.FULL_SECONDS", 0.3)
    monkeypatch.setattr(places, "FULL_SECONDS", 0.3)
    limited = server.role("limited", "tests")
    server.sql("ALTER ROLE limited CONNECTION LIMIT 1;")
    try:
        async with open_pool(limited, size=3, acquire_timeout=20) as pool, in_use(pool):
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(pool.fetch, "SELECT 1")
                    while own(pool).statistics().failed < 1:
                        await anyio.sleep(0.005)
                    own(pool)._places.retry()  # the second does not wait until the server may be asked again
                    tasks.start_soon(pool.fetch, "SELECT 1")
                    while own(pool).statistics().failed < 2:
                        await anyio.sleep(0.005)
                    server.sql("ALTER ROLE limited CONNECTION LIMIT 10;")
    finally:
        server.sql("DROP ROLE limited;")


async def test_callers_for_whom_a_connection_can_be_opened_are_not_turned_away(dsn: str) -> None:
    async with open_pool(dsn, size=3, max_waiting=0) as pool:
        assert (await warm(pool, connections=3)).ok
        async with in_use(pool), in_use(pool), in_use(pool):
            with pytest.raises(PoolBusyError, match="0 callers wait"):
                await pool.fetch("SELECT 1")


# `init`


async def test_init_that_hangs_ends_with_the_time_for_connecting(dsn: str) -> None:
    async def init(connection: Any) -> None:
        await anyio.sleep_forever()

    async with open_pool(dsn, size=1, init=init, connect_timeout=0.3) as pool:
        with anyio.fail_after(5), pytest.raises(ConnectError, match="init did not end in time") as caught:
            await pool.fetch("SELECT 1")

        assert caught.value.transient
        assert pool.statistics().open == 0


async def test_a_connection_that_is_lost_in_init_is_a_connect_error(dsn: str) -> None:
    async def init(connection: Any) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    async with open_pool(dsn, size=1, init=init) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.fetch("SELECT 1")

        assert caught.value.transient


async def test_a_time_limit_of_init_itself_is_raised_as_it_is(dsn: str) -> None:
    async def init(connection: Any) -> None:
        raise TimeoutError("of its own")

    async with open_pool(dsn, size=1, init=init) as pool:
        with pytest.raises(TimeoutError, match="of its own"):
            await pool.fetch("SELECT 1")


async def test_callers_see_the_error_of_init_even_if_it_cannot_be_copied(dsn: str) -> None:
    class OddError(Exception):
        def __init__(self, left: int, right: int) -> None:
            super().__init__("odd")

    async def init_of_the_application(connection: Any) -> None:
        raise OddError(1, 2)

    errors: list[BaseException] = []

    async def caller(pool: Any) -> None:
        try:
            await pool.fetch("SELECT 1")
        except Exception as error:
            errors.append(error)

    async with open_pool(dsn, size=1, init=init_of_the_application) as pool, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(caller, pool)

    assert [type(error) for error in errors] == [OddError] * 3
    assert "in init_of_the_application" in "".join(traceback.format_exception(errors[0]))
