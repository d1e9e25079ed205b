"""Virtual time on trio: adds to :class:`trio.testing.MockClock` a seed, a trace, and the detection of deadlocks."""

from __future__ import annotations

import math
import random
import threading
import time
from typing import Any

from .deadlock import OUTSIDE_SECONDS, POLL_SECONDS, TURNS, Watch
from .tasks import Trace, describe, trio_tasks, waits_for_socket, waits_for_thread

__all__ = ("instrument",)


def instrument(clock: Any, seed: int | None, trace: Trace | None, watch: Watch) -> Any:
    """A trio instrument that sets the seed, writes the trace, and detects deadlocks.

    Raises:
        RuntimeError: if `seed` is given and this version of trio does not take a seed.
    """
    import outcome
    import trio
    from trio._core import _run as scheduler

    if seed is not None and not (hasattr(scheduler, "_r") and hasattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING")):
        raise RuntimeError(f"the scheduler of trio {trio.__version__} takes no seed; run without one")

    class Instrument(trio.abc.Instrument):
        turns = 0  # of the scheduler, since the time has moved
        idle = 0  # consecutive turns in which no task was ready
        time = -1.0
        stuck_since: float | None = None

        def before_run(self) -> None:
            """Set the seed."""
            if seed is not None:
                _order.seed_this_thread(scheduler, seed)

        def after_run(self) -> None:
            """Restore the order of before."""
            if seed is not None:
                _order.give_back(scheduler)

        def before_task_step(self, task: Any) -> None:
            """A task runs, so there is no deadlock, and time is virtual again."""
            if self.idle:
                self.idle, self.stuck_since = 0, None
                clock.autojump_threshold = 0
            if trace is not None:
                trace.append((trio.current_time(), task.name))

        def before_io_wait(self, timeout: float) -> None:
            """Once in each turn of the scheduler: check whether anything can still happen."""
            self.idle += 1
            self.turns += 1
            if self.turns > TURNS:
                now, before, self.time, self.turns = trio.current_time(), self.time, trio.current_time(), 0
                if now == before and not self.world():
                    self.give_up(f"no time has passed in {TURNS} turns of the event loop")
            # Two idle turns are normal: in one trio wakes tasks in wait_all_tasks_blocked, in one it moves the clock.
            if self.idle <= 2:
                return
            statistics = trio.lowlevel.current_statistics()
            if statistics.tasks_runnable or statistics.seconds_to_next_deadline < math.inf:
                return
            now = time.monotonic()
            self.stuck_since = now if self.stuck_since is None else self.stuck_since
            world = self.world()
            if world == "thread" or (world == "slow" and now - self.stuck_since < OUTSIDE_SECONDS):
                clock.autojump_threshold = (
                    POLL_SECONDS  # seconds of real time, in which the scheduler polls threads and sockets
                )
                return
            self.give_up("nothing is ready, no timer is set")

        def give_up(self, why: str) -> None:
            """Report the deadlock from trio's own task: trio removes an instrument that raises."""
            self.idle, self.stuck_since = 0, None
            trio.lowlevel.current_trio_token().run_sync_soon(self.deadlock, why)

        @staticmethod
        def world() -> str:
            """What the tasks wait for outside of the loop: `thread`, `slow` for a socket or a process, or nothing."""
            tasks = trio_tasks(trio.lowlevel.current_root_task())
            if any(waits_for_thread(task.coro) for task in tasks):
                return "thread"
            return "slow" if any(waits_for_socket(task.coro) for task in tasks) else ""

        @staticmethod
        def deadlock(why: str) -> None:
            """Cancel the function; if that was done before, raise the error in every waiting task."""
            tasks = trio_tasks(trio.lowlevel.current_root_task())
            if not watch.deadlock(why, sorted(map(describe, tasks))) and watch.error is not None:
                for task in tasks:
                    # The task is shielded, or there is no function to cancel. It is suspended and nothing else will
                    # wake it, so rescheduling it with the error is safe.
                    if not task.child_nurseries and not waits_for_socket(task.coro):
                        trio.lowlevel.reschedule(task, outcome.Error(watch.error))

    return Instrument()


class _Order(random.Random):
    """Replaces the random generator of trio's scheduler, which all threads share, by one for each seeded thread.

    The first seeded run puts it in place and the last one restores the generator of before, under a lock. In between,
    runs in other threads get the numbers of the generator of before.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._here = threading.local()
        self._users = 0
        self._before: tuple[bool, random.Random] = (False, self)

    def seed_this_thread(self, scheduler: Any, seed: int) -> None:
        """Let the seed decide in this thread, by the two switches that trio has for Hypothesis."""
        self._here.order = random.Random(seed)  # noqa: S311 - the order of tasks is not a secret
        with self._lock:
            if not self._users:
                self._before = (scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r)
                scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = True, self
            self._users += 1

    def give_back(self, scheduler: Any) -> None:
        """End the seeded run of this thread."""
        self._here.order = None
        with self._lock:
            self._users -= 1
            if not self._users:
                scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = self._before

    def shuffle(self, x: Any) -> None:
        """Shuffle a batch of tasks; called by trio."""
        (getattr(self._here, "order", None) or self._before[1]).shuffle(x)

    def random(self) -> float:
        """A number from 0 to 1; called by trio."""
        order: random.Random = getattr(self._here, "order", None) or self._before[1]
        return order.random()


_order = _Order()
