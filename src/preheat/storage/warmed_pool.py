"""One pool of a storage: how warm it is, and the keeper that keeps it warm."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

from .._concurrency.single_flight import SingleFlight
from ..pools import ConnectionClosed, ConnectionLost, PoolEvent, SQLPool, identity
from ..warming import WarmReport, warm
from ..warming.keeper import CHECK_SECONDS, Keeper

__all__ = ("WarmedPool",)


class WarmedPool:
    """Warms an open pool, and remembers what has become of it since.

    Args:
        connections: how many connections to warm, by the size of the pool.
        timeout: seconds for a whole warm-up.
        probe: makes one connection hot.
        changed: is called at each change of the state; on trio it may be called where asyncio is current.
    """

    def __init__(
        self,
        pool: SQLPool,
        connections: Callable[[int], int],
        timeout: float,
        probe: Callable[[Any], Awaitable[object]],
        changed: Callable[[], None],
    ) -> None:
        self.pool: SQLPool = pool
        self._connections = connections
        self._timeout = timeout
        self._probe = probe
        self._changed = changed
        self._keeper: Keeper | None = None
        self._tells = False  # whether the pool calls _notice()
        self._warming = 0  # warm-ups under way
        self._losses = 0  # connections lost since the pool was opened
        self.is_whole: bool = False
        """Whether no connection was lost since the last warm-up, and that one succeeded."""
        self.report: WarmReport | None = None
        """The report of the latest warm-up; None before the first."""

    @property
    def is_warming(self) -> bool:
        """Whether a warm-up is under way."""
        return self._warming > 0

    @contextmanager
    def listening(self) -> Generator[None]:
        """Hear of lost connections, if the pool tells of them."""
        telling: Any = identity(self.pool)
        self._tells = hasattr(telling, "add_hook")
        if self._tells:
            telling.add_hook(self._notice)
        try:
            yield
        finally:
            if self._tells:
                telling.remove_hook(self._notice)

    async def warm(self, flights: SingleFlight | None) -> WarmReport:
        """Warm the pool for a caller. The keeper starts with the first warm-up, and goes on where one has failed.

        Args:
            flights: where the keeper runs; None if there is to be no keeper.
        """
        report = await self._warm_with(self._probe)
        if flights is not None and not flights.closed:
            if self._keeper is None:
                check_seconds = math.inf if self._tells else CHECK_SECONDS
                self._keeper = Keeper(self._warm_with, self._probe, name=self.pool.name, check_seconds=check_seconds)
                flights.start_soon(self._keeper.run, name=f"preheat: keep {self.pool.name} warm")
            self._keeper.warmed(report)
        return report

    async def _warm_with(self, probe: Callable[[Any], Awaitable[object]]) -> WarmReport:
        connections, losses = self._connections(self.pool.size), self._losses
        self._warming += 1
        self._changed()
        try:
            report = await warm(self.pool, connections=connections, timeout=self._timeout, probe=probe)
            self.report = report
            self.is_whole = report.ok and losses == self._losses
            return report
        finally:
            self._warming -= 1
            self._changed()

    def _notice(self, event: PoolEvent) -> None:
        """The hook of a pool that has hooks. On trio it may be called where asyncio is current, so it sets events and
        makes none."""
        if isinstance(event, ConnectionLost):
            self._losses += 1
            self.is_whole = False
            self._changed()
        if isinstance(event, ConnectionLost | ConnectionClosed) and self._keeper is not None:
            self._keeper.lost(event.pid)
