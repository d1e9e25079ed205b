"""A clock that jumps: when nothing is ready to run, the time is at once what the next timer waits for.

Both backends behave alike here. The time is virtual; a seed decides in which order tasks run that are ready at the same
time; and where nothing can ever happen again, a :class:`DeadlockError` says who waits where.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import selectors
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import wraps
from typing import Any, TypeAlias, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import anyio

from ..errors import MissingExtraError
from .waiting import trio_tasks, waiter, waits_for_socket, waits_for_thread

__all__ = ("DeadlockError", "Trace", "VirtualTimeLoop", "backend_options", "run")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Trace: TypeAlias = list[tuple[float, str]]
"""Which task ran when: the virtual time in seconds and the name of the task, one entry for each step of a task."""

_Step: TypeAlias = tuple[int, "asyncio.Task[Any]", Callable[..., Any], tuple[Any, ...], Context | None]

OUTSIDE_SECONDS = 10.0
"""How long, in real time, a socket or another process may keep everybody waiting before it is called a deadlock."""

POLL_SECONDS = 0.05
"""How long, in real time, to wait for the world outside before looking at the tasks again."""

TURNS = 100_000
"""How often the event loop may turn without any time passing before it is called a deadlock."""

_RESOLUTION = time.get_clock_info("monotonic").resolution
"""asyncio lets a timer go off this much too early."""


class DeadlockError(AssertionError):
    """Nothing is ready to run and no timer is set, so nothing can happen any more; or things happen, but no time
    passes."""

    def __init__(self, why: str, waiting: list[str]) -> None:
        self.waiting = waiting
        """The tasks that wait, each with the place where it does."""
        super().__init__(f"deadlock: {why}, and these tasks wait for ever: {'; '.join(waiting)}")


class _Watch:
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


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on virtual time.

    What worker threads and other processes do takes no virtual time, and timers do not wait for them.

    Args:
        seed: decides the order of tasks that are ready at the same time; None keeps asyncio's own, first come, first
            served.
        trace: where to write down which task ran when.
    """

    def __init__(self, seed: int | None = None, trace: Trace | None = None, *, watch: _Watch | None = None) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap of those that have yet to go off
        self._timers_made = itertools.count()
        self._busy = self._retrying = self._retried = False  # what call_soon() got in this turn and the last
        self._watch = watch or _Watch()
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - a schedule is no secret
        self._trace = trace
        self._tasks_seen = itertools.count()
        self._numbers: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._ready_steps: list[_Step] = []  # of the next turn of the loop
        self._steps: list[_Step] = []  # of this turn, in reverse order
        self._turns = 0  # since time has passed
        self._in_threads = 0
        self._selector_of_time = _Selector(self._wait)
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back when the clock has reached `when`."""
        timer = super().call_at(when, callback, *args, context=context)
        if when < math.inf:
            heapq.heappush(self._timers, (when, next(self._timers_made), timer))
        return timer

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call back in the next turn of the loop; a step of a task takes a place among the steps of that turn."""
        if getattr(callback, "__name__", "") == "_deliver_cancellation":
            # anyio tries at each turn to deliver a cancellation that a shield holds up. The clock must not stand still.
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
        """Before a turn of the loop: see what is ready, and move the clock on instead of waiting."""
        ready = poll(0)
        idle = not self._busy and (timeout is None or timeout > 0 or (self._retrying and self._retried))
        if not ready and idle and self._next_timer() is None:
            ready = self._wait_for_the_world(poll)
        self._turns += 1
        if not ready and idle:
            when = self._next_timer()
            if when is not None:
                # asyncio lets a timer go off before its time by the resolution of its clock, but not by none at all.
                self._now = max(self._now, when if when < when + _RESOLUTION else math.nextafter(when, math.inf))
            else:
                self._give_up("nothing is ready, no timer is set")
            self._turns = 0
        elif self._turns > TURNS and not self._world():
            self._give_up(f"no time has passed in {TURNS} turns of the event loop")
            self._turns = 0
        while self._timers and self._timers[0][0] < self._now + _RESOLUTION:
            heapq.heappop(self._timers)  # it goes off in this turn
        self._busy, self._retrying, self._retried = False, False, self._retrying and not self._busy
        self._steps, self._ready_steps = self._ready_steps, []
        if self._random is not None:
            # First into the order in which the tasks were made: which became ready first depends on addresses.
            self._steps.sort(key=lambda step: step[0])
            self._random.shuffle(self._steps)
        self._steps.reverse()
        return ready

    def _wait_for_the_world(self, poll: Callable[[float], list[Any]]) -> list[Any]:
        """Wait in real time, while a thread, a socket or a process may be what everybody waits for."""
        gives_up = time.monotonic() + OUTSIDE_SECONDS
        while world := self._world():
            if ready := poll(POLL_SECONDS):
                return ready
            if world == "slow" and time.monotonic() > gives_up:
                break
        return []

    def _world(self) -> str:
        """What outside of the loop somebody waits for: `thread`, `slow` for a socket or a process, or nothing."""
        if self._in_threads or any(waits_for_thread(task.get_coro()) for task in asyncio.all_tasks(self)):
            return "thread"
        watches_process = any("waitpid" in thread.name for thread in threading.enumerate())
        return "slow" if len(self._selector_of_time.get_map()) > 1 or watches_process else ""

    def _give_up(self, why: str) -> None:
        if not self._watch.deadlock(why, sorted(map(waiter, asyncio.all_tasks(self)))):
            raise self._watch.error or DeadlockError(why, [])

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run a function in a thread; it takes no virtual time."""
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._out_of_thread)
        return future

    def _out_of_thread(self, future: object) -> None:
        self._in_threads -= 1

    def _next_timer(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _step(self) -> None:
        number, task, callback, args, context = self._steps.pop()
        if self._trace is not None:
            name = task.get_name()  # asyncio's own names count on from run to run
            self._trace.append((self._now, f"Task-{number}" if name.startswith("Task-") else name))
        if context is None:
            callback(*args)
        else:
            context.run(callback, *args)


class _Selector(selectors.DefaultSelector):
    """Leaves the waiting to somebody else."""

    def __init__(self, wait: Callable[[Callable[[float], list[Any]], float | None], list[Any]]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> Any:
        return self._wait(super().select, timeout)


def _trio_instrument(clock: Any, seed: int | None, trace: Trace | None, watch: _Watch) -> Any:
    """What trio's own virtual clock lacks: the seed, the trace, and an eye on deadlocks."""
    import outcome
    import trio
    from trio._core import _run as scheduler

    if seed is not None and not (hasattr(scheduler, "_r") and hasattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING")):
        raise RuntimeError(f"the scheduler of trio {trio.__version__} takes no seed; run without one")

    class Instrument(trio.abc.Instrument):
        turns = 0  # of the scheduler since the time has moved
        idle = 0  # turns in a row in which nothing was ready
        time = -1.0
        stuck_since: float | None = None

        def before_run(self) -> None:
            if seed is not None:
                # The same two switches that trio sets for Hypothesis.
                self.before = (scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate())
                scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
                scheduler._r.seed(seed)

        def after_run(self) -> None:
            if seed is not None:
                scheduler._ALLOW_DETERMINISTIC_SCHEDULING = self.before[0]  # type: ignore[misc]
                scheduler._r.setstate(self.before[1])

        def before_task_step(self, task: Any) -> None:
            if self.idle:
                self.idle, self.stuck_since = 0, None
                clock.autojump_threshold = 0
            if trace is not None:
                trace.append((trio.current_time(), task.name))

        def before_io_wait(self, timeout: float) -> None:
            self.idle += 1
            self.turns += 1
            if self.turns > TURNS:
                now, before, self.time, self.turns = trio.current_time(), self.time, trio.current_time(), 0
                if now == before and not self.world():
                    self.give_up(f"no time has passed in {TURNS} turns of the event loop")
            if self.idle <= 2:  # a turn of waking who waits for all to be blocked, and one of moving the clock
                return
            statistics = trio.lowlevel.current_statistics()
            if statistics.tasks_runnable or statistics.seconds_to_next_deadline < math.inf:
                return
            now = time.monotonic()
            self.stuck_since = now if self.stuck_since is None else self.stuck_since
            world = self.world()
            if world == "thread" or (world == "slow" and now - self.stuck_since < OUTSIDE_SECONDS):
                clock.autojump_threshold = POLL_SECONDS  # in real time, in which the scheduler looks outside
                return
            self.give_up("nothing is ready, no timer is set")

        def give_up(self, why: str) -> None:
            self.idle, self.stuck_since = 0, None
            trio.lowlevel.current_trio_token().run_sync_soon(self.deadlock, why)

        @staticmethod
        def world() -> str:
            tasks = trio_tasks(trio.lowlevel.current_root_task())
            if any(waits_for_thread(task.coro) for task in tasks):
                return "thread"
            return "slow" if any(waits_for_socket(task.coro) for task in tasks) else ""

        @staticmethod
        def deadlock(why: str) -> None:
            tasks = trio_tasks(trio.lowlevel.current_root_task())
            if not watch.deadlock(why, sorted(map(waiter, tasks))) and watch.error is not None:
                for task in tasks:
                    # Shielded, or without a function to cancel: throw it where it waits.
                    if not task.child_nurseries and not waits_for_socket(task.coro):
                        trio.lowlevel.reschedule(task, outcome.Error(watch.error))

    return Instrument()


def _options(backend: str, seed: int | None, trace: Trace | None, watch: _Watch) -> dict[str, Any]:
    if backend == "trio":
        try:
            import trio.testing
        except ModuleNotFoundError as error:
            raise MissingExtraError("virtual time on trio", "testing") from error
        clock = trio.testing.MockClock(autojump_threshold=0)
        return {"clock": clock, "instruments": [_trio_instrument(clock, seed, trace, watch)]}
    return {"loop_factory": lambda: VirtualTimeLoop(seed, trace, watch=watch)}


def backend_options(backend: str, *, seed: int | None = None, trace: Trace | None = None) -> dict[str, Any]:
    """anyio's `backend_options` for virtual time on `backend`, for example in the fixture `anyio_backend`.

    Args:
        backend: `"asyncio"` or `"trio"`.
        seed: as for :func:`run`.
        trace: as for :func:`run`.
    """
    return _options(backend, seed, trace, _Watch())


def run(
    backend: str,
    function: Callable[..., Awaitable[T]],
    *args: Any,
    seed: int | None = None,
    trace: Trace | None = None,
) -> T:
    """Run an async function on virtual time.

    On asyncio that is a :class:`VirtualTimeLoop`, on trio :class:`trio.testing.MockClock`. What worker threads and
    other processes do takes no virtual time, and timers do not wait for them.

    Args:
        backend: `"asyncio"` or `"trio"`.
        function: the async function.
        args: its arguments.
        seed: shuffles the order of tasks that are ready at the same time; the same seed gives the same order. None
            leaves it to the backend: first come, first served on asyncio, any on trio.
        trace: a list that is given an entry `(seconds, name of the task)` for each step of a task.

    Returns:
        What it returns.

    Raises:
        DeadlockError: if nothing can happen any more; it lists the tasks that wait, and where. The function is
            cancelled first, so that it can clean up.
        MissingExtraError: on trio, if it is not installed.
        RuntimeError: if `seed` is given and this version of trio takes none.
    """
    watch = _Watch()
    options = _options(backend, seed, trace, watch)
    return anyio.run(watch.over(function), *args, backend=backend, backend_options=options)
