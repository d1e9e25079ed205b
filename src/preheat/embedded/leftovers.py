"""What a crash leaves in a folder: a `postmaster.pid` of long ago, and processes of a server whose parent is gone.

A process is a server's of this folder if it is a `postgres` whose working directory is the folder: PostgreSQL changes
to its folder at the start and stays there. Nothing else is ever signaled, whatever number a file holds.
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
"""How long the sessions of a dead server may take to notice, before they are ended."""


def clear(path: Path, ours: int | None) -> None:
    """Make way for a new server in `path`. The caller holds the lock of the server.

    Args:
        path: the folder.
        ours: the process id of the last PostgreSQL whose supervisor served this folder and did not say that it ended.

    Raises:
        EmbeddedPostgresError: if a PostgreSQL runs there that preheat did not start.
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
    if pid is None or psutil.pid_exists(pid):  # another process has the number; else PostgreSQL clears it away itself
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
                continue  # it has ended, or belongs to another user, whose server could not run in this folder
    return found


def _wait(processes: list[Any]) -> list[Any]:
    """Wait until the processes have ended, for a while.

    Returns:
        Those that have not. A zombie has: its parent is gone, and a container's first process may never reap it.
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
