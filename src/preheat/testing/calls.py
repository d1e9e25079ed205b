"""Callers of a function: when each one arrives, when its call times out, and how the call is cancelled then."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeVar

import anyio

from ..pools.backend import running_backend
from .fault_plan import changed

__all__ = ("Call", "Caller", "arrive")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Caller:
    """A caller of a function. Its `repr` is the Python expression that makes it."""

    arrival: float = 0.0
    """Seconds from the start to the call."""
    timeout: float = math.inf
    """Seconds from the call to its cancellation; infinite for no cancellation."""
    how: Literal["scope", "native"] = "scope"
    """How the call is cancelled: by an anyio cancel scope, or by `asyncio.Task.cancel()`. On trio both are a scope."""

    def __repr__(self) -> str:
        return f"Caller({', '.join(changed(self))})"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """The record of one call."""

    caller: Caller
    """The caller."""
    arrived: float
    """Seconds from the start to the call."""
    ended: float
    """Seconds from the start to the end of the call."""
    outcome: Literal["returned", "raised", "cancelled"]
    """How the call ended."""
    cancel_requested: bool
    """Whether the call was cancelled; a call may return at the moment at which it is cancelled."""
    result: T | None = None
    """The value that the call returned."""
    error: Exception | None = None
    """The exception that the call raised."""

    @property
    def took(self) -> float:
        """The duration of the call in seconds."""
        return self.ended - self.arrived


async def arrive(callers: Iterable[Caller], function: Callable[[], Awaitable[T]]) -> list[Call[T]]:
    """Call `function` once for each caller, at the caller's arrival.

    An exception of one call does not disturb the others; it is in the record of its call. An exception that is not an
    :class:`Exception` propagates, in an exception group. If an asyncio cancellation reaches a call that was not
    cancelled, its record has the outcome `cancelled`, and `cancel_requested` is False.

    Returns:
        One record for each caller, in the same order.
    """
    callers = list(callers)
    calls: dict[int, Call[T]] = {}
    started = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for number, caller in enumerate(callers):

            async def call(number: int = number, caller: Caller = caller) -> None:
                await anyio.sleep_until(started + caller.arrival)
                calls[number] = await _call(caller, function, started)

            tasks.start_soon(call, name=f"caller {number}")
    return [calls[number] for number in range(len(callers))]


async def _call(caller: Caller, function: Callable[[], Awaitable[T]], started: float) -> Call[T]:
    arrived = anyio.current_time() - started
    outcome: Literal["returned", "raised", "cancelled"] = "cancelled"
    result: T | None = None
    error: Exception | None = None
    native = caller.how == "native" and running_backend() == "asyncio"
    with _task_cancelled_after(caller.timeout) if native else anyio.move_on_after(caller.timeout) as scope:
        try:
            result = await function()
            outcome = "returned"
        except Exception as raised:
            error, outcome = raised, "raised"
        except asyncio.CancelledError:
            if scope.cancel_called or anyio.current_effective_deadline() == -math.inf:
                raise
            # This call was not cancelled: the cancellation of another call has leaked into it.
    ended = anyio.current_time() - started
    return Call(caller, arrived, ended, outcome, scope.cancel_called, result, error)


class _task_cancelled_after:  # noqa: N801 - a context manager, named as anyio.move_on_after
    """Like :func:`anyio.move_on_after`, but with asyncio's own cancellation of the task."""

    def __init__(self, seconds: float) -> None:
        self.cancel_called = False
        self._seconds = seconds

    def __enter__(self) -> Self:
        self._task: Any = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cancel)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._timer.cancel()
        return self.cancel_called and self._task.uncancel() == 0 and isinstance(error, asyncio.CancelledError)

    def _cancel(self) -> None:
        self.cancel_called = True
        self._task.cancel()
