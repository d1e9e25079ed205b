"""A transaction that another one was in the way of is run again, by itself."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .sqlstates import (
    DEADLOCK_DETECTED,
    INVALID_SCHEMA,
    SERIALIZATION_FAILURE,
    UNDEFINED_TABLE,
    UNIQUE_VIOLATION,
    sqlstate,
)

__all__ = ("rerun",)

T = TypeVar("T")

TRIES = 8
"""How often a transaction is run before the error is raised."""

FIRST_WAIT_SECONDS = 0.02
"""The most that is waited before the second run; twice that before the third, and so on."""


async def rerun(run: Callable[[bool], Awaitable[T]], make: Callable[[], Awaitable[object]] | None = None) -> T:
    """Run a transaction, and again if the server has rolled it back because of another one.

    Writers lock rows in the order of their ids where they can, so that two of them rarely wait for each other. The
    server ends one of two that do. It is run again with `alone` true, and then first waits until nobody else writes
    and keeps others from it: so that it meets none of them a second time. The pauses in between are drawn at random.

    Args:
        run: runs the whole transaction, alone or not; a call that raises has written nothing.
        make: makes the tables again that somebody has dropped meanwhile.

    Raises:
        Exception: whatever the last run raises, and at once whatever is not about another transaction.
    """
    alone = False
    for tries in range(TRIES - 1):
        try:
            return await run(alone)
        except Exception as error:
            state = sqlstate(error)
            if state in (UNDEFINED_TABLE, INVALID_SCHEMA) and make is not None:
                await make()
            elif state in (DEADLOCK_DETECTED, SERIALIZATION_FAILURE) or (state == UNIQUE_VIOLATION and not alone):
                alone = True
            else:
                raise
        await anyio.sleep(random.uniform(0, FIRST_WAIT_SECONDS * 2**tries))  # noqa: S311
    return await run(alone)
