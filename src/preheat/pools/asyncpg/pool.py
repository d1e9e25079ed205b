"""The pool of our own, on asyncio.

The pool's methods are asyncio-flavored: :mod:`preheat.pools.trio.pool` runs them in an asyncio loop on top of trio. A
statement on a connection, and the wait for one, need no asyncio task, so that a trio task can run them by itself.
:mod:`.places` decides which connection goes to which caller. Connections are opened, reset and closed in tasks of the
pool's own: no caller's cancellation ends one in the middle.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from copy import copy
from functools import partial
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import asyncpg

from ...errors import ConnectError, DatabaseError, PoolBusyError, PreheatError, describe
from ..dsn.parameters import ConnectionParameters
from ..home import Home
from ..options import PoolOptions
from ..protocol import Operation, Row
from ..statistics import (
    CallerWaited,
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    ConnectionWarmed,
    PoolEvent,
    PoolHook,
    PoolStatistics,
    notify,
)
from .adapter import (
    CANCEL_SECONDS,
    ENDED,
    READ_ONLY,
    RELEASE_SECONDS,
    AsyncpgLease,
    AsyncpgPool,
    end_statement,
    has_lost_count,
    is_cancelling,
    shielded,
)
from .connector import Verdict
from .errors import is_lost, operation_error
from .opener import NO_SESSION, Opener, has_hung_up, is_pooled, watch
from .places import FULL_SECONDS, Attempt, Place, Places, Waiter
from .reads import is_read
from .tasks import Tasks

__all__ = ("OwnAsyncpgPool", "open_asyncpg_pool")

logger: logging.Logger = logging.getLogger("preheat")

T = TypeVar("T")

Probe: TypeAlias = Callable[[Any], Awaitable[object]]

PATIENCE_SECONDS = 0.04
"""How much of that a caller waits for whose time is up. The pool goes on by itself."""

CLOSE_SECONDS = 5.0
"""The most that closing a pool may take before its connections are dropped."""

CERTAIN_SECONDS = 0.02
"""A connection that was in use so short a time ago is not asked whether the server has hung up."""

FETCH_SECONDS = 60.0
"""The most that a single statement may take by default."""

JITTER = 0.1
"""By which part of it a connection's life may be shorter, so that those opened together do not end together."""

HOUSE_SECONDS = 0.05
"""The least time between two looks at the age of the connections."""

LOOK_SECONDS = 1.0
"""The least time that a server has to say how it is, before its connections are closed."""

SECOND_LOOK_SECONDS = 30.0
"""The least time between two looks for a server of the kind that is preferred, while another one serves."""

TOO_OLD = "it was replaced"

NOT_AGAIN = (READ_ONLY, "08P01")
"""What says that a statement cannot run again in a transaction that only reads: it writes, or a pooler in between
allows no transactions."""

MOST_RERUNS = 3
"""How often a statement is run again that met a prepared statement which the server does not know."""


