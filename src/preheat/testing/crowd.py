"""A crowd of callers: when each arrives, how long it is patient, and in which way it gives up."""

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
    """Somebody who calls a function, and gives up after a while. It prints as what makes it."""

    arrival: float = 0.0
    """Seconds after the start at which it calls."""
    patience: float = math.inf
    """Seconds after which its call is cancelled; infinite for one that waits for ever."""
    how: Literal["scope", "native"] = "scope"
    """In which way: by an anyio cancel scope, or by asyncio's own `Task.cancel()`. On trio both are a scope."""

    def __repr__(self) -> str:
        return f"Caller({', '.join(changed(self))})"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """What became of one call."""

    caller: Caller
    """Who called."""
    arrived: float
    """Seconds after the start at which it called."""
    ended: float
    """Seconds after the start at which the call ended."""
    outcome: Literal["returned", "raised", "cancelled"]
    """How it ended."""
    cancel_requested: bool
    """Whether it was told to end; it may have returned at that very moment."""
    result: T | None = None
    """What it returned."""
    error: Exception | None = None
    """What it raised."""

    @property
    def took(self) -> float:
        """Seconds that the call took."""
        return self.ended - self.arrived


async def arrive(callers: Iterable[Caller], function: Callable[[], Awaitable[T]]) -> list[Call[T]]:
    """Let each caller arrive at its time and call `function`.

    An exception of one call does not disturb the others; it is in its record. Exceptions that are no
    :class:`Exception` propagate, in an exception group. A call that ends in an asyncio cancellation that nobody
    asked of it is `cancelled` with `cancel_requested` False.

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
    with _task_cancelled_after(caller.patience) if native else anyio.move_on_after(caller.patience) as patience:
        try:
            result = await function()
            outcome = "returned"
        except Exception as raised:
            error, outcome = raised, "raised"
        except asyncio.CancelledError:
            if patience.cancel_called or anyio.current_effective_deadline() == -math.inf:
                raise
            # Nobody has cancelled this call: the cancellation of another one has got into it.
    ended = anyio.current_time() - started
    return Call(caller, arrived, ended, outcome, patience.cancel_called, result, error)


class _task_cancelled_after:  # noqa: N801 - a context manager, beside anyio.move_on_after
    """Like :func:`anyio.move_on_after`, but by asyncio's own cancellation of the task."""

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
