"""Who waits where: the tasks of an event loop, each as `name at function (file:line)`."""

from __future__ import annotations

import asyncio
import sysconfig
from pathlib import Path
from typing import Any

import anyio

__all__ = ("place", "trio_tasks", "waiter")

_LIBRARIES = (sysconfig.get_path("stdlib"), str(Path(anyio.__file__).parent.parent))


def waiter(task: Any) -> str:
    """A task of asyncio or trio, and where it waits."""
    if isinstance(task, asyncio.Task):
        return f"{task.get_name()} at {place(task.get_coro())}"
    return f"{task.name} at {place(task.coro)}"


def trio_tasks(root: Any) -> list[Any]:
    """The tasks of a trio run that have not ended, except trio's own."""
    children = [child for nursery in root.child_nurseries for child in nursery.child_tasks]
    own = [child for child in children if not child.name.startswith("<")]  # as trio calls its own
    return own + [task for child in children for task in trio_tasks(child)]


def place(coroutine: Any) -> str:
    """Where a suspended coroutine waits: its innermost frame that is not in a library."""
    innermost = within = None
    while coroutine is not None:
        frame = next((f for n in _FRAMES if (f := getattr(coroutine, n, None)) is not None), None)
        if frame is not None:
            innermost = frame
            if not frame.f_code.co_filename.startswith(_LIBRARIES):
                within = frame
        coroutine = next((c for n in _AWAITED if (c := getattr(coroutine, n, None)) is not None), None)
    frame = within or innermost
    if frame is None:
        return "its start"
    return f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")
