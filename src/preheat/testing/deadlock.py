"""Deadlocks: the function is cancelled, and its run ends in an error that lists the waiting tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

import anyio

__all__ = ("OUTSIDE_SECONDS", "POLL_SECONDS", "TURNS", "DeadlockError", "Watch")

T = TypeVar("T")

OUTSIDE_SECONDS = 10.0
"""How long, in real time, all tasks may wait for sockets or processes before that counts as a deadlock."""

POLL_SECONDS = 0.05
"""How long, in real time, to wait for a thread, a socket or a process before the tasks are checked again."""

TURNS = 100_000
"""How many turns of the event loop may pass without any time before that counts as a deadlock."""


class DeadlockError(AssertionError):
    """No task is ready to run and no timer is set, so that nothing can happen; or tasks run, but no time passes."""

    def __init__(self, why: str, waiting: list[str]) -> None:
        self.waiting = waiting
        """The waiting tasks, each with the place where it waits."""
        super().__init__(f"deadlock: {why}, and these tasks wait forever: {'; '.join(waiting)}")


class Watch:
    """Handles a deadlock of a run: the function is cancelled first, so that it can clean up."""

    def __init__(self) -> None:
        self.scope: anyio.CancelScope | None = None
        self.error: DeadlockError | None = None

    def deadlock(self, why: str, waiting: list[str]) -> bool:
        """Cancel the function.

        Returns:
            False if there is no function, or if it was cancelled before and the deadlock is still there.
        """
        first = self.error is None
        if first:
            self.error = DeadlockError(why, waiting)
        if not first or self.scope is None:
            return False
        self.scope.cancel()
        return True

    def over(self, function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        """Wrap the function: if there was a deadlock, its run raises the error, whatever the function does."""

        @wraps(function)
        async def watched(*args: Any) -> T:
            with anyio.CancelScope() as self.scope:
                try:
                    result = await function(*args)
                except Exception as error:
                    if self.error is not None:
                        raise self.error from error
                    raise
                if self.error is None:
                    return result
            raise self.error or DeadlockError("cancelled", [])  # only a deadlock cancels the scope

        return watched
