"""Cancel a function once at each of its checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from ..pools.backend import running_backend
from .tasks import place

__all__ = ("Sweep", "cancel_everywhere")

LIMIT = 2_000
"""The number of points after which a sweep gives up: its duration grows with the square of the points."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """The result of a cancellation sweep."""

    points: int
    """The number of points at which the function was cancelled: all of them, if each run does the same."""
    completed: tuple[int, ...]
    """The points, counted from 1, at which the function returned although it was cancelled: because it had nothing left
    to wait for, or because it swallowed the cancellation."""
    slowest: float
    """The maximum of the seconds from a cancellation to the end of the function."""


async def cancel_everywhere(
    function: Callable[..., Awaitable[object]], *args: Any, how: Literal["scope", "native"] = "scope"
) -> Sweep:
    """Run an async function many times, and cancel it once at each of its points.

    A point is a moment at which a task has just begun to wait: the task of the function, or any task that was started
    since (on trio, any task). The first run is cancelled at its first point, the second run at its second point, and so
    on, until a run ends before its point. So the function must create everything that it works on, and it should check
    in a `finally` that everything is as it should be.

    The runs are on the current event loop: on virtual time inside :func:`run`, or on real time. Each run has the same
    points if the order of tasks is the same, as it is inside :func:`run` with a seed.

    Args:
        function: the async function.
        args: its arguments.
        how: how it is cancelled: by an anyio cancel scope, or by asyncio's `Task.cancel()`. On trio both are a scope.

    Returns:
        The number of points, and how long the function took to end.

    Raises:
        Exception: whatever the function raises when it is cancelled at some point, with a note that names the point.
        RuntimeError: if the function has too many points.
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
        """Run the function, and cancel it at its point."""
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
        """Called when a task has begun to wait."""
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
    """In the block, call `step` with the name and the coroutine of each task that has begun to wait."""
    if running_backend() == "trio":
        import trio

        host = trio.lowlevel.current_task()

        class Instrument(trio.abc.Instrument):
            def after_task_step(self, task: Any) -> None:
                # Only tasks of the user that have not ended; trio's own tasks have names such as <init>.
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
    """A task factory that does what the one `before` does, and whose tasks call `step`."""
    eager: Any = getattr(asyncio, "eager_task_factory", None)  # since Python 3.12
    if before is not None and eager is not None and getattr(before, "__code__", None) is eager.__code__:
        # anyio recognizes an eager factory by its code, and then starts its own tasks later. So keep that code.
        make_task = before.__closure__[0].cell_contents
        make_eager: Any = asyncio.create_eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        return make_eager(lambda coroutine, **options: make_task(_Watched(coroutine, step), **options))

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        watched = _Watched(coroutine, step)
        return before(loop, watched, **options) if before else asyncio.Task(watched, loop=loop, **options)

    return factory


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that calls `step` after each of its steps but the last."""

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
        return getattr(self._coroutine, name)  # anyio reads the state of the coroutine

    def _stepped(self, waits_for: Any) -> Any:
        task = asyncio.current_task()
        self._step(task.get_name() if task is not None else "", self._coroutine)
        return waits_for
