"""Programs that have changed what a child process inherits: the server runs as ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.embedded import USER, leave, line, postmaster, user_of

from preheat import VectorStorage
from preheat.embedded import embedded_postgres


@pytest.mark.slow
@pytest.mark.parametrize(
    "prelude",
    [
        pytest.param("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", id="ignores the end of its children"),
        pytest.param("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())", id="blocks all signals"),
        pytest.param(
            "low, high = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (min(high, 4096), high))\n"
            "files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]",
            id="has many files open",
        ),
        pytest.param("os.environ.clear()", id="has no environment"),
        pytest.param("os.umask(0)", id="has no umask"),
    ],
)
def test_a_program_of_any_habit_enters_and_leaves(kept: Path, prelude: str) -> None:
    script = f"import os, resource, signal\n{prelude}\n{USER}"
    command = [sys.executable, "-c", script, str(kept), "asyncio"]
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, cwd="/"
    )
    assert (done.returncode, done.stdout[:13]) == (0, "postgresql://"), done
    assert postmaster(kept) is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_locale_of_a_new_database_does_not_depend_on_that_of_the_program(folder: Path) -> None:
    """The program's may be missing on this machine, or on the one that the folder is copied to."""
    missing = {"LC_ALL": "xx_YY.ISO-8859-1", "LANG": "tr_TR.UTF-8", "TZ": "Mars/Olympus"}
    with user_of(folder, environment=missing) as user:
        assert line(user).startswith("postgresql://")
        leave(user)
    async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        await storage.create()
        async with storage.get_connection() as connection:
            assert await connection.fetchval("SELECT lower('ÜBER IST')") == "über ist"
            assert await connection.fetchval("SHOW lc_messages") == "C"
