"""Try one server after the other without waiting for a silent one: asyncio-flavored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ("first_success",)

T = TypeVar("T")


async def first_success(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    stagger: float,
    *,
    drop: Callable[[T], object],
    is_final: Callable[[Exception], bool],
) -> tuple[T | None, list[Exception]]:
    """The result of the attempt that succeeds first, and the errors of those that have failed.

    The next attempt starts when one has failed, or `stagger` seconds after the one before; those that have started go
    on meanwhile. The others are cancelled as soon as one succeeds.

    Args:
        drop: closes a result that nobody takes.
        is_final: whether an error ends the whole: no attempt starts after it, and those under way are cancelled.

    Returns:
        The result, or None; the errors in the order of the attempts.

    Cancellation: each attempt is cancelled, and what it has opened is dropped.
    """
    if len(attempts) == 1:
        try:
            return await attempts[0](), []
        except Exception as error:
            return None, [error]
    tasks: list[asyncio.Task[T | Exception]] = []
    winner: T | None = None
    try:
        async with asyncio.TaskGroup() as group:
            running: set[asyncio.Task[T | Exception]] = set()
            ended = False
            while not ended:
                if len(tasks) < len(attempts):
                    task = group.create_task(_outcome(attempts[len(tasks)]))
                    tasks.append(task)
                    running.add(task)
                elif not running:
                    break
                waits = stagger if len(tasks) < len(attempts) else None
                done, running = await asyncio.wait(running, timeout=waits, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    result = task.result()
                    ended |= not isinstance(result, Exception) or is_final(result)
            for task in running:
                task.cancel()
        results = [task.result() for task in tasks if not task.cancelled()]
        winner = next((result for result in results if not isinstance(result, Exception)), None)
        return winner, [result for result in results if isinstance(result, Exception)]
    finally:
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is None:
                result = task.result()
                if not isinstance(result, Exception) and result is not winner:
                    drop(result)


async def _outcome(attempt: Callable[[], Awaitable[T]]) -> T | Exception:
    try:
        return await attempt()
    except Exception as error:
        return error
