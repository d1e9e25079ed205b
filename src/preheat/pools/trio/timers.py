"""Time limits for many short waits at little cost, in an event loop where setting a timer is dear.

trio-asyncio wakes its main task for each timer, which takes longer than a quick statement. Nearly all limits are called
off before they are over. So these are kept in a heap, and the loop has one timer, for the earliest; a limit that is
called off is dropped when its time comes, or when such limits are most of the heap.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any

__all__ = ("Timers",)

FEW = 100
"""So many limits that were called off may stay in the heap, however few others there are."""


class _Limit:
    __slots__ = ("_timers", "arguments", "callback", "is_due")

    def __init__(self, timers: Timers, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._timers = timers
        self.callback: Callable[..., object] | None = callback
        self.arguments: tuple[Any, ...] = arguments
        self.is_due: bool = False  # and no longer in the heap

    def cancel(self) -> None:
        """Call it off."""
        if self.callback is not None:
            self.callback = None
            self.arguments = ()
            if not self.is_due:
                self._timers.count()

    def run(self) -> None:
        """Its time has come."""
        if self.callback is not None:
            self.callback(*self.arguments)


class Timers:
    """The limits of one event loop; :meth:`call_later` takes the place of the loop's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, _Limit]] = []
        self._numbers = itertools.count()
        self._called_off = 0
        self._armed: asyncio.TimerHandle | None = None

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: object = None) -> _Limit:
        """As an event loop's. The callback runs in the context of the loop."""
        limit = _Limit(self, callback, args)
        when = self._loop.time() + delay
        heapq.heappush(self._heap, (when, next(self._numbers), limit))
        if self._armed is None or when < self._armed.when():
            self._arm(when)
        return limit

    def count(self) -> None:
        """A limit was called off."""
        self._called_off += 1
        if self._called_off > FEW and 2 * self._called_off > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._called_off = 0

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        """Call what is due, and wait for the next."""
        self._armed = None
        now = self._loop.time()
        while self._heap and (self._heap[0][2].callback is None or self._heap[0][0] <= now):
            limit = heapq.heappop(self._heap)[2]
            if limit.callback is None:
                self._called_off -= 1
            else:
                limit.is_due = True
                self._loop.call_soon(limit.run)
        if self._heap:
            self._arm(self._heap[0][0])
