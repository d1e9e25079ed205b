"""One run of some work for all who want it at the same time."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Hashable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

from ..errors import PreheatError, describe

__all__ = ("Flight", "SingleFlight")

logger: logging.Logger = logging.getLogger("preheat")

T = TypeVar("T")

CLOSED = "the storage was closed before the work had ended; ask again while it is open"
CANCELLED_FROM_WITHIN = (
    "the work was cancelled, and by none of those who wait for it; look for what it awaits, or ask again"
)
WAITS_FOR_ITSELF = (
    "this work waits for itself: what it asks for is what it was asked for; ask for something else in there"
)


class Flight(Generic[T]):
    """One run of some work. It is replaced, never reset."""

    __slots__ = ("_error", "_landed", "_result", "_returned", "_traceback", "closed", "kept", "key", "scope", "waiters")

    def __init__(self, key: Hashable) -> None:
        self.key: Hashable = key
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.waiters: int = 0
        self.kept: bool = False
        self.closed: bool = False
        self._landed = anyio.Event()
        self._returned = False
        self._result: T | None = None
        self._error: Exception | None = None
        self._traceback: TracebackType | None = None

    @property
    def is_given_up(self) -> bool:
        """Whether the last of those who waited has left, and the work is being cancelled."""
        return self.scope.cancel_called

    @property
    def has_landed(self) -> bool:
        """Whether the work has ended, or the owner has closed."""
        return self._landed.is_set()

    def keep(self) -> None:
        """From here on the work goes on even when nobody waits for it any more: the expensive part is done."""
        self.kept = True

    def land(self, *, closed: bool = False) -> None:
        """Wake all who wait."""
        self.closed = closed
        self._landed.set()

    def returns(self, result: T) -> None:
        """The work has returned."""
        self._result, self._returned = result, True

    def fails(self, error: Exception) -> None:
        """The work has raised."""
        self._error, self._traceback = error, error.__traceback__
        if not self.waiters:
            logger.warning("work that nobody waited for any more failed: %s", describe(error))

    async def landed(self) -> None:
        """Wait for the end of the work."""
        await self._landed.wait()

    def outcome(self) -> T:
        """What the work returned; raises what it raised."""
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)  # or it would grow with each who raises it
        if not self._returned:
            raise PreheatError(CLOSED if self.closed else CANCELLED_FROM_WITHIN)
        return self._result  # type: ignore[return-value]


Work: TypeAlias = Callable[[Flight[T]], Awaitable[T]]
"""What runs once; it is given its own flight."""

_aboard: ContextVar[tuple[Flight[Any], ...]] = ContextVar("preheat flights", default=())


class SingleFlight:
    """Share one run of some work among all who ask for the same key while it is under way.

    The work runs in the owner's task group, so that nobody who waits inherits the cancellation of another. When the
    last of them has left it is cancelled and forgotten at once: whoever comes then starts anew, even while the old run
    still cleans up. What it raises reaches everybody who waits; nothing is remembered after its end.

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
        return self._flights.get(key)

    async def run(self, key: Hashable, work: Work[T]) -> T:
        """Run `work`, or wait for the run for the same key that is under way.

        Returns:
            What the work returned.

        Raises:
            PreheatError: if the owner closes before it has ended, or it is cancelled from within, or waits for itself.
            Exception: whatever the work raised.

        Cancellation: leaves promptly. The work goes on for the others; if there are none it is cancelled in the
        background, unless it has said :meth:`Flight.keep`.
        """
        flight = self._flights.get(key)
        if flight is None:
            await checkpoint_if_cancelled()  # a caller that is cancelled already starts nothing
            flight = self._flights.get(key) or self._start(key, work)
        return await self.follow(flight)

    async def follow(self, flight: Flight[T]) -> T:
        """Wait for a run that is under way; as :meth:`run`."""
        if flight in _aboard.get() and not flight.has_landed:
            raise PreheatError(WAITS_FOR_ITSELF)
        flight.waiters += 1
        try:
            await flight.landed()
        finally:
            flight.waiters -= 1
            if not (flight.waiters or flight.kept or flight.has_landed):
                self._forget(flight)
                flight.scope.cancel()
        return flight.outcome()

    def start_soon(self, function: Callable[[], Awaitable[Any]], name: str) -> None:
        """Start something in the owner's task group that serves the work there; it must not raise.

        Raises:
            PreheatError: if the owner takes no more.
        """
        coroutine: Any = function()
        try:
            if self.closed:
                raise PreheatError(CLOSED)
            self._group.start_soon(lambda: coroutine, name=name)
        except RuntimeError as error:
            coroutine.close()  # anyio leaves it to the garbage collector, which would warn of it
            raise PreheatError(CLOSED) from error
        except PreheatError:
            coroutine.close()
            raise

    def close(self) -> None:
        """Take no more work, and tell all who wait that the owner has closed.

        For owners that are about to close their task group. It does not stop the work; the task group does.
        """
        self.closed = True
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            flight.land(closed=True)

    def _start(self, key: Hashable, work: Work[T]) -> Flight[T]:
        flight: Flight[T] = Flight(key)
        # Registered before it can run: nothing between the test for the key and this line lets another task in.
        self._flights[key] = flight
        try:
            self.start_soon(lambda: self._fly(flight, work), name="preheat: work for all who ask for it")
        except PreheatError:
            self._forget(flight)
            raise
        return flight

    async def _fly(self, flight: Flight[T], work: Work[T]) -> None:
        """Do the work. Whatever way it ends, the flight has landed."""
        _aboard.set((*_aboard.get(), flight))
        try:
            if flight.is_given_up or anyio.current_effective_deadline() == -math.inf:
                return  # everybody has left before it began, or the owner is being cancelled
            with flight.scope:
                flight.returns(await work(flight))
        except Exception as error:
            flight.fails(error)
        except BaseExceptionGroup as group:  # of a cancellation, and what went wrong while cleaning up after it
            errors = group.split(anyio.get_cancelled_exc_class())[1]
            if not isinstance(errors, ExceptionGroup):
                raise
            flight.fails(errors)
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # The work let out a cancellation that nobody had asked of it, such as that of a task which it awaited. It
            # is no reason to end the owner, and with it everybody else's work.
        finally:
            self._forget(flight)
            if not flight.has_landed:
                flight.land(closed=anyio.current_effective_deadline() == -math.inf)

    def _forget(self, flight: Flight[Any]) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
