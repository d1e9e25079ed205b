"""Reading that may never end, such as from a terminal or a pipe, and yet can be given up at any time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import current_token

T = TypeVar("T")

__all__ = ("in_daemon_thread",)


async def in_daemon_thread(function: Callable[[], T]) -> T:
    """What a function returns, or raises, that runs in a thread which nobody waits for if the command ends.

    (On asyncio the end of a process waits for the threads of :mod:`anyio.to_thread`: Ctrl-C would do nothing as long as
    nobody types.)

    Cancellation: leaves at once; the function goes on, and what becomes of it is not looked at.
    """
    done = anyio.Event()
    token = current_token()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(done.set, token=token)

    Thread(target=work, name="preheat: reading", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return results[0]
