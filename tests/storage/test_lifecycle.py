"""Opening and closing: in one task or in several, with work under way, and when something goes wrong."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import current_token
from tests.support.models import Lengths

from preheat import ArgumentError, ConnectError, PreheatError, ResearchRetriever, VectorStorage, open_pool, warm
from preheat.storage import WarmPolicy
from preheat.testing import FakePool, FaultPlan, hang, run, succeed


async def in_another_task(function: Callable[[], Awaitable[Any]]) -> Any:
    """Await it in a task of its own, as frameworks do with the set-up and the tear-down of something."""
    result = None

    async def task() -> None:
        nonlocal result
        result = await function()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(task)
    return result


PLANS = {
    "sound": FaultPlan(),
    "slow": FaultPlan.all(connect=succeed(0.5)),
    "hanging": FaultPlan.all(connect=hang()),
    "hanging in the probe": FaultPlan.all(probe=hang()),
}


@pytest.mark.parametrize("warm", ["background", "first-use", "never"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_on_asyncio_a_storage_is_entered_in_one_task_and_left_in_another(plan: FaultPlan, warm: WarmPolicy) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        pool = FakePool(plan=plan)
        storage = VectorStorage(pool, "papers", 3, warm=warm)

        async def use() -> None:
            with anyio.move_on_after(0.05):
                await ResearchRetriever(storage, Lengths()).retrieve("why?")

        assert await in_another_task(storage.__aenter__) is storage
        await in_another_task(use)
        assert storage.warm_once.done is (plan is PLANS["sound"] and warm != "never")
        await in_another_task(lambda: storage.__aexit__(None, None, None))

        assert asyncio.all_tasks() == before
        pool.assert_no_leaks()
        with pytest.raises(PreheatError, match="not open"):
            await storage.count()

    run("asyncio", main)


def test_on_asyncio_a_storage_is_left_in_another_task_while_it_researches() -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        pool = FakePool()
        storage = VectorStorage(pool, "papers", 3)
        ended: list[str] = []

        async def research(query: str) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("research")

        async def ask() -> None:
            with pytest.raises(PreheatError, match="the storage was closed before the work had ended"):
                await ResearchRetriever(storage, Lengths()).retrieve_or_research("why?", research)
            ended.append("question")

        await in_another_task(storage.open)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(1)
            await in_another_task(storage.close)

        assert sorted(ended) == ["question", "research"]
        assert asyncio.all_tasks() == before
        pool.assert_no_leaks()

    run("asyncio", main)


def test_a_callers_scope_may_end_before_the_storage_is_closed_on_asyncio() -> None:
    async def main() -> None:
        pool = FakePool()
        storage = VectorStorage(pool, "papers", 3)
        with anyio.move_on_after(1):
            await storage.open()
        async with anyio.create_task_group():
            assert await storage.warm_pool()
        with anyio.fail_after(1):
            await storage.close()
        pool.assert_no_leaks()

    run("asyncio", main)


def test_open_and_close_do_what_entering_and_leaving_do(backend: str) -> None:
    async def main() -> None:
        pool = FakePool()
        storage = VectorStorage(pool, "papers", 3, warm="startup")

        for times in (1, 2):  # it may be opened again
            assert await storage.open() is storage
            assert storage.warm_once.done
            assert storage.warm_report is not None
            assert storage.warm_report.ok
            assert await storage.search([1, 0, 0]) == []
            await storage.close()
            assert pool.opens == 3, times

        pool.assert_no_leaks()

    run(backend, main)


async def test_closing_what_is_not_open_does_nothing() -> None:
    pool = FakePool()
    storage = VectorStorage(pool, "papers", 3)

    await storage.close()
    await storage.open()
    await storage.close()
    await storage.close()

    async with storage:
        await storage.close()
        with pytest.raises(PreheatError, match="not open"):
            await storage.warm_pool()


async def test_a_storage_that_is_open_is_neither_entered_nor_opened_again() -> None:
    storage = await VectorStorage(FakePool(), "papers", 3).open()

    with pytest.raises(PreheatError, match="the storage is open already"):
        async with storage:
            pass
    with pytest.raises(PreheatError, match="the storage is open already"):
        await storage.open()

    assert await storage.search([1, 0, 0]) == []
    await storage.close()


async def test_an_error_of_the_start_up_reaches_the_caller_and_leaves_the_storage_closed() -> None:
    storage = VectorStorage(FakePool(size=2), "papers", 3, warm_connections=3)

    for _ in range(2):
        with pytest.raises(ArgumentError, match="connections is 3 and the pool has 2"):
            await storage.open()
        with pytest.raises(ArgumentError, match="connections is 3 and the pool has 2"):
            async with storage:
                pass
    await storage.close()


@pytest.mark.parametrize("how", ["scope", "native"])
def test_cancelling_the_opening_of_a_storage_leaves_it_closed(backend: str, how: str) -> None:
    async def main() -> None:
        before = len(anyio.get_running_tasks())
        pool = FakePool(plan=FaultPlan.all(probe=hang()))
        storage = VectorStorage(pool, "papers", 3, warm="startup", warm_timeout=60)
        began = anyio.current_time()

        if how == "native" and backend == "asyncio":
            opening = asyncio.create_task(storage.open())
            await asyncio.sleep(1)
            opening.cancel()
            await asyncio.wait([opening])
            assert opening.cancelled()
        else:
            with anyio.move_on_after(1) as scope:
                await storage.open()
            assert scope.cancelled_caught

        assert anyio.current_time() - began == pytest.approx(1)
        assert len(anyio.get_running_tasks()) == before
        pool.assert_no_leaks()
        pool.recover()
        async with storage:
            assert storage.warm_report is not None
            assert storage.warm_report.ok

    run(backend, main)


def test_cancelling_the_closing_of_a_storage_still_closes_it(backend: str) -> None:
    async def main() -> None:
        before = len(anyio.get_running_tasks())
        pool = FakePool(plan=FaultPlan.all(release=succeed(0.5)))

        with anyio.CancelScope() as scope:
            storage = await VectorStorage(pool, "papers", 3, warm="background").open()
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await storage.close()

        assert len(anyio.get_running_tasks()) == before
        pool.assert_no_leaks()

    run(backend, main)


def test_a_cancel_scope_around_the_closing_is_refused_on_trio_and_harmless_on_asyncio(backend: str) -> None:
    async def main() -> None:
        storage = await VectorStorage(FakePool(), "papers", 3).open()
        if backend == "trio":
            with anyio.move_on_after(5, shield=True), pytest.raises(PreheatError, match="the cancel scope"):
                await storage.close()
            assert await storage.search([1, 0, 0]) == []
            await storage.close()
        else:
            with anyio.move_on_after(5, shield=True):
                await storage.close()
        with pytest.raises(PreheatError, match="not open"):
            await storage.count()

    run(backend, main)


def test_a_native_cancellation_goes_on_when_the_storage_is_closed() -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(release=succeed(0.5)))
        storage = await VectorStorage(pool, "papers", 3, warm="background", warm_timeout=60).open()
        await anyio.wait_all_tasks_blocked()
        before = asyncio.all_tasks()
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])

        assert closing.cancelled()
        assert len(asyncio.all_tasks()) < len(before)
        pool.assert_no_leaks()

    run("asyncio", main)


def test_all_who_close_at_the_same_time_wait_for_the_end() -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(release=succeed(0.5)))
        storage = await VectorStorage(pool, "papers", 3, warm="background").open()
        await anyio.wait_all_tasks_blocked()

        async def close() -> None:
            await storage.close()
            pool.assert_no_leaks()
            with pytest.raises(PreheatError, match="not open"):
                await storage.count()

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(close)

    run("asyncio", main)


def test_work_that_the_storage_runs_cannot_close_it(backend: str) -> None:
    async def main() -> None:
        async with VectorStorage(FakePool(), "papers", 3, warm="never") as storage:

            async def research(query: str) -> None:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(storage.close)

            with anyio.fail_after(5), pytest.raises(PreheatError) as caught:
                try:
                    await ResearchRetriever(storage, Lengths()).retrieve_or_research("why?", research)
                except ExceptionGroup as group:
                    raise group.exceptions[0] from None
            assert "close" in str(caught.value)
            assert await storage.search([1, 0, 0]) == []

    run(backend, main)


def test_closing_raises_the_error_that_ended_the_storage() -> None:
    class Boom(BaseException):
        pass

    async def research(query: str) -> None:
        raise Boom

    async def main() -> None:
        pool = FakePool()
        storage = await VectorStorage(pool, "papers", 3).open()
        with pytest.raises(PreheatError, match="ask again"):
            await ResearchRetriever(storage, Lengths()).retrieve_or_research("why?", research)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(PreheatError, match="not open"):
            await storage.count()
        with pytest.raises(Boom):
            await storage.close()
        await storage.close()
        pool.assert_no_leaks()
        async with storage:
            assert await storage.search([1, 0, 0]) == []

    run("asyncio", main)


def test_a_storage_neither_researches_nor_closes_in_another_event_loop(backend: str) -> None:
    async def main() -> None:
        async with VectorStorage(FakePool(), "papers", 3, warm="never") as storage:

            async def research(query: str) -> None:
                raise AssertionError("nobody asks for it")

            async def elsewhere() -> None:
                with pytest.raises(PreheatError, match="the storage belongs to another event loop"):
                    await storage.close()
                with pytest.raises(PreheatError, match="the storage belongs to another event loop"):
                    await ResearchRetriever(storage, Lengths()).retrieve_or_research("why?", research)

            await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere, backend=backend))
            assert await storage.search([1, 0, 0]) == []

    anyio.run(main, backend=backend)


def test_on_trio_another_task_is_told_that_it_cannot_close_a_storage() -> None:
    async def main() -> None:
        async with VectorStorage(FakePool(), "papers", 3) as storage:

            async def close(function: Callable[[], Awaitable[Any]]) -> None:
                with pytest.raises(PreheatError, match="on trio a storage is closed in the task and the cancel scope"):
                    await function()

            await in_another_task(lambda: close(storage.close))
            await in_another_task(lambda: close(lambda: storage.__aexit__(None, None, None)))
            assert await storage.search([1, 0, 0]) == []
        with pytest.raises(PreheatError, match="not open"):
            await storage.count()

    run("trio", main)


def test_an_event_loop_that_ends_closes_what_was_not_closed(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool(plan=FaultPlan.all(probe=hang()))
    storage = VectorStorage(pool, "papers", 3, warm="background")

    async def main() -> None:
        await storage.open()
        await anyio.wait_all_tasks_blocked()
        assert pool.in_use == 3

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())

    pool.assert_no_leaks()
    assert "never retrieved" not in caplog.text
    assert "pending" not in caplog.text

    async def again() -> None:
        await storage.close()
        with pytest.raises(PreheatError, match="not open"):
            await storage.count()

    asyncio.run(again())


@pytest.mark.parametrize("first", ["close", "open"])
def test_a_storage_left_open_by_one_event_loop_is_closed_and_opened_in_another(
    first: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.new_event_loop()
    storage = VectorStorage(FakePool(), "papers", 3)

    async def again() -> None:
        storage._source = FakePool()
        if first == "close":
            await storage.close()
            with pytest.raises(PreheatError, match="not open"):
                await storage.count()
        async with storage:
            assert await storage.search([1, 0, 0]) == []

    with caplog.at_level(logging.WARNING):
        loop.run_until_complete(storage.open())
        loop.close()
        gc.collect()
        assert caplog.records == []
        asyncio.run(again())
        gc.collect()

    assert {record.getMessage().partition("\n")[0] for record in caplog.records} <= {
        "Task was destroyed but it is pending!"
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", ["close", "open", "use"])
def test_a_pool_that_an_event_loop_left_open_is_closed_and_opened_in_another(
    dsn: str, backend: str, first: str
) -> None:
    pool = open_pool(dsn, size=1)

    async def again() -> None:
        if first == "close":
            await pool.close()
            with pytest.raises(PreheatError, match="the pool is not open"):
                await pool.fetch("SELECT 1")
        if first == "use":
            with anyio.fail_after(5), pytest.raises(ConnectError, match="the pool is closed"):
                await pool.fetch("SELECT 1")
        assert await pool.open() is pool
        assert len(await pool.fetch("SELECT 1")) == 1
        await pool.close()

    async def leave_open() -> None:
        await pool.open()
        await pool.fetch("SELECT 1")

    anyio.run(leave_open, backend=backend)
    anyio.run(again, backend=backend)
    gc.collect()  # on trio nobody can say farewell to the server for a pool that was left open, as Python warns


@pytest.mark.parametrize("by_hand", [True, False], ids=["open", "async with"])
def test_a_storage_that_is_closed_keeps_no_closed_event_loop_alive(backend: str, by_hand: bool) -> None:
    storage = VectorStorage("postgresql://nobody@127.0.0.1:1/nowhere", "papers", 3, warm="background", warm_timeout=0.1)
    loops: list[weakref.ref[Any]] = []

    async def main() -> None:
        loops.append(weakref.ref(current_token().native_token))
        if by_hand:
            await storage.open()
            assert not await storage.warm_pool()
            await storage.close()
        else:
            async with storage:
                assert not await storage.warm_pool()

    for _ in range(3):
        anyio.run(main, backend=backend)
    gc.collect()

    assert [loop() for loop in loops] == [None] * 3


async def test_a_pool_is_opened_and_closed_by_hand(dsn: str, collection: str) -> None:
    pool = open_pool(dsn, size=2)
    assert pool.size == 2
    await pool.close()
    with pytest.raises(PreheatError, match="the pool is not open; use `async with"):
        await pool.fetch("SELECT 1")

    assert await pool.open() is pool
    try:
        with pytest.raises(PreheatError, match="the pool is open already"):
            await pool.open()
        (row,) = await pool.fetch("SELECT 1 AS one")
        assert row["one"] == 1
        assert (await warm(pool, connections=2)).ok
        async with VectorStorage(pool, collection, 3) as storage, storage.get_connection() as connection:
            assert await connection.fetchval("SELECT 2") == 2
    finally:
        await pool.close()
        await pool.close()

    with pytest.raises(PreheatError, match="the pool is not open"):
        async with pool.lease():
            pass
    async with pool as opened:
        assert [row["one"] for row in await opened.fetch("SELECT 1 AS one")] == [1]


def test_a_pool_is_closed_in_another_task_on_asyncio_and_refuses_on_trio(dsn: str, backend: str) -> None:
    async def main() -> None:
        pool = open_pool(dsn, size=1)
        if backend == "asyncio":
            await in_another_task(pool.open)
            await in_another_task(lambda: pool.fetch("SELECT 1"))
            await in_another_task(pool.close)
        else:
            await pool.open()
            with pytest.raises(ExceptionGroup) as caught:
                await in_another_task(pool.close)
            assert "on trio a pool is closed in the task and the cancel scope" in str(caught.value.exceptions[0])
            assert len(await pool.fetch("SELECT 1")) == 1
            await pool.close()
        with pytest.raises(PreheatError, match="not open"):
            await pool.fetch("SELECT 1")

    anyio.run(main, backend=backend)


async def test_a_storage_of_a_dsn_is_opened_and_closed_by_hand(dsn: str, collection: str) -> None:
    storage = await VectorStorage(dsn, collection, 3, warm="startup", size=3).open()
    assert storage.warm_report is not None
    assert storage.warm_report.ok
    assert await storage.count() == 0
    await storage.close()


@pytest.fixture
async def opened(dsn: str) -> AsyncGenerator[VectorStorage]:
    async with VectorStorage(dsn, "fixtures", 3, size=2, warm="background") as storage:
        yield storage


async def test_a_fixture_of_anyio_holds_a_storage(opened: VectorStorage) -> None:
    assert await opened.warm_pool()
    assert await opened.count() == 0


CONFIGURATION = """
    [pytest]
    asyncio_mode = strict
    asyncio_default_fixture_loop_scope = function
    filterwarnings = error
