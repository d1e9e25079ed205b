"""What a pool's end does to its callers, and what its connections do to its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.support.network.ends import silent_port
from tests.support.server import Server, running_server

from preheat import Chunk, ConnectError, SQLPool, VectorStorage, open_pool, warm

CLOSED = "the pool is closed"

Call = Callable[[SQLPool], Awaitable[object]]


async def fetch(pool: SQLPool) -> object:
    return await pool.fetch("SELECT pg_sleep(60)")


async def run(pool: SQLPool) -> object:
    return await pool.run(lambda connection: connection.fetch("SELECT pg_sleep(60)"))


async def fetch_on_a_lease(pool: SQLPool) -> object:
    async with pool.lease() as lease:
        return await lease.fetch("SELECT pg_sleep(60)")


async def execute_on_a_lease(pool: SQLPool) -> object:
    async with pool.lease() as lease:
        return await lease.execute("SELECT pg_sleep(60)")


EACH_CALL = pytest.mark.parametrize("call", [fetch, run, fetch_on_a_lease, execute_on_a_lease])


@pytest.fixture
def short_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing does not wait long for connections that are in use."""
    monkeypatch.setattr("preheat.pools.asyncpg.pool.CLOSE_SECONDS", 0.2)


def opened(dsn: str, **options: Any) -> AbstractAsyncContextManager[SQLPool]:
    """A pool that is closed in the midst of its callers, as by another task."""
    return open_pool(dsn, **options)._manager()


@asynccontextmanager
async def told_as_the_pool_closes(pool: AsyncExitStack, call: Awaitable[object]) -> AsyncGenerator[None]:
    """`call` is under way when the block begins; then the pool is closed, and `call` ends in the pool's own error."""

    async def caller() -> None:
        with pytest.raises(ConnectError, match=CLOSED):
            await call

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller)
            await anyio.wait_all_tasks_blocked()
            yield
            await pool.aclose()


@pytest.mark.parametrize("hot", [0, 1, 2])
@EACH_CALL
async def test_a_closed_pool_refuses_each_call_at_once(dsn: str, call: Call, hot: int) -> None:
    async with open_pool(dsn, size=2) as pool:
        if hot:
            assert (await warm(pool, connections=hot)).ok

    with anyio.fail_after(30), pytest.raises(ConnectError, match=CLOSED):
        await call(pool)


@EACH_CALL
async def test_a_pool_with_open_and_close_refuses_each_call_at_once(dsn: str, call: Call) -> None:
    pool = await open_pool(dsn, size=1).open()
    assert (await warm(pool, connections=1)).ok
    await pool.close()

    with anyio.fail_after(30), pytest.raises(ConnectError, match="the pool is not open"):
        await call(pool)


async def test_warming_a_closed_pool_reports_why_nothing_is_hot(dsn: str) -> None:
    async with open_pool(dsn, size=2) as pool:
        assert (await warm(pool, connections=2)).ok

    with anyio.fail_after(30):
        report = await warm(pool, connections=2, timeout=60)

    assert report.hot == 0
    assert all(CLOSED in str(connection.error) for connection in report.connections)


@EACH_CALL
async def test_callers_in_the_queue_are_told_that_the_pool_closes(dsn: str, short_close: None, call: Call) -> None:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened(dsn, size=1))
        async with pool.lease() as lease:
            await lease.ping()
            async with told_as_the_pool_closes(stack, call(pool)):
                pass


@EACH_CALL
async def test_callers_that_wait_for_a_connection_attempt_are_told_that_the_pool_closes(call: Call) -> None:
    with silent_port() as port:
        dsn = f"postgresql://u@127.0.0.1:{port}/db?sslmode=disable"
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(opened(dsn, size=1, connect_timeout=60))
            async with told_as_the_pool_closes(stack, call(pool)):
                pass


@pytest.mark.parametrize("open_already", [False, True])
@EACH_CALL
async def test_callers_whose_statement_is_cut_off_are_told_that_the_pool_closes(
    dsn: str, server: Server, short_close: None, call: Call, open_already: bool
) -> None:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened(dsn + "&application_name=cut-off", size=1))
        if open_already:
            assert (await warm(pool, connections=1)).ok
        async with told_as_the_pool_closes(stack, call(pool)):
            while not server.sql(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = 'cut-off' AND query LIKE '%pg_sleep(60)'"
            ):
                await anyio.lowlevel.checkpoint()


async def search(storage: VectorStorage) -> object:
    return await storage.search([1, 0, 0])


async def add(storage: VectorStorage) -> object:
    return await storage.add([Chunk("a", [1, 0, 0])])


async def count(storage: VectorStorage) -> object:
    return await storage.count()


async def get_connection(storage: VectorStorage) -> object:
    async with storage.get_connection() as connection:
        return await connection.fetch("SELECT 1")


