"""A pool without a database: it counts what is done to it, refuses misuse and fails as planned."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import anyio
from anyio.lowlevel import current_token

from ..pools import Operation, Row
from .faults import Fault, FaultPlan

__all__ = ("FakeConnection", "FakeLease", "FakePool")

T = TypeVar("T")

RELEASE_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class FakeConnection:
    """One connection of a :class:`FakePool`."""

    pid: int
    """Its number, counted from 1000 in the order of opening."""
    fault: Fault
    """How it behaves."""
    probes: int = 0
    """How many statements ran on it to the end."""
    closed: bool = False
    """Whether it was closed."""
    statements: list[str] = field(default_factory=list[str])
    """The statements that ran on it to the end."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run a statement: the fault's `probe` step, then no rows."""
        await self.fault.probe()
        self.probes += 1
        self.statements.append(query)
        return []

    async def execute(self, query: str, /, *args: Any) -> str:
        """Run a statement: the fault's `probe` step, then no command tag."""
        await self.fetch(query, *args)
        return ""

    async def copy_to_table(self, table_name: str, /, *, source: Any, columns: Sequence[str], format: str) -> str:
        """Swallow the rows: the fault's `probe` step."""
        return await self.execute(f"COPY {table_name}")

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        """A transaction of which nothing is kept."""
        yield


@dataclass(slots=True)
class FakeLease:
    """One connection, checked out."""

    connection: FakeConnection
    """The connection itself."""
    discarded: bool = False
    """Whether it is closed when the lease ends."""
    ended: bool = False
    """Whether it went back."""

    @property
    def pid(self) -> int | None:
        """The number of the connection."""
        return self.connection.pid

    async def ping(self) -> None:
        """Run a statement: the fault's `probe` step."""
        await self.fetch("SELECT 1")

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run a statement: the fault's `probe` step, then no rows."""
        if self.ended:
            raise AssertionError(f"connection {self.connection.pid} is used after its lease has ended")
        return await self.connection.fetch(query, *args)

    async def execute(self, query: str, /) -> str:
        """Run a script: the fault's `probe` step, then no command tag."""
        await self.fetch(query)
        return ""

    def discard(self) -> None:
        """Close the connection when the lease ends."""
        if self.ended:
            raise AssertionError(f"connection {self.connection.pid} is discarded after its lease has ended")
        self.discarded = True


@dataclass(eq=False)
class FakePool:
    """A pool of at most `size` connections that behave as `plan` says.

    It belongs to the event loop that first uses it, and refuses another one.
    """

    size: int = 10
    """The most connections that are ever open."""
    plan: FaultPlan = field(default_factory=FaultPlan)
    """How the connections behave."""
    order: Literal["lifo", "fifo"] = "lifo"
    """Which idle connection is lent first: the one that came back last, or first."""
    name: str = "fake"
    """What logs and reports call the pool."""

    opens: int = field(default=0, init=False)
    """Connection attempts so far."""
    leases: int = field(default=0, init=False)
    """Leases handed out so far."""
    releases: int = field(default=0, init=False)
    """Leases that ended so far."""
    terminations: int = field(default=0, init=False)
    """Connections that were closed so far."""
    in_use: int = field(default=0, init=False)
    """Leases that are out now."""
    most_in_use: int = field(default=0, init=False)
    """The most leases that were ever out at once."""
    connecting: int = field(default=0, init=False)
    """Connection attempts under way."""
    most_connecting: int = field(default=0, init=False)
    """The most connection attempts that were ever under way at once."""
    connections: list[FakeConnection] = field(default_factory=list[FakeConnection], init=False)
    """Every connection that was ever opened."""
    idle: list[FakeConnection] = field(default_factory=list[FakeConnection], init=False)
    """Open connections that nobody has."""
    tasks: set[int] = field(default_factory=set[int], init=False)
    """The ids of the tasks that asked for a lease."""

    _slots: anyio.Semaphore | None = field(default=None, init=False, repr=False)
    _loop: object = field(default=None, init=False, repr=False)

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[FakeLease]:
        """Check one connection out, waiting while all are in use."""
        self._check_loop()
        if self._slots is None:
            self._slots = anyio.Semaphore(self.size)
        self.tasks.add(anyio.get_current_task().id)
        async with self._slots:
            lease = FakeLease(self.idle.pop(-1 if self.order == "lifo" else 0) if self.idle else await self._connect())
            self.leases += 1
            self.in_use += 1
            self.most_in_use = max(self.most_in_use, self.in_use)
            try:
                yield lease
            finally:
                try:
                    with anyio.move_on_after(RELEASE_SECONDS, shield=True) as scope:
                        if not lease.discarded:
                            await lease.connection.fault.release()
                    if scope.cancelled_caught:
                        lease.discarded = True
                except Exception:
                    lease.discarded = True
                self._put_back(lease)

    async def run(self, operation: Operation[T], /) -> T:
        """Run an operation on one connection, which answers every statement with no rows."""
        async with self.lease() as lease:
            return await operation(lease.connection)

    def assert_no_leaks(self) -> None:
        """Raise :class:`AssertionError` if a lease is out, or an open connection is in nobody's hands."""
        assert self.in_use == 0, f"{self.in_use} leases were never returned"
        lost = [connection.pid for connection in self.connections if not connection.closed]
        assert sorted(lost) == sorted(connection.pid for connection in self.idle), f"open: {lost}, idle: {self.idle}"
        assert self.leases == self.releases, f"{self.leases} leases and {self.releases} releases"

    async def _connect(self) -> FakeConnection:
        number, self.opens = self.opens, self.opens + 1
        fault = self.plan[number]
        self.connecting += 1
        self.most_connecting = max(self.most_connecting, self.connecting)
        try:
            await fault.connect()
        finally:
            self.connecting -= 1
        connection = FakeConnection(1000 + number, fault)
        self.connections.append(connection)
        return connection

    def _put_back(self, lease: FakeLease) -> None:
        assert not lease.ended, f"connection {lease.pid} is released twice"
        lease.ended = True
        self.in_use -= 1
        self.releases += 1
        if lease.discarded:
            lease.connection.closed = True
            self.terminations += 1
        else:
            self.idle.append(lease.connection)

    def _check_loop(self) -> None:
        loop = current_token().native_token
        if self._loop is None:
            self._loop = loop
        assert self._loop is loop, "the pool belongs to another event loop"
