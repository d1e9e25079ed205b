"""The same work on many things, some of them at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

__all__ = ("gather_bounded",)

T = TypeVar("T")
R = TypeVar("R")


async def gather_bounded(work: Callable[[T], Awaitable[R]], things: Iterable[T], at_once: int) -> list[R]:
    """What `work` makes of each thing, in their order, with at most `at_once` of them under way.

    Raises:
        Exception: the first that `work` raises, as it is; what is under way then is cancelled.
    """
    given = list(things)
    done: dict[int, R] = {}
    waiting = iter(range(len(given)))
    errors: list[Exception] = []

    async def take_turns() -> None:
        for turn in waiting:
            try:
                done[turn] = await work(given[turn])
            except Exception as error:
                errors.append(error)
                group.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as group:
        for number in range(min(at_once, len(given))):
            group.start_soon(take_turns, name=f"preheat: turn {number}")
    if errors:
        raise errors[0]
    return [done[turn] for turn in range(len(given))]
