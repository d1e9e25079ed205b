"""Running and running together on any backend, with nothing but the backend: peers have no anyio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def run(backend: str, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `function` on `asyncio`, `uvloop` or `trio`."""
    if backend == "trio":
        import trio

        result: T = trio.run(function)
        return result
    if backend == "uvloop":
        import uvloop

        return uvloop.run(function())
    return asyncio.run(function())


async def together(backend: str, functions: Sequence[Callable[[], Awaitable[object]]]) -> None:
    """Run all of `functions` at the same time, until the last has ended."""
    if backend == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            for function in functions:
                nursery.start_soon(function)
    else:
        await asyncio.gather(*(function() for function in functions))
