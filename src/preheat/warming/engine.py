"""Make N connections of a pool hot at the same time."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar, overload

import anyio
from anyio.lowlevel import RunVar

from ..errors import ArgumentError, PoolBusyError, describe, ungrouped
from ..pools import Lease, Pool, as_pool, identity
from .backoff import next_try
from .report import ConnectionReport, WarmReport, without_frames

__all__ = ("DEFAULT_CONNECTIONS", "DEFAULT_TIMEOUT", "check_timeout", "ping", "plan_connections", "warm")

logger: logging.Logger = logging.getLogger("preheat")

LeaseT = TypeVar("LeaseT", bound=Lease)

DEFAULT_CONNECTIONS = 3
DEFAULT_TIMEOUT = 5.0

HOLD_SECONDS = 0.05
"""How long a warm-up holds its hot leases at least while no other attempt ends.

Fast connections set a limit of a few milliseconds, which one delay of the scheduler uses up. A pool that prefers idle
connections would then lend a hot one to an attempt that was about to open its own.
"""

HOLD_PARTS = 5
"""Into how many parts that wait is divided."""


async def ping(lease: Lease) -> None:
    """The default probe: the cheapest question to the server, one round trip."""
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
    for as long as its slowest connection took, and for 50 ms at least, so that one that hangs does not keep the others
    from the application.

    There is one warm-up of a pool at a time. A call with the same probe, for as many connections or fewer, joins the
    one that is under way. Any other waits for its end, for half of its own timeout at most; then it warms as many
    connections as the other leaves room for.

    When every failure is transient (`transient` of :class:`preheat.ConnectError`), the warm-up waits for a moment,
    tries one connection, and then the others, until `timeout` has passed. Any other failure ends it, and so does a
    :class:`preheat.PoolBusyError`: the connections that are in use serve others meanwhile.

    A failure is recorded in the report and logged, not raised: the pool works as before, only colder. A connection
    that did not pass its probe is closed, never put back.

    Args:
        pool: a pool from :func:`preheat.open_pool`, an :class:`asyncpg.Pool`, a `psycopg_pool.AsyncConnectionPool`, a
            SQLAlchemy `AsyncEngine`, a `redis.asyncio` client or pool, a :class:`preheat.pools.HTTPPool` or a client
            of httpx with a `base_url`, or any object with the two members of :class:`preheat.pools.Pool`.
        connections: how many; by default `min(3, pool.size)`. Must lie in `1..pool.size`.
        timeout: seconds for the whole warm-up, not for each connection. `math.inf` means no limit.
        probe: what makes one connection hot; awaited once on each lease.

    Returns:
        What happened to each connection; `report.ok` is true if every one is hot.

    Raises:
        ArgumentError: before any input or output, if `connections` is outside `1..pool.size`, `timeout` is not
            positive, or `pool` is not a pool or one that cannot be warmed. It is a :class:`ValueError`.

    Cancellation: connections that are already hot stay open in the pool; every lease is returned before the
    cancellation goes on.
    """
    pool = as_pool(pool)
    requested = plan_connections(connections, pool.size)
    check_timeout("timeout", timeout)
    call = _Call(pool, probe, requested, timeout)
    with ungrouped(), anyio.move_on_after(timeout) as scope:
        await call.serve(scope)
    if call.fatal is not None:
        raise call.fatal
    report = call.report()
    if not call.has_joined:  # the warm-up that it joined has logged the same
        level = logging.INFO if report.ok else logging.WARNING
        fields = {"pool": report.pool, "report": report.as_dict()}
        logger.log(level, "pool %s: warm-up: %s", report.pool, report, extra=fields)
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
        raise ArgumentError(f"{name} is {seconds}; give a positive number of seconds, or math.inf for no limit")


