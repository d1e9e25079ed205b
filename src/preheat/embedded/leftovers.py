"""Ends what a crash left in a folder: an old `postmaster.pid`, and processes of a server without a parent.

A process belongs to a server of this folder if it is a `postgres` whose working directory is the folder: PostgreSQL
changes to its folder at the start, and stays there. No other process is signaled, whatever process id a file holds: the
id may have been recycled. Before each signal psutil compares the start time of the process with the one that it found,
so that an id that was recycled since the check is not signaled either.
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import time
from pathlib import Path
from typing import Any

from ..errors import EmbeddedPostgresError

logger: logging.Logger = logging.getLogger("preheat")

PATIENCE_SECONDS = 5.0
"""How long the sessions of a dead server may take to end by themselves, before they are ended."""


def clear(path: Path, ours: int | None) -> None:
    """Prepare `path` for a new server. The caller has its turn, and no supervisor holds the lock of the server.

    Args:
        path: the folder.
        ours: the process id of the last PostgreSQL of this folder, if its supervisor was killed before it could remove
            its record.

    Raises:
        EmbeddedPostgresError: if a PostgreSQL that preheat did not start runs there.
    """
    import psutil

    file = path / "postmaster.pid"
    if not file.exists():
        return
    first = file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].strip()
    pid = int(first) if re.fullmatch("[1-9][0-9]{0,8}", first) else None
    processes = _processes(path)
    if any(process.pid == pid for process in processes) and pid != ours:
        raise EmbeddedPostgresError(
            f"another PostgreSQL uses {path} (process {pid}), and preheat did not start it; "
            f"stop it, for example with `kill -INT {pid}`, or choose another folder"
        )
    for process in processes:
        if process.pid == pid:
            _signal(process, signal.SIGINT)
    for stronger in (signal.SIGQUIT, signal.SIGKILL):
        processes = _wait(processes)
        for process in processes:
            logger.warning("process %d of a PostgreSQL that crashed in %s is ended", process.pid, path)
            _signal(process, stronger)
    _wait(processes)
    # If another process has the id now, PostgreSQL would take it for a running server and refuse to start. If no
    # process has it, PostgreSQL removes the file itself.
    if pid is None or psutil.pid_exists(pid):
        file.unlink(missing_ok=True)


def _processes(path: Path) -> list[Any]:
    import psutil

    found = []
    for process in psutil.process_iter(["name"]):
        if (process.info["name"] or "").startswith("postgres"):
            try:
                if Path(process.cwd()) == path:
                    found.append(process)
            except (psutil.Error, OSError):
                continue  # it has ended, or it belongs to another user and cannot be a server of this folder
    return found


def _wait(processes: list[Any]) -> list[Any]:
    """Wait until the processes have ended, for a while.

    Returns:
        The processes that still run. A zombie has ended: its parent is gone, and the first process of a container may
        never reap it.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while (left := [process for process in processes if _lives(process)]) and time.monotonic() < until:
        time.sleep(0.01)
    return left


def _lives(process: Any) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(process: Any, number: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
