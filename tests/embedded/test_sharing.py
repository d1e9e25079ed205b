from __future__ import annotations

import fcntl
import os
import shutil
import sys
import threading
from pathlib import Path

import anyio
import pytest
from tests.support.embedded import leave, line, postmaster, processes, user_of
from tests.support.waiting import until, wait_until

from preheat import Chunk, VectorStorage
from preheat.embedded import embedded_postgres
from preheat.embedded.folder import absolute, account_for
from preheat.embedded.locks import Locks


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_data_stays_between_runs_and_the_server_does_not(folder: Path) -> None:
    async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        await storage.add([Chunk("kept", [1, 0])])
        assert postmaster(folder) is not None
    assert postmaster(folder) is None

    async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert [hit.text for hit in await storage.search([1, 0])] == ["kept"]


async def test_blocks_in_one_process_share_a_server(kept: Path) -> None:
    async with embedded_postgres(kept) as first:
        pid = postmaster(kept)
        async with embedded_postgres(kept) as second:
            assert (first, pid) == (second, postmaster(kept))
        assert postmaster(kept) == pid
    assert postmaster(kept) is None


async def test_two_processes_share_a_server_and_the_last_one_stops_it(kept: Path) -> None:
    script = (
        "import sys, anyio\n"
        "from preheat.embedded import embedded_postgres\n"
        "async def main():\n"
        "    async with embedded_postgres(sys.argv[1]) as dsn:\n"
        "        print(dsn, flush=True)\n"
        "        await anyio.to_thread.run_sync(sys.stdin.read)\n"
        "anyio.run(main)\n"
    )
    async with embedded_postgres(kept) as dsn:
        pid = postmaster(kept)
        command = [sys.executable, "-c", script, str(kept)]
        async with await anyio.open_process(command, stderr=None) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert (await other.stdout.receive()).decode().strip() == dsn
            await other.stdin.aclose()
            assert await other.wait() == 0
        assert postmaster(kept) == pid
    assert postmaster(kept) is None


def test_the_user_that_started_the_server_may_leave_first_and_is_not_warned(kept: Path) -> None:
    with user_of(kept, environment={"PYTHONWARNINGS": "default::ResourceWarning"}) as first, user_of(kept) as second:
        assert line(first) == line(second)
        leave(first)
        assert postmaster(kept) is not None
        leave(second)
    assert postmaster(kept) is None


async def test_the_exception_of_the_block_comes_out_and_the_server_is_stopped(kept: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with embedded_postgres(kept):
            raise KeyError("mine")
    assert postmaster(kept) is None


async def test_a_cancelled_block_stops_the_server(kept: Path) -> None:
    with anyio.CancelScope() as scope:
        async with embedded_postgres(kept):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert postmaster(kept) is None


async def test_leaving_while_another_process_stays_and_coming_back_counts_again(kept: Path) -> None:
    script = (
        "import sys, anyio\n"
        "from preheat.embedded import embedded_postgres\n"
        "async def main():\n"
        "    async with embedded_postgres(sys.argv[1]):\n"
        "        print('in', flush=True)\n"
        "        await anyio.to_thread.run_sync(sys.stdin.read)\n"
        "anyio.run(main)\n"
    )
    async with await anyio.open_process([sys.executable, "-c", script, str(kept)], stderr=None) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        await other.stdout.receive()
        async with embedded_postgres(kept):
            pass
        assert postmaster(kept) is not None
        async with embedded_postgres(kept) as dsn:
            await other.stdin.aclose()
            assert await other.wait() == 0
            async with VectorStorage(dsn, "x", 1) as storage:
                assert await storage.warm_pool()
    assert postmaster(kept) is None
    async with embedded_postgres(kept) as dsn, VectorStorage(dsn, "x", 1) as storage:
        assert await storage.warm_pool()


async def test_many_first_users_at_the_same_time_share_one_server(folder: Path) -> None:
    dsns = []
    inside = anyio.Event()

    async def use() -> None:
        async with embedded_postgres(folder) as dsn:
            dsns.append(dsn)
            if len(dsns) == 5:
                inside.set()
            await inside.wait()

    with anyio.fail_after(50):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(use)
            with user_of(folder) as other:
                dsns.append(await anyio.to_thread.run_sync(line, other))
                if len(dsns) == 5:
                    inside.set()
                await inside.wait()
                await anyio.to_thread.run_sync(leave, other)
    assert len(set(dsns)) == 1
    assert postmaster(folder) is None


async def test_a_start_that_is_cancelled_is_broken_off_and_leaves_nothing(folder: Path) -> None:
    async with anyio.create_task_group() as tasks:

        async def use() -> None:
            async with embedded_postgres(folder):
                raise AssertionError("not reached")

        tasks.start_soon(use)
        await until(lambda: [*folder.glob(".preheat/new-*/PG_VERSION")])
        tasks.cancel_scope.cancel()
    assert not processes(folder)
    assert not (folder / "PG_VERSION").exists()
    async with embedded_postgres(folder):
        pass


async def test_a_user_that_waits_for_its_turn_can_be_cancelled(kept: Path) -> None:
    path = absolute(kept)
    account = account_for(path)
    starting = Locks(path, account)
    try:
        with starting.turn(1, threading.Event()):
            with anyio.move_on_after(0.1) as scope:
                async with embedded_postgres(kept):
                    raise AssertionError("not reached")
            assert scope.cancelled_caught
    finally:
        starting.close()
    async with embedded_postgres(kept):
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_during_the_start_keeps_no_lock(kept: Path) -> None:
    path = absolute(kept)
    locks = Locks(path, account_for(path))
    read, write = os.pipe()
    try:
        with locks.lent("users", "server") as (_, server):
            fcntl.flock(server, fcntl.LOCK_EX)
            assert not locks.is_free("server")
            if (child := os.fork()) == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
        wait_until(lambda: locks.is_free("server"))  # the child has closed its copies
        os.close(write)
        os.waitpid(child, 0)
    finally:
        os.close(read)
        locks.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancellation_during_the_start_leaves_nothing(folder: Path) -> None:
    import asyncio

    async def use() -> None:
        async with embedded_postgres(folder):
            raise AssertionError("not reached")

    task = asyncio.get_running_loop().create_task(use())
    await until(lambda: processes(folder))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not processes(folder)


async def test_a_cancellation_while_leaving_does_not_keep_the_server(kept: Path) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with embedded_postgres(kept):
            raise AssertionError("not reached")
    assert postmaster(kept) is None
    with anyio.CancelScope() as scope:
        async with embedded_postgres(kept):
            scope.cancel()
    assert postmaster(kept) is None


async def test_a_program_whose_threads_are_all_busy_enters_and_leaves(kept: Path) -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 1
    busy = threading.Event()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, busy.wait)
            with anyio.fail_after(40):
                async with embedded_postgres(kept):
                    assert postmaster(kept) is not None
            assert postmaster(kept) is None
            busy.set()
    finally:
        busy.set()
        limiter.total_tokens = before


async def test_the_folder_may_be_deleted_while_the_server_runs(kept: Path) -> None:
    async with embedded_postgres(kept):
        await anyio.to_thread.run_sync(shutil.rmtree, kept)
    assert not processes(kept)
