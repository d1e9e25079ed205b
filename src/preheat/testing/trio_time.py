"""Virtual time on trio: what :class:`trio.testing.MockClock` lacks, a seed, a trace, and an eye on deadlocks."""

from __future__ import annotations

import math
import random
import threading
import time
from typing import Any

from .deadlock import OUTSIDE_SECONDS, POLL_SECONDS, TURNS, Watch
from .waiting import Trace, trio_tasks, waiter, waits_for_socket, waits_for_thread

__all__ = ("instrument",)


def instrument(clock: Any, seed: int | None, trace: Trace | None, watch: Watch) -> Any:
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
            """Seed the order."""
            if seed is not None:
                _order.seed_this_thread(scheduler, seed)

        def after_run(self) -> None:
            """Leave the order as it was."""
            if seed is not None:
                _order.give_back(scheduler)

        def before_task_step(self, task: Any) -> None:
            """Something happens: no deadlock, and time is virtual again."""
            if self.idle:
                self.idle, self.stuck_since = 0, None
                clock.autojump_threshold = 0
            if trace is not None:
                trace.append((trio.current_time(), task.name))

        def before_io_wait(self, timeout: float) -> None:
            """Once in each turn of the scheduler: see whether anything can happen any more."""
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
            """Have a task say so: trio takes an instrument that raises away."""
            self.idle, self.stuck_since = 0, None
            trio.lowlevel.current_trio_token().run_sync_soon(self.deadlock, why)

        @staticmethod
        def world() -> str:
            """What outside of the loop somebody waits for: `thread`, `slow` for a socket or a process, or nothing."""
            tasks = trio_tasks(trio.lowlevel.current_root_task())
            if any(waits_for_thread(task.coro) for task in tasks):
                return "thread"
            return "slow" if any(waits_for_socket(task.coro) for task in tasks) else ""

        @staticmethod
        def deadlock(why: str) -> None:
            """Cancel the function, or where that has not helped, raise the error in every task that waits."""
            tasks = trio_tasks(trio.lowlevel.current_root_task())
            if not watch.deadlock(why, sorted(map(waiter, tasks))) and watch.error is not None:
                for task in tasks:
                    # Shielded, or without a function to cancel: throw it where it waits.
                    if not task.child_nurseries and not waits_for_socket(task.coro):
                        trio.lowlevel.reschedule(task, outcome.Error(watch.error))

    return Instrument()


class _Order(random.Random):
    """Stands in for the one source of order that trio's scheduler has, and gives each seeded thread one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._here = threading.local()
        self._users = 0
        self._before: tuple[bool, random.Random] = (False, self)

    def seed_this_thread(self, scheduler: Any, seed: int) -> None:
        """From here on the seed decides in this thread, by the two switches that trio has for Hypothesis."""
        self._here.order = random.Random(seed)  # noqa: S311 - a schedule is no secret
        with self._lock:
            if not self._users:
                self._before = (scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r)
                scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = True, self
            self._users += 1

    def give_back(self, scheduler: Any) -> None:
        """The run of this thread is over."""
        self._here.order = None
        with self._lock:
            self._users -= 1
            if not self._users:
                scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = self._before

    def shuffle(self, x: Any) -> None:
        """Put a batch of tasks into an order."""
        (getattr(self._here, "order", None) or self._before[1]).shuffle(x)

    def random(self) -> float:
        """A number from 0 to 1."""
        order: random.Random = getattr(self._here, "order", None) or self._before[1]
        return order.random()


_order = _Order()
