"""The clock, and running one coroutine on each backend."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

BACKENDS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def run(backend: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run a coroutine function on asyncio, uvloop or trio."""
    gc.collect()
    return anyio.run(function, *args, **BACKENDS[backend])


async def timed(function: Callable[[], Awaitable[object]]) -> float:
    """Seconds that a call takes."""
    started = perf_counter()
    await function()
    return perf_counter() - started


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection meanwhile: it belongs to nobody who is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