class _Call:
    """One call of :func:`warm`: it joins a warm-up of the pool that is under way, or waits for its turn to run one."""

    def __init__(
        self, pool: Pool[Lease], probe: Callable[[Any], Awaitable[object]], requested: int, timeout: float
    ) -> None:
        self._pool = pool
        self._probe = probe
        self._requested = requested
        self._started = anyio.current_time()
        self._queue_until = self._started + timeout / 2
        self._latest: _WarmUp | None = None  # the warm-up whose connections are reported
        self.has_joined = False
        """Whether it reports the result of another call."""
        self.fatal: BaseException | None = None
        """An exception that the caller must raise, such as a KeyboardInterrupt."""

    async def serve(self, scope: anyio.CancelScope) -> None:
        """Return when as many connections as this call asked for have been tried, by itself or by another."""
        parts = 0  # how many warm-ups of its own ran in the room that another left
        while True:
            others = self._others()
            same = next((one for one in others if one.is_for(self._probe, self._requested)), None)
            if same is not None:
                self._latest = same
                await same.ended.wait()
                if same.has_tried(self._requested):
                    self.has_joined = True
                    return
                continue  # that one was cancelled, or its own timeout ended it
            if others and anyio.current_time() < self._queue_until:
                with anyio.CancelScope(deadline=self._queue_until):
                    await others[0].ended.wait()
                continue
            # No await between here and the start of a warm-up, so no other call can start one in between.
            room = self._pool.size - sum(one.pending for one in others)
            if room < self._requested and (room < 1 or parts):
                await next(one for one in others if one.pending).progress.wait()
                continue
            await self._run(_WarmUp(self._pool, self._probe, min(self._requested, room)), scope)
            if self.fatal is not None or room >= self._requested:
                return
            parts += 1

    async def _run(self, warm_up: _WarmUp, scope: anyio.CancelScope) -> None:
        self._latest = warm_up
        _under_way.get().append(warm_up)
        probing = _probing.set((*_probing.get(), warm_up))
        try:
            await warm_up.run(scope)
        finally:
            _probing.reset(probing)
            _under_way.get().remove(warm_up)
            warm_up.end()
            self.fatal = warm_up.fatal

    def _others(self) -> list[_WarmUp]:
        """The warm-ups of the pool that are under way, except one in whose probe this call is made."""
        pool = identity(self._pool)
        return [one for one in _all_under_way() if one.pool is pool and one not in _probing.get()]

    def report(self) -> WarmReport:
        """What happened so far to as many connections as were asked for."""
        found = [] if self._latest is None else self._latest.connections()
        found += [ConnectionReport("unfinished")] * (self._requested - len(found))
        if len(found) > self._requested:  # it asked for fewer than the one that it joined
            found.sort(key=lambda connection: ("hot", "failed", "unfinished").index(connection.status))
        connections = tuple(found[: self._requested])
        return WarmReport(
            pool=name_of(self._pool),
            requested=self._requested,
            seconds=anyio.current_time() - self._started,
            timed_out=any(connection.status == "unfinished" for connection in connections),
            connections=connections,
            attempts=0 if self._latest is None else self._latest.tries,
        )


def name_of(pool: Any) -> str:
    """What logs and reports call a pool."""
    name: str = getattr(pool, "name", type(pool).__name__)
    return name


class _WarmUp:
    """One warm-up of one pool: it tries all connections, and after transient failures tries again."""

    def __init__(self, pool: Pool[Lease], probe: Callable[[Any], Awaitable[object]], requested: int) -> None:
        self.pool = identity(pool)
        self._pool = pool
        self._probe = probe
        self._requested = requested
        self._try = _Try(pool, probe, requested, frozenset())
        self._failed: list[ConnectionReport] = []  # the connections that failed before this try
        self.tries = 1
        self._has_decided = False  # that no other try would help
        self.ended = anyio.Event()  # every lease is back

    @property
    def pending(self) -> int:
        """How many attempts are neither hot nor failed."""
        return self._try.pending

    @property
    def progress(self) -> anyio.Event:
        """Is set when the next attempt ends."""
        return self._try.progress

    @property
    def fatal(self) -> BaseException | None:
        """An exception that the caller must raise."""
        return self._try.fatal

    def is_for(self, probe: Callable[[Any], Awaitable[object]], requested: int) -> bool:
        """Whether it makes at least `requested` connections hot, with the same probe."""
        return self._probe == probe and self._requested >= requested

    def has_tried(self, requested: int) -> bool:
        """Whether its result answers a call for so many: no other try would help, or enough of them are hot."""
        return self._has_decided or sum(one.status == "hot" for one in self.connections()) >= requested

    def connections(self) -> list[ConnectionReport]:
        """What happened so far: an attempt that is still under way has failed before, if there was another try."""
        tried = [one for one in self._try.connections() if one.status != "unfinished" or not self._failed]
        return tried + self._failed[: self._requested - len(tried)]

    def end(self) -> None:
        """Tell the calls that wait that every lease is back."""
        self.progress.set()
        self.ended.set()

    async def run(self, scope: anyio.CancelScope) -> None:
        """Try until all connections are hot, a failure is not transient, or the time of `scope` is over."""
        failures = 0
        while True:
            await self._try.run(scope)
            tried = self._try.connections()
            failures += any(one.status != "hot" for one in tried)
            retry = next_try(tried, self._requested, failures, random.random())  # noqa: S311
            if self.fatal is not None or retry is None:
                self._has_decided = self.fatal is None
                return
            if anyio.current_time() + retry.delay >= scope.deadline:
                return
            if retry.delay:
                words, name = "pool %s: trying again in %.2f s: %s", name_of(self._pool)
                logger.info(words, name, retry.delay, _cause(tried), extra={"pool": name})
            await anyio.sleep(retry.delay)
            self._failed = [one for one in self.connections() if one.status == "failed"]
            hot = frozenset(one.pid for one in tried if one.status == "hot" and one.pid is not None)
            self._try = _Try(self._pool, self._probe, retry.connections, hot)
            self.tries += 1


def _cause(tried: list[ConnectionReport]) -> str:
    return next(describe(one.error) for one in tried if one.error is not None)


