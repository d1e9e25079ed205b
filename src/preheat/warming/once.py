"""Run a warm-up exactly once, however many first callers arrive together."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled, current_token

from ..errors import describe
from .engine import check_timeout

__all__ = ("Outcome", "WarmOnce")

logger = logging.getLogger("preheat")

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""How much longer than the budget a follower waits before it stops believing in the warm-up."""

Outcome: TypeAlias = Literal["finished", "failed", "timed out", "cancelled"]


class _Run(Generic[T]):
    """What is known of one warm-up in one run of an event loop. It is replaced, never reset."""

    __slots__ = ("ended", "error", "news", "outcome", "result", "running", "started", "watched")

    # Known from the start of the warm-up on.
    started: float
    running: bool  # whether the function has yet to return: it may, after others have given it up
    news: anyio.Event  # replaced each time: the end, or that nobody watches the clock any more
    watched: bool  # whether some follower watches the clock for all of them

    def __init__(self) -> None:
        self.ended: anyio.Event | None = None  # None: cold
        self.outcome: Outcome | None = None  # not None: done
        self.result: T | None = None
        self.error: Exception | None = None

    def end(self, outcome: Outcome) -> None:
        """Done, once and for all; then wake the followers, so that whoever wakes finds it done."""
        assert self.ended is not None  # nobody ends what has not begun
        if self.outcome is None:
            self.outcome = outcome
            self.ended.set()
            self.tell()

    def tell(self) -> None:
        """Wake the followers that do not watch the clock."""
        news, self.news = self.news, anyio.Event()
        news.set()


