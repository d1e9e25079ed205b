"""Programs that use an embedded server, in processes of their own, and what is left of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from tests.support.waiting import wait_until

import preheat

USER = """
import os, sys, anyio
from preheat.embedded import embedded_postgres

async def main():
    async with embedded_postgres(sys.argv[1]) as dsn:
        print(dsn, flush=True)
        if sys.argv[3:]:
            await anyio.sleep_forever()
        await anyio.to_thread.run_sync(os.read, 0, 1)

try:
    anyio.run(main, backend=sys.argv[2])
except Exception as error:
    print(type(error).__name__, error, flush=True)
    sys.exit(1)
"""

NOBODY = 65534


def postmaster(folder: Path) -> int | None:
    """The server's process id, if it runs."""
    file = folder / "postmaster.pid"
    return int(file.read_text().split()[0]) if file.exists() else None


def processes(folder: Path) -> list[psutil.Process]:
    """All processes that work for the database in a folder: of the server, its supervisor and its making."""
    found = []
    for process in psutil.process_iter():
        try:
            name, words, cwd = process.name(), " ".join(process.cmdline()), process.cwd()
        except (psutil.Error, OSError):
            continue  # it has ended meanwhile
        if (name in ("postgres", "initdb") or "supervisor.py" in words) and (
            str(folder) in words or json.dumps(str(folder)) in words or cwd == str(folder)
        ):
            found.append(process)
    return found


def supervisor(folder: Path) -> psutil.Process:
    pid = postmaster(folder)
    assert pid is not None
    parent = psutil.Process(pid).parent()
    assert parent is not None
    assert "supervisor.py" in " ".join(parent.cmdline())
    return parent


def wait_until_gone(folder: Path) -> None:
    """Wait until nothing works for the database any more; fail if something stays."""
    wait_until(lambda: not processes(folder))


def is_open_to_others(path: Path | str) -> bool:
    """Whether every user can reach a file or a folder."""
    real = Path(path).resolve()
    return all(folder.stat().st_mode & 0o001 for folder in real.parents if folder.exists())


def interpreter() -> str:
    """A Python that every user can run, of this one's version, if the packages that it has to import are open, too."""
    if all(is_open_to_others(str(package.__file__)) for package in (anyio, preheat, psutil)):
        for name in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
            if Path(name).exists() and is_open_to_others(name):
                return name
    pytest.skip("no Python that other users could run")


@contextmanager
def user_of(
    folder: Path | str,
    backend: str = "asyncio",
    *arguments: str,
    uid: int | None = None,
    environment: Mapping[str, str] = {},
) -> Generator[subprocess.Popen[str]]:
    """A process that uses the server in a folder until its standard input is closed; it prints the DSN.

    Args:
        arguments: with `forever`, it stays even then.
        uid: the system user to run as; only root may say this.
    """
    values: dict[str, Any] = {}
    python = sys.executable
    env = {**os.environ, **environment}
    if uid is not None:
        values = {"user": uid, "group": uid, "extra_groups": []}
        python = interpreter()
        env |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "HOME": "/nonexistent"}
    command = [python, "-c", USER, str(folder), backend, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env, cwd="/", **values
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def leave(process: subprocess.Popen[str]) -> None:
    """Have a user leave, and look that it does so cleanly."""
    rest = process.communicate(timeout=40)[0]
    assert (process.returncode, rest) == (0, "")
