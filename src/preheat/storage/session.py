"""Open, warm and close the pool under a storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import Any, Literal, TypeAlias, cast, get_args

import anyio
from anyio.lowlevel import checkpoint

from .._concurrency.single_flight import SingleFlight
from ..errors import ArgumentError, PreheatError, ungrouped
from ..pools import (
    Lifetime,
    SQLPool,
    as_sql_pool,
    check_options,
    import_driver,
    is_dsn,
    lifetime_in_own_task,
    open_pool,
    open_pool_for,
)
from ..settings import setting
from ..warming import DEFAULT_CONNECTIONS, DEFAULT_TIMEOUT, WarmOnce, WarmReport
from ..warming.engine import check_timeout, plan_connections
from ..warming.report import joined
from .warmed_pool import WarmedPool

CLEANUP_SECONDS = 5.0
"""How long a warm-up may put its leases back after its time-out. The guard waits so much longer, so that its own limit
never comes first."""

NOT_OPEN = "the storage is not open; use it inside `async with VectorStorage(...) as storage:`, or await its open()"

WarmPolicy: TypeAlias = Literal["first-use", "background", "startup", "never"]
"""When a storage warms its pool: when a retriever first needs it, in the background from the moment it is entered,
before it is entered, or never by itself."""

ReadFrom: TypeAlias = Literal["primary", "replica"]
"""The servers that searches go to."""

PoolState: TypeAlias = Literal["cold", "warming", "warm", "degraded", "closed"]
"""How the pool of a storage is now. `cold`: no warm-up has begun. `warming`: one is under way. `warm`: all connections
asked for are hot. `degraded`: some are not, after a warm-up that failed or a lost connection. `closed`: not open."""


class Session:
    """A pool that is opened, warmed as a policy says, and closed, and the task group that lives as long.

    With `read_from="replica"` there are two: one of connections to the primary, and one for searches.

    Opening it opens no connection, so it succeeds even for a server that is down. Closing it ends a warm-up that is
    under way, and closes the pool if it was opened from a DSN.

    Args:
        pool: a DSN or a pool.
        probe: makes one connection hot.
        options: of a pool that it opens; None where nobody has said it.
    """

    def __init__(
        self,
        pool: str | SQLPool | Any,
        *,
        size: int,
        warm: WarmPolicy | None,
        warm_connections: int | None,
        warm_timeout: float | None,
        keep_warm: bool,
        read_from: ReadFrom | None,
        probe: Callable[[Any], Awaitable[object]],
        **options: Any,
    ) -> None:
        self._given = pool
        self._size = size
        self.warm_policy: WarmPolicy = cast("WarmPolicy", warm or setting("WARM", str, "first-use"))
        if self.warm_policy not in get_args(WarmPolicy):
            raise ArgumentError(f"warm is {self.warm_policy!r}; choose one of {', '.join(get_args(WarmPolicy))}")
        read_from = cast("ReadFrom", read_from or (setting("READ_FROM", str, "primary") if is_dsn(pool) else "primary"))
        if read_from not in get_args(ReadFrom):
            raise ArgumentError(f"read_from is {read_from!r}; choose one of {', '.join(get_args(ReadFrom))}")
        if read_from == "replica" and not is_dsn(pool):
            raise ArgumentError("read_from: the pool is open already; give a DSN of the primary and its replicas")
        self.read_from: ReadFrom = read_from
        """The servers that searches go to."""
        self._warm_connections = warm_connections
        self._warm_default = setting("WARM_CONNECTIONS", int, DEFAULT_CONNECTIONS)
        self._options = {name: value for name, value in options.items() if value is not None}
        if is_dsn(pool):
            check_options(size=size, **self._options)
            import_driver()
            self._plan(size)
        elif self._options:
            names = " and ".join(self._options)
            raise ArgumentError(f"{names}: the pool is open already; give it to open_pool, or give a DSN here")
        self._warm_timeout = setting("WARM_TIMEOUT", float, DEFAULT_TIMEOUT) if warm_timeout is None else warm_timeout
        check_timeout("warm_timeout", self._warm_timeout)
        self._probe = probe
        self._keep_warm = keep_warm
        self._pools: tuple[WarmedPool, ...] = ()  # that of the primary first, that for searches last; empty if not open
        self._change: anyio.Event | None = (
            None  # set at each change of the state, and replaced by the next task that waits
        )
        self._flights: SingleFlight | None = None
        self._lifetime: Lifetime[None] | None = None
        self.warm_once: WarmOnce[WarmReport] = WarmOnce(self._warm)
        """The guard of the first warm-up, a new one each time the session is opened."""
        self.warm_report: WarmReport | None = None
        """The report of the latest warm-up; None before the first."""

    async def open(self) -> None:
        """Open it; see :meth:`preheat.VectorStorage.open`."""
        if self._lifetime is not None and not self._lifetime.has_ended:
            raise PreheatError("the storage is open already; make another VectorStorage for another use")
        self._lifetime = lifetime_in_own_task("storage", self._live())
        await self._lifetime.enter()

    async def close(self) -> None:
        """Close it; see :meth:`preheat.VectorStorage.close`."""
        if (lifetime := self._lifetime) is not None:
            await lifetime.leave()
            # While this waited, another task may have opened the session again, with a lifetime of its own. The pool is
            # still there only if the event loop it was opened in was closed before it could be left.
            if self._lifetime is lifetime:
                self._lifetime = self._flights = None
                self._pools = ()

    @asynccontextmanager
    async def _live(self) -> AsyncGenerator[None]:
        """From opening to closing."""
        try:
            async with AsyncExitStack() as stack:
                pools = [await self._opened(open, stack) for open in self._openers()]
                self._pools = tuple(pools)
                await stack.enter_async_context(self._own_tasks())
                if self.warm_policy == "startup":
                    await self.warm_once()
                yield
        finally:
            self._pools = ()
            self._flights = None
            self._tell()
            self._change = None

    def _openers(self) -> list[Callable[..., AbstractAsyncContextManager[SQLPool]]]:
        """What opens each pool."""
        if not is_dsn(self._given):
            return [lambda **_: nullcontext(as_sql_pool(self._given))]
        if self.read_from == "primary":
            return [partial(open_pool, self._given)]
        return [partial(open_pool_for, "writes", self._given), partial(open_pool_for, "searches", self._given)]

    async def _opened(
        self, open: Callable[..., AbstractAsyncContextManager[SQLPool]], stack: AsyncExitStack
    ) -> WarmedPool:
        pool = await stack.enter_async_context(open(size=self._size, **self._options))
        self._plan(pool.size)
        warmed = WarmedPool(pool, self._plan, self._warm_timeout, self._probe, self._tell)
        stack.enter_context(warmed.listening())
        return warmed

    @asynccontextmanager
    async def _own_tasks(self) -> AsyncGenerator[None]:
        """The task group in which warm-ups and shared work run, so that no caller's cancellation ends them.

        The group never sees what the block raises, so that nothing is wrapped in an exception group on its way out.
        """
        group = anyio.create_task_group()
        await group.__aenter__()
        self.warm_once = WarmOnce(
            self._warm, task_group=group, timeout=self._warm_timeout + CLEANUP_SECONDS, name=f"pool {self.pool.name}"
        )
        self.warm_report = None
        self._change = anyio.Event()
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
        """The pool in use, of connections to the primary.

        Raises:
            PreheatError: if the storage is not open.
        """
        if not self._pools:
            raise PreheatError(NOT_OPEN)
        return self._pools[0].pool

    @property
    def read_pool(self) -> SQLPool:
        """The pool for searches; another one if they go to replicas.

        Raises:
            PreheatError: if the storage is not open.
        """
        if not self._pools:
            raise PreheatError(NOT_OPEN)
        return self._pools[-1].pool

    @property
    def flights(self) -> SingleFlight:
        """The work that is shared by all who ask for it at the same time. It runs in the session's task group.

        Raises:
            PreheatError: if the storage is not open, or was opened in another event loop.
        """
        if self._lifetime is None or self._flights is None:
            raise PreheatError(NOT_OPEN)
        self._lifetime.check_loop()
        return self._flights

    @property
    def shared_pool(self) -> object:
        """The pool as the caller gave it, which other storages may use as well; the session's own for a DSN."""
        return self.pool if is_dsn(self._given) else self._given

    async def warm_pool(self) -> bool:
        """Warm the pool now; see :meth:`preheat.VectorStorage.warm_pool`."""
        if not self._pools or self.warm_once.done:
            report: WarmReport | None = await self._warm()
        else:
            report = await self.warm_once()
        return report is not None and report.ok

    @property
    def state(self) -> PoolState:
        """See :attr:`preheat.VectorStorage.state`."""
        if not self._pools:
            return "closed"
        if all(pool.is_whole for pool in self._pools):
            return "warm"  # also while a keeper looks after it
        if any(pool.is_warming for pool in self._pools):
            return "warming"
        return "cold" if self.warm_report is None else "degraded"

    async def wait_warm(self, timeout: float) -> bool:
        """See :meth:`preheat.VectorStorage.wait_warm`."""
        await checkpoint()
        with anyio.move_on_after(timeout):
            while self.state not in ("warm", "closed") and (change := self._change) is not None:
                # No await between the look at the state and this line, so no change in between is missed.
                if change.is_set():
                    change = self._change = anyio.Event()
                await change.wait()
        return self.state == "warm"

    async def _warm(self) -> WarmReport:
        """Warm each pool for a caller, at the same time.

        The keepers start with the first warm-up, and go on where one has failed.
        """
        pools, flights = self._pools, self._flights
        if not pools:
            raise PreheatError(NOT_OPEN)
        if not self._keep_warm:
            flights = None
        if len(pools) == 1:
            return await pools[0].warm(flights)
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for pool in pools:
                    tasks.start_soon(pool.warm, flights, name=f"preheat: warm {pool.pool.name}")
        return joined([pool.report for pool in pools if pool.report is not None])

    def _tell(self) -> None:
        """Wake the tasks in :meth:`wait_warm`, which look at the state again."""
        reports = [pool.report for pool in self._pools if pool.report is not None]
        if reports and len(reports) == len(self._pools):
            self.warm_report = joined(reports)
        if self._change is not None:
            self._change.set()

    def _plan(self, size: int) -> int:
        """How many connections to warm: exactly as many as the caller asked for. A number from the settings is cut to
        the size of the pool."""
        if self._warm_connections is None:
            return plan_connections(min(self._warm_default, size), size)
        return plan_connections(self._warm_connections, size)