"""

FIXTURES = """
    import os
    import pytest_asyncio
    from preheat import VectorStorage, open_pool

    def fixture_of(scope):
        @pytest_asyncio.fixture(scope=scope, loop_scope=scope)
        async def storage():
            async with VectorStorage(os.environ["DSN"], "fixtures", 3, size=2, warm="background") as storage:
                yield storage
        return storage

    of_the_function, of_the_class, of_the_module, of_the_package, of_the_session = map(
        fixture_of, ["function", "class", "module", "package", "session"]
    )

    @pytest_asyncio.fixture
    async def pool():
        async with open_pool(os.environ["DSN"], size=1) as pool:
            yield pool
"""

TESTS = """
    import pytest

    @pytest.mark.asyncio
    async def test_function(of_the_function):
        assert await of_the_function.warm_pool()

    class TestClass:
        @pytest.mark.asyncio(loop_scope="class")
        async def test_class(self, of_the_class):
            assert await of_the_class.warm_pool()

    @pytest.mark.parametrize("round", [1, 2])
    @pytest.mark.asyncio(loop_scope="module")
    async def test_module(of_the_module, round):
        assert await of_the_module.warm_pool()

    @pytest.mark.asyncio(loop_scope="package")
    async def test_package(of_the_package):
        assert await of_the_package.warm_pool()

    @pytest.mark.parametrize("round", [1, 2])
    @pytest.mark.asyncio(loop_scope="session")
    async def test_session(of_the_session, round):
        assert await of_the_session.warm_pool()

    @pytest.mark.asyncio
    async def test_pool(pool):
        assert len(await pool.fetch("SELECT 1")) == 1
