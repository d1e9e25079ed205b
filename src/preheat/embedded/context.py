"""The context manager. A thread does the work, and a cancellation makes the thread give up."""

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
    """Run a PostgreSQL in `folder`, and yield its DSN.

    The folder is created if it is missing; its parent must exist. The data stay in the folder after the block. Several
    processes, and several blocks in one process, may use the folder at the same time. The server stops after the last
    of them has left, also if that process is killed.

    The server listens on a socket in a folder that is closed to other users, and not on a network. Of the environment
    it gets only paths, languages and the time zone. In a program of root, the server runs as the owner of an existing
    database, otherwise as the user `pgserver`, which is created if it is missing.

    Raises:
        EmbeddedPostgresError: if the folder holds something else, if it belongs to another user, or if the server
            does not start.
        MissingExtraError: if the extra `embedded` is not installed.

    Cancellation: a cancelled start is broken off, which usually takes less than a second. The end of the block stops
    the server even if the task is cancelled.
    """
    path = absolute(folder)
    use = await _enter(path)
    try:
        yield dsn(use)
    finally:
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            await _in_thread(leave, use)


async def _enter(path: Path) -> Any:
    # The thread of `start` may still work when its caller is cancelled. `busy` puts `undo` after it: either `start` has
    # ended and `entered` holds what must be left, or it has not begun and finds `abandoned` set.
    abandoned, busy = threading.Event(), threading.Lock()
    entered: list[Any] = []

    def start() -> None:
        with busy:
            if not abandoned.is_set():
                entered.append(enter(path, abandoned))

    def undo() -> None:
        with busy:
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
    """Call a function in a thread of its own, for which it does not compete with other work of the program."""
    limiter = anyio.CapacityLimiter(1)
    return await to_thread.run_sync(function, *arguments, abandon_on_cancel=True, limiter=limiter)


if sys.platform == "win32":
    from .windows import STOP_SECONDS, dsn, enter, leave
else:
    from .server import STOP_SECONDS, dsn, enter, leave
