"""A pool that is opened, warmed as a policy says, and closed; and the tasks that live as long."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, cast, get_args

import anyio

from .._concurrency.single_flight import SingleFlight
from ..errors import ArgumentError, PreheatError, ungrouped
from ..pools import Lifetime, SQLPool, as_sql_pool, check_size, is_dsn, lifetime_in_own_task, open_pool
from ..settings import setting
from ..warming import DEFAULT_CONNECTIONS, DEFAULT_TIMEOUT, WarmOnce, WarmReport, warm
from ..warming.engine import check_timeout, plan_connections

__all__ = ("WarmPolicy", "WarmedPool")

CLEANUP_SECONDS = 5.0
"""What a warm-up may take beyond its time-out to put its leases back: the guard's own limit must not come first."""

NOT_OPEN = "the storage is not open; use it inside `async with VectorStorage(...) as storage:`, or await its open()"

WarmPolicy: TypeAlias = Literal["first-use", "background", "startup", "never"]
"""When a storage warms its pool: when a retriever first needs it, in the background from the moment it is entered,
before it is entered, or never by itself."""


class WarmedPool:
    """The pool under a storage, and its warm-ups: an async context manager that owns both.

    Entering it opens no connection, so it succeeds even for a server that is down. Leaving it ends a warm-up that is
    under way, and closes the pool if it was opened from a DSN. Code that cannot hold an `async with` awaits
    :meth:`open` and :meth:`close`.
    """

    def __init__(
        self,
        pool: str | SQLPool | Any,
        *,
        size: int,
        warm: WarmPolicy | None,
        warm_connections: int | None,
        warm_timeout: float | None,
        probe: Callable[[Any], Awaitable[object]],
    ) -> None:
        self._source = pool
        self._size = size
        self.warm_policy = cast("WarmPolicy", warm or setting("WARM", str, "first-use"))
        if self.warm_policy not in get_args(WarmPolicy):
            raise ArgumentError(f"warm is {self.warm_policy!r}; choose one of {', '.join(get_args(WarmPolicy))}")
        self._warm_connections = warm_connections
        self._warm_default = setting("WARM_CONNECTIONS", int, DEFAULT_CONNECTIONS)
        if is_dsn(pool):
            check_size(size)
            self._plan(size)
        self._warm_timeout = setting("WARM_TIMEOUT", float, DEFAULT_TIMEOUT) if warm_timeout is None else warm_timeout
        check_timeout("warm_timeout", self._warm_timeout)
        self._pool: SQLPool | None = None
        self._flights: SingleFlight | None = None
        self._lifetime: Lifetime[None] | None = None
        self.warm_once: WarmOnce[WarmReport] = WarmOnce(self._warm)
        """The guard that all retrievers on this storage share, a new one each time the storage is entered; see
        :class:`preheat.WarmOnce`."""
        self.warm_report: WarmReport | None = None
        """What the latest warm-up did; None before the first."""
        self._probe = probe

    async def open(self) -> Self:
        """Do what entering the `async with` does, for code that cannot hold one; :meth:`close` does what leaving does.

        On asyncio the two may be called from different tasks.

        Raises:
            PreheatError: if the storage is open already.

        Cancellation: leaves when everything is closed again.
        """
        if self._lifetime is not None and not self._lifetime.has_ended:
            raise PreheatError("the storage is open already; make another VectorStorage for another use")
        self._lifetime = lifetime_in_own_task("storage", self._live())
        await self._lifetime.enter()
        return self

    async def close(self) -> None:
        """End a warm-up that is under way and close the pool if it was opened from a DSN.

        Nothing happens if the storage is not open.

        Raises:
            PreheatError: in another event loop than that in which it was opened; on trio in another task, too.

        Cancellation: does all of its work even when it is cancelled.
        """
        if (lifetime := self._lifetime) is not None:
            await lifetime.leave()
            if self._lifetime is lifetime:
                self._lifetime = self._pool = self._flights = None  # or left by an event loop that is closed

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def _live(self) -> AsyncGenerator[None]:
        """From opening to closing."""
        try:
            async with AsyncExitStack() as stack:
                if is_dsn(self._source):
                    self._pool = await stack.enter_async_context(open_pool(self._source, size=self._size))
                else:
                    self._pool = as_sql_pool(self._source)
                    self._plan(self._pool.size)
                await stack.enter_async_context(self._own_tasks())
                if self.warm_policy == "startup":
                    await self.warm_once()
                yield
        finally:
            self._pool = self._flights = None

    @asynccontextmanager
    async def _own_tasks(self) -> AsyncGenerator[None]:
        """The task group in which warm-ups and flights run, so that no caller's cancellation ends one.

        The group never sees what the block raises, so that nothing is wrapped in an exception group on its way out.
        """
        group = anyio.create_task_group()
        await group.__aenter__()
        self.warm_once = WarmOnce(
            self._warm, task_group=group, timeout=self._warm_timeout + CLEANUP_SECONDS, name=f"pool {self.pool.name}"
        )
        self.warm_report = None
        self._flights = flights = SingleFlight(group)
        if self.warm_policy == "background":
            group.start_soon(self.warm_once, name=f"preheat: warm {self.pool.name} in the background")
        try:
            yield
        finally:
            group.cancel_scope.cancel()
            self.warm_once.close()
            flights.close()
            with ungrouped():
                await group.__aexit__(None, None, None)

    @property
    def pool(self) -> SQLPool:
        """The pool in use.

        Raises:
            PreheatError: if the storage is not open.
        """
        if self._pool is None:
            raise PreheatError(NOT_OPEN)
        return self._pool

    @property
    def _own_flights(self) -> SingleFlight:
        """What runs once for all who ask for it at the same time; it runs where warm-ups do."""
        if self._lifetime is None or self._flights is None:
            raise PreheatError(NOT_OPEN)
        self._lifetime.check_loop()
        return self._flights

    @property
    def _shared_source(self) -> object:
        """The pool that the storage was given, which others may use as well; its own if it was given a DSN."""
        return self.pool if is_dsn(self._source) else self._source

    async def warm_pool(self) -> bool:
        """Warm the pool now: run this storage's own search once on each of several connections at the same time.

        The first time this is the warm-up that retrievers wait for, or joins it if it is under way. Later calls warm
        again, beside whoever uses the pool; those that come together share one warm-up.

        Returns:
            Whether every connection asked for is hot. False, not an error, for a database that is down or slow; the
            cause is logged and in `warm_report`.

        Cancellation: leaves promptly; a first warm-up goes on in the background until the storage is closed.
        """
        if self._pool is None or self.warm_once.done:
            report: WarmReport | None = await self._warm()
        else:
            report = await self.warm_once()
        return report is not None and report.ok

    async def _warm(self) -> WarmReport:
        connections = self._plan(self.pool.size)
        self.warm_report = await warm(self.pool, connections=connections, timeout=self._warm_timeout, probe=self._probe)
        return self.warm_report

    def _plan(self, size: int) -> int:
        """How many connections to warm: exactly what the caller asked for; what the settings say as far as it goes."""
        if self._warm_connections is None:
            return plan_connections(min(self._warm_default, size), size)
        return plan_connections(self._warm_connections, size)
