"""Run a function once, in a task of its own, and tell all callers when it has ended."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import anyio
from anyio.abc import TaskGroup

from ..errors import PreheatError

__all__ = ("Outcome", "SharedRun", "start_in")

T = TypeVar("T")

CANCELLED_FROM_WITHIN = "the work was cancelled from within, not by its callers; look for what it awaits, or ask again"

Outcome: TypeAlias = Literal["finished", "failed", "timed out", "cancelled"]


class SharedRun(Generic[T]):
    """One run of a function, and its end that any number of tasks may wait for. It is replaced, never reset.

    Whoever makes it makes it known before the next `await`, so that there is one. After its end it holds nothing that
    belongs to the event loop, and may outlive it.

    Args:
        name: what errors and task names call it.
    """

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.started: float = anyio.current_time()
        self.outcome: Outcome | None = None
        """How it ended; None while it is under way."""
        self.result: T | None = None
        self.error: Exception | None = None
        self.is_running: bool = True
        """Whether the function has yet to return. It may run on after :meth:`end`."""
        self._event: anyio.Event | None = anyio.Event()
        self._scope: anyio.CancelScope | None = anyio.CancelScope()
        self._task: int | None = None
        self._waits_for: list[SharedRun[Any]] = []

    async def run(self, function: Callable[[], Awaitable[T]], *, timeout: float = math.inf) -> Outcome:
        """Run the function, in a task that does nothing else. Whatever way that ends, this run has ended.

        Args:
            function: what to run; awaited without arguments.
            timeout: seconds after which it is cancelled.

        Returns:
            How the function ended, even if :meth:`end` has come first.

        Raises:
            BaseException: what is not an `Exception`, such as a cancellation.
        """
        scope = self._scope
        outcome: Outcome = "cancelled"
        around = _around.set(self)
        try:
            if scope is None or scope.cancel_called or _is_being_cancelled():
                return outcome
            self._task = anyio.get_current_task().id
            scope.deadline = anyio.current_time() + timeout
            with scope:
                self.result = await function()
                outcome = "finished"
            if scope.cancelled_caught and anyio.current_time() >= scope.deadline:
                outcome = "timed out"
        except Exception as error:
            self.error, outcome = error, "failed"
        except BaseExceptionGroup as group:  # a cancellation, and what failed in the clean-up after it
            errors = group.split(anyio.get_cancelled_exc_class())[1]
            if not isinstance(errors, ExceptionGroup):
                raise
            self.error, outcome = errors, "failed"
        except anyio.get_cancelled_exc_class():
            if _is_being_cancelled():
                raise
            # Nobody has cancelled this task: the function let out a cancellation of something that it awaited, such as
            # a task of asyncio. It must not end the owner, and with it the work of others.
            self.error, outcome = PreheatError(CANCELLED_FROM_WITHIN), "failed"
        finally:
            self.is_running = False
            self._scope = None
            self.end(outcome)
            with suppress(ValueError):  # closed by the garbage collector, in another context
                _around.reset(around)
        return outcome

    def end(self, outcome: Outcome) -> None:
        """Let all callers go, unless it has ended already. This does not stop the function."""
        if self.outcome is None and self._event is not None:
            self.outcome = outcome  # before the event, so that whoever wakes up finds it
            self._event.set()
            self._event = None

    def cancel(self) -> None:
        """Cancel the function, even before it has begun."""
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self) -> None:
        """Return when it has ended."""
        if self._event is not None:
            await self._event.wait()

    @contextmanager
    def awaited(self) -> Generator[None]:
        """Note for a while that this run is waited for by the one whose function this code is a part of, if any.

        Raises:
            PreheatError: if that would never end, as this run waits for the other.
        """
        inside = _around.get()
        if inside is None or self.outcome is not None or not inside._is_awaiting_this_task():
            yield
            return
        if circle := self._path_to(inside):
            raise PreheatError(_waits_for_itself([run.name for run in circle]))
        inside._waits_for.append(self)
        try:
            yield
        finally:
            inside._waits_for.remove(self)

    def _path_to(self, other: SharedRun[Any]) -> list[SharedRun[Any]]:
        """The runs from this one to `other`, each waiting for the next; empty if it does not wait for `other`."""
        if self is other:
            return [self]
        for awaited in list(self._waits_for):
            if rest := awaited._path_to(other):
                return [self, *rest]
        return []

    def _is_awaiting_this_task(self) -> bool:
        """Whether the current task runs the function, or is a task that the function waits for.

        A task inherits the context of the code that starts it, in whatever task group. So the context alone does not
        tell; what does is whether the task that runs the function is above in the tree of tasks.
        """
        if not self.is_running:
            return False
        here = anyio.get_current_task().id
        if here == self._task:
            return True
        parents = {task.id: task.parent_id for task in anyio.get_running_tasks()}
        above = _with_ancestors(here, parents)
        # Where asyncio itself made a task, as gather() does, nobody can tell which task waits for it: assume that one.
        return self._task in above or above[-1] != _with_ancestors(self._task, parents)[-1]


def start_in(group: TaskGroup, function: Callable[[], Awaitable[None]], *, name: str) -> bool:
    """Start `function` in a task group; False, not an error, if the group takes no more tasks."""
    coroutine: Any = function()
    try:
        group.start_soon(lambda: coroutine, name=name)
    except RuntimeError:
        coroutine.close()  # anyio leaves it to the garbage collector, which would warn of it
        return False
    return True


def _is_being_cancelled() -> bool:
    return anyio.current_effective_deadline() == -math.inf


def _with_ancestors(task: int | None, parents: dict[int, int | None]) -> list[int]:
    """A task, the one whose task group it is in, and so on."""
    found: list[int] = []
    while task is not None:
        found.append(task)
        task = parents.get(task)
    return found


def _waits_for_itself(names: list[str]) -> str:
    first, *others = dict.fromkeys(names)
    if others:
        return f"{first} waits for itself, through {', '.join(others)}; await one of them outside of the others"
    return f"{first} waits for itself: its function awaits its own result; await it outside of the function"


_around: ContextVar[SharedRun[Any] | None] = ContextVar("preheat shared run", default=None)
"""The run whose function this code is a part of. Tasks inherit it, also those that the function does not wait for."""
