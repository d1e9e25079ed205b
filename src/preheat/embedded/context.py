"""The context manager: the work is done in a thread, and a cancellation makes the thread give up."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from .folder import absolute


@asynccontextmanager
async def embedded_postgres(folder: str | os.PathLike[str]) -> AsyncGenerator[str]:
    """Run a PostgreSQL in `folder` and give its DSN.

    The folder is made if it is missing; its parent must exist. What is stored stays there. Several processes, and
    several blocks in one process, may use the folder at the same time. The server is stopped after the last of them,
    also if that process is killed.

    The server listens on a socket in a folder that is closed to other users, and on no network. It sees of the
    environment only paths, languages and the time zone. Running as root, the server runs as the owner of an existing
    database, or else as the user `pgserver`, which is made if it is missing.

    Raises:
        EmbeddedPostgresError: if there is something else in the folder, if it belongs to another user, or if the
            server does not start.
        MissingExtraError: if the extra `embedded` is not installed.

    Cancellation: a start that is cancelled is broken off, which usually takes less than a second. Leaving stops the
    server even when it is cancelled.
    """
    path = absolute(folder)
    use = await _enter(path)
    try:
        yield dsn(use)
    finally:
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            await _in_thread(leave, use)


async def _enter(path: Path) -> Any:
    abandoned, busy = threading.Event(), threading.Lock()
    entered: list[Any] = []

    def start() -> None:
        with busy:
            if not abandoned.is_set():
                entered.append(enter(path, abandoned))

    def undo() -> None:
        with busy:  # after `start`, unless that has not even begun
            for use in entered:
                leave(use)

    try:
        await _in_thread(start)
        return entered[0]
    except BaseException:
        abandoned.set()
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            await _in_thread(undo)
        raise


async def _in_thread(function: Any, *arguments: Any) -> Any:
    """Call a function in a thread that no other work of the program can take away."""
    limiter = anyio.CapacityLimiter(1)
    return await to_thread.run_sync(function, *arguments, abandon_on_cancel=True, limiter=limiter)


if sys.platform == "win32":
    from .windows import STOP_SECONDS, dsn, enter, leave
else:
    from .server import STOP_SECONDS, dsn, enter, leave
