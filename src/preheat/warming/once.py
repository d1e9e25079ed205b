"""Run a warm-up exactly once, however many first callers arrive together."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled, current_token

from .._concurrency.shared_run import Outcome, SharedRun, start_in
from ..errors import describe, ungrouped
from .engine import check_timeout
from .report import without_frames

__all__ = ("Outcome", "WarmOnce")

logger: logging.Logger = logging.getLogger("preheat")

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""How much longer than the timeout a follower waits for a warm-up before it goes on without it."""


class WarmOnce(Generic[T]):
    """Share one run of `function` among all callers: `await guard()` returns when it has ended.

    The first call starts the function, calls that arrive meanwhile wait for it, later ones return at once without
    waiting on anything. *Ended* means finished, failed, out of time or cancelled: warming is advice, so the guard does
    not try again by itself and no failure reaches a caller. :meth:`reset` makes the next call start anew.

    With a `task_group` the function runs there, and no caller's cancellation touches it: a first caller that gives up
    has still warmed the pool. Without one the first caller runs it inline; when that caller is cancelled it leaves
    promptly, the guard is done, and the others go on with the connections that are warm by then.

    The state belongs to one run of an event loop. Used from another loop, another thread or a forked child, the
    guard starts anew there.

    Args:
        function: what to run; awaited without arguments.
        task_group: the owner of the run. It must belong to the event loop that creates the guard. When it is closed
            already, the first caller runs the function inline.
        timeout: seconds that the function may take before it is cancelled. :func:`preheat.warm` has its own,
            shorter, limit; give a larger number here if you give it a larger one. `math.inf` means no limit.
        name: what logs and task names call the guard.

    Raises:
        ArgumentError: if `timeout` is not positive.
    """

    def __init__(
        self,
        function: Callable[[], Awaitable[T]],
        *,
        task_group: TaskGroup | None = None,
        timeout: float = 30.0,
        name: str = "once",
    ) -> None:
        check_timeout("timeout", timeout)
        self._name = name
        self._function = function
        self._timeout = timeout
        # Weak, so that a guard that outlives its event loop does not keep it alive.
        self._task_group = ref(task_group) if task_group is not None else None
        self._owner = ref(current_token().native_token) if task_group is not None else None
        self._forget()
        self.safety_net_used: int = 0
        """How often a follower gave up waiting because a warm-up outlived its timeout and grace. It should be 0."""

    def _forget(self) -> None:
        self._forks = _forks
        self._runs: WeakKeyDictionary[Any, SharedRun[T]] = WeakKeyDictionary()
        self._latest: SharedRun[T] | None = None

    @property
    def done(self) -> bool:
        """Whether the warm-up has ended in this event loop; outside any loop, in the latest one."""
        run = self._run()
        return run is not None and run.outcome is not None

    @property
    def result(self) -> T | None:
        """What the function returned; None while it has not, or if it failed."""
        run = self._run()
        return None if run is None else run.result

    @property
    def error(self) -> Exception | None:
        """What the function raised, if it failed; without its traceback, which would keep what was in use then."""
        run = self._run()
        return None if run is None else run.error

    @property
    def outcome(self) -> Outcome | None:
        """How the warm-up ended; None if it has not."""
        run = self._run()
        return None if run is None else run.outcome

    async def __call__(self) -> T | None:
        """Run the function, or wait for the run that is under way, or return at once if it has ended.

        Returns:
            What the function returned; None if it failed, ran out of time or was cancelled.

        Raises:
            PreheatError: in the function itself, which would wait for its own end.

        Cancellation: a caller leaves promptly. If it was running the function inline, the guard is done. Not a
        checkpoint when the warm-up has ended.
        """
        run = self._run()
        if run is not None and run.outcome is not None:
            return run.result
        if run is None:
            await checkpoint_if_cancelled()  # a caller that is cancelled already must not spend the one start
            run = self._run()
        first = run is None
        if run is None:
            # Nothing between the test above and this line can let another task in: this is the one start.
            run = self._runs[current_token().native_token] = self._latest = SharedRun(self._name)
        with run.awaited():
            if first and not self._start_in_task_group(run):
                # A task group of the caller is the owner, so that the tree of tasks shows what the function waits for.
                with ungrouped():
                    async with anyio.create_task_group() as group:
                        group.start_soon(self._warm, run, name=f"preheat: warm {self._name}")
            await self._follow(run)
        return run.result

    def reset(self) -> None:
        """Forget the warm-up that has ended in this event loop, so that the next call starts anew.

        While a warm-up is under way this changes nothing: it is fresh, and two never overlap.
        """
        run = self._run()
        if run is not None and run.outcome is not None and not run.is_running:
            if (loop := _running_loop()) is not None:
                del self._runs[loop]
            self._latest = None

    def close(self) -> None:
        """End a warm-up that is under way in this event loop as cancelled: callers go on at once.

        For owners that are about to close their task group. It does not stop the function; the task group does.
        """
        if (run := self._run()) is not None:
            run.end("cancelled")

    def _run(self) -> SharedRun[T] | None:
        """The run in this event loop; None if the guard is cold there."""
        if self._forks != _forks:
            self._forget()  # in a forked child nothing that the parent started goes on, and no event loop is the owner
            self._owner = self._task_group = None
        loop = _running_loop()
        return self._latest if loop is None else self._runs.get(loop)

    def _start_in_task_group(self, run: SharedRun[T]) -> bool:
        """Start the function in the owner's task group; False if there is none here, or it takes no new tasks."""
        if self._owner is None or self._task_group is None or self._owner() is not _running_loop():
            return False
        group = self._task_group()
        return group is not None and start_in(group, lambda: self._warm(run), name=f"preheat: warm {self._name}")

    async def _warm(self, run: SharedRun[T]) -> None:
        """Run the function within its timeout."""
        outcome = await run.run(self._function, timeout=self._timeout)
        if outcome == "timed out":
            logger.warning("%s: warm-up ended after %s s without a result; going on cold", self._name, self._timeout)
        elif run.error is not None:
            without_frames(run.error)
            logger.warning("%s: warm-up failed, going on cold: %s", self._name, describe(run.error))

    async def _follow(self, run: SharedRun[T]) -> None:
        """Wait for the end of a run, within a limit: its task may have been killed in a way that ran no code."""
        if run.outcome is not None:
            return
        limit = self._timeout + GRACE_SECONDS
        with anyio.CancelScope(deadline=run.started + limit):
            await run.wait()
        if run.outcome is None:
            self.safety_net_used += 1
            logger.warning("%s: warm-up did not end within %s s; going on cold", self._name, limit)
            run.end("timed out")


def _running_loop() -> Any:
    """The running event loop, or None outside any."""
    try:
        return current_token().native_token
    except RuntimeError:  # anyio.NoEventLoopError is one, since it exists
        return None


_forks = 0
"""How many forks lie between this process and the one that imported this module."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_count_fork)