class OwnAsyncpgPool(AsyncpgPool):
    """A pool that :func:`preheat.open_pool` made: it opens, lends and closes asyncpg connections.

    Args:
        opener: opens one connection.
        options: of the pool.
        current: returns the running event loop, or what stands for it.
        shield: keeps a cancellation away from what is awaited in it.
        run_probe: runs a probe of :func:`preheat.warm` on a lease.
    """

    def __init__(
        self,
        opener: Opener,
        options: PoolOptions,
        *,
        current: Callable[[], object] = asyncio.get_running_loop,
        shield: Callable[[], AbstractContextManager[Any]] = shielded,
        run_probe: Callable[[Probe, AsyncpgLease], Awaitable[object]] = lambda probe, lease: probe(lease),
    ) -> None:
        super().__init__(None, name=options.name, shield=shield)
        self._opener = opener
        self._connector = opener.connector
        self._options = options
        self._hooks = options.hooks
        self._places: Places[Any] = Places(options.size, options.max_waiting)
        self._loop = asyncio.get_running_loop()
        self._home = Home(current, options.name, self._leave_process)
        self._tasks = Tasks()
        self._watching: Any = None  # the timer that stops statements whose time is up
        self._watched_until = math.inf  # when it does so
        self._probe: Probe | None = None
        self._look: asyncio.Future[None] | None = None  # ends the wait until the next look at the connections' age
        self._run_probe = run_probe
        if options.max_lifetime is not None or options.max_idle is not None:
            self._tasks.start(self._keep_house(), f"preheat: close old connections of {options.name}")
        if self._connector.check_seconds is not None:
            self._tasks.start(self._watch_servers(), f"preheat: watch the servers of {options.name}")
        self._emptied: asyncio.Future[None] | None = None  # done when a closed pool has no connection any more
        self._retry: asyncio.TimerHandle | None = None
        timeout = FETCH_SECONDS if options.statement_timeout is None else options.statement_timeout
        self.fetch_timeout: float | None = None if math.isinf(timeout) else timeout
        # A limit that was asked for holds for every statement, and the driver looks after it.
        self._limit = self.fetch_timeout if options.statement_timeout is None else None
        self._opened = self._closed = self._lost = self._failed = self._timeouts = self._waits = 0
        self._create_seconds = self._wait_seconds = 0.0

    def __repr__(self) -> str:
        return f"<OwnAsyncpgPool {self._name} size={self.size}>"

    @property
    def __wrapped__(self) -> Any:
        return None

    @property
    def size(self) -> int:
        """The most connections that the pool ever has open."""
        return self._options.size

    def statistics(self) -> PoolStatistics:
        """The state of the pool now, and what it has done since it was opened."""
        places = self._places
        return PoolStatistics(
            pool=self._name,
            max=self.size,
            idle=len(places.idle),
            used=len(places.lent),
            connecting=len(places.attempts),
            pending_requests=len(places.waiting),
            timeouts=self._timeouts,
            opened=self._opened,
            closed=self._closed,
            lost=self._lost,
            failed=self._failed,
            create_seconds=self._create_seconds,
            waits=self._waits,
            wait_seconds=self._wait_seconds,
        )

    def add_hook(self, hook: PoolHook) -> None:
        """See :meth:`preheat.pools.OpenablePool.add_hook`."""
        self._hooks = (*self._hooks, hook)

    def remove_hook(self, hook: PoolHook) -> None:
        """See :meth:`preheat.pools.OpenablePool.remove_hook`."""
        self._hooks = tuple(one for one in self._hooks if one != hook)

    def notify(self, event: PoolEvent) -> None:
        """Tell the hooks of the pool what has happened."""
        notify(self._hooks, event)

    # Running statements

    async def run(self, operation: Operation[T], /) -> T:
        """Run `operation` on one connection; see :meth:`preheat.pools.SQLPool.run`."""
        lease = self.acquire_nowait() or await self.acquire()
        try:
            result = await operation(lease._connection)
            lease.dirty = is_cancelling(lease._connection)
            return result
        except BaseException as error:
            lease.failed(error)
            if isinstance(error, Exception):
                lease.explain(error)
            raise
        finally:
            if not self.release_nowait(lease):
                await self.release(lease)

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement on one connection; see :meth:`preheat.pools.SQLPool.fetch`."""
        limit, began, runs = self._limit, math.inf, 0
        lost: Exception | None = None  # the end of a connection after which the statement may have been executed
        fresh: AsyncpgLease | None = None
        while True:
            lease = fresh or self.acquire_nowait() or await self.acquire()
            place: Any = lease.place
            if limit is not None:
                began = min(began, lease.taken_at)
                place.deadline = began + limit
                if place.deadline < self._watched_until:
                    self._watch(place.deadline, lease.taken_at)
            try:
                if lost is None:
                    rows: Sequence[Row] = await lease._connection.fetch(query, *args)
                else:
                    rows = await _read_again(lease._connection, query, args)
                lease.dirty = place.is_overdue  # it came at the last moment
                return rows
            except BaseException as error:
                lease.failed(error)
                if not isinstance(error, Exception):
                    raise
                if place.is_overdue:
                    lease.was_cut_short = True
                    raise self._too_late() from error
                told = self.told(error, lease._connection)
                runs += 1
                if lost is not None and getattr(told, "sqlstate", None) in NOT_AGAIN:
                    raise lost from lost.__cause__
                if not self._may_run_again(lease, error, told, query, runs):
                    if told is None:
                        raise
                    raise told from error
                if not lease.is_unknown and told is not None:
                    lost = told
                    lost.__cause__ = error
                limit, began = self.fetch_timeout, min(began, lease.taken_at)  # one limit for all runs together
                if runs > 1 and not lease.is_unknown:
                    fresh = await self._wait(wants_new=True, instead_of=lease)
            finally:
                place.deadline, place.is_overdue = math.inf, False
                if not self.release_nowait(lease):
                    await self.release(lease)

    def _watch(self, deadline: float, now: float) -> None:
        """Look for overdue statements at this time, which is sooner than the next look.

        All statements have the same limit, so only one that is run again has to end sooner than one that began before.
        One timer for all costs a quick statement nothing; one for each, as the driver's, is a third of its time.
        """
        if self._watching is not None:
            self._watching.cancel()
        self._watched_until = deadline
        self._watching = self._loop.call_later(max(deadline - now, 0.0), self._stop_overdue)

    def _stop_overdue(self) -> None:
        """Stop each statement of :meth:`fetch` whose time is up, and wait for the next that may be."""
        now, nearest = monotonic(), math.inf
        for place in list(self._places.lent):
            if place.deadline <= now:
                place.deadline, place.is_overdue = math.inf, True
                try:
                    place.connection._protocol._request_cancel()  # as asyncpg's own time limit does; not public
                except Exception:
                    place.connection.terminate()
                self._loop.call_later(PATIENCE_SECONDS, self._cut_off, place)
            nearest = min(nearest, place.deadline)
        self._watching, self._watched_until = None, math.inf
        if nearest < math.inf:
            self._watch(nearest, now)

    def _cut_off(self, place: Place[Any]) -> None:
        """The server was told to end a statement, and has not."""
        if place.is_overdue and place in self._places.lent:
            place.connection.terminate()

    def _too_late(self) -> DatabaseError:
        """The error for a statement whose time was up."""
        return DatabaseError(
            f"the statement had no answer within {self.fetch_timeout:g} s",
            "ask for less, or give it longer with statement_timeout",
            sqlstate="57014",
        )

    def _may_run_again(
        self, lease: AsyncpgLease, error: Exception, told: Exception | None, query: str, runs: int
    ) -> bool:
        """Whether a statement that has failed on `lease` cannot have changed anything, and may do better elsewhere.

        Args:
            runs: how often it has failed.
        """
        if not self._places.is_open:
            return False
        if lease.is_unknown:  # refused before it was executed
            return runs <= MOST_RERUNS
        reused = lease.place is not None and lease.place.is_reused
        dead = isinstance(told, ConnectError) or isinstance(error, asyncpg.OutdatedSchemaCacheError)
        if not (reused and dead and is_read(query)):
            return False
        if runs > 1:  # the others may have died with these two, so the next one is new
            self._retire_idle("others died at the same time")
        return True

    def told(self, error: Exception, connection: Any) -> PreheatError | None:
        """The error that a caller should see for `error`, which came of `connection`; None for `error` itself."""
        if isinstance(error, PreheatError):
            return None
        if not self._places.is_open and isinstance(error, _ENDS):
            return self.closed()
        if isinstance(error, TimeoutError) and is_cancelling(connection):
            return self._too_late()
        return operation_error(error, self._name, connection)

    def raise_if_closed(self, error: BaseException) -> None:
        """Raise :class:`ConnectError` if `error` comes of the pool's end."""
        if not self._places.is_open and isinstance(error, _ENDS):
            raise self.closed() from error

    def check(self) -> None:
        """Raise :class:`PreheatError` in another event loop than the pool's, and in a forked process."""
        self._home.check()

    def closed(self) -> ConnectError:
        """What each call of a closed pool raises."""
        return ConnectError(self._name, "the pool is closed", "use it before it is closed, or open another one")

    # Lending

    def acquire_nowait(self) -> AsyncpgLease | None:
        """The connection that was put back last, checked out; None if there is none that is alive."""
        self._home.check()
        places = self._places
        while (place := places.take()) is not None:
            connection, now = place.connection, monotonic()
            if not connection.is_closed() and (
                now - place.idle_since < CERTAIN_SECONDS or not has_hung_up(place.watch)
            ):
                return AsyncpgLease(connection, self, place, now)
            self._end(place, None)
        return None

    async def acquire(self) -> AsyncpgLease:
        """The first half of :meth:`lease`, for callers that cannot hold a context manager.

        Cancellation: a caller that is cancelled while it waits leaves the queue. Its connection goes to the next one.
        """
        lease = self.acquire_nowait()
        return lease if lease is not None else await self._wait()

    async def acquire_new(self) -> AsyncpgLease:
        """The first half of :meth:`lease_new`."""
        lease = self.acquire_nowait()
        return lease if lease is not None else await self._wait(wants_new=True)

    @asynccontextmanager
    async def lease_new(self) -> AsyncGenerator[AsyncpgLease]:
        """Check one connection out, an idle one or a new one, but none that is given back meanwhile, for a warm-up.

        If the pool has no free place for a new one, it is one that is given back all the same.
        """
        async with self._checked_out(await self.acquire_new()) as lease:
            yield lease

    async def _wait(self, *, wants_new: bool = False, instead_of: AsyncpgLease | None = None) -> AsyncpgLease:
        """Wait in the queue for a connection, a new one or one that is given back.

        Args:
            wants_new: as of :class:`Waiter`.
            instead_of: a lease that ends here. Its caller goes to the head of the queue, so the attempt that can start
                in the place of its connection is for this caller.
        """
        turn: asyncio.Future[Place[Any] | Exception] = self._loop.create_future()

        def deliver(outcome: Place[Any] | Exception) -> bool:
            if turn.done():  # cancelled, and not yet awake to leave the queue
                return False
            turn.set_result(outcome)
            return True

        waiter: Waiter[Any] = Waiter(deliver, wants_new=wants_new)
        if not self._places.join(waiter, first=instead_of is not None):
            if not self._places.is_open:
                raise self.closed()
            self._timeouts += 1
            raise PoolBusyError(
                self._name,
                f"{self._options.max_waiting} callers wait for a connection already",
                "try again later, or raise max_waiting or the size of the pool",
            )
        started = monotonic()
        timer = _timer(self._loop, self._options.acquire_timeout, partial(self._give_up, waiter))
        if instead_of is not None:
            place, instead_of._connection = instead_of.place, ENDED
            if place is not None:
                self._end(place, None if place.connection.is_closed() else "it was discarded")
        self._act()
        served = False
        try:
            outcome = await turn
            served = isinstance(outcome, Place)
        except BaseException:
            self._places.leave(waiter)
            if turn.done() and not turn.cancelled() and isinstance(came := turn.result(), Place):
                self._put(came)  # it came, and its caller has gone
            raise
        finally:
            if timer is not None:
                timer.cancel()
            seconds = monotonic() - started
            self._waits += 1
            self._wait_seconds += seconds
            if self._hooks:
                self.notify(CallerWaited(self._name, seconds, served))
        if isinstance(outcome, Place):
            return AsyncpgLease(outcome.connection, self, outcome, monotonic())
        # Several callers may get the error of one attempt. Each raises its own, unless it comes of the user's code.
        raise (copy(outcome) if isinstance(outcome, PreheatError) else outcome) from outcome.__cause__

    def _give_up(self, waiter: Waiter[Any]) -> None:
        """A caller has waited for as long as it may."""
        places = self._places
        if waiter not in places.waiting:  # served in this very moment
            return
        places.leave(waiter)
        self._timeouts += 1
        busy = f"{len(places.lent)} of {self.size} connections are in use and {len(places.attempts)} are being opened"
        waiter.deliver(
            PoolBusyError(
                self._name,
                f"none came free within {self._options.acquire_timeout:g} s: {busy}",
                "use a larger pool, shorter transactions, or give it longer with acquire_timeout",
            )
        )

    def release_nowait(self, lease: AsyncpgLease) -> bool:
        """Put a connection back without a wait and return True, unless something may have happened to it."""
        if lease.exposed or lease.dirty or lease.discarded:
            return False
        connection, place = lease._connection, lease.place
        if place is None or not place.is_current or connection.is_closed() or connection.is_in_transaction():
            return False
        if not self._places.is_open:
            return False
        lease._connection = ENDED
        if place.is_due:  # the caller need not wait for it
            self._tasks.start(self._check_server(place), f"preheat: ask a server of {self._name} how it is")
        else:
            self._places.put(place, monotonic())
        return True

    async def release(self, lease: AsyncpgLease) -> None:
        """Put a connection back as it is if nothing can have happened to it, without a wait; look after it if not.

        Cancellation: the pool goes on without the caller.
        """
        if lease._connection is ENDED:
            return
        lease.dirty |= is_cancelling(lease._connection)
        if self.release_nowait(lease):
            return
        place, connection = lease.place, lease._connection
        lease._connection = ENDED
        if place is None or place not in self._places.lent:
            return  # the pool was closed meanwhile, or the lease has ended before
        if is_lost(connection):
            self._end(place, None)
            return
        done: asyncio.Future[None] = self._loop.create_future()
        task = self._tasks.start(self._mend(place, lease), f"preheat: put a connection back into {self._name}")
        task.add_done_callback(lambda _: _resolve(done))
        timer = _timer(self._loop, PATIENCE_SECONDS, partial(_resolve, done)) if lease.was_cut_short else None
        try:
            with self._shield():
                await done
        finally:
            if timer is not None:
                timer.cancel()

    async def _mend(self, place: Place[Any], lease: AsyncpgLease) -> None:
        """Put a connection back after something has happened to it, or close it."""
        connection = place.connection
        reason = "it could not be reset"
        try:
            async with asyncio.timeout(2 * RELEASE_SECONDS):
                if connection.is_in_transaction():  # its rollback was cancelled with all the rest
                    await connection.execute("ROLLBACK", timeout=RELEASE_SECONDS)
                if lease.is_unknown and self._options.prepare == "auto" and self._opener.is_named:
                    await self._look_for_pooler(connection)
                if lease.discarded:
                    await end_statement(connection)
                    reason = "it was discarded"
                    return
                if lease.exposed or has_lost_count(connection):
                    await connection.reset(timeout=RELEASE_SECONDS)
                elif is_cancelling(connection):  # the server says first that it has ended the statement
                    await connection.execute("SELECT 1", timeout=CANCEL_SECONDS)
            if reason := self._unfit(place):
                return
            self._places.put(place, monotonic())
        except Exception as error:
            # The work is done or its own error is under way; a connection that cannot be put back is no reason to
            # fail it.
            words = "pool %s: a connection was dropped: %s"
            logger.warning(words, self._name, describe(error), extra={"pool": self._name})
        finally:
            if reason:
                self._end(place, None if connection.is_closed() else reason)

    def _unfit(self, place: Place[Any]) -> str:
        """Why a connection must not be put back; empty if it may."""
        if not self._places.is_open:
            return "the pool is closed"
        if not place.is_current:
            return TOO_OLD
        return "it was lost" if place.connection.is_closed() else ""

    async def _look_for_pooler(self, connection: Any) -> None:
        """The server did not know a prepared statement: go on without names if a pooler is to blame."""
        if await is_pooled(connection) and self._opener.is_named:
            logger.info(
                "pool %s: a prepared statement was lost behind a pooler: it gives each transaction to another session, "
                "or something has removed or changed the statement, such as DISCARD ALL. From here on, statements are "
                "not prepared by name. With prepare=False in open_pool() they are not from the start; with "
                "prepare=True they always are, for a pooler in session mode",
                self._name,
            )
            self._opener.is_named = False
            for place in self._places.lent:
                place.is_current = False
            self._retire_idle("it has prepared statements by name")

    # Opening and closing connections

    def _act(self) -> None:
        """Start the connection attempts that callers need, and end those that keep others from theirs."""
        now = monotonic()
        while (attempt := self._places.next_attempt(now)) is not None:
            attempt.task = self._tasks.start(self._serve(attempt), f"preheat: connect {self._name}")
            attempt.task.add_done_callback(partial(self._forget_unbegun, attempt))
        if (orphan := self._places.next_to_abandon()) is not None and orphan.task is not None:
            orphan.task.cancel()

    def _forget_unbegun(self, attempt: Attempt, _: object) -> None:
        """A connection attempt has ended. A task that is cancelled before its first step runs no code of its own."""
        if attempt in self._places.attempts:
            self._places.failed(attempt, None, monotonic())
            self._act()
            self._check_emptied()

    async def _serve(self, attempt: Attempt) -> None:
        """Open a connection for a caller."""
        await self._open(attempt)

    async def _open(self, attempt: Attempt) -> bool:
        """Open a connection for the first caller in the queue. Returns whether it is open.

        One that is for the pool itself is warmed first.
        """
        started = monotonic()
        deadline = self._loop.time() + self._options.connect_timeout
        failure: Exception | None = None
        connection: Any = None
        try:
            connection = await self._opener(deadline)
            if attempt.is_spare and self._probe is not None:
                await self._warm(connection, self._probe, deadline)
            if connection.is_closed():  # it was lost between the end of its opening and this step
                raise ConnectError(self._name, "the new connection was lost", "try again", transient=True)
        except Exception as error:
            failure = error
            _terminate(connection)
            connection = None
        except BaseException as error:
            _terminate(connection)
            connection = None
            if self._places.is_open and not attempt.is_abandoned:  # not the pool's own doing
                failure = ConnectError(self._name, describe(error), "try again", transient=True)
            raise
        finally:
            if connection is None:
                self._failed += failure is not None
                is_full = _is_full(failure)
                self._places.failed(attempt, failure, monotonic(), is_full=is_full)
                if is_full and self._places.is_open:
                    if self._retry is not None:
                        self._retry.cancel()  # it would come before the time of this refusal is over
                    self._retry = self._loop.call_later(FULL_SECONDS, self._try_again)
            else:
                self._admit(attempt, connection, started)
            self._act()
            self._check_emptied()
        return connection is not None

    async def _warm(self, connection: Any, probe: Probe, deadline: float) -> None:
        """Run the probe of the last warm-up on a connection that is not in the pool yet."""
        began = monotonic()
        async with asyncio.timeout_at(deadline):
            await self._run_probe(probe, AsyncpgLease(connection, self))
        self.warmed_with(probe, connection.get_server_pid(), monotonic() - began)

    def _admit(self, attempt: Attempt, connection: Any, started: float) -> None:
        now = monotonic()
        life = (self._options.max_lifetime or math.inf) * (1 - JITTER * random.random())  # noqa: S311  no secret
        pid = connection.get_server_pid()
        found = self._connector.found(connection)
        place: Place[Any] = Place(
            connection,
            opened_at=now,
            expires_at=now + life,
            pid=pid,
            watch=watch(connection),
            host=None if found is None else found.host,
            is_second=found is not None and found.verdict.kind != "",
        )
        self._opened += 1
        self._create_seconds += now - started
        if self._hooks:
            self.notify(ConnectionOpened(self._name, pid, now - started))
        connection.add_termination_listener(partial(self._notice_end, place))
        if not self._places.opened(attempt, place):
            connection.terminate()

    def _try_again(self) -> None:
        """The server took no more connections a while ago."""
        self._retry = None
        self._places.retry()
        self._act()

    def _put(self, place: Place[Any]) -> None:
        """Put a connection back that nothing has happened to."""
        if reason := self._unfit(place):
            self._end(place, None if place.connection.is_closed() else reason)
        else:
            self._places.put(place, monotonic())

    def _notice_end(self, place: Place[Any], _: object) -> None:
        """A connection has ended. One that is in use is looked at when it comes back."""
        if place in self._places.idle:
            self._end(place, None)

    def _end(self, place: Place[Any], reason: str | None) -> None:
        """Close a connection at once, without a word to the server.

        Args:
            reason: why; None if it was lost.
        """
        if not self._places.remove(place):
            return
        if reason is None:
            self._opener.forget()
            self._lost += 1
            self.notify(ConnectionLost(self._name, place.pid))
        else:
            self._closed += 1
            self.notify(ConnectionClosed(self._name, place.pid, reason))
        place.connection.terminate()
        if self._places.is_open:
            self._act()
        self._check_emptied()

    def _retire_idle(self, reason: str) -> None:
        """Close the idle connections."""
        for place in list(self._places.idle):
            self._end(place, reason)

    # Replacing connections

    def why_unfinished(self) -> Exception | None:
        """Why a warm-up has no more connections, if that is known, when its time is up."""
        return self._opener.no_session() if self._opener.waits_for_session else None

    def warmed_with(self, probe: Probe, pid: int | None, seconds: float) -> None:
        """A connection has passed a probe: remember it for those that take the place of others.

        Args:
            seconds: how long the probe took.
        """
        self._probe = probe
        self.notify(ConnectionWarmed(self._name, pid, seconds))

    async def _keep_house(self) -> None:
        """Close connections that were idle for too long, and replace those that are too old."""
        lifetime, idle = self._options.max_lifetime, self._options.max_idle
        period = min((lifetime or math.inf) * (1 - JITTER), idle or math.inf)
        while True:
            now = monotonic()
            dues = [now + period]
            for place in (*self._places.idle, *self._places.lent):
                if idle is not None and place in self._places.idle:
                    if now >= place.idle_since + idle:
                        self._end(place, "it was idle for max_idle")
                        continue
                    dues.append(place.idle_since + idle)
                if place.is_current and now >= place.expires_at and not await self._replace(place):
                    place.expires_at = monotonic() + min(self._options.connect_timeout, lifetime or math.inf)
                dues.append(max(place.expires_at, now))
            self._look = self._loop.create_future()
            timer = self._loop.call_later(max(min(dues) - monotonic(), HOUSE_SECONDS), _resolve, self._look)
            try:
                await self._look
            finally:
                timer.cancel()

    def look_now(self) -> None:
        """Look at the age of the connections without waiting for the time to do so."""
        if self._look is not None:
            _resolve(self._look)

    async def _replace(self, old: Place[Any]) -> bool:
        """Open a connection in place of one that is too old, and warm it before anybody gets it.

        The old one goes when the new one is there; if the pool has no free place, before that. One that is in use goes
        when it comes back.

        Returns:
            Whether there is a new one.
        """
        spare = self._places.next_spare(monotonic())
        if spare is None:
            self._retire(old)
            spare = self._places.next_spare(monotonic())
        if spare is None:
            return False
        spare.task = asyncio.current_task()
        if await self._open(spare):
            self._retire(old)
            return True
        return False

    # Watching servers

    async def _watch_servers(self) -> None:
        """Ask each server from time to time whether it still suits, and look for a better one where it does not."""
        connector, places = self._connector, self._places
        looked = monotonic()
        while True:
            await asyncio.sleep(connector.check_seconds or math.inf)
            hosts: dict[Any, list[Place[Any]]] = {}
            for place in (*places.idle, *places.lent):
                hosts.setdefault(place.host, []).append(place)
            async with asyncio.TaskGroup() as tasks:
                for members in hosts.values():
                    idle = next((place for place in members if places.lend(place)), None)
                    if idle is not None:
                        tasks.create_task(self._check_server(idle))
                    for place in members if idle is None else ():
                        place.is_due = True  # the first that comes back is asked
            if monotonic() - looked >= SECOND_LOOK_SECONDS:
                looked = monotonic()
                await self._look_for_better()

    async def _check_server(self, place: Place[Any]) -> None:
        """Ask the server of a connection that is lent to the pool whether it still suits, and put the connection back.

        All connections to this server follow its answer.
        """
        connector, places = self._connector, self._places
        try:
            async with asyncio.timeout(max(connector.check_seconds or 0.0, LOOK_SECONDS)):
                verdict = await connector.look(place.connection)
        except TimeoutError:
            verdict = Verdict("a server that does not answer", may_serve=False)
        except Exception:
            self._end(place, None)  # the others are asked the next time
            return
        except BaseException:
            self._end(place, "it was being asked about its server")
            raise
        if not verdict.may_serve:
            logger.warning("pool %s: connections to %s are closed: it is %s", self._name, place.host, verdict.kind)
        for each in (*places.idle, *places.lent):
            if each.host == place.host:
                each.is_due, each.is_second = False, verdict.kind != ""
                each.is_current &= verdict.may_serve
        for each in list(places.idle):
            if not each.is_current:
                self._end(each, None)
        if verdict.may_serve:
            self._put(place)
        else:
            self._end(place, None)

    async def _look_for_better(self) -> None:
        """Replace connections to servers that are not of the kind that is preferred, as long as a better one is found.

        One is replaced even if none is found, because only a new connection can tell.
        """
        for old in list(self._places.idle):
            if not old.is_second:
                continue
            known = {*self._places.idle, *self._places.lent}
            if not await self._replace(old) or any(
                new.is_second for new in {*self._places.idle, *self._places.lent} - known
            ):
                return

    def _retire(self, place: Place[Any]) -> None:
        """Close a connection because of its age, now or when it comes back."""
        place.is_current = False
        if place in self._places.idle:
            self._places.remove(place)
            self._closed += 1
            self.notify(ConnectionClosed(self._name, place.pid, TOO_OLD))
            place.connection.terminate()

    def _check_emptied(self) -> None:
        if self._emptied is not None and not self._places.lent and not self._places.attempts:
            _resolve(self._emptied)

    async def close(self) -> None:
        """Close the connections; those in use are waited for, a few seconds. A connection that dies is no error.

        The server is told to end what it still does for them.

        Cancellation: drops them all.
        """
        places = self._places
        idle, attempts, waiting = places.close()
        for timer in (self._retry, self._watching):
            if timer is not None:
                timer.cancel()
        for waiter in waiting:
            waiter.deliver(self.closed())
        for attempt in attempts:
            attempt.task.cancel()
        for place in idle:
            self._tasks.start(self._say_goodbye(place), f"preheat: close a connection of {self._name}")
        self._emptied = self._loop.create_future()
        self._check_emptied()
        try:
            with self._shield():
                try:
                    async with asyncio.timeout(CLOSE_SECONDS - min(CANCEL_SECONDS, CLOSE_SECONDS / 2)):
                        await self._emptied
                except TimeoutError:
                    words = "pool %s: closed with connections still in use, or a mute server"
                    logger.warning(words, self._name, extra={"pool": self._name})
                    await self._stop_statements()
        finally:
            for place in list(places.lent):
                self._end(place, "the pool is closed")
            with self._shield():
                await self._tasks.end()

    async def _say_goodbye(self, place: Place[Any]) -> None:
        """Close a connection as the protocol has it."""
        try:
            with suppress(Exception):  # a connection that dies as it is closed is closed
                await place.connection.close()
        finally:
            self._end(place, "the pool is closed")

    async def _stop_statements(self) -> None:
        """Tell the server to end the statements that are still running: it would go on for clients that have gone."""
        sent: list[asyncio.Future[None]] = []
        for place in self._places.lent:
            with suppress(Exception):  # asyncpg's own way, which is not public
                place.connection._cancel_current_command(told := self._loop.create_future())
                sent.append(told)
        if sent:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(CANCEL_SECONDS, CLOSE_SECONDS / 2)):
                    await asyncio.wait(sent)

    def _leave_process(self) -> None:
        """In a forked child: keep the garbage collector from ending what is the parent's."""
        for place in (*self._places.idle, *self._places.lent):
            place.connection._aborted = True
        self._places.is_open = False


