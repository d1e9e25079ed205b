from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import psutil
import pytest

from preheat import Chunk, EmbeddedPostgresError, VectorStorage
from preheat.embedded import USERS, embedded_postgres

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def postmaster(folder: Path) -> int | None:
    """The server's process id, if it runs."""
    file = folder / "postmaster.pid"
    return int(file.read_text().split()[0]) if file.exists() else None


async def test_data_stays_between_runs_and_the_server_does_not(folder: Path) -> None:
    async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        await storage.add([Chunk("kept", [1, 0])])
        assert postmaster(folder) is not None
    assert postmaster(folder) is None

    async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert [hit.text for hit in await storage.search([1, 0])] == ["kept"]


async def test_blocks_in_one_process_share_a_server(folder: Path) -> None:
    async with embedded_postgres(folder) as first:
        pid = postmaster(folder)
        async with embedded_postgres(folder) as second:
            assert (first, pid) == (second, postmaster(folder))
        assert postmaster(folder) == pid
    assert postmaster(folder) is None


async def test_two_processes_share_a_server_and_the_last_one_stops_it(folder: Path) -> None:
    script = (
        "import sys, anyio\n"
        "from preheat.embedded import embedded_postgres\n"
        "async def main():\n"
        "    async with embedded_postgres(sys.argv[1]) as dsn:\n"
        "        print(dsn, flush=True)\n"
        "        await anyio.to_thread.run_sync(sys.stdin.read)\n"
        "anyio.run(main)\n"
    )
    async with embedded_postgres(folder) as dsn:
        pid = postmaster(folder)
        command = [sys.executable, "-c", script, str(folder)]
        async with await anyio.open_process(command, stderr=None) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert (await other.stdout.receive()).decode().strip() == dsn
            assert json.loads((folder / USERS).read_text()) == [os.getpid(), other.pid]
            await other.stdin.aclose()
            assert await other.wait() == 0
        assert postmaster(folder) == pid
    assert postmaster(folder) is None


async def test_a_user_that_was_killed_does_not_keep_the_server_running(folder: Path) -> None:
    async with embedded_postgres(folder):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        users = json.loads((folder / USERS).read_text())
        (folder / USERS).write_text(json.dumps([*users, gone.pid]))
    assert postmaster(folder) is None


async def test_a_server_that_crashed_is_started_again(folder: Path) -> None:
    async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        await storage.add([Chunk("kept", [1, 0])])
    with anyio.fail_after(30):
        async with embedded_postgres(folder):
            pid = postmaster(folder)
            assert pid is not None
            processes = [psutil.Process(pid), *psutil.Process(pid).children()]
            for process in processes:
                process.kill()
            await anyio.to_thread.run_sync(psutil.wait_procs, processes)
        assert postmaster(folder) == pid  # a stale file
        async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
            assert await storage.count() == 1


async def test_the_exception_of_the_block_comes_out_and_the_server_is_stopped(folder: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with embedded_postgres(folder):
            raise KeyError("mine")
    assert postmaster(folder) is None


async def test_a_cancelled_block_stops_the_server(folder: Path) -> None:
    with anyio.CancelScope() as scope:
        async with embedded_postgres(folder):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert postmaster(folder) is None


async def test_folders_that_cannot_be_used_are_named_with_the_remedy(folder: Path) -> None:
    async def error() -> str:
        with pytest.raises(EmbeddedPostgresError) as caught:
            async with embedded_postgres(folder):
                pass
        assert str(folder.parent) in str(caught.value)
        return str(caught.value)

    folder.write_text("a file")
    assert "is not a folder; choose another place" in await error()
    folder.unlink()

    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    assert "something else than a database" in await error()
    assert (folder / "thesis.txt").read_text() == "mine"

    (folder / "PG_VERSION").write_text("18\n")
    assert "half-made" in await error()

    (folder / "global").mkdir()
    (folder / "global" / "pg_control").write_bytes(b"")
    (folder / "PG_VERSION").write_text("12\n")
    assert "made by PostgreSQL 12" in await error()

    (folder / "PG_VERSION").write_text("18\n")
    assert "did not start" in await error()

    with pytest.raises(EmbeddedPostgresError, match="does not exist; make it"):
        async with embedded_postgres(folder / "a" / "b"):
            pass


async def test_a_database_whose_making_was_interrupted_is_half_made_until_its_folder_is_deleted(folder: Path) -> None:
    async with embedded_postgres(folder):
        pass
    mark = folder.with_name(f".{folder.name}.unfinished")
    assert not mark.exists()

    mark.touch()  # as it is while the database is made
    with pytest.raises(EmbeddedPostgresError, match="half-made"):
        async with embedded_postgres(folder):
            pass
    shutil.rmtree(folder)
    async with embedded_postgres(folder):
        assert not mark.exists()


async def test_leaving_while_another_process_stays_and_coming_back_counts_again(folder: Path) -> None:
    script = (
        "import sys, anyio\n"
        "from preheat.embedded import embedded_postgres\n"
        "async def main():\n"
        "    async with embedded_postgres(sys.argv[1]):\n"
        "        print('in', flush=True)\n"
        "        await anyio.to_thread.run_sync(sys.stdin.read)\n"
        "anyio.run(main)\n"
    )
    async with await anyio.open_process([sys.executable, "-c", script, str(folder)], stderr=None) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        await other.stdout.receive()
        async with embedded_postgres(folder):
            pass
        assert postmaster(folder) is not None
        async with embedded_postgres(folder) as dsn:
            await other.stdin.aclose()
            assert await other.wait() == 0
            async with VectorStorage(dsn, "x", 1) as storage:
                assert await storage.warm_pool()
    assert postmaster(folder) is None
    async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "x", 1) as storage:
        assert await storage.warm_pool()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancellation_during_the_start_leaves_no_server(folder: Path) -> None:
    import asyncio

    async def use() -> None:
        async with embedded_postgres(folder):
            raise AssertionError("not reached")

    task = asyncio.get_running_loop().create_task(use())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    with anyio.fail_after(30):
        async with embedded_postgres(folder):  # waits for its turn
            assert postmaster(folder) is not None
    assert postmaster(folder) is None
