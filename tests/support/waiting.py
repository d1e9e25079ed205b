"""Wait for what another process or thread does: it sets no Event of this event loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

import anyio

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a test gives up: a machine under load is slow, and a passing test never waits so long."""
PAUSE = 0.005


async def until(condition: Callable[[], T | Awaitable[T]]) -> T:
    """Ask again and again, for a bounded time, until the answer is true; return the answer."""
    with anyio.fail_after(PATIENCE):
        while True:
            answer = condition()
            if isawaitable(answer):
                answer = await answer
            if answer:
                return answer  # type: ignore[return-value]
            await anyio.sleep(PAUSE)


def wait_until(condition: Callable[[], T]) -> T:
    """The same in a test that is not async."""
    give_up = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < give_up, f"waited {PATIENCE} s in vain"
        time.sleep(PAUSE)
    return answer
