"""The idle connections of a pool, which an operation can take without a wait.

asyncpg's pool lends and takes back through tasks and time-outs of its own, which costs more than the statement of a
quick search, and on trio as much again for each step of its event loop. What one operation has left as it was can go
to the next one without any of that: taking a connection and putting it back are a list's `pop` and `append`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

__all__ = ("IdleList",)

T = TypeVar("T")


class IdleList(Generic[T]):
    """At most `size` connections, idle or lent, and whoever waits for one, first come first served.

    It opens and closes nothing. A *slot* is the right to open a connection; there are `size` of them.
    """

    def __init__(self, size: int) -> None:
        self._free_slots = size
        self._idle: list[T] = []
        self._waiting: deque[asyncio.Future[T | None]] = deque()
        self.is_open: bool = True
        """Whether connections may be put here; not while the pool is being closed."""

    def take_nowait(self) -> T | None:
        """The connection that was put back last; None if there is none."""
        return self._idle.pop() if self._idle else None

    async def take(self) -> T | None:
        """The connection that was put back last; None for a slot to open one; waits while there is neither.

        A closed list has a slot for every caller.

        Cancellation: whoever is cancelled while waiting leaves nothing behind; what was meant for it goes to the next.
        """
        if self._idle:
            return self._idle.pop()
        if self._free_slots or not self.is_open:
            self._free_slots -= 1
            return None
        turn: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it came, and nobody is here to take it
                if (connection := turn.result()) is None:
                    self.free_slot()
                else:
                    self.put(connection)
            raise

    def put(self, connection: T) -> None:
        """Put a connection back: to whoever waits longest, or on top of the idle ones."""
        if (turn := self._next()) is None:
            self._idle.append(connection)
        else:
            turn.set_result(connection)

    def free_slot(self) -> None:
        """Give a slot up: a connection has been closed, or could not be opened."""
        if (turn := self._next()) is None:
            self._free_slots += 1
        else:
            turn.set_result(None)

    def clear(self) -> list[T]:
        """Close the list and return what was in it. Every waiting caller gets a slot, and finds the pool closed."""
        self.is_open = False
        idle, self._idle = self._idle, []
        while (turn := self._next()) is not None:
            turn.set_result(None)
        return idle

    def _next(self) -> asyncio.Future[T | None] | None:
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():  # not one whose task is being cancelled
                return turn
        return None
