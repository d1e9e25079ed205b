"""Locks that processes share, all of them on one lease."""

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

__all__ = ("AnswerLocks",)

logger: logging.Logger = logging.getLogger("preheat")

LOCK_SECONDS = 60.0
"""How long to wait for a lock that another process has, before going on without it."""

FIRST_POLL = 0.02
LONGEST_POLL = 0.5


@dataclass(eq=False, slots=True)
class _Wish:
    """Somebody who wants a lock, has it, or has left."""

    name: str
    decided: anyio.Event = field(default_factory=anyio.Event)
    held: bool = False
    left: bool = False

    def decide(self, held: bool) -> None:
        self.held = held
        self.decided.set()


_sharing: dict[int, WeakSet[AnswerLocks]] = {}
"""Who takes a lease of each pool for its locks. Each storage may have a pool of its own, or share one."""


class AnswerLocks:
    """Locks by name that are the database's, so that processes exclude each other.

    All that are held at one time lie on one lease, which a task in the owner's group keeps. Ten of them take no more
    connections than one, and a holder that goes away at any moment only leaves word. They are advice: where there is no
    connection to spare, or it is lost, one goes on without.

    Args:
        pool: where the lease comes from.
        source: what the pool was made of; pools of one source share its connections.
        flights: the owner.
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

        Cancellation: leaves promptly; the lock is given back in the background.
        """
        keeper = self._start()
        if keeper is None:
            yield False
            return
        wish = _Wish(name)
        keeper.wishes.append(wish)
        keeper.tell()
        try:
            with anyio.move_on_after(LOCK_SECONDS):
                await wish.decided.wait()
            if not wish.decided.is_set():
                logger.warning("pool %s: no lock within %s s; going on without it", self._pool.name, LOCK_SECONDS)
            yield wish.held
        finally:
            wish.left = True
            keeper.tell()

    def _start(self) -> _Keeper | None:
        """The task that keeps the lease; None if there must be none."""
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
        """Whether the pool has a connection left for others, even if all who share it take one for their locks."""
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
        """Keep a lease for as long as somebody wants a lock."""
        try:
            async with self._pool.lease() as lease:
                try:
                    await self._serve(keeper, lease)
                except BaseException:
                    lease.discard()  # its end is the end of its locks
                    raise
        except Exception as error:
            logger.warning("pool %s: going on without locks: %s", self._pool.name, describe(error))
        finally:
            keeper.end()

    async def _serve(self, keeper: _Keeper, lease: SQLLease) -> None:
        pause = FIRST_POLL
        while True:
            news = keeper.news
            left = [wish for wish in keeper.wishes if wish.left]
            keeper.wishes = [wish for wish in keeper.wishes if not wish.left]
            if names := [wish.name for wish in left if wish.held]:
                await lease.fetch(statements.unlock(), names)
                continue
            if not keeper.wishes:
                keeper.ended = True
                return
            if tried := [wish for wish in keeper.wishes if not wish.decided.is_set()]:
                await self._try(tried, lease)
            if all(wish.decided.is_set() for wish in tried):
                pause = FIRST_POLL
                await news.wait()
            else:
                with anyio.move_on_after(pause):
                    await news.wait()
                pause = min(2 * pause, LONGEST_POLL)

    async def _try(self, wishes: list[_Wish], lease: SQLLease) -> None:
        rows = await lease.fetch(statements.try_locks(), [wish.name for wish in wishes], str(lease.pid))
        held = {row["name"]: row["held"] for row in rows}
        for wish in wishes:
            has = held.get(wish.name)
            if has is None and not self._useless:
                self._useless = True
                logger.info("pool %s: going on without locks: its sessions are a pooler's", self._pool.name)
            if has is not False:
                wish.decide(bool(has))


class _Keeper:
    """What a task knows that keeps a lease. It is replaced, never reset."""

    def __init__(self) -> None:
        self.wishes: list[_Wish] = []
        self.ended = False
        self.news = anyio.Event()  # replaced each time

    def tell(self) -> None:
        """There is somebody new, or somebody has left."""
        news, self.news = self.news, anyio.Event()
        news.set()

    def end(self) -> None:
        """Nobody keeps the lease any more."""
        self.ended = True
        for wish in self.wishes:
            if not wish.decided.is_set():
                wish.decide(False)
