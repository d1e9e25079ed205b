"""The idle connections of a pool, at hand.

asyncpg's pool lends and takes back through tasks and time-outs of its own, which costs more than the statement of a
quick search, and on trio as much again for each step of its event loop. What one operation has left as it was can go
to the next one without any of that: taking from the shelf and putting back are a list's `pop` and `append`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

__all__ = ("Shelf",)

T = TypeVar("T")


class Shelf(Generic[T]):
    """At most `size` connections, idle or lent, and whoever waits for one, first come first served.

    It opens and closes nothing. A *place* is the right to open a connection; there are `size` of them.
    """

    def __init__(self, size: int) -> None:
        self._free_places = size
        self._idle: list[T] = []
        self._waiting: deque[asyncio.Future[T | None]] = deque()
        self.is_open = True
        """Whether connections may be put here; not while the pool is being closed."""

    def take_idle(self) -> T | None:
        """The connection that was put back last; None if there is none."""
        return self._idle.pop() if self._idle else None

    async def take(self) -> T | None:
        """The connection that was put back last; None for a place to open one; waits while there is neither.

        A closed shelf has a place for all who ask.

        Cancellation: whoever is cancelled while waiting leaves nothing behind; what was meant for it goes to the next.
        """
        if self._idle:
            return self._idle.pop()
        if self._free_places or not self.is_open:
            self._free_places -= 1
            return None
        turn: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it came, and nobody is here to take it
                if (connection := turn.result()) is None:
                    self.free_place()
                else:
                    self.put(connection)
            raise

    def put(self, connection: T) -> None:
        """Put a connection back: to whoever waits longest, or on top of the idle ones."""
        if (turn := self._next()) is None:
            self._idle.append(connection)
        else:
            turn.set_result(connection)

    def free_place(self) -> None:
        """Give a place up: a connection has been closed, or could not be opened."""
        if (turn := self._next()) is None:
            self._free_places += 1
        else:
            turn.set_result(None)

    def clear(self) -> list[T]:
        """Close the shelf and hand out what was on it. Whoever waits gets a place, and will find the pool closed."""
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
