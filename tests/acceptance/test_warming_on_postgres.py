"""Warming as PostgreSQL sees it. `tests/test_pool_warming.py` has the same behavior on fakes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anyio
import asyncpg
import pytest
from tests.support.checks import assert_no_secrets, records
from tests.support.models import Words
from tests.support.network.ends import silent_port
from tests.support.server import PASSWORD, Server, free_port
from tests.support.waiting import PATIENCE, until
from tests.support.watched import Watched, table_locked

from preheat import ConnectError, ResearchRetriever, VectorStorage, open_pool, warm
from preheat.testing import FaultyNetwork


async def ask(retriever: ResearchRetriever, callers: int) -> list[int]:
    """Let callers ask at the same time; return how many hits each of them got."""
    hits: list[int] = []

    async def caller() -> None:
        hits.append(len(await retriever.retrieve("why is the first query slow?")))

    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(caller)
    return hits


def storage_for(dsn: str, **options: Any) -> VectorStorage:
    return VectorStorage(dsn, "papers", 3, **{"warm_timeout": 20.0, **options})


# 1. Warming succeeds


async def test_warming_opens_several_backends_that_the_server_sees(watched: Watched) -> None:
    async with storage_for(watched.dsn, size=5) as storage:
        assert await watched.pids() == set(), "entering a storage opens no connection"
        assert await storage.warm_pool() is True
        report = storage.warm_report
        seen = await watched.pids()
    assert report is not None
    assert report.ok
    assert (report.requested, report.hot) == (3, 3)
    pids = {connection.pid for connection in report.connections}
    assert len(pids) == 3
    assert pids == seen


async def test_the_storages_own_search_statement_is_run_once_on_each_backend(watched: Watched) -> None:
    search = await watched.fill("papers")
    mark = watched.mark()
    async with storage_for(watched.dsn, size=5) as storage:
        assert await storage.warm_pool() is True
        report = storage.warm_report
    assert report is not None
    probed = [pid for pid, sql in watched.statements(mark) if sql == search]
    assert sorted(probed) == sorted(connection.pid or 0 for connection in report.connections)
    assert len(set(probed)) == 3


async def test_without_a_table_the_probe_is_a_plain_select(watched: Watched) -> None:
    mark = watched.mark()
    async with storage_for(watched.dsn, size=5) as storage:
        assert await storage.warm_pool() is True
    pids = [pid for pid, sql in watched.statements(mark) if sql == "SELECT 1"]
    assert len(pids) == len(set(pids)) == 3


async def test_a_probe_gets_a_lease_of_each_of_several_backends(watched: Watched) -> None:
    asked: list[tuple[int, int]] = []

    async def probe(lease: Any) -> None:
        asked.append((lease.pid, await lease.connection.fetchval("SELECT pg_backend_pid()")))

    async with open_pool(watched.dsn, size=5) as pool:
        report = await warm(pool, connections=4, timeout=20.0, probe=probe)
    assert report.ok, report
    assert len(set(asked)) == 4
    assert all(told == true for told, true in asked)


def test_a_raw_asyncpg_pool_is_warmed_on_asyncio(watched: Watched) -> None:
    async def go() -> tuple[Any, set[int]]:
        async with asyncpg.create_pool(watched.dsn, min_size=0, max_size=5) as pool:
            return await warm(pool, timeout=20.0), await watched.pids()

    report, seen = asyncio.run(go())
    assert report.ok
    assert {connection.pid for connection in report.connections} == seen
    assert len(seen) == 3


# 2. Warming fails gracefully


async def test_a_server_that_is_down_is_reported_and_used_once_it_is_up(
    watched: Watched, log: pytest.LogCaptureFixture
) -> None:
    with FaultyNetwork(watched.dsn) as network:
        network.refuse()
        async with storage_for(network.dsn, size=5, warm_timeout=1.0) as storage:
            assert await storage.warm_pool() is False
            report = storage.warm_report
            assert report is not None
            assert (report.ok, report.hot, report.timed_out) == (False, 0, False)
            assert [connection.status for connection in report.connections] == ["failed"] * 3
            assert all(isinstance(connection.error, Exception) for connection in report.connections)
            warnings = [record.getMessage() for record in records(log, logging.WARNING)]
            assert any(str(network.port) in text or "refused" in text.lower() for text in warnings), warnings
            assert_no_secrets(log.text, str(report), str(report.as_dict()))
            network.heal()
            assert await storage.search([1.0, 2.0, 3.0]) == []
            assert await storage.count() == 0


async def test_a_wrong_password_is_reported_and_the_pool_works_once_it_is_right(
    watched: Watched, role: str, log: pytest.LogCaptureFixture
) -> None:
    dsn = watched.server.dsn(watched.name, user=role, password="n0t/the@one")
    await watched.look(f"GRANT ALL ON DATABASE {watched.name} TO {role}")
    await watched.sql(f"GRANT ALL ON SCHEMA public TO {role}")
    async with storage_for(dsn, size=5) as storage:
        assert await storage.warm_pool() is False
        report = storage.warm_report
        assert report is not None
        assert [connection.status for connection in report.connections] == ["failed"] * 3
        assert all("password" in str(connection.error).lower() for connection in report.connections)
        assert any("password" in record.getMessage().lower() for record in records(log, logging.WARNING))
        assert_no_secrets(log.text, str(report), str(report.as_dict()), secrets=[PASSWORD, "n0t/the@one"])
        await watched.look(f"ALTER ROLE {role} PASSWORD 'n0t/the@one'")
        assert await storage.search([1.0, 2.0, 3.0]) == []


async def test_a_server_without_a_free_place_makes_warming_partial_and_raises_nothing(
    watched: Watched, role: str, log: pytest.LogCaptureFixture
) -> None:
    await watched.look(f"ALTER ROLE {role} CONNECTION LIMIT 2")
    async with storage_for(watched.server.dsn(watched.name, user=role), size=5, warm_timeout=2.0) as storage:
        # PostgreSQL counts those that are just arriving too, so of three at once it may turn away more than one:
        # the two that it has room for are there first.
        async with storage.get_connection(), storage.get_connection():
            pass
        assert await storage.warm_pool() is False
        report = storage.warm_report
        assert report is not None
        assert sorted(connection.status for connection in report.connections) == ["failed", "hot", "hot"]
        assert any("too many connections" in record.getMessage() for record in records(log, logging.WARNING))
        assert len(await watched.pids()) == 2, "what became hot stays open"
        await watched.look(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        async with storage.get_connection() as one, storage.get_connection() as two, storage.get_connection() as three:
            pids = {await connection.fetchval("SELECT pg_backend_pid()") for connection in (one, two, three)}
        assert len(pids) == 3


async def test_a_pool_that_is_closed_makes_warming_false_and_raises_nothing(watched: Watched) -> None:
    async with open_pool(watched.dsn, size=5) as pool:
        pass
    report = await warm(pool, timeout=20.0)
    assert not report.ok
    assert report.hot == 0
    assert len(report.errors) >= 1


async def test_a_startup_warm_up_of_a_server_that_is_down_does_not_fail_the_storage(server: Server) -> None:
    async with storage_for(server.dsn(port=free_port()), warm="startup", warm_timeout=1.0) as storage:
        assert storage.warm_report is not None
        assert not storage.warm_report.ok


async def test_a_startup_warm_up_has_ended_when_the_storage_is_entered(watched: Watched) -> None:
    async with storage_for(watched.dsn, warm="startup") as storage:
        assert storage.warm_report is not None
        assert storage.warm_report.ok
        assert len(await watched.pids()) == 3


# 3. First use warms exactly once


async def test_the_server_sees_one_warm_up_at_the_first_retrieval_and_none_later(watched: Watched) -> None:
    search = await watched.fill("papers", embedder="words")
    mark = watched.mark()

    def searches() -> int:
        return sum(sql == search for _, sql in watched.statements(mark))

    async with storage_for(watched.dsn, size=5) as storage:
        retriever = ResearchRetriever(storage, Words())
        assert retriever.pool_warmed is False
        counts = []
        for _ in range(3):
            assert len(await retriever.retrieve("why?")) == 3
            assert retriever.pool_warmed is True
            counts.append(searches())
        assert len(await watched.pids()) == 3
    assert counts == [3 + 1, 3 + 2, 3 + 3]


async def test_the_server_sees_one_warm_up_for_ten_concurrent_first_callers(
    watched: Watched, log: pytest.LogCaptureFixture
) -> None:
    search = await watched.fill("papers", embedder="words")
    mark = watched.mark()
    log.clear()
    async with storage_for(watched.dsn, size=10) as storage:
        retriever = ResearchRetriever(storage, Words())
        assert await ask(retriever, 10) == [3] * 10
        assert retriever.pool_warmed is True
    assert sum(sql == search for _, sql in watched.statements(mark)) == 3 + 10
    assert sum("hot" in record.getMessage() for record in records(log, logging.INFO)) == 1


async def test_several_retrievers_of_one_storage_share_one_warm_up(watched: Watched) -> None:
    search = await watched.fill("papers", embedder="words")
    mark = watched.mark()
    async with storage_for(watched.dsn, size=5) as storage:
        retrievers = [ResearchRetriever(storage, Words()) for _ in range(5)]
        async with anyio.create_task_group() as tasks:
            for retriever in retrievers:
                tasks.start_soon(retriever.retrieve, "why?")
        assert all(retriever.pool_warmed for retriever in retrievers)
    assert sum(sql == search for _, sql in watched.statements(mark)) == 3 + 5


async def test_adding_and_searching_do_not_warm(watched: Watched) -> None:
    async with storage_for(watched.dsn, size=5) as storage:
        retriever = ResearchRetriever(storage, Words())
        assert await retriever.add("a.md", "some text") == 1
        assert len(await storage.search([1.0, 2.0, 3.0])) == 1
        assert retriever.pool_warmed is False
        assert storage.warm_report is None


async def test_a_storage_that_never_warms_opens_one_connection_for_one_caller(watched: Watched) -> None:
    await watched.fill("papers", embedder="words")
    async with storage_for(watched.dsn, size=5, warm="never") as storage:
        assert len(await ResearchRetriever(storage, Words()).retrieve("why?")) == 3
        assert storage.warm_report is None
        assert len(await watched.pids()) == 1


# 4. Retrieval goes on after a failed warm-up


async def test_a_retrieval_is_answered_after_a_warm_up_that_failed_and_is_not_retried(
    watched: Watched, role: str, log: pytest.LogCaptureFixture
) -> None:
    search = await watched.fill("papers", embedder="words")
    await watched.sql(f"GRANT pg_read_all_data TO {role}")
    await watched.look(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    mark = watched.mark()
    async with storage_for(watched.server.dsn(watched.name, user=role), size=5, warm_timeout=2.0) as storage:
        retriever = ResearchRetriever(storage, Words())
        assert len(await retriever.retrieve("why?")) == 3
        report, warnings = storage.warm_report, len(records(log, logging.WARNING))
        assert report is not None
        assert (report.ok, report.hot) == (False, 1)
        assert warnings >= 1
        assert retriever.pool_warmed is True
        assert len(await retriever.retrieve("why?")) == 3
        assert storage.warm_report is report
        assert len(records(log, logging.WARNING)) == warnings
    assert sum(sql == search for _, sql in watched.statements(mark)) == 1 + 2


async def test_a_retrieval_reports_its_own_error_and_succeeds_once_the_server_is_up(
    watched: Watched, log: pytest.LogCaptureFixture
) -> None:
    search = await watched.fill("papers", embedder="words")
    mark = watched.mark()
    with FaultyNetwork(watched.dsn) as network:
        network.refuse()
        async with storage_for(network.dsn, size=5, warm_timeout=1.0) as storage:
            retriever = ResearchRetriever(storage, Words())
            with pytest.raises(ConnectError):
                await retriever.retrieve("why?")
            assert retriever.pool_warmed is True
            report, warnings = storage.warm_report, len(records(log, logging.WARNING))
            assert warnings >= 1
            network.heal()
            assert len(await retriever.retrieve("why?")) == 3
            assert storage.warm_report is report
            assert len(records(log, logging.WARNING)) == warnings
    assert sum(sql == search for _, sql in watched.statements(mark)) == 1


# 5. Warming is concurrent


@pytest.mark.parametrize(("size", "expected"), [(5, 3), (2, 2)])
async def test_all_probes_are_under_way_at_once_in_tasks_of_their_own(
    watched: Watched, size: int, expected: int
) -> None:
    tasks, pids, together = set[int](), set[int](), anyio.Event()

    async def probe(lease: Any) -> None:
        tasks.add(anyio.get_current_task().id)
        pids.add(lease.pid)
        if len(pids) == expected:
            together.set()
        await together.wait()
        await lease.ping()

    async with open_pool(watched.dsn, size=size) as pool:
        report = await warm(pool, timeout=20.0, probe=probe)
    assert report.ok, report
    assert report.requested == expected
    assert len(tasks) == len(pids) == expected


@pytest.mark.parametrize(("size", "expected"), [(5, 3), (2, 2)])
async def test_the_server_sees_the_probes_of_a_storage_at_the_same_time(
    watched: Watched, size: int, expected: int
) -> None:
    await watched.fill("papers")
    table = await watched.embedding_table()
    async with storage_for(watched.dsn, size=size) as storage:
        async with table_locked(watched, table) as release:
            waiting = set[int]()

            async def all_wait() -> bool:
                nonlocal waiting
                waiting = await watched.waiting_for_locks()
                return len(waiting) == expected

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(storage.warm_pool)
                await until(all_wait)
                release()
        assert storage.warm_report is not None
        assert storage.warm_report.ok, storage.warm_report
        assert {connection.pid for connection in storage.warm_report.connections} == waiting


# Also: a database that never answers


async def test_a_listening_socket_that_never_speaks_costs_the_time_out(
    server: Server, log: pytest.LogCaptureFixture
) -> None:
    with silent_port() as port, anyio.fail_after(PATIENCE):
        async with storage_for(server.dsn(port=port), warm_timeout=0.3) as storage:
            start = anyio.current_time()
            assert await storage.warm_pool() is False
            assert anyio.current_time() - start < 0.3 + 5
            report = storage.warm_report
    assert report is not None
    assert report.timed_out
    assert [connection.status for connection in report.connections] == ["unfinished"] * 3
    assert records(log, logging.WARNING)
    assert_no_secrets(log.text)


async def test_a_statement_that_never_ends_costs_the_time_out_and_its_connection(watched: Watched) -> None:
    await watched.fill("papers")
    table = await watched.embedding_table()
    seen = set[int]()
    async with storage_for(watched.dsn, warm_timeout=1.0, size=3) as storage:
        async with table_locked(watched, table):
            holder = await watched.pids()

            async def look() -> None:
                while True:
                    seen.update(await watched.pids() - holder)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(look)
                with anyio.fail_after(PATIENCE):
                    assert await storage.warm_pool() is False
                tasks.cancel_scope.cancel()
        report = storage.warm_report
        assert report is not None
        assert report.timed_out
        assert [connection.status for connection in report.connections] == ["unfinished"] * 3
        with anyio.fail_after(PATIENCE):
            assert len(await storage.search([1.0, 2.0, 3.0])) == 3

        async def half_used_are_gone() -> bool:
            return not seen & await watched.pids()

        assert await until(half_used_are_gone)
        assert len(await watched.pids()) == 1


async def test_a_retrieval_from_a_server_that_never_speaks_can_be_given_up(server: Server) -> None:
    with silent_port() as port, anyio.fail_after(PATIENCE):
        async with storage_for(server.dsn(port=port), warm_timeout=0.2) as storage:
            retriever, warmed = ResearchRetriever(storage, Words()), anyio.Event()
            async with anyio.create_task_group() as tasks:

                async def caller() -> None:
                    await retriever.retrieve("why?")

                async def watch() -> None:
                    await until(lambda: retriever.pool_warmed)
                    warmed.set()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(caller)
                tasks.start_soon(watch)
    assert warmed.is_set()
    assert storage.warm_report is not None
    assert storage.warm_report.timed_out


# Also: a cancelled caller


async def test_a_cancelled_first_caller_leaves_the_others_served_by_the_one_warm_up(watched: Watched) -> None:
    search = await watched.fill("papers", embedder="words")
    table = await watched.embedding_table()
    mark = watched.mark()
    hits, left, scope = list[int](), anyio.Event(), anyio.CancelScope()
    async with storage_for(watched.dsn, size=5) as storage:
        retriever = ResearchRetriever(storage, Words())

        async def first() -> None:
            with scope:
                await retriever.retrieve("why?")
            left.set()

        async def follower() -> None:
            hits.append(len(await retriever.retrieve("why?")))

        async def all_wait() -> bool:
            return len(await watched.waiting_for_locks()) == 3

        async with table_locked(watched, table) as release:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first)
                await until(all_wait)
                for _ in range(4):
                    tasks.start_soon(follower)
                scope.cancel()
                with anyio.fail_after(PATIENCE):
                    await left.wait()
                assert scope.cancelled_caught
                assert len(await watched.waiting_for_locks()) == 3, "the warm-up goes on"
                release()
        assert hits == [3] * 4
        assert storage.warm_report is not None
        assert storage.warm_report.ok, storage.warm_report
        assert len(await watched.pids()) <= 5
    assert sum(sql == search for _, sql in watched.statements(mark)) == 3 + 4
