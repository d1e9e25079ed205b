"""The asyncio tasks of one pool."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any

__all__ = ("Tasks",)


class Tasks:
    """Owns tasks that no caller waits for: none outlives :meth:`end`.

    It is not an :class:`asyncio.TaskGroup`, because that must be left in the task that entered it, and an event loop on
    top of trio has no such task for the pool. Its tasks report to the pool and raise nothing.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._context: Context = copy_context()  # not that of the caller who happens to need a connection

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in a task."""
        task = self._loop.create_task(coroutine, name=name, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """Cancel all tasks, and return when they have ended. They bound their own cleanup."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
