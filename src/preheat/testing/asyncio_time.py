"""Virtual time on asyncio: an event loop whose clock jumps, and in which a seed decides the order of tasks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import selectors
import threading
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeAlias, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

from .deadlock import OUTSIDE_SECONDS, POLL_SECONDS, TURNS, DeadlockError, Watch
from .tasks import Trace, describe, waits_for_thread

__all__ = ("VirtualTimeLoop",)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Step: TypeAlias = tuple[int, "asyncio.Task[Any]", Callable[..., Any], tuple[Any, ...], Context | None]

_RESOLUTION = time.get_clock_info("monotonic").resolution
"""asyncio runs a timer up to this much before its time."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on virtual time.

    Work in threads and in other processes takes no virtual time, and timers do not wait for it.

    Args:
        seed: decides the order of tasks that are ready at the same time; None keeps asyncio's order, first come, first
            served.
        trace: a list to which each step of a task appends an entry.
    """

    def __init__(self, seed: int | None = None, trace: Trace | None = None, *, watch: Watch | None = None) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap of the timers that have not run
        self._timers_made = itertools.count()
        self._busy = self._retrying = self._retried = False  # what call_soon() was given in this turn and the last
        self._watch = watch or Watch()
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - the order of tasks is not a secret
        self._trace = trace
        self._tasks_seen = itertools.count()
        self._numbers: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._ready_steps: list[_Step] = []  # for the next turn of the loop
        self._steps: list[_Step] = []  # for this turn, in reverse order
        self._turns = 0  # since the time has moved
        self._in_threads = 0
        self._selector_of_time = _Selector(self._wait)
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        """Virtual seconds since the loop was created."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call `callback` when the clock has reached `when`."""
        timer = super().call_at(when, callback, *args, context=context)
        if when < math.inf:
            heapq.heappush(self._timers, (when, next(self._timers_made), timer))
        return timer

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call `callback` in the next turn of the loop. Steps of tasks run there in the order that the seed decides."""
        if getattr(callback, "__name__", "") == "_deliver_cancellation":
            # While a shield holds up a cancellation, anyio tries to deliver it in each turn. That must not count as
            # work, or the clock would stand still.
            self._retrying = True
            return super().call_soon(callback, *args, context=context)
        self._busy = True
        task = getattr(callback, "__self__", None)
        if not isinstance(task, asyncio.Task) or (self._random is None and self._trace is None):
            return super().call_soon(callback, *args, context=context)
        number = self._numbers.get(task)
        if number is None:
            number = self._numbers[task] = next(self._tasks_seen)
        self._ready_steps.append((number, task, callback, args, context))
        return super().call_soon(self._step)

    def _wait(self, poll: Callable[[float], list[Any]], timeout: float | None) -> list[Any]:
        """Before a turn of the loop: poll what is ready, and move the clock instead of waiting."""
        ready = poll(0)
        idle = not self._busy and (timeout is None or timeout > 0 or (self._retrying and self._retried))
        if not ready and idle and self._next_timer() is None:
            ready = self._wait_for_outside(poll)
        self._turns += 1
        when = self._next_timer()
        if when is not None and ((not ready and idle) or when <= self._now):
            # asyncio runs a timer if its time is below now plus the clock's resolution. At very late times that sum
            # equals now, so move one step further.
            self._now = max(self._now, when if when < when + _RESOLUTION else math.nextafter(when, math.inf))
            self._turns = 0
        elif not ready and idle:
            self._give_up("nothing is ready, no timer is set")
            self._turns = 0
        elif self._turns > TURNS and not self._outside():
            self._give_up(f"no time has passed in {TURNS} turns of the event loop")
            self._turns = 0
        while self._timers and self._timers[0][0] < self._now + _RESOLUTION:
            heapq.heappop(self._timers)  # it runs in this turn
        self._busy, self._retrying, self._retried = False, False, self._retrying and not self._busy
        self._steps, self._ready_steps = self._ready_steps, []
        if self._random is not None:
            # Sorted first by the creation of the tasks: the order in which they became ready may depend on addresses.
            self._steps.sort(key=lambda step: step[0])
            self._random.shuffle(self._steps)
        self._steps.reverse()
        return ready

    def _wait_for_outside(self, poll: Callable[[float], list[Any]]) -> list[Any]:
        """Wait in real time, while a thread, a socket or a process may still wake a task."""
        gives_up = time.monotonic() + OUTSIDE_SECONDS
        while outside := self._outside():
            if ready := poll(POLL_SECONDS):
                return ready
            if outside == "slow" and time.monotonic() > gives_up:
                break
        return []

    def _outside(self) -> str:
        """What the tasks wait for outside of the loop: `thread`, `slow` for a socket or a process, or nothing."""
        if self._in_threads or any(waits_for_thread(task.get_coro()) for task in asyncio.all_tasks(self)):
            return "thread"
        watches_process = any("waitpid" in thread.name for thread in threading.enumerate())
        return "slow" if len(self._selector_of_time.get_map()) > 1 or watches_process else ""

    def _give_up(self, why: str) -> None:
        if not self._watch.deadlock(why, sorted(map(describe, asyncio.all_tasks(self)))):
            raise self._watch.error or DeadlockError(why, [])

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run a function in a thread, which takes no virtual time."""
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._out_of_thread)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the remaining threads without a time-out: the wait takes no virtual time."""
        self._in_threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._in_threads -= 1

    def _out_of_thread(self, future: object) -> None:
        self._in_threads -= 1

    def _next_timer(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _step(self) -> None:
        number, task, callback, args, context = self._steps.pop()
        if self._trace is not None:
            name = task.get_name()  # asyncio numbers its names on from run to run
            self._trace.append((self._now, f"Task-{number}" if name.startswith("Task-") else name))
        if context is None:
            callback(*args)
        else:
            context.run(callback, *args)


class _Selector(selectors.DefaultSelector):
    """A selector that leaves the waiting to the loop."""

    def __init__(self, wait: Callable[[Callable[[float], list[Any]], float | None], list[Any]]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> Any:
        return self._wait(super().select, timeout)
