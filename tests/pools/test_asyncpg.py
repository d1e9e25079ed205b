"""asyncpg on asyncio and from trio, against a real server: the same tests for both."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import asyncpg
import pytest
from tests.support.network.ends import silent_port
from tests.support.server import Server, free_port

from preheat import ArgumentError, ConnectError, DatabaseError, SQLPool, VectorStorage, open_pool, ping, warm

SELECT = "SELECT 41 + 1 AS answer, pg_backend_pid() AS pid"


async def select(pool: SQLPool) -> Any:
    return (await pool.run(lambda connection: connection.fetch(SELECT)))[0]


async def through_run(pool: SQLPool, query: str, *args: Any) -> Any:
    return await pool.run(lambda connection: connection.fetch(query, *args))


async def through_fetch(pool: SQLPool, query: str, *args: Any) -> Any:
    return await pool.fetch(query, *args)


BOTH_WAYS = pytest.mark.parametrize("fetch", [through_run, through_fetch])


async def active(dsn: str, marker: str) -> int:
    """How many backends run a statement with `marker` in it."""
    async with open_pool(dsn, size=1) as watcher:
        rows = await watcher.run(
            lambda connection: connection.fetch(
                "SELECT count(*) AS n FROM pg_stat_activity "
                "WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE $1::text",
                f"%{marker}%",
            )
        )
        return int(rows[0]["n"])


async def until_active(dsn: str, marker: str, wanted: int) -> None:
    with anyio.fail_after(30):
        while await active(dsn, marker) != wanted:
            await anyio.lowlevel.checkpoint()


async def test_an_operation_runs_and_its_connection_is_used_again(dsn: str) -> None:
    async with open_pool(dsn, size=2) as pool:
        first, second = await select(pool), await select(pool)

    assert first["answer"] == 42
    assert first["pid"] == second["pid"]


async def test_opening_and_closing_a_pool_for_a_server_that_is_down_succeeds() -> None:
    async with open_pool(f"postgresql://u:secret@127.0.0.1:{free_port()}/db", size=2) as pool:
        with pytest.raises(ConnectError, match="check that PostgreSQL is running") as caught:
            await select(pool)

    assert isinstance(caught.value.__cause__, OSError)
    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_reported_in_a_sentence(server: Server) -> None:
    async with open_pool(server.dsn(password="wrong-secret"), size=1) as pool:
        with pytest.raises(ConnectError, match="check the user and the password") as caught:
            await select(pool)

    assert "wrong-secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, asyncpg.InvalidPasswordError)


async def test_a_missing_file_or_socket_of_the_dsn_is_reported(server: Server) -> None:
    for dsn in (
        "postgresql://postgres@/postgres?host=/no/such/folder",
        server.dsn().replace("sslmode=disable", "sslmode=verify-ca&sslrootcert=/no/such/file"),
    ):
        async with open_pool(dsn, size=1) as pool:
            with pytest.raises(ConnectError, match=r"socket folder that the DSN names|sslrootcert names /no/such/file"):
                await select(pool)


async def test_a_missing_database_is_reported_in_a_sentence(server: Server) -> None:
    async with open_pool(server.dsn("nowhere"), size=1) as pool:
        with pytest.raises(ConnectError, match="create the database"):
            await select(pool)


async def test_an_unknown_server_parameter_is_an_error(
    server: Server,
) -> None:
    async with VectorStorage(server.dsn() + "&no_such_setting=1", "x", 1) as storage:
        for call in (storage.count(), storage.search([1])):
            with pytest.raises(ArgumentError, match=r"no_such_setting.*remove it"):
                await call
        assert not await storage.warm_pool()


async def test_a_transaction_left_open_affects_no_other_caller(dsn: str) -> None:
    async with VectorStorage(dsn, "any", 1, size=1) as storage:
        for _ in range(3):
            async with storage.get_connection() as connection:
                await connection.execute("BEGIN")
                await connection.execute("SET work_mem = '77MB'")
            async with storage.get_connection() as connection:
                assert await connection.fetchval("SHOW work_mem") != "77MB"


@pytest.mark.parametrize("anyio_backend", [pytest.param("asyncio", id="asyncio")])
@pytest.mark.parametrize("discard", [False, True])
async def test_asyncios_own_cancellation_at_any_point_loses_no_connection(dsn: str, discard: bool) -> None:
    """It goes through anyio's shield, so it may arrive while a connection is being put back."""
    import asyncio

    async with open_pool(dsn, size=2) as pool:

        async def use() -> None:
            async with pool.lease() as lease:
                await lease.connection.execute("SELECT 1")
                if discard:
                    lease.discard()

        for patience in range(60):
            task = asyncio.get_running_loop().create_task(use())
            for _ in range(patience):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        with anyio.fail_after(30):
            async with pool.lease(), pool.lease():
                assert (await warm(pool, connections=1, timeout=0.1)).timed_out


