"""Which connection goes to which caller: the bookkeeping of a pool.

It decides and does nothing else: it has no event loop, no clock, and opens and closes no connection. So every order of
events can be tried in a test. The caller of each method passes the time and carries out what was decided.

A pool has `size` places. A place is *free*, or a connection attempt is under way for it (*connecting*), or it has a
connection that is *idle* or *lent*. A connection that is being closed or reset is still lent, to the pool itself.

A caller for whom there is no idle connection waits in a queue, and a connection attempt is started for it if there is a
free place. It takes whichever comes first: a new connection, or one that is given back. So an attempt belongs to the
pool and not to a caller; the first in the queue gets what it brings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

__all__ = ("Attempt", "Place", "Places", "Waiter")

C = TypeVar("C")

YOUNG_SECONDS = 1.0
"""For how long an attempt that nobody waits for any more may serve the next caller. An older one probably hangs, and
gives way to a fresh one if there is no other place."""

FULL_SECONDS = 1.0
"""For how long no new connection is tried after the server has said that it takes no more, if we have others."""


class Place(Generic[C]):
    """A connection of the pool, and what is known of it."""

    __slots__ = (
        "connection",
        "deadline",
        "expires_at",
        "host",
        "idle_since",
        "is_current",
        "is_due",
        "is_overdue",
        "is_reused",
        "is_second",
        "opened_at",
        "pid",
        "watch",
    )

    def __init__(
        self,
        connection: C,
        *,
        opened_at: float,
        expires_at: float = math.inf,
        pid: int | None = None,
        watch: Any = None,
        host: Any = None,
        is_second: bool = False,
    ) -> None:
        self.connection: C = connection
        self.pid: int | None = pid
        self.opened_at: float = opened_at
        self.expires_at: float = expires_at
        self.deadline: float = math.inf
        """When the statement that runs on it must have ended."""
        self.is_overdue: bool = False
        """Whether the statement that runs on it is being stopped for that."""
        self.idle_since: float = opened_at
        self.is_reused: bool = False
        """Whether it has been idle, or in use before: it may have died since, without anybody noticing."""
        self.is_current: bool = True
        """Whether it may be put back; one that is not is closed instead."""
        self.watch: Any = watch
        """What can tell without a wait that the server has hung up; None if nothing can."""
        self.host: Any = host
        """The server."""
        self.is_second: bool = is_second
        """Whether the server is not of the kind that is preferred."""
        self.is_due: bool = False
        """Whether the server has to be asked how it is before anybody else gets the connection."""


class Attempt:
    """A connection attempt that is under way."""

    __slots__ = ("is_abandoned", "is_spare", "newest", "started_at", "task", "waiter")

    def __init__(self, started_at: float, waiter: Waiter[Any] | None, newest: int) -> None:
        self.started_at: float = started_at
        self.waiter: Waiter[Any] | None = waiter
        """The caller for whom it is."""
        self.is_spare: bool = waiter is None
        """Whether it is for the pool itself, which warms the connection before anybody gets it."""
        self.newest: int = newest
        """The number of the last caller who was in the queue when it began: its failure is an answer for all of
        these, if there is nothing else that they could wait for."""
        self.is_abandoned: bool = False
        self.task: Any = None


class Waiter(Generic[C]):
    """A caller in the queue.

    Args:
        deliver: is called once, with a place or with the error that ends the wait; returns False if the caller does not
            wait any more, and then has taken nothing.
        wants_new: whether it waits for its own connection, if one is being opened for it, and not for one that is given
            back. So a warm-up gets as many connections as it asked for.
    """

    __slots__ = ("attempt", "deliver", "number", "wants_new")

    def __init__(self, deliver: Callable[[Place[C] | Exception], bool], *, wants_new: bool = False) -> None:
        self.deliver: Callable[[Place[C] | Exception], bool] = deliver
        self.wants_new: bool = wants_new
        self.number: int = 0
        self.attempt: Attempt | None = None


class Places(Generic[C]):
    """The places of one pool, and the callers who wait for one, first come first served."""

    def __init__(self, size: int, max_waiting: int | None = None) -> None:
        self.size: int = size
        self.max_waiting: int | None = max_waiting
        self.idle: list[Place[C]] = []
        self.lent: set[Place[C]] = set()
        self.attempts: dict[Attempt, None] = {}
        self.waiting: dict[Waiter[C], None] = {}
        self.is_open: bool = True
        self._callers = 0
        self._full_until = -math.inf
        self._refusal: Exception | None = None  # what the server said when it took no more

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self.idle) + len(self.lent)

    @property
    def free(self) -> int:
        """In how many places there is neither a connection nor an attempt."""
        return self.size - self.connections - len(self.attempts)

    def take(self) -> Place[C] | None:
        """Lend the connection that was put back last; None if no connection is idle."""
        if not self.idle:
            return None
        place = self.idle.pop()
        self.lent.add(place)
        return place

    def put(self, place: Place[C], now: float) -> None:
        """A lent connection comes back: it goes to the caller who waits longest, or becomes idle."""
        place.is_reused = True
        place.idle_since = now
        self._serve(place, is_new=False)

    def remove(self, place: Place[C]) -> bool:
        """A connection is no more. Returns False if that was known."""
        if place in self.lent:
            self.lent.remove(place)
        elif place in self.idle:
            self.idle.remove(place)
        else:
            return False
        return True

    def lend(self, place: Place[C]) -> bool:
        """Lend this one, if it is idle."""
        if place not in self.idle:
            return False
        self.idle.remove(place)
        self.lent.add(place)
        return True

    def join(self, waiter: Waiter[C], *, first: bool = False) -> bool:
        """A caller enters the queue. Returns False if the queue is full, or the pool closed.

        Callers for whom a connection is being opened, or can be, do not count.

        Args:
            first: whether it is put at the head of the queue, however full that is: its connection has died, and its
                place is about to be free.
        """
        most = math.inf if self.max_waiting is None else self.max_waiting + self.free + len(self.attempts)
        if not self.is_open or (len(self.waiting) >= most and not first):
            return False
        self._callers += 1
        waiter.number = self._callers
        if first:
            self.waiting = {waiter: None, **self.waiting}
        else:
            self.waiting[waiter] = None
        return True

    def leave(self, waiter: Waiter[C]) -> None:
        """A caller gives up."""
        if waiter in self.waiting:
            del self.waiting[waiter]
            self._pass_on(waiter.attempt)

    def next_attempt(self, now: float) -> Attempt | None:
        """An attempt to start now; it is under way from here on. None if there is nothing to start.

        A young attempt that nobody waits for is given to the next caller instead.
        """
        if not self.is_open:
            return None
        for waiter in list(self._without_attempt()):
            orphan = next((one for one in self._orphans() if now - one.started_at < YOUNG_SECONDS), None)
            if orphan is not None:
                orphan.waiter, waiter.attempt = waiter, orphan
                continue
            if self.free < 1:
                return None
            if now < self._full_until and (self.lent or self.attempts):
                if waiter.wants_new and self._refusal is not None:  # and nothing is being opened for it
                    self._fail(waiter, self._refusal)
                continue
            attempt = Attempt(now, waiter, self._callers)
            waiter.attempt = attempt
            self.attempts[attempt] = None
            return attempt
        return None

    def retry(self) -> None:
        """Let the next attempt start, although the server has refused one a while ago."""
        self._full_until = -math.inf

    def next_spare(self, now: float) -> Attempt | None:
        """An attempt for the pool itself; it is under way from here on. None if no place is free."""
        if not self.is_open or self.free < 1:
            return None
        attempt = Attempt(now, None, 0)
        self.attempts[attempt] = None
        return attempt

    def next_to_abandon(self) -> Attempt | None:
        """An attempt to cancel, because a caller needs its place and nobody else waits for it.

        To be asked when there is no attempt to start. The place is free when the attempt has failed.
        """
        if self.free > 0 or any(attempt.is_abandoned for attempt in self.attempts):
            return None
        if next(self._without_attempt(), None) is None:
            return None
        orphan = next(self._orphans(), None)
        if orphan is not None:
            orphan.is_abandoned = True
        return orphan

    def opened(self, attempt: Attempt, place: Place[C]) -> bool:
        """An attempt has brought a connection. Returns False if the pool is closed: the connection must be, too."""
        del self.attempts[attempt]
        if not self.is_open:
            return False
        self._full_until = -math.inf
        self._release(attempt)
        self.lent.add(place)
        self._serve(place, is_new=True)
        return True

    def failed(self, attempt: Attempt, error: Exception | None, now: float, *, is_full: bool = False) -> None:
        """An attempt has brought no connection.

        Its caller is told. One who came when it was under way already gets an attempt of its own instead. If there is
        no connection that could be given back, everybody is told who was in the queue when it began, because the next
        attempt would only tell them the same.

        Args:
            error: why; None if it was cancelled.
            is_full: whether the server takes no more connections. Then its caller goes on waiting as long as there is
                a connection of ours, or another attempt under way.
        """
        del self.attempts[attempt]
        caller = self._release(attempt)
        if attempt.is_spare and (self.connections or self.attempts):
            return
        if is_full:
            self._full_until, self._refusal = now + FULL_SECONDS, error
            if self.connections or self.attempts:
                if caller is not None and caller.wants_new and error is not None:
                    self._fail(caller, error)
                return
        if error is None:
            return
        if caller is not None and caller.number <= attempt.newest:
            self._fail(caller, error)
        if not self.connections:
            for waiter in list(self.waiting):
                if waiter.number <= attempt.newest:
                    self._fail(waiter, error)

    def close(self) -> tuple[list[Place[C]], list[Attempt], list[Waiter[C]]]:
        """Lend nothing any more. Returns what was idle and is lent to the pool now, the attempts, and the callers to
        turn away."""
        self.is_open = False
        idle, self.idle = self.idle, []
        self.lent.update(idle)
        waiting, self.waiting = self.waiting, {}
        for attempt in self.attempts:
            self._release(attempt)
        return idle, list(self.attempts), list(waiting)

    def _serve(self, place: Place[C], *, is_new: bool) -> None:
        """Give a lent connection to the first caller who takes it; if there is none, it becomes idle."""
        while self.waiting and (waiter := self._first(is_new)) is not None:
            del self.waiting[waiter]
            accepted = waiter.deliver(place)
            self._pass_on(waiter.attempt)
            if accepted:
                return
        place.is_reused = True
        self.lent.remove(place)
        self.idle.append(place)

    def _first(self, is_new: bool) -> Waiter[C] | None:
        """The caller who waits longest, and for such a connection."""
        waiting = (one for one in self.waiting if is_new or not one.wants_new or one.attempt is None)
        return next(waiting, None)

    def _fail(self, waiter: Waiter[C], error: Exception) -> None:
        del self.waiting[waiter]
        self._pass_on(waiter.attempt)
        waiter.deliver(error)

    def _release(self, attempt: Attempt) -> Waiter[C] | None:
        """Part an attempt that has ended from its caller."""
        waiter, attempt.waiter = attempt.waiter, None
        if waiter is not None:
            waiter.attempt = None
        return waiter

    def _pass_on(self, attempt: Attempt | None) -> None:
        """An attempt whose caller has left the queue is for the next one who has none."""
        if attempt is None:
            return
        self._release(attempt)
        heir = next(self._without_attempt(), None)
        if heir is not None and not attempt.is_abandoned:
            attempt.waiter, heir.attempt = heir, attempt

    def _without_attempt(self) -> Iterator[Waiter[C]]:
        return (waiter for waiter in self.waiting if waiter.attempt is None)

    def _orphans(self) -> Iterator[Attempt]:
        return (
            attempt
            for attempt in self.attempts
            if attempt.waiter is None and not (attempt.is_abandoned or attempt.is_spare)
        )
