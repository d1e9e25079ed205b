"""Run a warm-up exactly once, however many first callers arrive together."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, WeakSet, ref

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled, current_token

from ..errors import PreheatError, describe
from .engine import check_timeout
from .report import without_frames

__all__ = ("Outcome", "WarmOnce")

logger: logging.Logger = logging.getLogger("preheat")

T = TypeVar("T")

GRACE_SECONDS = 1.0
"""How much longer than the budget a follower waits for a warm-up before it goes on without it."""

Outcome: TypeAlias = Literal["finished", "failed", "timed out", "cancelled"]


class _Run(Generic[T]):
    """What is known of one warm-up in one run of an event loop. It is replaced, never reset.

    Once it has ended it holds nothing that belongs to the event loop, so that a guard may outlive it.
    """

    __slots__ = (
        "ended",
        "error",
        "is_owned",
        "name",
        "news",
        "outcome",
        "result",
        "running",
        "scope",
        "started",
        "task",
        "waits_for",
        "watched",
    )

    # Known from the start of the warm-up on.
    name: str
    started: float
    running: bool  # whether the function has yet to return: it may, after others have given it up
    watched: bool  # whether some follower watches the clock for all of them

    def __init__(self) -> None:
        self.ended: anyio.Event | None = None  # None: cold or done
        self.news: anyio.Event | None = None  # replaced each time: the end, or that nobody watches the clock any more
        self.outcome: Outcome | None = None  # not None: done
        self.result: T | None = None
        self.error: Exception | None = None
        self.task: int | None = None  # the task that runs the function
        self.is_owned = False  # whether that is a task of its own
        self.scope: anyio.CancelScope | None = None  # the limit that the function runs in
        self.waits_for: list[_Run[Any]] = []  # the runs that the function waits for

    def begin(self, name: str) -> None:
        """From cold to warming."""
        self.name = name
        self.started, self.running, self.watched = anyio.current_time(), True, False
        self.news = anyio.Event()

    def end(self, outcome: Outcome) -> None:
        """Done, once and for all; then wake the followers, so that whoever wakes finds it done."""
        if self.outcome is None and self.ended is not None:
            self.outcome = outcome
            self.ended.set()
            self.tell()
            self.ended = self.news = None

    def tell(self) -> None:
        """Wake the followers that do not watch the clock."""
        if self.news is not None:
            news, self.news = self.news, anyio.Event()
            news.set()

    def circle_to(self, other: _Run[Any]) -> list[_Run[Any]]:
        """The runs from this one to `other`, each waiting for the next; empty if it does not wait for `other`."""
        if self is other:
            return [self]
        for waited_for in list(self.waits_for):
            if rest := waited_for.circle_to(other):
                return [self, *rest]
        return []

    def is_served_here(self) -> bool:
        """Whether the current task runs the function, or one that the function waits for."""
        here = anyio.get_current_task()
        if here.id == self.task:
            return True
        parents = {task.id: task.parent_id for task in anyio.get_running_tasks()}
        ancestors = _with_ancestors(here.id, parents)
        if ancestors[-1] != _with_ancestors(self.task, parents)[-1]:
            return True  # made by asyncio itself, such as by gather(): nobody else can tell what waits for it
        if self.is_owned:
            return self.task in ancestors
        # The function runs in the task of its caller, which may have other task groups. Was this one opened inside the
        # function, so that the function waits for it? The limit of the function holds inside it and nowhere else. (Not
        # under a shield: who waits there for itself is told by nobody, and the safety net of the followers ends it.)
        deadline, now = anyio.current_effective_deadline(), anyio.current_time()
        if self.scope is None or deadline <= now:  # whoever is being cancelled waits for nobody
            return False
        before = self.scope.deadline
        self.scope.deadline = sooner = (now + min(deadline, now + 1)) / 2
        try:
            return anyio.current_effective_deadline() == sooner
        finally:
            self.scope.deadline = before


def _with_ancestors(task: int | None, parents: dict[int, int | None]) -> list[int]:
    """A task, the one whose task group it is in, and so on."""
    found: list[int] = []
    while task is not None:
        found.append(task)
        task = parents.get(task)
    return found


_inside: ContextVar[_Run[Any] | None] = ContextVar("preheat warm-up", default=None)
"""The run whose function this code is a part of; tasks inherit it."""


@contextmanager
def _waiting_for(run: _Run[Any]) -> Generator[None]:
    """Note that the function of another run waits for `run`, if this code is a part of one.

    Raises:
        PreheatError: if `run` would then wait for itself.
    """
    inside = _inside.get()
    if inside is None or not inside.running or not inside.is_served_here():
        yield
        return
    if circle := run.circle_to(inside):
        raise PreheatError(_waits_for_itself([one.name for one in circle]))
    inside.waits_for.append(run)
    try:
        yield
    finally:
        inside.waits_for.remove(run)


def _waits_for_itself(names: list[str]) -> str:
    if len(names) == 1:
        return (
            f"{names[0]}: the warm-up waits for itself: its function awaits its own guard; "
            "await the guard outside of the function"
        )
    return f"{names[0]}: the warm-ups {', '.join(names)} wait for each other; await one of the guards outside of them"


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
        self._task_group = ref(task_group) if task_group is not None else None
        self._owner = ref(current_token().native_token) if task_group is not None else None
        self._runs: WeakKeyDictionary[Any, _Run[T]] = WeakKeyDictionary()
        self._latest: _Run[T] = _Run()
        self.settled: bool = False
        """Whether the warm-up has ended in the event loop that owns it: an attribute and nothing more, for those who
        ask at every request. Always False without a `task_group`; :attr:`done` is then the one to ask."""
        self.safety_net_used: int = 0
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
        """What the function raised, if it failed; without its traceback, which would keep what was in use then."""
        return self._here().error

    @property
    def outcome(self) -> Outcome | None:
        """How the warm-up ended; None if it has not."""
        return self._here().outcome

    async def __call__(self) -> T | None:
        """Run the function, or wait for the run that is under way, or return at once if it has ended.

        Returns:
            What the function returned; None if it failed, ran out of time or was cancelled.

        Raises:
            PreheatError: in the function itself, which would wait for its own end.

        Cancellation: a caller leaves promptly. If it was running the function inline, the guard is done. Not a
        checkpoint when the warm-up has ended.
        """
        run = self._here()
        if run.outcome is not None:
            return run.result
        if run.ended is None:
            await checkpoint_if_cancelled()  # a caller that is cancelled already must not spend the one start
            run = self._here()
        with _waiting_for(run):
            if run.outcome is None and run.ended is None:
                # Nothing between the test above and this line can let another task in: this is the one start.
                run.ended = anyio.Event()
                run.begin(self._name)
                self._latest = run
                if not self._start_in_task_group(run):
                    await self._warm(run)
            if run.ended is not None:
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

    def _is_owned_here(self) -> bool:
        """Whether the task group belongs to the running event loop."""
        return self._owner is not None and self._owner() is _token()

    def _start_in_task_group(self, run: _Run[T]) -> bool:
        """Start the function in the owner's task group; False if there is none here, or it takes no new tasks."""
        group = self._task_group() if self._task_group is not None and self._is_owned_here() else None
        if group is None:
            return False
        warm_up = self._warm(run)
        try:
            group.start_soon(lambda: warm_up, name=f"preheat: warm {self._name}")
        except RuntimeError:  # closed between two uses; the event is set all the same, by running inline
            warm_up.close()  # anyio leaves it to the garbage collector, which would warn of it
            return False
        run.is_owned = True
        return True

    async def _warm(self, run: _Run[T]) -> None:
        """Run the function within its budget. Whatever way it ends, the run has ended."""
        inside = _inside.set(run)
        outcome: Outcome = "cancelled"
        try:
            if anyio.current_effective_deadline() == -math.inf:
                return  # the owner is being cancelled: what starts there now may never be told
            with anyio.move_on_after(self._timeout) as scope:
                run.task, run.scope = anyio.get_current_task().id, scope
                run.result = await self._function()
                outcome = "finished"
            if scope.cancelled_caught:
                outcome = "timed out"
                logger.warning(
                    "%s: warm-up ended after %s s without a result; going on cold", self._name, self._timeout
                )
        except Exception as error:
            run.error, outcome = without_frames(error), "failed"
            logger.warning("%s: warm-up failed, going on cold: %s", self._name, describe(error))
        finally:
            run.running = False
            self._end(run, outcome)
            run.scope = None
            with suppress(ValueError):  # closed by the garbage collector, which has another context
                _inside.reset(inside)

    async def _follow(self, run: _Run[T], ended: anyio.Event) -> None:
        """Wait for the run of somebody else, but not for ever: it may have been killed in a way that ran no code.

        One of the followers watches the clock for all, since a deadline for each is most of what waiting costs. When
        it leaves before the end, because it was cancelled itself, the next one takes its place.
        """
        limit = self._timeout + GRACE_SECONDS
        while run.outcome is None:
            if run.watched and run.news is not None:
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
        if self._is_owned_here() and self._here() is run:
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