class _Try:
    """One try of a warm-up: its attempts, and the moment at which they put their leases back."""

    def __init__(
        self, pool: Pool[Lease], probe: Callable[[Any], Awaitable[object]], requested: int, known: frozenset[int]
    ) -> None:
        self._pool = pool
        self._known = known  # connections that are hot already, which are held so that the pool lends others
        self._name = name_of(pool)
        self._probe = probe
        self._started = anyio.current_time()
        self._attempts = [_Attempt() for _ in range(requested)]
        self.pending = requested  # attempts that are neither hot nor failed
        self._slowest: float | None = None  # seconds that the slowest hot connection took; None until there is one
        self.progress = anyio.Event()  # replaced at each step forward
        self._release = anyio.Event()  # set: put hot leases back
        self._hot: set[int] = set()
        self.fatal: BaseException | None = None

    def connections(self) -> list[ConnectionReport]:
        """What happened so far."""
        return [attempt.report() for attempt in self._attempts]

    async def run(self, scope: anyio.CancelScope) -> None:
        """Run every attempt to its end; returns when all leases are back."""
        async with anyio.create_task_group() as tasks:
            for number, attempt in enumerate(self._attempts, start=1):
                tasks.start_soon(self._heat, attempt, scope, name=f"preheat: warm {self._name}, connection {number}")
            await self._wait_until_settled_or_stalled()
            self._release.set()

    async def _wait_until_settled_or_stalled(self) -> None:
        """Wait until no attempt is pending, or none has ended for as long as the slowest hot connection took.

        The wait is :data:`HOLD_SECONDS` at least, and divided into parts: if something blocks the event loop, one part
        ends at once after that, and the progress made meanwhile is seen in the next.
        """
        while self.pending:
            progress = self.progress
            if self._slowest is None:
                await progress.wait()
                continue
            for _ in range(HOLD_PARTS):
                with anyio.move_on_after(max(self._slowest, HOLD_SECONDS) / HOLD_PARTS):
                    await progress.wait()
                    break
            else:
                return

    async def _heat(self, attempt: _Attempt, scope: anyio.CancelScope) -> None:
        """One attempt: lease a connection, probe it, and hold it until the others are there too."""
        try:
            lease_new = getattr(self._pool, "lease_new", self._pool.lease)  # a pool of ours lends no hot one again
            async with lease_new() as lease:
                attempt.connected(lease.pid, anyio.current_time() - self._started)
                if attempt.pid is not None and attempt.pid in self._hot:
                    # Only when the hold is over and the pool has no other connection to lend.
                    raise PoolBusyError(
                        self._name,
                        "the pool lent a connection that is hot already; the others are in use",
                        "use a larger pool, or hold connections for a shorter time",
                    )
                try:
                    await (ping if lease.pid in self._known else self._probe)(lease)
                except BaseException:
                    lease.discard()  # its session may be in any state
                    raise
                attempt.passed(anyio.current_time() - self._started)
                if attempt.pid not in self._known:
                    self._tell(attempt)
                self._settle(attempt)
                await self._release.wait()
        except Exception as error:
            if attempt.status != "hot":
                attempt.failed(error)
                self._settle(attempt)
            else:
                words = "pool %s: a hot connection could not be put back: %s"
                logger.warning(words, self._name, describe(error), extra={"pool": self._name})
        except BaseException as error:
            if isinstance(error, (anyio.get_cancelled_exc_class(), BaseExceptionGroup, GeneratorExit)):
                attempt.error = attempt.error or self._why_unfinished(attempt)
                raise
            # The caller raises a KeyboardInterrupt by itself, not in an exception group.
            self.fatal = self.fatal or error
            scope.cancel()

    def _why_unfinished(self, attempt: _Attempt) -> Exception | None:
        """What an attempt without a connection was waiting for, if the pool knows it."""
        why = getattr(identity(self._pool), "why_unfinished", None)
        return None if why is None or attempt.pid is not None else why()

    def _tell(self, attempt: _Attempt) -> None:
        """Let a pool that wants to know it hear that a connection is hot, and by what."""
        warmed_with = getattr(identity(self._pool), "warmed_with", None)
        if warmed_with is not None:
            warmed_with(self._probe, attempt.pid, attempt.probe_seconds)

    def _settle(self, attempt: _Attempt) -> None:
        self.pending -= 1
        if attempt.status == "hot":
            if attempt.pid is not None:
                self._hot.add(attempt.pid)
            self._slowest = anyio.current_time() - self._started  # the latest so far
        progress, self.progress = self.progress, anyio.Event()
        progress.set()


_under_way: RunVar[list[_WarmUp]] = RunVar("preheat warm-ups under way")
_probing: ContextVar[tuple[_WarmUp, ...]] = ContextVar("preheat probes", default=())


def _all_under_way() -> list[_WarmUp]:
    """The warm-ups of all pools in this event loop."""
    try:
        return _under_way.get()
    except LookupError:
        warm_ups: list[_WarmUp] = []
        _under_way.set(warm_ups)
        return warm_ups


class _Attempt:
    """The state of one connection of a warm-up."""

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
