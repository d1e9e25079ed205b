"""Connections of asyncpg whose traffic is watched, for preheat's own pool and for asyncpg's. Asyncio-flavored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from ..network.addresses import Network
from ..network.watched import WatchedLoop, Watcher
from .adapter import AsyncpgPool

__all__ = ("open_driver_pool", "watching")


def watching(watch: Callable[[], Watcher]) -> Callable[..., Awaitable[Any]]:
    """A function for the argument `connect` of :func:`preheat.open_pool` and of `asyncpg.create_pool`.

    Args:
        watch: makes the watcher of one connection; called when the connection begins.
    """

    async def connect(*args: Any, loop: Any = None, **options: Any) -> Any:
        watcher = watch()
        if isinstance(loop, Network):
            watched = loop.watch(watcher)
        else:
            loop = watched = WatchedLoop(loop or asyncio.get_running_loop(), watcher)
        try:
            return await asyncpg.connect(*args, loop=loop, **options)
        finally:
            watched.is_watching = False

    return connect


@asynccontextmanager
async def open_driver_pool(
    dsn: str, size: int, watch: Callable[[], Watcher], init: Callable[[Any], Awaitable[object]] | None = None
) -> AsyncGenerator[AsyncpgPool]:
    """A pool of asyncpg's own, as a program has it without preheat; it opens no connection ahead of time."""
    pool = asyncpg.create_pool(dsn, min_size=0, max_size=size, connect=watching(watch), init=init)
    async with pool:
        yield AsyncpgPool(pool, name="asyncpg")
