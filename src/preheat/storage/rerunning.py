"""Run a transaction again if another transaction made it fail."""

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
"""How often a transaction runs before its error is raised."""

FIRST_WAIT_SECONDS = 0.02
"""The longest pause before the second run; twice that before the third, and so on."""


async def rerun(run: Callable[[bool], Awaitable[T]], make: Callable[[], Awaitable[object]] | None = None) -> T:
    """Run a transaction, and run it again if the server has rolled it back because of another one.

    Writers lock rows in the order of their ids where they can, so that a deadlock of two writers is rare. The server
    ends one of the two. That one runs again with `alone` true: it first waits until no other writer is active and keeps
    new ones out, so it cannot meet another deadlock with a writer. The pauses between runs are random, so that two
    writers that failed together do not start together again.

    Args:
        run: runs the whole transaction, alone or not; a call that raises has written nothing.
        make: creates the tables again if another process has dropped them since.

    Raises:
        Exception: the error of the last run, and at once an error that no other transaction has caused.
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