@pytest.mark.parametrize("call", [search, add, count, get_connection])
async def test_a_call_fails_when_the_storage_closes(call: Callable[[VectorStorage], Awaitable[object]]) -> None:
    async def caller(storage: VectorStorage) -> None:
        with pytest.raises(ConnectError, match=CLOSED):
            await call(storage)

    with silent_port() as port:
        dsn = f"postgresql://u@127.0.0.1:{port}/db?sslmode=disable"
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                async with VectorStorage(dsn, "docs", 3) as storage:
                    tasks.start_soon(caller, storage)
                    await anyio.wait_all_tasks_blocked()


async def test_a_lease_that_outlives_its_pool_refuses_each_call_and_ends_quietly(dsn: str, short_close: None) -> None:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened(dsn, size=1))
        async with pool.lease() as lease:
            await lease.ping()
            await stack.aclose()
            for call in (lease.ping(), lease.fetch("SELECT 1"), lease.execute("SELECT 1")):
                with anyio.fail_after(30), pytest.raises(ConnectError, match=CLOSED):
                    await call


@pytest.mark.parametrize("anyio_backend", [pytest.param("trio", id="trio")])
async def test_a_connection_that_outlives_its_pool_refuses_each_call_and_ends_quietly(
    dsn: str, short_close: None
) -> None:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened(dsn, size=1))
        async with pool.lease() as lease:
            connection = lease.connection
            with pytest.raises(ConnectError, match=CLOSED):
                async with connection.transaction():
                    await stack.aclose()
            for call in (
                connection.fetch("SELECT 1"),
                connection.fetchrow("SELECT 1"),
                connection.fetchval("SELECT 1"),
                connection.execute("SELECT 1"),
                connection.executemany("SELECT $1::int", [(1,)]),
                connection.transaction().__aenter__(),
            ):
                with anyio.fail_after(30), pytest.raises(ConnectError, match=CLOSED):
                    await call


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """The server's processes `pids` do nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP")
async def test_a_mute_server_does_not_hold_a_pool_that_closes(dsn: str, short_close: None) -> None:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened(dsn, size=3))
        report = await warm(pool, connections=3)
        assert report.ok
        with stopped([connection.pid or 0 for connection in report.connections]), anyio.fail_after(30):
            await stack.aclose()
            with pytest.raises(ConnectError, match=CLOSED):
                await pool.fetch("SELECT 1")


@pytest.mark.parametrize("error", [None, KeyError("mine")])
async def test_leaving_as_the_idle_connections_die_raises_nothing_of_its_own(
    dsn: str, server: Server, error: Exception | None
) -> None:
    for _ in range(5):
        seen: list[Exception] = []
        try:
            async with open_pool(dsn, size=4) as pool:
                report = await warm(pool, connections=4)
                pids = [connection.pid for connection in report.connections]
                server.sql(f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{pids}) pid")  # the loop stands still
                if error is not None:
                    raise error
        except Exception as raised:
            seen.append(raised)
        assert seen == ([error] if error is not None else [])


async def test_leaving_while_connections_die_in_use_raises_nothing_of_its_own(
    dsn: str, server: Server, short_close: None
) -> None:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened(dsn, size=2))
        await warm(pool, connections=2)
        async with pool.lease() as lease:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stack.aclose)
                await anyio.wait_all_tasks_blocked()
                server.sql(f"SELECT pg_terminate_backend({lease.pid})")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
async def test_leaving_after_the_server_was_killed_raises_nothing_of_its_own() -> None:
    with tempfile.TemporaryDirectory(prefix="preheat-") as folder:
        data = Path(folder) / "data"
        # What was killed cannot be stopped.
        with suppress(subprocess.CalledProcessError), running_server(data) as server:
            async with open_pool(server.dsn(), size=4) as pool:
                assert (await warm(pool, connections=4)).ok
                os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
                (data / "postmaster.pid").unlink()


async def test_a_name_that_is_being_looked_up_holds_neither_a_caller_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait())
    try:
        with anyio.fail_after(30):
            async with open_pool("postgresql://u@no-such-name/db?sslmode=disable", size=1) as pool:
                with anyio.move_on_after(0.1) as scope:
                    await fetch(pool)
        assert scope.cancelled_caught
    finally:
        answer.set()


async def test_an_operation_that_wants_the_program_to_end_leaves_the_pool_usable(dsn: str) -> None:
    async def leave(connection: Any) -> None:
        raise SystemExit(3)

    async with open_pool(dsn, size=1) as pool:
        with anyio.fail_after(30), pytest.raises(SystemExit):
            await pool.run(leave)
        with anyio.fail_after(30):
            assert await pool.fetch("SELECT 1")
