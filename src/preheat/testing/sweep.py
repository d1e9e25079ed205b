"""What if it is cancelled here? Asked of every here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from ..pools.backend import running_backend
from .waiting import place

__all__ = ("Sweep", "cancel_everywhere")

LIMIT = 2_000
"""At how many points a sweep gives up: the time that it takes grows with their square."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a cancellation sweep found."""

    points: int
    """At how many points the function was cancelled: all that it has, if it does the same each time."""
    completed: tuple[int, ...]
    """At which of them, counted from 1, the function returned all the same: because nothing was left to wait for, or
    because it swallowed the cancellation."""
    slowest: float
    """The most seconds that passed from a cancellation to the end of the function."""


async def cancel_everywhere(
    function: Callable[..., Awaitable[object]], *args: Any, how: Literal["scope", "native"] = "scope"
) -> Sweep:
    """Run an async function again and again, and cancel it once at every point where it can be.

    A point is a moment at which a task has just begun to wait: the one that runs the function, or any task that has
    started meanwhile (on trio, any task). In the first run the function is cancelled at its first point, in the second
    at its second, and so on until a run ends before its point has come. So the function must set up anew whatever it
    works on, and it should itself check, in a `finally`, that all is as it should be.

    It works on the event loop that is running: on virtual time inside :func:`run`, or on a real one. The points are the
    same ones each time if the order of tasks is, as it is inside :func:`run` with a seed.

    Args:
        function: what to run.
        args: its arguments.
        how: by an anyio cancel scope, or by asyncio's own `Task.cancel()`. On trio both are a scope.

    Returns:
        How many points there were, and how long the function took to end.

    Raises:
        Exception: what the function raised at some point, with a note that says at which.
        RuntimeError: if there is no end of points.
    """
    completed: list[int] = []
    slowest = 0.0
    native = how == "native" and running_backend() == "asyncio"
    for point in range(1, LIMIT):
        attempt = _Attempt(point, native)
        await attempt.make(function, *args)
        if attempt.cancelled_at is None:
            if not attempt.returned:
                raise RuntimeError("the function ended in a cancellation that nobody asked for, after its last point")
            return Sweep(point - 1, tuple(completed), slowest)
        slowest = max(slowest, attempt.settled)
        if attempt.returned:
            completed.append(point)
    raise RuntimeError(f"the function still waits somewhere after {LIMIT} steps; sweep a shorter one")


class _Attempt:
    """One run of the function, cancelled at its n-th point."""

    def __init__(self, point: int, native: bool) -> None:
        self._point = point
        self._native = native
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[Any] | None = None
        self._seen = 0
        self._where = ""
        self.cancelled_at: float | None = None
        self.settled = 0.0
        self.returned = False

    async def make(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run the function to its end, whatever it is."""
        error: Exception | None = None

        async def run() -> None:
            nonlocal error
            self._task = asyncio.current_task() if self._native else None
            try:
                with self._scope:
                    await function(*args)
                    self.returned = True
            except Exception as raised:
                error = raised
            except asyncio.CancelledError:
                if self._task is None or self.cancelled_at is None:
                    raise
            if self._task is not None and self.cancelled_at is not None:
                self._task.uncancel()
            if self.cancelled_at is not None:
                self.settled = anyio.current_time() - self.cancelled_at

        with _watching(self._step):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run, name=getattr(function, "__qualname__", "the function"))
        if error is not None:
            if self.cancelled_at is not None:
                error.add_note(f"The function had been cancelled at point {self._point}, {self._where}.")
            raise error

    def _step(self, name: str, coroutine: Any) -> None:
        """A task has come to wait."""
        self._seen += 1
        if self._seen == self._point:
            self._where = f"while the task {name!r} waited at {place(coroutine)}"
            self.cancelled_at = anyio.current_time()
            if self._task is not None:
                self._task.cancel()
            else:
                self._scope.cancel()


@contextmanager
def _watching(step: Callable[[str, Any], None]) -> Generator[None]:
    """Call back, with its name and its coroutine, whenever a task has come to wait."""
    if running_backend() == "trio":
        import trio

        host = trio.lowlevel.current_task()

        class Instrument(trio.abc.Instrument):
            def after_task_step(self, task: Any) -> None:
                # One of the user's, as trio calls its own <...>, that has not ended.
                if task is not host and task.coro.cr_frame is not None and not task.name.startswith("<"):
                    step(task.name, task.coro)

        instrument = Instrument()
        trio.lowlevel.add_instrument(instrument)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(instrument)
    else:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()

        loop.set_task_factory(_watching_factory(before, step))
        try:
            yield
        finally:
            loop.set_task_factory(before)


def _watching_factory(before: Any, step: Callable[[str, Any], None]) -> Any:
    """A task factory like the one there was, whose tasks call back."""
    eager: Any = getattr(asyncio, "eager_task_factory", None)  # since Python 3.12
    if before is not None and eager is not None and getattr(before, "__code__", None) is eager.__code__:
        # anyio knows an eager factory by its code, and starts its own tasks later.
        make_task = before.__closure__[0].cell_contents
        make_eager: Any = asyncio.create_eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        return make_eager(lambda coroutine, **options: make_task(_Watched(coroutine, step), **options))

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        watched = _Watched(coroutine, step)
        return before(loop, watched, **options) if before else asyncio.Task(watched, loop=loop, **options)

    return factory


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that calls back after each of its steps but the last."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], step: Callable[[str, Any], None]) -> None:
        self._coroutine = coroutine
        self._step = step

    def send(self, value: Any) -> Any:
        return self._stepped(self._coroutine.send(value))

    def throw(self, *error: Any) -> Any:
        return self._stepped(self._coroutine.throw(*error))

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # the state of the coroutine, at which anyio looks

    def _stepped(self, waits_for: Any) -> Any:
        task = asyncio.current_task()
        self._step(task.get_name() if task is not None else "", self._coroutine)
        return waits_for
