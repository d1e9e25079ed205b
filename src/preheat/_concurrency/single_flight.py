"""One run of some work for all callers that want it at the same time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ..errors import PreheatError, describe
from .shared_run import SharedRun, start_in

__all__ = ("Flight", "SingleFlight")

logger: logging.Logger = logging.getLogger("preheat")

T = TypeVar("T")

CLOSED = "the storage was closed before the work had ended; ask again while it is open"


class Flight(SharedRun[T]):
    """One run of some work for all callers with the same key."""

    def __init__(self, key: Hashable) -> None:
        super().__init__("shared work")
        self.key: Hashable = key
        self.waiters: int = 0
        self.kept: bool = False
        self.is_forgotten: bool = False
        """Whether a later caller starts anew."""
        self._traceback: TracebackType | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether its last caller has left too early."""
        return self._scope is not None and self._scope.cancel_called

    @property
    def is_given_up(self) -> bool:
        """Whether it is cancelled, and has not been kept."""
        return self.is_cancelled and not self.kept

    def keep(self) -> bool:
        """From here on the work goes on even when nobody waits for it any more: the expensive part is done.

        If the last caller has left in the turn of the event loop in which the work was woken, the cancellation comes
        too late to reach it before this. Then its result still serves later callers; what it awaits from here on has to
        be shielded (:attr:`is_cancelled`).

        Returns:
            False if the work was cancelled earlier and has gone on nevertheless: a later caller may have started anew.
        """
        self.kept = not self.is_forgotten
        return self.kept

    async def fly(self, work: Work[T]) -> None:
        """Do the work."""
        await self.run(lambda: work(self))
        if self.error is not None:
            self._traceback = self.error.__traceback__
            if not self.waiters:
                logger.warning("work that nobody waited for any more failed: %s", describe(self.error))

    def get(self) -> T:
        """What the work returned; raises what it raised."""
        if self.outcome == "finished":
            return self.result  # type: ignore[return-value]
        if self.error is not None and self.outcome == "failed":
            raise self.error.with_traceback(self._traceback)  # or it would grow with each caller that raises it
        raise PreheatError(CLOSED)


Work: TypeAlias = Callable[[Flight[T]], Awaitable[T]]
"""What runs once; it is given its own flight."""


class SingleFlight:
    """Share one run of some work among all callers that ask for the same key while it is under way.

    The work runs in the owner's task group, so that no caller inherits the cancellation of another. When the last
    caller has left, the work is cancelled. A later caller starts anew, even while the old run still cleans up, unless
    that one was done before the cancellation reached it. What the work raises reaches every caller that waits; nothing
    is remembered after its end.

    It belongs to one event loop, and all of its callers do.

    Args:
        task_group: the owner of the work.
    """

    def __init__(self, task_group: TaskGroup) -> None:
        self._group = task_group
        self._flights: dict[Hashable, Flight[Any]] = {}
        self.closed: bool = False
        """Whether the owner takes no more work."""

    def under_way(self, key: Hashable) -> Flight[Any] | None:
        """The run for `key` that one can wait for; None if there is none."""
        flight = self._flights.get(key)
        return None if flight is None or flight.is_given_up else flight

    async def run(self, key: Hashable, work: Work[T]) -> T:
        """Run `work`, or wait for the run for the same key that is under way.

        Returns:
            What the work returned.

        Raises:
            PreheatError: if the owner closes before it has ended, or it is cancelled from within, or waits for itself.
            Exception: whatever the work raised.

        Cancellation: leaves promptly. The work goes on for the others; if there are none it is cancelled in the
        background, unless it has called :meth:`Flight.keep`.
        """
        if self.under_way(key) is None:
            await checkpoint_if_cancelled()  # a caller that is cancelled already starts nothing
            while self._flights.get(key) is not None and self.under_way(key) is None:
                await checkpoint()  # given up a moment ago; `_give_up` ends this
        return await self.follow(self.under_way(key) or self._start(key, work))

    async def follow(self, flight: Flight[T]) -> T:
        """Wait for a run that is under way; as :meth:`run`."""
        with flight.awaited():
            flight.waiters += 1
            try:
                await flight.wait()
            finally:
                flight.waiters -= 1
                if not (flight.waiters or flight.kept or flight.outcome):
                    flight.cancel()
                    if self.closed or not start_in(self._group, lambda: self._give_up(flight), name="preheat: give up"):
                        self._forget(flight)
        return flight.get()

    def start_soon(self, function: Callable[[], Awaitable[Any]], name: str) -> None:
        """Start something in the owner's task group that serves the work there; it must not raise.

        Raises:
            PreheatError: if the owner takes no more.
        """
        if self.closed or not start_in(self._group, function, name=name):
            raise PreheatError(CLOSED)

    def close(self) -> None:
        """Take no more work, and tell all callers that the owner has closed.

        For owners that are about to close their task group. It does not stop the work; the task group does.
        """
        self.closed = True
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            flight.end("cancelled")

    def _start(self, key: Hashable, work: Work[T]) -> Flight[T]:
        flight: Flight[T] = Flight(key)

        async def fly() -> None:
            try:
                await flight.fly(work)
            finally:
                self._forget(flight)  # in the step in which it ended: nobody can find it in between

        # Nothing between the test for the key and this line lets another task in; and an eager task begins at once.
        self._flights[key] = flight
        try:
            self.start_soon(fly, name=f"preheat: {flight.name}")
        except PreheatError:
            self._forget(flight)
            raise
        return flight

    async def _give_up(self, flight: Flight[Any]) -> None:
        """Forget a run that was cancelled, unless the cancellation came too late.

        Work that was woken before goes on to its next `await`, in the turn of the event loop in which this task begins
        (on trio before or after it). So one checkpoint later it has called :meth:`Flight.keep`, or never can.
        """
        try:
            await checkpoint()
        finally:
            if not flight.kept:
                self._forget(flight)

    def _forget(self, flight: Flight[Any]) -> None:
        flight.is_forgotten = True
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
