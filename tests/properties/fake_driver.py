"""A driver without a server, for the pool of our own in virtual time: connections that behave as they are told.

It is built of futures and timers of the event loop, as asyncpg is, and offers of asyncpg's connection what the pool
uses. So everything above it is real: the queue, the limits, and on trio the event-loop bridge.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import asyncpg
import pytest
from hypothesis import strategies as st

from preheat import open_pool
from preheat.pools import identity
from preheat.pools.asyncpg import pool as asyncpg_pool
from preheat.testing import seconds

Ends = Literal["ok", "lost", "hang"]


@dataclass(frozen=True)
class Life:
    """What becomes of one connection."""

    connect: tuple[float, Ends] = (0.1, "ok")
    """Seconds of the attempt, and how it ends."""
    statements: tuple[tuple[float, Ends], ...] = ()
    """Seconds of each statement, and how it ends; further ones take a tenth of a second and succeed."""
    idle: float | None = None
    """Seconds after its first statement when the server ends it; None for never."""
    answers: bool = True
    """Whether the server ends a statement when it is asked to, and says goodbye."""


SHORT = 0.1


@st.composite
def lives(draw: st.DrawFn, *, healthy: bool = False, hangs: bool = True) -> Life:
    """Lives of connections.

    Args:
        healthy: whether each connection opens and serves its first statement.
        hangs: whether some steps never end.
    """
    ends = st.sampled_from(["ok", "lost", "hang"] if hangs else ["ok", "lost"])
    connect, first = (draw(seconds(1.0)), draw(ends)), (draw(seconds(1.0)), draw(ends))
    if healthy:
        connect, first = (connect[0], "ok"), (first[0], "ok")
    others = draw(st.lists(st.tuples(seconds(1.0), ends), max_size=4))
    idle = draw(st.none() | seconds(2.0))
    return Life(connect, (first, *others), idle, answers=not hangs or draw(st.booleans()))


@dataclass
class Driver:
    """Opens connections, one life after the other, then healthy ones."""

    lives: list[Life]
    new_failed: list[float] = field(default_factory=list)
    """When an attempt has failed, or the first statement of a connection."""
    connections: list[FakeAsyncpgConnection] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    """Seconds of each connection attempt."""

    async def connect(self, *_: object, command_timeout: float | None = None, **__: object) -> FakeAsyncpgConnection:
        """In place of `asyncpg.connect`."""
        loop = asyncio.get_running_loop()
        life = self.lives[len(self.connections)] if len(self.connections) < len(self.lives) else Life()
        connection = FakeAsyncpgConnection(self, life, 1000 + len(self.connections), command_timeout)
        self.connections.append(connection)
        delay, end = life.connect
        began = loop.time()
        try:
            await (loop.create_future() if end == "hang" else asyncio.sleep(delay))
            if end == "lost":
                raise ConnectionRefusedError("planned")
        except BaseException:
            connection.terminate()
            self.new_failed.append(loop.time())
            raise
        finally:
            self.attempts.append(loop.time() - began)
        return connection

    def assert_no_leaks(self) -> None:
        """Raise unless all connections are closed."""
        assert [one.pid for one in self.connections if not one.is_closed()] == []


class FakeAsyncpgConnection:
    """What the pool uses of an asyncpg connection."""

    _top_xact = None
    _transport = None

    def __init__(self, driver: Driver, life: Life, pid: int, command_timeout: float | None) -> None:
        self._driver, self._life, self._pid, self._command_timeout = driver, life, pid, command_timeout
        self._loop = asyncio.get_running_loop()
        self._protocol = self
        self._closed = False
        self._listeners: list[Callable[[Any], object]] = []
        self._steps = iter(life.statements)
        self._served = 0
        self._waiter: asyncio.Future[Any] | None = None
        self._cancelling: asyncio.Future[None] | None = None

    def get_server_pid(self) -> int:
        return self._pid

    def is_closed(self) -> bool:
        return self._closed

    def is_in_transaction(self) -> bool:
        return False

    def add_termination_listener(self, listener: Callable[[Any], object]) -> None:
        self._listeners.append(listener)

    async def fetch(self, query: str, *_: object, timeout: float | None = None) -> list[Any]:
        await self._run(timeout)
        return []

    async def execute(self, query: str, *_: object, timeout: float | None = None) -> str:
        if query not in ("BEGIN READ ONLY", "COMMIT"):  # one life step for a read that is run again
            await self._run(timeout)
        elif self._closed:
            raise asyncpg.InterfaceError("connection is closed")
        return ""

    async def reset(self, *, timeout: float | None = None) -> None:
        await self._run(timeout)

    async def close(self) -> None:
        if not self._life.answers:
            await self._loop.create_future()
        self.terminate()

    def terminate(self) -> None:
        """The end of the connection, whoever has ended it."""
        if self._closed:
            return
        self._closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(asyncpg.ConnectionDoesNotExistError("the connection was closed"))
        if self._cancelling is not None and not self._cancelling.done():
            self._cancelling.set_result(None)
        for listener in self._listeners:
            self._loop.call_soon(listener, self)

    def _is_cancelling(self) -> bool:
        return self._cancelling is not None

    def _request_cancel(self) -> None:
        """Ask the server to end the statement, which takes a moment."""
        self._cancelling = self._loop.create_future()
        if self._life.answers:
            self._loop.call_later(SHORT, self._has_cancelled)

    def _cancel_current_command(self, told: asyncio.Future[None]) -> None:
        if self._life.answers:
            self._loop.call_later(SHORT, lambda: told.done() or told.set_result(None))

    def _has_cancelled(self) -> None:
        cancelling, self._cancelling = self._cancelling, None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(asyncpg.QueryCanceledError("planned"))
        if cancelling is not None and not cancelling.done():
            cancelling.set_result(None)

    async def _run(self, timeout: float | None) -> None:
        """One statement."""
        if self._closed:
            raise asyncpg.InterfaceError("connection is closed")
        if self._cancelling is not None:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._cancelling)
        timeout = self._command_timeout if timeout is None else timeout
        waiter = self._waiter = self._loop.create_future()
        waiter.add_done_callback(self._on_waiter_completed)
        delay, end = next(self._steps, (SHORT, "ok"))
        if end == "lost":
            self._loop.call_later(delay, self.terminate)
        elif end == "ok":
            self._loop.call_later(delay, lambda: waiter.done() or waiter.set_result(None))
        limit = None if timeout is None else self._loop.call_later(timeout, self._on_timeout, waiter)
        is_new = self._served == 0
        try:
            await waiter
        except BaseException as error:
            if is_new and isinstance(error, Exception):
                self._driver.new_failed.append(self._loop.time())
            raise
        finally:
            if limit is not None:
                limit.cancel()
        self._served += 1
        if is_new and self._life.idle is not None:
            self._loop.call_later(self._life.idle, self.terminate)

    def _on_timeout(self, waiter: asyncio.Future[Any]) -> None:
        if not waiter.done():
            self._request_cancel()
            waiter.set_exception(TimeoutError())

    def _on_waiter_completed(self, waiter: asyncio.Future[Any]) -> None:
        if waiter.cancelled() and self._cancelling is None and not self._closed:
            self._request_cancel()


@contextmanager
def virtual_clock() -> Iterator[None]:
    """Let the pool measure the time of the event loop."""
    with pytest.MonkeyPatch.context() as patch:
        loop: Any = None

        def now() -> float:
            nonlocal loop
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # in a task of trio's, which runs a coroutine of the pool
                return anyio.current_time()
            return loop.time()

        patch.setattr(asyncpg_pool, "monotonic", now)
        yield


@asynccontextmanager
async def opened(driver: Driver, **options: Any) -> AsyncGenerator[Any]:
    """A pool whose connections the driver opens. Nothing is left after its end."""
    random.seed(0)
    pool = open_pool("postgresql://user@fake:1/fake?sslmode=disable", connect=driver.connect, **options)
    async with pool as inner:
        yield inner
    own: Any = identity(inner)
    places = own._places
    assert (len(places.idle), len(places.lent), len(places.attempts), len(places.waiting)) == (0, 0, 0, 0)
    driver.assert_no_leaks()
