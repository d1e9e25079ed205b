from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from tests.support.waiting import PATIENCE, until
from tests.support.watched import Watched, chunk, table_locked

from preheat import VectorStorage

Operation = Callable[[Any], Awaitable[Any]]


async def nap_in_fetch(connection: Any) -> Any:
    return await connection.fetch("SELECT pg_sleep(600)")


async def nap_in_fetchval(connection: Any) -> Any:
    return await connection.fetchval("SELECT pg_sleep($1::float8)", 600)


async def nap_in_execute(connection: Any) -> Any:
    return await connection.execute("SELECT pg_sleep(600)")


async def nap_in_a_transaction(connection: Any) -> Any:
    async with connection.transaction():
        return await connection.execute("SELECT pg_sleep(600)")


@pytest.mark.parametrize("nap", [nap_in_fetch, nap_in_fetchval, nap_in_execute, nap_in_a_transaction])
async def test_cancelling_a_slow_query_ends_it_here_and_on_the_server_and_leaks_nothing(
    watched: Watched, nap: Operation
) -> None:
    async def slow(storage: VectorStorage, scope: anyio.CancelScope, ended: anyio.Event) -> None:
        with scope:
            async with storage.get_connection() as connection:
                await nap(connection)
        ended.set()

    async def is_running() -> bool:
        return bool(await watched.running("pg_sleep"))

    async def is_gone() -> bool:
        return not await watched.running("pg_sleep")

    async with VectorStorage(watched.dsn, "papers", 3, size=1) as storage:
        for _ in range(3):
            scope, ended = anyio.CancelScope(), anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(slow, storage, scope, ended)
                await until(is_running)
                scope.cancel()
                with anyio.fail_after(PATIENCE):
                    await ended.wait()
            assert scope.cancelled_caught
            await until(is_gone)
            with anyio.fail_after(PATIENCE):
                assert await storage.count() == 0
            assert len(await watched.pids()) <= 1


async def test_a_cancelled_search_is_gone_from_the_server_and_leaks_no_connection(watched: Watched) -> None:
    await watched.fill("papers")
    table = await watched.embedding_table()
    async with VectorStorage(watched.dsn, "papers", 3, size=1, warm="never") as storage:
        scope, ended = anyio.CancelScope(), anyio.Event()

        async def slow() -> None:
            with scope:
                await storage.search([1.0, 2.0, 3.0])
            ended.set()

        async def waits() -> bool:
            return bool(await watched.waiting_for_locks())

        async def is_gone() -> bool:
            return not await watched.waiting_for_locks()

        async with table_locked(watched, table):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(slow)
                await until(waits)
                scope.cancel()
                with anyio.fail_after(PATIENCE):
                    await ended.wait()
            assert scope.cancelled_caught
            await until(is_gone)
        with anyio.fail_after(PATIENCE):
            assert len(await storage.search([1.0, 2.0, 3.0])) == 3


async def test_a_cancelled_add_stores_nothing_of_its_batch(watched: Watched) -> None:
    await watched.fill("papers")
    table = await watched.embedding_table()
    async with VectorStorage(watched.dsn, "papers", 3, size=1, warm="never") as storage:
        scope = anyio.CancelScope()

        async def slow() -> None:
            with scope:
                await storage.add([chunk(n, document="new.md") for n in range(100)])

        async def waits() -> bool:
            return bool(await watched.waiting_for_locks())

        async def is_gone() -> bool:
            return not await watched.waiting_for_locks()

        async with table_locked(watched, table):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(slow)
                await until(waits)
                scope.cancel()
            assert scope.cancelled_caught
            await until(is_gone)
        with anyio.fail_after(PATIENCE):
            assert await storage.count() == 3


async def test_callers_that_wait_for_a_connection_can_be_cancelled_and_leave_the_pool_whole(watched: Watched) -> None:
    async with VectorStorage(watched.dsn, "papers", 3, size=1) as storage:
        await storage.count()
        waiting = anyio.Event()

        async def caller() -> None:
            waiting.set()
            await storage.count()

        async with storage.get_connection() as connection:
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(caller)
                await waiting.wait()
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert await connection.fetchval("SELECT 42") == 42
        with anyio.fail_after(PATIENCE):
            assert await storage.count() == 0


async def test_a_query_that_the_server_kills_raises_here_and_the_pool_recovers(watched: Watched) -> None:
    async with VectorStorage(watched.dsn, "papers", 3, size=1) as storage:
        raised: list[BaseException] = []

        async def slow() -> None:
            try:
                async with storage.get_connection() as connection:
                    await connection.fetch("SELECT pg_sleep(600)")
            except Exception as error:
                raised.append(error)

        async def is_running() -> bool:
            return bool(await watched.running("pg_sleep"))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(slow)
                await until(is_running)
                for pid in await watched.running("pg_sleep"):
                    await watched.look(f"SELECT pg_terminate_backend({pid})")
            assert len(raised) == 1
            assert await storage.count() == 0


async def test_leaving_a_storage_early_closes_its_connections(watched: Watched) -> None:
    with anyio.CancelScope() as scope:
        async with VectorStorage(watched.dsn, "papers", 3, size=5) as storage:
            assert await storage.warm_pool()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught

    async def nobody() -> bool:
        return not await watched.pids()

    assert await until(nobody)
