"""Run a function on many items, a bounded number of them at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

__all__ = ("gather_bounded",)

T = TypeVar("T")
R = TypeVar("R")


async def gather_bounded(work: Callable[[T], Awaitable[R]], items: Iterable[T], at_once: int) -> list[R]:
    """The results of `work` for each item, in order, with at most `at_once` calls at the same time.

    Raises:
        Exception: the first that `work` raises, as it is; the other calls are cancelled.
    """
    given = list(items)
    done: dict[int, R] = {}
    left = iter(range(len(given)))
    errors: list[Exception] = []

    async def work_through() -> None:
        for index in left:
            try:
                done[index] = await work(given[index])
            except Exception as error:
                errors.append(error)
                group.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as group:
        for number in range(min(at_once, len(given))):
            group.start_soon(work_through, name=f"preheat: worker {number}")
    if errors:
        raise errors[0]
    return [done[index] for index in range(len(given))]
