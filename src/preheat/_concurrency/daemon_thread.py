"""Work in a thread that may block without end, such as reading from a terminal, and that can be left at any time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import current_token

__all__ = ("run_in_daemon_thread",)

T = TypeVar("T")


async def run_in_daemon_thread(function: Callable[[], T]) -> T:
    """Run `function` in a thread of its own, which does not delay the end of the process.

    (On asyncio the end of a process waits for the threads of :mod:`anyio.to_thread`: Ctrl-C would do nothing while one
    of them blocks.)

    Returns:
        What the function returns.

    Raises:
        Exception: whatever the function raises.

    Cancellation: leaves at once. The function goes on, and its result is ignored.
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

    Thread(target=work, name="preheat: a thread that may block", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return results[0]
