"""Make N connections of a pool hot at the same time."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import anyio

from ..errors import ArgumentError, PreheatError, describe, ungrouped
from ..pools import Lease, Pool, as_pool
from .report import ConnectionReport, WarmReport, without_frames

__all__ = ("DEFAULT_CONNECTIONS", "DEFAULT_TIMEOUT", "check_timeout", "ping", "plan_connections", "warm")

logger = logging.getLogger("preheat")

LeaseT = TypeVar("LeaseT", bound=Lease)

DEFAULT_CONNECTIONS = 3
DEFAULT_TIMEOUT = 5.0


async def ping(lease: Lease) -> None:
    """The default probe: the least that can be asked of the server, one round trip."""
    await lease.ping()


@overload
async def warm(
    pool: Pool[LeaseT],
    *,
    connections: int | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    probe: Callable[[LeaseT], Awaitable[object]] = ping,
) -> WarmReport: ...
@overload
async def warm(
    pool: Any,
    *,
    connections: int | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    probe: Callable[[Any], Awaitable[object]] = ping,
) -> WarmReport: ...
async def warm(
    pool: Any,
    *,
    connections: int | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    probe: Callable[[Any], Awaitable[object]] = ping,
) -> WarmReport:
    """Open `connections` connections of `pool` at the same time and make each one hot.

    Each attempt leases a connection and runs the probe on it, in a task of its own. Leases are held at the same time,
    so that no two are the same connection; they are put back together, or as soon as the warm-up has made no progress
    for as long as its slowest connection took, so that one that hangs does not keep the others from the application.

    A failure is recorded in the report and logged, not raised: the pool works as before, only colder. A connection
    that did not pass its probe is closed, never put back half-used.

    Args:
        pool: a pool from :func:`preheat.open_pool`, an :class:`asyncpg.Pool`, or any object with the two members of
            :class:`preheat.pools.Pool`.
        connections: how many; by default `min(3, pool.size)`. Must lie in `1..pool.size`.
        timeout: seconds for the whole warm-up, not for each connection. `math.inf` waits for ever.
        probe: what makes one connection hot; awaited once on each lease.

    Returns:
        What happened to each connection; `report.ok` is true if every one is hot.

    Raises:
        ArgumentError: before any input or output, if `connections` is outside `1..pool.size`, `timeout` is not
            positive or `pool` is not a pool. It is a :class:`ValueError`.

    Cancellation: connections that are already hot stay open in the pool; every lease is returned before the
    cancellation goes on.
    """
    pool = as_pool(pool)
    requested = plan_connections(connections, pool.size)
    check_timeout("timeout", timeout)
    warm_up = _WarmUp(pool, probe, requested)
    with ungrouped(), anyio.move_on_after(timeout) as scope:
        await warm_up.run(scope)
    if warm_up.fatal is not None:
        raise warm_up.fatal
    report = warm_up.report()
    logger.log(logging.INFO if report.ok else logging.WARNING, "pool %s: warm-up: %s", report.pool, report)
    return report


def plan_connections(asked: int | None, size: int) -> int:
    """How many connections to warm in a pool of `size`: what was asked for, by default at most three.

    Raises:
        ArgumentError: if `asked` is outside `1..size`.
    """
    if asked is None:
        return min(DEFAULT_CONNECTIONS, size)
    if not 1 <= asked <= size:
        raise ArgumentError(
            f"connections is {asked} and the pool has {size}; give a number from 1 to {size}, or open a larger pool"
        )
    return asked


def check_timeout(name: str, seconds: float) -> None:
    """Raise :class:`ArgumentError` unless `seconds` is a positive number; infinity is one."""
    if math.isnan(seconds) or seconds <= 0:
        raise ArgumentError(f"{name} is {seconds}; give a positive number of seconds, or math.inf to wait for ever")


class _WarmUp:
    """One warm-up of one pool: its attempts, and when they may let go of their leases."""

    def __init__(self, pool: Pool[Lease], probe: Callable[[Any], Awaitable[object]], requested: int) -> None:
        self._pool = pool
        self._name: str = getattr(pool, "name", type(pool).__name__)
        self._probe = probe
        self._started = anyio.current_time()
        self._attempts = [_Attempt() for _ in range(requested)]
        self._pending = requested  # attempts that are neither hot nor failed
        self._slowest: float | None = None  # seconds that the slowest hot connection took; None until there is one
        self._progress = anyio.Event()  # replaced at each step forward
        self._release = anyio.Event()  # from here on nobody holds a hot lease any longer
        self._hot: set[int] = set()
        self.fatal: BaseException | None = None

    async def run(self, scope: anyio.CancelScope) -> None:
        """Run every attempt to its end; returns when all leases are back."""
        async with anyio.create_task_group() as tasks:
            for number, attempt in enumerate(self._attempts, start=1):
                tasks.start_soon(self._heat, attempt, scope, name=f"preheat: warm {self._name}, connection {number}")
            await self._wait_until_settled_or_stalled()
            self._release.set()

    async def _wait_until_settled_or_stalled(self) -> None:
        """Wait until no attempt is pending, or none has ended for as long as the slowest hot connection took."""
        while self._pending:
            progress = self._progress
            with anyio.move_on_after(self._slowest) as patience:
                await progress.wait()
            if patience.cancelled_caught:
                return

    async def _heat(self, attempt: _Attempt, scope: anyio.CancelScope) -> None:
        """One attempt: lease a connection, probe it, and hold it until the others are there too."""
        try:
            async with self._pool.lease() as lease:
                attempt.connected(lease.pid, anyio.current_time() - self._started)
                if attempt.pid is not None and attempt.pid in self._hot:
                    # Only when the hold is over and the pool has no other connection to lend.
                    raise PreheatError("the pool lent a connection that is hot already; the others are in use")
                try:
                    await self._probe(lease)
                except BaseException:
                    lease.discard()  # half-used: nobody may get it
                    raise
                attempt.passed(anyio.current_time() - self._started)
                self._settle(attempt)
                await self._release.wait()
        except Exception as error:
            if attempt.status != "hot":
                attempt.failed(error)
                self._settle(attempt)
            else:
                logger.warning("pool %s: a hot connection could not be put back: %s", self._name, describe(error))
        except BaseException as error:
            if isinstance(error, (anyio.get_cancelled_exc_class(), BaseExceptionGroup, GeneratorExit)):
                raise
            # KeyboardInterrupt and its like leave through the caller, not through an exception group.
            self.fatal = self.fatal or error
            scope.cancel()

    def _settle(self, attempt: _Attempt) -> None:
        self._pending -= 1
        if attempt.status == "hot":
            if attempt.pid is not None:
                self._hot.add(attempt.pid)
            self._slowest = anyio.current_time() - self._started  # the latest so far
        progress, self._progress = self._progress, anyio.Event()
        progress.set()

    def report(self) -> WarmReport:
        """What happened so far."""
        connections = tuple(attempt.report() for attempt in self._attempts)
        return WarmReport(
            pool=self._name,
            requested=len(self._attempts),
            seconds=anyio.current_time() - self._started,
            timed_out=any(connection.status == "unfinished" for connection in connections),
            connections=connections,
        )


class _Attempt:
    """What is known so far of one connection."""

    __slots__ = ("connect_seconds", "error", "pid", "probe_seconds", "status")

    def __init__(self) -> None:
        self.status: Any = "unfinished"
        self.pid: int | None = None
        self.connect_seconds: float | None = None
        self.probe_seconds: float | None = None
        self.error: Exception | None = None

    def connected(self, pid: int | None, elapsed: float) -> None:
        self.pid = pid
        self.connect_seconds = elapsed

    def passed(self, elapsed: float) -> None:
        self.status = "hot"
        self.probe_seconds = elapsed - (self.connect_seconds or 0.0)

    def failed(self, error: Exception) -> None:
        self.status = "failed"
        self.error = without_frames(error)

    def report(self) -> ConnectionReport:
        return ConnectionReport(self.status, self.pid, self.connect_seconds, self.probe_seconds, self.error)