async def test_a_server_that_never_answers_costs_the_connect_timeout() -> None:
    with silent_port() as port:
        dsn = f"postgresql://u@127.0.0.1:{port}/db?sslmode=disable"
        async with open_pool(dsn, size=1, connect_timeout=0.2) as pool:
            with pytest.raises(ConnectError, match="connect_timeout"):
                await select(pool)


async def test_an_exception_of_the_block_is_raised_unchanged(dsn: str) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_pool(dsn, size=1) as pool:
            await select(pool)
            raise KeyError("mine")


@BOTH_WAYS
async def test_callers_in_a_queue_get_their_own_rows_on_few_connections(dsn: str, fetch: Any) -> None:
    answers: dict[int, int] = {}
    pids = set()

    async def call(number: int) -> None:
        for _ in range(3):
            [row] = await fetch(pool, "SELECT $1::integer AS number, pg_backend_pid() AS pid", number)
            answers[number] = row["number"]
            pids.add(row["pid"])

    async with open_pool(dsn, size=2) as pool, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(call, number)

    assert answers == {number: number for number in range(20)}
    assert len(pids) <= 2  # the queue may be served before the second one is open


@BOTH_WAYS
async def test_an_error_of_the_statement_names_its_cause_and_keeps_the_connection(dsn: str, fetch: Any) -> None:
    async with open_pool(dsn, size=1) as pool:
        pid = (await select(pool))["pid"]
        with pytest.raises(DatabaseError, match=r"^division by zero \(22012\); check the values") as caught:
            await fetch(pool, "SELECT 1/0")

        assert (await select(pool))["pid"] == pid
    assert caught.value.sqlstate == "22012"
    assert isinstance(caught.value.__cause__, asyncpg.DivisionByZeroError)


async def test_an_exception_of_an_operation_is_raised_unchanged(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        for error in (OSError("no such file"), TimeoutError(), ConnectionResetError("elsewhere"), ValueError("no")):

            async def operation(connection: Any, error: Exception = error) -> None:
                await connection.fetch("SELECT 1")
                raise error

            with pytest.raises(type(error)) as caught:
                await pool.run(operation)
            assert caught.value is error


@BOTH_WAYS
async def test_a_connection_that_was_terminated_is_replaced(dsn: str, fetch: Any) -> None:
    async with open_pool(dsn, size=1) as pool:
        pid = (await select(pool))["pid"]
        with pytest.raises(ConnectError):
            await fetch(pool, "SELECT pg_terminate_backend(pg_backend_pid())")

        assert (await select(pool))["pid"] != pid


@BOTH_WAYS
async def test_a_connection_that_was_terminated_while_idle_is_replaced(server: Server, dsn: str, fetch: Any) -> None:
    async with open_pool(dsn, size=1) as pool:
        pid = (await select(pool))["pid"]
        server.sql(f"SELECT pg_terminate_backend({pid})")
        for _ in range(2):  # the first one may find out
            with suppress(ConnectError):
                [row] = await fetch(pool, "SELECT pg_backend_pid() AS pid")

        assert row["pid"] != pid


async def test_a_connection_that_the_driver_finds_out_of_step_is_lost_and_replaced(dsn: str) -> None:
    """As it is between the server's last words, which nobody asked for, and the end of the connection."""

    async def operation(connection: Any) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")

    async with open_pool(dsn, size=1) as pool:
        pid = (await select(pool))["pid"]
        with pytest.raises(ConnectError, match="try again"):
            await pool.run(operation)

        assert (await select(pool))["pid"] != pid


@BOTH_WAYS
async def test_a_cancelled_operation_ends_promptly_on_both_sides_and_leaks_nothing(dsn: str, fetch: Any) -> None:
    async with open_pool(dsn, size=1) as pool:
        await select(pool)  # the connection is open and at hand
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetch, pool, "SELECT pg_sleep(60), 'cancelled operation'")
            await until_active(dsn, "cancelled operation", 1)
            with anyio.fail_after(30):
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await until_active(dsn, "cancelled operation", 0)

        assert (await select(pool))["answer"] == 42


