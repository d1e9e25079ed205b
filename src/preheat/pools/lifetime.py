"""Enter an async context manager now and leave it later, for code that cannot hold an `async with`.

A context manager that holds a task group must be left in the task that entered it. Many frameworks do not do that: the
set-up and the tear-down of a fixture, two cells of a notebook, a pair of start-up and shut-down hooks. On asyncio a
task of its own enters and leaves, at the request of whichever task. trio has no tasks without a parent that waits for
them, so there another task is refused.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar
from weakref import ref

import anyio
from anyio.lowlevel import current_token

from ..errors import PreheatError
from .backend import running_backend

__all__ = ("Lifetime", "is_over", "lifetime_in_own_task")

T = TypeVar("T")


class Lifetime(Generic[T]):
    """Enters and leaves in the tasks that ask for it.

    Args:
        what: what messages and tasks call it, such as `pool`.
        manager: what to enter and leave, once.
    """

    def __init__(self, what: str, manager: AbstractAsyncContextManager[T]) -> None:
        self._what = what
        self._manager = manager
        self._loop: Any = ref(current_token().native_token)
        self._place: Any = None
        self._process = os.getpid()
        self._ended = False

    @property
    def has_ended(self) -> bool:
        """Whether it was left, could not be entered, its event loop has ended, or this is a forked child."""
        return self._ended or self._process != os.getpid() or is_over(self._loop())

    async def enter(self) -> T:
        """Enter; raises what the manager does."""
        try:
            value = await self._manager.__aenter__()
        except BaseException:
            self._ended = True
            raise
        self._place = _place_on_trio()
        return value

    async def leave(self) -> None:
        """Leave; raises what the manager does. A second call changes nothing.

        Raises:
            PreheatError: in another event loop, and on trio in another task or cancel scope.
        """
        if self.has_ended:
            return
        self.check_loop()
        if self._place != _place_on_trio():
            raise PreheatError(
                f"on trio a {self._what} is closed in the task and the cancel scope that it was opened in, and this is "
                "another; use it inside one `async with`"
            )
        manager = self._manager
        self._ended = True
        del self._manager, self._place  # they would keep the event loop
        await manager.__aexit__(None, None, None)

    def check_loop(self) -> None:
        """Raise :class:`PreheatError` in another event loop than that in which it was entered."""
        if self._loop() is not current_token().native_token:
            raise PreheatError(
                f"the {self._what} belongs to another event loop, in which it was opened; use and close it in that one"
            )


class _OwnTask(Lifetime[T]):
    """Enters and leaves in a task of asyncio that does nothing else, whichever task asks for it."""

    _owner: asyncio.Task[None] | None = None  # as long as it runs; then only if it failed and nobody was told
    _leaving: asyncio.Event

    @property
    def has_ended(self) -> bool:
        """Whether it was left, could not be entered, its event loop has ended, or this is a forked child."""
        return (
            self._process != os.getpid() or self._owner is None or self._owner.done() or is_over(self._owner.get_loop())
        )

    async def enter(self) -> T:
        """Enter; raises what the manager does."""
        loop = asyncio.get_running_loop()
        self._leaving = asyncio.Event()
        entered: asyncio.Future[T] = loop.create_future()
        owner = self._owner = loop.create_task(self._live(entered), name=f"preheat: own a {self._what}")
        try:
            either: list[asyncio.Future[Any]] = [owner, entered]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            owner.cancel()
            await self._wait_for(owner)
            raise
        if not entered.done():
            self._owner = None
            owner.result()  # raises
        return entered.result()

    async def leave(self) -> None:
        """Leave; raises what the manager does, or what has made it end before. A second call changes nothing.

        Raises:
            PreheatError: in another event loop, and in a task that the manager itself waits for.
        """
        owner = self._owner
        if owner is None or self._process != os.getpid():
            return
        if not self.has_ended:
            self.check_loop()
            if _descends_from(owner):
                raise PreheatError(
                    f"the {self._what} waits for the work that it runs, and this work would close it; "
                    "return first, and close it from outside"
                )
            self._leaving.set()
            await self._wait_for(owner)
        self._owner = None
        if owner.done() and not owner.cancelled():
            owner.result()

    async def _live(self, entered: asyncio.Future[T]) -> None:
        manager = self._manager
        entered.set_result(await manager.__aenter__())
        # Cancelled, it leaves as well: its opener has given up, or the event loop ends without a close().
        with suppress(asyncio.CancelledError):
            await self._leaving.wait()
        await manager.__aexit__(None, None, None)
        del self._manager, self._leaving  # they would keep the event loop, as would this task
        self._owner = None

    @staticmethod
    async def _wait_for(owner: asyncio.Task[None]) -> None:
        """Wait until the task has ended. Cancelled, wait all the same: it cleans up, and bounds itself."""
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait([owner])
            except asyncio.CancelledError:  # asyncio's own goes through the shield; a second one cuts this short
                await asyncio.wait([owner])
                raise


def lifetime_in_own_task(what: str, manager: AbstractAsyncContextManager[T]) -> Lifetime[T]:
    """A lifetime that on asyncio may be left in another task than it was entered in."""
    return Lifetime(what, manager) if running_backend() == "trio" else _OwnTask(what, manager)


def is_over(loop: Any) -> bool:
    """Whether an event loop, or the run of trio that a token stands for, has ended: nothing can be closed in it."""
    if loop is None or isinstance(loop, asyncio.AbstractEventLoop):
        return loop is None or loop.is_closed()
    import trio

    try:
        loop.run_sync_soon(bool)  # trio tells it only to those who give it something to do
    except trio.RunFinishedError:
        return True
    return False


def _place_on_trio() -> object:
    """The task, and the innermost cancel scope or nursery that it is in; None on asyncio.

    Leaving a nursery anywhere else corrupts trio's state, and there trio has only an error for its experts.
    """
    if running_backend() != "trio":
        return None
    import trio

    task = trio.lowlevel.current_task()
    return task, getattr(task, "_cancel_status", None)


def _descends_from(owner: asyncio.Task[Any]) -> bool:
    """Whether the current task is in a task group of `owner`, or in one of a task that is."""
    parents = {task.id: task.parent_id for task in anyio.get_running_tasks()}
    task: int | None = anyio.get_current_task().id
    while task is not None:
        if task == id(owner):
            return True
        task = parents.get(task)
    return False