_ENDS = (
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.QueryCanceledError,
    OSError,
    asyncio.CancelledError,
)
"""What a caller's work may end in when its connection is closed under it."""


def _is_full(error: Exception | None) -> bool:
    """Whether a server or a pooler takes no more connections, for now."""
    words = str(error)
    return getattr(error, "sqlstate", None) == "53300" or "no more connections allowed" in words or NO_SESSION in words


async def _read_again(connection: Any, query: str, args: Sequence[Any]) -> Sequence[Row]:
    """Run a statement that the server may have executed before, in a transaction that cannot change anything.

    Only the server knows whether a function that the statement calls writes.
    """
    await connection.execute("BEGIN READ ONLY")
    rows: Sequence[Row] = await connection.fetch(query, *args)
    await connection.execute("COMMIT")
    return rows


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _terminate(connection: Any) -> None:
    if connection is not None:
        connection.terminate()


def _timer(
    loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], object]
) -> asyncio.TimerHandle | None:
    """Call something later; infinity is never."""
    return None if seconds == math.inf else loop.call_later(seconds, callback)


@asynccontextmanager
async def open_asyncpg_pool(parameters: ConnectionParameters, options: PoolOptions) -> AsyncGenerator[OwnAsyncpgPool]:
    """Open a pool on asyncio; see :func:`preheat.open_pool`."""
    pool = OwnAsyncpgPool(Opener(parameters, options, password=options.password, init=options.init), options)
    try:
        yield pool
    finally:
        await pool.close()
