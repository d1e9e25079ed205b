"""Keep a warmed pool warm."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ..errors import describe
from ..pools import Lease
from .backoff import next_pause
from .engine import ping
from .report import WarmReport

__all__ = ("CHECK_SECONDS", "Keeper")

logger: logging.Logger = logging.getLogger("preheat")

CHECK_SECONDS = 10.0
"""How often a keeper looks at a pool that does not tell of lost connections."""

Probe = Callable[[Any], Awaitable[object]]


class Keeper:
    """Warms a pool again when a connection was lost or a warm-up has failed, until all connections are hot.

    Otherwise it sleeps. It has one warm-up under way at most, and no caller waits for it. :meth:`run` belongs in the
    task group of the pool's owner; it raises nothing and ends by cancellation.

    Args:
        warm: makes the connections of the pool hot with the probe that it is given.
        probe: makes one connection hot.
        name: what logs call the pool.
        check_seconds: how often to look without being told; infinity for a pool that tells, by :meth:`lost`.
    """

    def __init__(
        self,
        warm: Callable[[Probe], Awaitable[WarmReport]],
        probe: Probe,
        *,
        name: str,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._warm = warm
        self._probe = probe
        self._name = name
        self._check_seconds = check_seconds
        self._hot: set[int] = set()  # connections that have passed the probe
        self._work = anyio.Event()  # replaced when work begins, so that what happens meanwhile is work again

    def warmed(self, report: WarmReport) -> None:
        """Take note of a warm-up that somebody else has made."""
        self._note(report)
        if not report.ok:
            self._work.set()

    def lost(self, pid: int | None) -> None:
        """Take note of a lost connection. Waits for nothing, so a pool may call it at any moment."""
        self._hot.discard(pid or 0)
        self._work.set()

    async def run(self) -> None:
        """Keep the pool warm."""
        while True:
            with anyio.move_on_after(self._check_seconds):
                await self._work.wait()
            await self._make_warm()

    async def _make_warm(self) -> None:
        """Warm the pool until all connections are hot."""
        began, failures, loud = anyio.current_time(), 0, -math.inf
        while True:
            self._work = anyio.Event()
            report = await self._warm_once()
            if report is not None and report.ok:
                if failures:
                    seconds = anyio.current_time() - began
                    logger.info("pool %s: warm again after %.1f s", self._name, seconds, extra={"pool": self._name})
                return
            failures += 1
            now = anyio.current_time()
            told = None if loud == -math.inf else now - loud
            pause = next_pause(report, failures, now - began, told, random.random())  # noqa: S311
            if pause.is_loud:
                loud = now
                fields = {"pool": self._name, "report": None if report is None else report.as_dict()}
                words = "pool %s: not warm for %.0f s and still trying: %s"
                logger.error(words, self._name, now - began, report, extra=fields)
            await anyio.sleep(pause.delay)

    async def _warm_once(self) -> WarmReport | None:
        try:
            report = await self._warm(self._probe_once)
        except Exception as error:  # it would end the owner's other tasks
            words = "pool %s: a warm-up of the keeper failed: %s"
            logger.warning(words, self._name, describe(error), extra={"pool": self._name})
            return None
        self._note(report)
        return report

    async def _probe_once(self, lease: Lease) -> None:
        """Probe a connection that has not passed yet; ask any other only for a sign of life.

        Executed five times with made-up values, a statement may be given a plan for these values for good.
        """
        await (ping if lease.pid in self._hot else self._probe)(lease)

    def _note(self, report: WarmReport) -> None:
        hot = {one.pid for one in report.connections if one.status == "hot" and one.pid is not None}
        self._hot = self._hot | hot if report.ok else hot