class WarmOnce(Generic[T]):
    """Share one run of `function` among all callers: `await guard()` returns when it has ended.

    The first call starts the function, calls that arrive meanwhile wait for it, later ones return at once without
    waiting on anything. *Ended* means finished, failed, out of time or cancelled: warming is advice, so nobody tries
    again by itself and no failure reaches a caller. :meth:`reset` makes the next call start anew.

    With a `task_group` the function runs there, and no caller's cancellation touches it: a first caller that gives up
    has still warmed the pool. Without one the first caller runs it inline; when that caller is cancelled it leaves
    promptly, the guard is done, and the others go on with what is warm by then.

    The state belongs to one run of an event loop. Used from another loop, another thread or a forked child, the
    guard starts anew there.

    Args:
        function: what to run; awaited without arguments.
        task_group: the owner of the run. It must belong to the event loop that creates the guard. When it is closed
            already, the first caller runs the function inline.
        timeout: seconds that the function may take before it is cancelled. :func:`preheat.warm` has its own,
            shorter, limit; give a larger number here if you give it a larger one. `math.inf` waits for ever.
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
        self._task_group = task_group
        self._owner = current_token().native_token if task_group is not None else None
        self._runs: WeakKeyDictionary[Any, _Run[T]] = WeakKeyDictionary()
        self._latest: _Run[T] = _Run()
        self.settled = False
        """Whether the warm-up has ended in the event loop that owns it: an attribute and nothing more, for those who
        ask at every request. Always False without a `task_group`; :attr:`done` is then the one to ask."""
        self.safety_net_used = 0
        """How often a follower gave up waiting because a warm-up outlived its budget and grace. It should be 0."""
        _guards.add(self)

    @property
    def done(self) -> bool:
        """Whether the warm-up has ended in this event loop; outside any loop, in the latest one."""
        return self._here().outcome is not None

    @property
    def result(self) -> T | None:
        """What the function returned; None while it has not, or if it failed."""
        return self._here().result

    @property
    def error(self) -> Exception | None:
        """What the function raised, if it failed."""
        return self._here().error

    @property
    def outcome(self) -> Outcome | None:
        """How the warm-up ended; None if it has not."""
        return self._here().outcome

    async def __call__(self) -> T | None:
        """Run the function, or wait for the run that is under way, or return at once if it has ended.

        Returns:
            What the function returned; None if it failed, ran out of time or was cancelled.

        Cancellation: a caller leaves promptly. If it was running the function inline, the guard is done. Not a
        checkpoint when the warm-up has ended.
        """
        run = self._here()
        if run.outcome is not None:
            return run.result
        if run.ended is None:
            await checkpoint_if_cancelled()  # a caller that is cancelled already must not spend the one start
            run = self._here()
        if run.ended is None:
            # Nothing between the test above and this line can let another task in: this is the one start.
            run.ended = anyio.Event()
            run.started, run.running = anyio.current_time(), True
            run.news, run.watched = anyio.Event(), False
            self._latest = run
            if not self._start_in_task_group(run):
                await self._warm(run)
                return run.result
        await self._follow(run, run.ended)
        return run.result

    def reset(self) -> None:
        """Forget the warm-up that has ended in this event loop, so that the next call starts anew.

        While a warm-up is under way this changes nothing: it is fresh, and two never overlap.
        """
        run = self._here()
        if run.outcome is not None and not run.running:
            token = _token()
            if token is not None:
                del self._runs[token]
            self._latest = _Run()
            self.settled = False

    def close(self) -> None:
        """End a warm-up that is under way in this event loop as cancelled: callers go on at once.

        For owners that are about to close their task group. It does not stop the function; the task group does.
        """
        run = self._here()
        if run.ended is not None:
            self._end(run, "cancelled")

    def _here(self) -> _Run[T]:
        token = _token()
        if token is None:
            return self._latest
        run = self._runs.get(token)
        if run is None:
            run = self._runs[token] = _Run()
        return run

    def _start_in_task_group(self, run: _Run[T]) -> bool:
        """Start the function in the owner's task group; False if there is none here, or it takes no new tasks."""
        if self._task_group is None or self._owner is not _token():
            return False
        warm_up = self._warm(run)
        try:
            self._task_group.start_soon(lambda: warm_up, name=f"preheat: warm {self._name}")
        except RuntimeError:  # closed between two uses; the event is set all the same, by running inline
            warm_up.close()  # anyio leaves it to the garbage collector, which would warn of it
            return False
        return True

    async def _warm(self, run: _Run[T]) -> None:
        """Run the function within its budget. Whatever way it ends, the run has ended."""
        outcome: Outcome = "cancelled"
        try:
            if anyio.current_effective_deadline() == -math.inf:
                return  # the owner is being cancelled: what starts there now may never be told
            with anyio.move_on_after(self._timeout) as scope:
                run.result = await self._function()
                outcome = "finished"
            if scope.cancelled_caught:
                outcome = "timed out"
                logger.warning(
                    "%s: warm-up ended after %s s without a result; going on cold", self._name, self._timeout
                )
        except Exception as error:
            run.error, outcome = error, "failed"
            logger.warning("%s: warm-up failed, going on cold: %s", self._name, describe(error))
        finally:
            run.running = False
            self._end(run, outcome)

    async def _follow(self, run: _Run[T], ended: anyio.Event) -> None:
        """Wait for the run of somebody else, but not for ever: it may have been killed in a way that ran no code.

        One of the followers watches the clock for all, since a deadline for each is most of what waiting costs. When
        it leaves before the end, because it was cancelled itself, the next one takes its place.
        """
        limit = self._timeout + GRACE_SECONDS
        while run.outcome is None:
            if run.watched:
                await run.news.wait()
                continue
            run.watched = True
            try:
                with anyio.CancelScope(deadline=run.started + limit) as net:
                    await ended.wait()
            finally:
                run.watched = False
                run.tell()
            if not net.cancelled_caught:
                return
            if run.outcome is None:
                self.safety_net_used += 1
                logger.warning("%s: warm-up did not end within %s s; going on cold", self._name, limit)
                self._end(run, "timed out")

    def _end(self, run: _Run[T], outcome: Outcome) -> None:
        if self._owner is not None and self._runs.get(self._owner) is run:
            self.settled = True
        run.end(outcome)


def _token() -> Any:
    """The running event loop, or None outside any."""
    try:
        return current_token().native_token
    except RuntimeError:  # anyio.NoEventLoopError is one, since it exists
        return None


_guards: WeakSet[WarmOnce[Any]] = WeakSet()


def _forget_parent() -> None:
    """In a forked child nothing that the parent started goes on."""
    for guard in list(_guards):
        guard._runs = WeakKeyDictionary()
        guard._latest = _Run()
        guard._owner = guard._task_group = None
        guard.settled = False


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows cannot fork
    os.register_at_fork(after_in_child=_forget_parent)
