"""When nothing can happen any more: the function is cancelled, and its run ends in an error that says why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

import anyio

__all__ = ("OUTSIDE_SECONDS", "POLL_SECONDS", "TURNS", "DeadlockError", "Watch")

T = TypeVar("T")

OUTSIDE_SECONDS = 10.0
"""How long, in real time, a socket or another process may keep everybody waiting before it is called a deadlock."""

POLL_SECONDS = 0.05
"""How long, in real time, to wait for the world outside before looking at the tasks again."""

TURNS = 100_000
"""How often the event loop may turn without any time passing before it is called a deadlock."""


class DeadlockError(AssertionError):
    """Nothing is ready to run and no timer is set, so nothing can happen any more; or things happen, but no time
    passes."""

    def __init__(self, why: str, waiting: list[str]) -> None:
        self.waiting = waiting
        """The tasks that wait, each with the place where it does."""
        super().__init__(f"deadlock: {why}, and these tasks wait for ever: {'; '.join(waiting)}")


class Watch:
    """What a run does about a deadlock: first cancel the function, so that it can clean up."""

    def __init__(self) -> None:
        self.scope: anyio.CancelScope | None = None
        self.error: DeadlockError | None = None

    def deadlock(self, why: str, waiting: list[str]) -> bool:
        """Cancel the function; False if there is none, or cancelling it has not helped."""
        first = self.error is None
        if first:
            self.error = DeadlockError(why, waiting)
        if not first or self.scope is None:
            return False
        self.scope.cancel()
        return True

    def over(self, function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        """The function; once a deadlock was seen, however it ends, it ends in that error."""

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