async def test_a_warm_up_out_of_time_leaves_no_statement_running_on_the_server(dsn: str) -> None:
    async def probe(lease: Any) -> None:
        await lease.fetch("SELECT pg_sleep(60), 'unfinished probe'")

    async with open_pool(dsn, size=3) as pool:
        report = await warm(pool, timeout=0.5, probe=probe)
        assert [connection.status for connection in report.connections] == ["unfinished"] * 3
        assert await active(dsn, "unfinished probe") == 0
        pids = {connection.pid for connection in report.connections}
        assert (await select(pool))["pid"] not in pids  # terminated, never put back half-used


async def test_a_cancelled_acquire_leaks_nothing(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        async with pool.lease():
            with anyio.move_on_after(0.05) as scope:
                await select(pool)
            assert scope.cancelled_caught

        assert (await select(pool))["answer"] == 42


async def test_the_locks_of_a_discarded_lease_are_free_at_once(dsn: str) -> None:
    """A session that is left behind ends a moment later; 60 times, as that moment is short."""
    async with open_pool(dsn, size=2) as pool, pool.lease() as other:
        for lock in range(60):
            async with pool.lease() as lease:
                await lease.connection.fetch("SELECT pg_advisory_lock(81623, $1::text::int)", str(lock))
                lease.discard()
            (row,) = await other.connection.fetch(
                "SELECT pg_try_advisory_lock(81623, $1::text::int) AS free", str(lock)
            )
            assert row["free"]


async def test_a_discarded_lease_closes_its_connection(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        async with pool.lease() as lease:
            await ping(lease)
            pid = lease.pid
            lease.discard()

        assert (await select(pool))["pid"] != pid


async def test_a_raw_connection_is_reset_when_it_goes_back(dsn: str) -> None:
    async with VectorStorage(dsn, "any", 3, size=1) as storage:
        async with storage.get_connection() as connection:
            await connection.execute("SET work_mem = '77MB'")
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            assert connection.get_server_pid() == pid
        async with storage.get_connection() as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") == pid
            assert await connection.fetchval("SHOW work_mem") != "77MB"
            assert (await connection.fetchrow("SELECT 1 AS one"))["one"] == 1
            assert not connection.is_closed()


async def test_a_transaction_on_a_raw_connection_commits_and_rolls_back(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, "any", 3, size=1) as storage, storage.get_connection() as connection:
        await connection.execute(f"CREATE TABLE {collection} (n int)")
        async with connection.transaction():
            await connection.executemany(f"INSERT INTO {collection} VALUES ($1)", [(1,), (2,)])
        with pytest.raises(KeyError):
            async with connection.transaction():
                await connection.execute(f"INSERT INTO {collection} VALUES (3)")
                raise KeyError
        assert [row["n"] for row in await connection.fetch(f"SELECT n FROM {collection} ORDER BY n")] == [1, 2]


async def test_closing_leaves_no_backend_behind(server: Server) -> None:
    server.sql("CREATE DATABASE closing")
    async with open_pool(server.dsn("closing"), size=4) as pool:
        assert (await warm(pool, connections=4)).ok
        assert server.backends("closing") == 4

    with anyio.fail_after(30):
        while server.backends("closing"):
            await anyio.lowlevel.checkpoint()
    server.sql("DROP DATABASE closing WITH (FORCE)")


async def test_a_pool_works_from_tasks_that_are_older_than_it(dsn: str) -> None:
    """A service opens its pool in one task and uses it from others, which know nothing of the driver's loop."""
    answers: list[int] = []
    opened = anyio.Event()
    pools: list[SQLPool] = []

    async def handler() -> None:
        await opened.wait()
        answers.append((await select(pools[0]))["answer"])
        async with pools[0].lease() as lease:
            await lease.ping()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(handler)
        await anyio.wait_all_tasks_blocked()
        async with open_pool(dsn, size=1) as pool:
            pools.append(pool)
            opened.set()
            with anyio.fail_after(30):
                while not answers:
                    await anyio.lowlevel.checkpoint()

    assert answers == [42]


@asynccontextmanager
async def users_own_pool(dsn: str) -> AsyncGenerator[asyncpg.Pool]:
    async with asyncpg.create_pool(dsn, min_size=0, max_size=5) as pool:
        yield pool


@pytest.mark.parametrize("anyio_backend", [pytest.param("asyncio", id="asyncio")])
async def test_an_asyncpg_pool_is_warmed_as_it_is(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    async with users_own_pool(dsn) as pool:
        with caplog.at_level(logging.INFO, "preheat"):
            report = await warm(pool)

        assert report.ok
        assert pool.get_idle_size() == pool.get_size() == 3
        assert len({connection.pid for connection in report.connections}) == 3
    assert "3 of 3" in caplog.text


@pytest.mark.parametrize("anyio_backend", [pytest.param("asyncio", id="asyncio")])
async def test_a_storage_on_an_asyncpg_pool_leaves_it_open(dsn: str, collection: str) -> None:
    async with users_own_pool(dsn) as pool:
        async with VectorStorage(pool, collection, 3) as storage:
            assert await storage.warm_pool()
            assert await storage.search([1, 0, 0]) == []
        assert await pool.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("anyio_backend", [pytest.param("asyncio", id="asyncio")])
async def test_an_asyncpg_pool_that_is_closed_or_not_yet_open_is_reported(dsn: str, collection: str) -> None:
    async with users_own_pool(dsn) as closed:
        pass
    for pool in (closed, asyncpg.create_pool(dsn, min_size=0, max_size=5)):
        async with VectorStorage(pool, collection, 3, warm="never") as storage:
            assert not await storage.warm_pool()
            for call in (storage.count, storage.create):
                with pytest.raises(ConnectError, match="after it is opened and before it is closed"):
                    await call()


@pytest.mark.parametrize("anyio_backend", [pytest.param("trio", id="trio")])
async def test_an_asyncpg_pool_on_trio_is_refused_with_the_remedy() -> None:
    class LooksLikeAsyncpg:
        def acquire(self) -> None: ...
        def release(self) -> None: ...
        def get_max_size(self) -> int:
            return 3

    with pytest.raises(ArgumentError, match="open_pool"):
        await warm(LooksLikeAsyncpg())


async def test_a_connection_serves_its_next_statement_after_a_cancelled_one(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool, pool.lease() as lease:
        for ask in (lease.fetch, lease.connection.fetch, lease.execute):
            with anyio.move_on_after(0.1) as scope:
                await ask("SELECT pg_sleep(60)")
            assert scope.cancelled_caught
            [row] = await lease.connection.fetch("SELECT 42 AS n")
            assert row["n"] == 42
            assert await lease.execute("SELECT 1")
