"""Locks by which processes exclude each other, all of a storage on one lease."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakSet

import anyio

from ..._concurrency.single_flight import SingleFlight
from ...errors import PreheatError, describe
from ...pools import SQLLease, SQLPool
from . import sql as statements

logger: logging.Logger = logging.getLogger("preheat")

LOCK_SECONDS = 60.0
"""How long to wait for a lock of another process before going on without it."""

FIRST_POLL = 0.02
LONGEST_POLL = 0.5


@dataclass(eq=False, slots=True)
class _Request:
    """One caller's request for a lock."""

    name: str
    decided: anyio.Event = field(default_factory=anyio.Event)
    held: bool = False
    left: bool = False

    def decide(self, held: bool) -> None:
        self.held = held
        self.decided.set()


_sharing: dict[int, WeakSet[AnswerLocks]] = {}
"""The locks that take a lease of each pool. A storage may have a pool of its own, or share one."""


class AnswerLocks:
    """Advisory locks of the database, by name.

    All locks that a storage holds are on one lease, so that ten of them take as many connections as one. A task in the
    owner's group keeps the lease, and is the only one that uses the connection. Callers only add a request, or mark it
    as left, and wake the task, all without an `await` between. So a caller can be cancelled at any moment, and the lock
    is still released: by the task, or by the end of the session.

    The locks are an optimization. If there is no connection to spare, or it is lost, callers go on without them.

    Args:
        pool: the pool of the lease.
        source: the pool that the user gave; all pools made of one source share its connections.
        flights: the owner of the task.
    """

    def __init__(self, pool: SQLPool, source: object, flights: SingleFlight) -> None:
        self._pool = pool
        self._source = source
        self.flights = flights
        self._keeper: _Keeper | None = None
        self._useless = False

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncGenerator[bool]:
        """Hold a lock, or go on without it: True if it is held.

        Cancellation: leaves promptly; the lock is released in the background.
        """
        keeper = self._start()
        if keeper is None:
            yield False
            return
        request = _Request(name)
        keeper.requests.append(request)
        keeper.tell()
        try:
            with anyio.move_on_after(LOCK_SECONDS):
                await request.decided.wait()
            if not request.decided.is_set():
                logger.warning("pool %s: no lock within %s s; going on without it", self._pool.name, LOCK_SECONDS)
            yield request.held
        finally:
            request.left = True
            keeper.tell()

    def _start(self) -> _Keeper | None:
        """The task that keeps the lease, started if it is not running; None if the pool has no connection to spare."""
        if self._useless or not self._may_take_a_lease():
            return None
        if self._keeper is None or self._keeper.ended:
            keeper = _Keeper()
            try:
                self.flights.start_soon(lambda: self._keep(keeper), name=f"preheat: keep locks on {self._pool.name}")
            except PreheatError:
                return None
            self._keeper = keeper
        return self._keeper

    def _may_take_a_lease(self) -> bool:
        """Whether the pool has a connection left for others, even if all that share it take one for their locks."""
        for source, sharing in list(_sharing.items()):
            if all(locks.flights.closed for locks in sharing):
                del _sharing[source]
        sharing = _sharing.setdefault(id(self._source), WeakSet())
        others = sum(not locks.flights.closed for locks in sharing if locks is not self)
        if others + 2 > self._pool.size:
            return False
        sharing.add(self)
        return True

    async def _keep(self, keeper: _Keeper) -> None:
        """Keep a lease as long as there are requests."""
        try:
            async with self._pool.lease() as lease:
                try:
                    await self._serve(keeper, lease)
                except BaseException:
                    lease.discard()  # the server releases the locks of a session that ends
                    raise
        except Exception as error:
            logger.warning("pool %s: going on without locks: %s", self._pool.name, describe(error))
        finally:
            keeper.end()

    async def _serve(self, keeper: _Keeper, lease: SQLLease) -> None:
        pause = FIRST_POLL
        while True:
            # The event is read before the requests. A request that comes later sets this very event, so that the wait
            # below ends at once: no request is missed.
            news = keeper.news
            left = [request for request in keeper.requests if request.left]
            keeper.requests = [request for request in keeper.requests if not request.left]
            if names := [request.name for request in left if request.held]:
                await lease.fetch(statements.unlock(), names)
                continue
            if not keeper.requests:
                keeper.ended = True
                return
            if tried := [request for request in keeper.requests if not request.decided.is_set()]:
                await self._try(tried, lease)
            if all(request.decided.is_set() for request in tried):
                pause = FIRST_POLL
                await news.wait()
            else:
                with anyio.move_on_after(pause):
                    await news.wait()
                pause = min(2 * pause, LONGEST_POLL)

    async def _try(self, requests: list[_Request], lease: SQLLease) -> None:
        rows = await lease.fetch(statements.try_locks(), [request.name for request in requests], str(lease.pid))
        held = {row["name"]: row["held"] for row in rows}
        for request in requests:
            has = held.get(request.name)
            if has is None and not self._useless:
                self._useless = True
                logger.info("pool %s: going on without locks: its sessions are a pooler's", self._pool.name)
            if has is not False:
                request.decide(bool(has))


class _Keeper:
    """The state of a task that keeps a lease. It is replaced, never reset."""

    def __init__(self) -> None:
        self.requests: list[_Request] = []
        self.ended = False
        self.news = anyio.Event()  # replaced each time

    def tell(self) -> None:
        """Wake the task: there is a new request, or a caller has left."""
        news, self.news = self.news, anyio.Event()
        news.set()

    def end(self) -> None:
        """The lease is gone: let all callers go on without a lock."""
        self.ended = True
        for request in self.requests:
            if not request.decided.is_set():
                request.decide(False)
