"""Work in a thread that may block without end, such as reading from a terminal, and that can be left at any time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
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
    of them blocks.) The thread has a copy of the caller's context variables. It is not a thread of anyio's, so
    :mod:`anyio.from_thread` needs a token in there.

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
        if "sniffio" in sys.modules:  # its variable says that an event loop runs here, which is true of the caller only
            sys.modules["sniffio"].current_async_library_cvar.set(None)
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(done.set, token=token)

    Thread(target=copy_context().run, args=(work,), name="preheat: a thread that may block", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return results[0]