"""


@pytest.mark.slow
def test_fixtures_of_pytest_asyncio_hold_a_storage_in_every_scope(dsn: str, tmp_path: Path) -> None:
    pytest.importorskip("pytest_asyncio")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "conftest.py").write_text(textwrap.dedent(FIXTURES), "utf-8")
    (package / "test_fixtures.py").write_text(textwrap.dedent(TESTS), "utf-8")
    (tmp_path / "pytest.ini").write_text(textwrap.dedent(CONFIGURATION), "utf-8")

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:anyio", str(package)]
    ran = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "DSN": dsn}, capture_output=True, text=True, timeout=50, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "8 passed" in ran.stdout


CASES = """
    import os
    import unittest
    from preheat import VectorStorage, open_pool

    class Entered(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.storage = await self.enterAsyncContext(VectorStorage(os.environ["DSN"], "cases", 3, warm="background"))
            self.pool = await self.enterAsyncContext(open_pool(os.environ["DSN"], size=1))

        async def test(self):
            self.assertTrue(await self.storage.warm_pool())
            self.assertEqual(len(await self.pool.fetch("SELECT 1")), 1)

    class Opened(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.storage = await VectorStorage(os.environ["DSN"], "cases", 3, warm="startup").open()

        async def asyncTearDown(self):
            await self.storage.close()

        async def test(self):
            self.assertTrue(self.storage.warm_report.ok)

        async def test_another(self):
            self.assertEqual(await self.storage.count(), 0)
"""


@pytest.mark.slow
def test_an_isolated_asyncio_test_case_holds_a_storage(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text(textwrap.dedent(CASES), "utf-8")

    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unittest", "test_cases"],
        cwd=tmp_path,
        env={**os.environ, "DSN": dsn},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert "Ran 3 tests" in ran.stderr
