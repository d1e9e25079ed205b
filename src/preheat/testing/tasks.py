"""The tasks of an event loop: which task waits where, as `name at function (file:line)`, and what it waits for."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import anyio

from .._concurrency.daemon_thread import run_in_daemon_thread
from .._concurrency.serial_worker import SerialWorker

__all__ = ("Trace", "describe", "place", "trio_tasks")

Trace: TypeAlias = list[tuple[float, str]]
"""One entry for each step of a task: the virtual time in seconds, and the name of the task."""

_LIBRARIES = (sysconfig.get_path("stdlib"), str(Path(anyio.__file__).parent.parent))


def describe(task: Any) -> str:
    """The name of a task of asyncio or trio, and the place where it waits."""
    if isinstance(task, asyncio.Task):
        return f"{task.get_name()} at {place(task.get_coro())}"
    return f"{task.name} at {place(task.coro)}"


def trio_tasks(root: Any) -> list[Any]:
    """The tasks of a trio run that have not ended, without trio's own tasks."""
    children = [child for nursery in root.child_nurseries for child in nursery.child_tasks]
    own = [child for child in children if not child.name.startswith("<")]  # trio's own tasks have such names
    return own + [task for child in children for task in trio_tasks(child)]


def waits_for_thread(coroutine: Any) -> bool:
    """Whether a suspended coroutine waits for a worker thread, or for a callback from another thread."""
    if not _THREADS.isdisjoint(_of_libraries(coroutine)):
        return True
    # It may wait for its turn, and a thread that a cancelled caller has left behind may have the turn.
    ours = (SerialWorker.run.__code__, run_in_daemon_thread.__code__)
    return any(frame.f_code in ours for frame in _frames(coroutine))


def waits_for_socket(coroutine: Any) -> bool:
    """Whether a suspended coroutine of trio waits for a socket, a pipe or a process. (On asyncio the loop knows.)"""
    return not _SOCKETS.isdisjoint(_of_libraries(coroutine))


def _of_libraries(coroutine: Any) -> Iterator[str]:
    """The names of the library functions in the stack of a suspended coroutine."""
    codes = (frame.f_code for frame in _frames(coroutine))
    return (code.co_name for code in codes if code.co_filename.startswith(_LIBRARIES))


def place(coroutine: Any) -> str:
    """The place where a suspended coroutine waits: its innermost frame that is not in a library."""
    frames = list(_frames(coroutine))
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(_LIBRARIES)]
    if not frames:
        return "its start"
    frame = (own or frames)[-1]
    return f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


def _frames(coroutine: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine and of everything that it awaits, the innermost last."""
    while coroutine is not None:
        frame = next((f for n in _FRAMES if (f := getattr(coroutine, n, None)) is not None), None)
        if frame is not None:
            yield frame
        coroutine = next((c for n in _AWAITED if (c := getattr(coroutine, n, None)) is not None), None)
        if type(coroutine).__name__ in {"async_generator_asend", "async_generator_athrow"}:
            # A step of an async generator does not refer to its generator by a name.
            coroutine = next(filter(inspect.isasyncgen, gc.get_referents(coroutine)), None)


_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")
_THREADS = frozenset(
    {"shutdown_default_executor", "run_sync_in_worker_thread", "to_thread_run_sync", "sleep_until_stopped"}
)
_SOCKETS = frozenset({"wait_readable", "wait_writable", "_epoll_wait", "_wait_common", "wait_kevent", "_afd_poll"})
