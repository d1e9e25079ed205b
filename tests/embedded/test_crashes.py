"""Whatever dies, the server ends with its last user, and the next one finds its data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import psutil
import pytest
from tests.support.embedded import (
    is_open_to_others,
    leave,
    line,
    postmaster,
    processes,
    supervisor,
    user_of,
    wait_until_gone,
)
from tests.support.waiting import until, wait_until

from preheat import EmbeddedPostgresError, VectorStorage
from preheat.embedded import embedded_postgres, leftovers


async def count(folder: Path) -> int:
    async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        return await storage.count()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_user_that_is_killed_takes_the_server_with_it(kept: Path, backend: str, number: signal.Signals) -> None:
    with user_of(kept, backend) as user:
        assert line(user).startswith("postgresql://")
        assert postmaster(kept) is not None
        user.send_signal(number)
        assert user.wait(20) == -number
    wait_until_gone(kept)
    assert postmaster(kept) is None  # it was shut down, it did not crash


def test_ctrl_c_stops_the_server(kept: Path, backend: str) -> None:
    with user_of(kept, backend, "forever") as user:
        assert line(user).startswith("postgresql://")
        user.send_signal(signal.SIGINT)
        assert user.wait(20) != 0
        assert postmaster(kept) is None


def test_a_killed_user_does_not_take_the_server_away_from_another_one(kept: Path) -> None:
    with user_of(kept) as first, user_of(kept) as second:
        line(first)
        line(second)
        pid = postmaster(kept)
        first.kill()
        first.wait()
        with user_of(kept) as third:
            line(third)
            leave(third)
        assert pid is not None
        assert postmaster(kept) == pid
        leave(second)
    assert postmaster(kept) is None


def test_a_forked_child_of_a_killed_user_does_not_keep_the_server(kept: Path) -> None:
    script = (
        "import sys, os, time, anyio\n"
        "from preheat.embedded import embedded_postgres\n"
        "async def main():\n"
        "    async with embedded_postgres(sys.argv[1]):\n"
        "        if (child := os.fork()) == 0:\n"
        "            time.sleep(60)\n"
        "            os._exit(0)\n"
        "        print(child, flush=True)\n"
        "        time.sleep(60)\n"
        "anyio.run(main)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(kept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as user:
        child = psutil.Process(int(line(user)))
        user.kill()
        try:
            wait_until_gone(kept)
            assert child.is_running()
        finally:
            child.kill()


@pytest.mark.parametrize("victim", ["postmaster", "supervisor", "all"])
async def test_leaving_is_clean_after_the_server_has_died(kept: Path, victim: str) -> None:
    async with embedded_postgres(kept):
        pid = postmaster(kept)
        assert pid is not None
        killed = {
            "postmaster": [psutil.Process(pid)],
            "supervisor": [supervisor(kept)],
            "all": processes(kept),
        }[victim]
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has noticed the death of another one
                process.kill()
        await anyio.to_thread.run_sync(psutil.wait_procs, killed, 10)
    assert await count(kept) == 1
    assert postmaster(kept) is None


async def test_a_server_that_died_is_started_again_for_its_users(kept: Path) -> None:
    async with embedded_postgres(kept):
        pid = postmaster(kept)
        assert pid is not None
        psutil.Process(pid).kill()
        async with embedded_postgres(kept) as dsn, VectorStorage(dsn, "notes", 2) as storage:
            assert await storage.count() == 1
            assert postmaster(kept) not in (None, pid)
        assert postmaster(kept) is not None  # the first user is still here
    assert postmaster(kept) is None


async def test_a_session_that_outlives_its_postmaster_is_ended(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes, so that it does not notice the death; a second server beside it would ruin the data."""
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.3)
    async with embedded_postgres(kept) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        async with storage.get_connection() as connection:
            session = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
        pid = postmaster(kept)
        assert pid is not None
        session.suspend()
        try:
            psutil.Process(pid).kill()
            await until(lambda: all(process.pid != pid for process in processes(kept)))  # the supervisor has noticed
            async with embedded_postgres(kept) as again, VectorStorage(again, "notes", 2) as second:
                assert await second.count() == 1
                assert not session.is_running() or session.status() == psutil.STATUS_ZOMBIE  # nobody may reap it
        finally:  # a stopped process would outlive a test that fails
            with contextlib.suppress(psutil.Error):
                session.kill()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "content", ["{pid}\n{folder}\n1700000000\n5432\n{folder}\n\n  1234 5678\nready\n", "", "0\n", f"{2**70}\n"]
)
async def test_a_stale_pid_file_harms_neither_the_start_nor_the_process_of_that_number(
    kept: Path, content: str
) -> None:
    owner = kept.stat()
    innocent = subprocess.Popen(["sleep", "300"], user=owner.st_uid)
    try:
        (kept / "postmaster.pid").write_text(content.format(pid=innocent.pid, folder=kept))
        assert await count(kept) == 1
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


async def test_a_server_that_another_program_runs_in_the_folder_is_left_alone(kept: Path) -> None:
    from preheat.embedded.server import programs

    if not is_open_to_others(programs() / "postgres"):
        pytest.skip("no PostgreSQL that other users could run")
    owner = kept.stat()
    kept.parent.chmod(0o711)
    command = [programs() / "postgres", "-D", kept, "-h", "", "-k", kept]
    with subprocess.Popen(command, user=owner.st_uid, group=owner.st_gid, stderr=subprocess.DEVNULL) as other:
        try:
            await until((kept / ".s.PGSQL.5432").exists)
            with pytest.raises(EmbeddedPostgresError, match=f"process {other.pid}.*did not start it; stop it"):
                await count(kept)
            assert other.poll() is None
        finally:
            other.send_signal(signal.SIGINT)
    assert await count(kept) == 1


@pytest.mark.parametrize("victim", ["initdb", "supervisor", "user"])
def test_a_database_whose_making_is_killed_is_made_by_the_next_user(folder: Path, victim: str) -> None:
    with user_of(folder) as user:
        wait_until(lambda: [*folder.glob(".preheat/new-*/PG_VERSION")] or user.poll() is not None)
        assert user.poll() is None
        for process in processes(folder):
            if process.name().startswith("initdb") if victim == "initdb" else victim in " ".join(process.cmdline()):
                process.kill()
        if victim == "user":
            user.kill()
        elif victim == "initdb":
            assert "initdb was ended by signal 9 (Killed); start again" in line(user)
        else:
            assert "EmbeddedPostgresError PostgreSQL did not start" in line(user)
        user.wait(20)
    assert not (folder / "PG_VERSION").exists() or victim == "user"
    with user_of(folder) as user:
        assert line(user).startswith("postgresql://")
        leave(user)


def test_a_database_that_was_made_but_not_moved_into_its_folder_is_moved_by_the_next_user(folder: Path) -> None:
    with user_of(folder) as user:
        line(user)
        leave(user)
    made = folder / ".preheat" / "made"
    made.mkdir()
    os.chown(made, folder.stat().st_uid, folder.stat().st_gid)
    for name in ("PG_VERSION", "base", "global"):
        (folder / name).rename(made / name)
    with user_of(folder) as user:
        assert line(user).startswith("postgresql://")
        assert not made.exists()
        leave(user)
