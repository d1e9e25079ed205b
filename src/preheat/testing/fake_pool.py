"""A pool without a database. It counts what is done to it, refuses misuse, and fails as a plan says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypeVar

import anyio
from anyio.lowlevel import current_token

from ..pools import Operation, Row
from .fault_plan import Fault, FaultPlan, hang

__all__ = ("FakeConnection", "FakeLease", "FakePool")

T = TypeVar("T")

RELEASE_SECONDS = 1.0
"""How long the release of a connection may take before the pool closes it."""


@dataclass(slots=True, eq=False)
class FakeConnection:
    """One connection of a :class:`FakePool`."""

    pool: FakePool = field(repr=False)
    """The pool of the connection."""
    pid: int
    """The number of the connection, counted from 1000 in the order of opening."""
    fault: Fault
    """How the connection behaves."""
    probes: int = 0
    """The number of statements that ran to the end."""
    closed: bool = False
    """Whether the connection is closed."""
    interrupted: bool = False
    """Whether a statement failed or did not end. The holder should discard the connection: the pool would lend it."""
    busy: bool = False
    """Whether a statement runs now."""
    lent: FakeLease | None = field(default=None, repr=False)
    """The lease of the connection; None while it is idle."""
    gone: str = ""
    """How the server has left the idle connection: `lost` or `half-open`; empty if it has not."""
    statements: list[str] = field(default_factory=list[str])
    """The statements that ran to the end."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run a statement: the fault's `probe` step, then no rows."""
        self.pool.check_loop()
        if self.lent is None:
            self.pool.refuse(f"connection {self.pid} is used after its lease has ended")
        if self.busy:
            self.pool.refuse(f"connection {self.pid} runs one statement at a time, and is asked for two")
        interrupted_before, self.interrupted, self.busy = self.interrupted, True, True
        try:
            await (hang() if self.gone else self.fault.probe)()
        finally:
            self.busy = False
        self.interrupted = interrupted_before
        self.probes += 1
        self.statements.append(query)
        return []

    async def execute(self, query: str, /, *args: Any) -> str:
        """Run a statement: the fault's `probe` step, then no command tag."""
        await self.fetch(query, *args)
        return ""

    async def copy_to_table(
        self,
        table_name: str,
        /,
        *,
        schema_name: str | None = None,
        source: Any,
        columns: Sequence[str],
        format: str,
        where: str | None = None,
    ) -> str:
        """Ignore the rows: the fault's `probe` step."""
        return await self.execute(f"COPY {table_name}")

    @asynccontextmanager
    async def transaction(self, *, isolation: str | None = None) -> AsyncGenerator[None]:
        """A transaction that does nothing."""
        yield


@dataclass(slots=True, eq=False)
class FakeLease:
    """One connection, checked out."""

    pool: FakePool = field(repr=False)
    """The pool of the connection."""
    _connection: FakeConnection
    discarded: bool = False
    """Whether the connection is closed when the lease ends."""
    ended: bool = False
    """Whether the lease has ended."""

    @property
    def connection(self) -> FakeConnection:
        """The connection itself."""
        self._check("taken")
        return self._connection

    @property
    def pid(self) -> int | None:
        """The number of the connection."""
        return self._connection.pid

    async def ping(self) -> None:
        """Run a statement: the fault's `probe` step."""
        await self.fetch("SELECT 1")

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run a statement: the fault's `probe` step, then no rows."""
        self._check("used")
        return await self._connection.fetch(query, *args)

    async def execute(self, query: str, /) -> str:
        """Run a script: the fault's `probe` step, then no command tag."""
        await self.fetch(query)
        return ""

    def explain(self, error: Exception) -> None:
        """Return: this pool has no errors of its own to explain."""

    def discard(self) -> None:
        """Close the connection when the lease ends."""
        self._check("discarded")
        self.discarded = True

    def _check(self, what: str) -> None:
        self.pool.check_loop()
        if self.ended:
            self.pool.refuse(f"connection {self.pid} is {what} after its lease has ended")


class _Checkout(AbstractAsyncContextManager[FakeLease]):
    """One lease of a connection, from the request to the release."""

    def __init__(self, pool: FakePool) -> None:
        self._pool = pool
        self._lease: FakeLease | None = None

    async def __aenter__(self) -> FakeLease:
        if self._lease is not None:
            self._pool.refuse(f"connection {self._lease.pid} is leased twice by one lease()")
        self._lease = await self._pool.check_out()
        return self._lease

    async def __aexit__(self, *error: object) -> None:
        assert self._lease is not None
        await self._pool.check_in(self._lease)


@dataclass(eq=False)
class FakePool:
    """A pool of at most `size` connections that behave as `plan` says.

    The pool belongs to the event loop that uses it first. It refuses to be used from another loop, and it refuses a
    lease that is released twice or used after its end. Call :meth:`assert_no_leaks` at the end of a test.
    """

    size: int = 10
    """The maximum number of open connections."""
    plan: FaultPlan = field(default_factory=FaultPlan)
    """How the connections behave."""
    order: Literal["lifo", "fifo"] = "lifo"
    """Which idle connection is lent first: the one that was released last, or first."""
    name: str = "fake"
    """The name of the pool in logs and reports."""

    opens: int = field(default=0, init=False)
    """Connection attempts so far."""
    leases: int = field(default=0, init=False)
    """Leases handed out so far."""
    releases: int = field(default=0, init=False)
    """Leases that ended so far."""
    terminations: int = field(default=0, init=False)
    """Connections that were closed so far."""
    in_use: int = field(default=0, init=False)
    """Leases that have not ended."""
    most_in_use: int = field(default=0, init=False)
    """The maximum of `in_use` so far."""
    connecting: int = field(default=0, init=False)
    """Connection attempts under way."""
    most_connecting: int = field(default=0, init=False)
    """The maximum of `connecting` so far."""
    connections: list[FakeConnection] = field(default_factory=list[FakeConnection], init=False)
    """Every connection that was opened so far."""
    idle: list[FakeConnection] = field(default_factory=list[FakeConnection], init=False)
    """Open connections that are not leased."""
    tasks: set[int] = field(default_factory=set[int], init=False)
    """The ids of the tasks that asked for a lease."""
    misuses: list[str] = field(default_factory=list[str], init=False)
    """The misuses of the pool so far, each of which raised an error, too."""

    _slots: anyio.Semaphore | None = field(default=None, init=False, repr=False)
    _loop: object = field(default=None, init=False, repr=False)

    def lease(self) -> AbstractAsyncContextManager[FakeLease]:
        """Check one connection out; waits while all are in use."""
        return _Checkout(self)

    async def run(self, operation: Operation[T], /) -> T:
        """Run an operation on one connection; each of its statements returns no rows."""
        async with self.lease() as lease:
            try:
                return await operation(lease.connection)
            finally:
                if lease.connection.interrupted:
                    lease.discard()

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement on one connection; returns no rows."""
        return await self.run(lambda connection: connection.fetch(query, *args))

    def recover(self) -> None:
        """Remove all faults. A half-open connection counts as lost from then on, so that the pool replaces it."""
        self.plan = FaultPlan()
        for connection in self.connections:
            connection.fault = Fault()
            if connection.gone:
                connection.gone = "lost"

    def assert_no_leaks(self) -> None:
        """Raise :class:`AssertionError` if a lease has not ended, an open connection is not idle, or it was misused."""
        assert self.in_use == 0, f"{self.in_use} leases were never returned"
        assert self.leases == self.releases, f"{self.leases} leases and {self.releases} releases"
        lost = [connection.pid for connection in self.connections if not connection.closed]
        assert sorted(lost) == sorted(connection.pid for connection in self.idle), f"open: {lost}, idle: {self.idle}"
        assert not self.misuses, f"the pool was misused: {'; '.join(self.misuses)}"

    async def check_out(self) -> FakeLease:
        """Begin a lease."""
        self.check_loop()
        if self._slots is None:
            self._slots = anyio.Semaphore(self.size)
        self.tasks.add(anyio.get_current_task().id)
        await self._slots.acquire()
        try:
            lease = FakeLease(self, self._take_idle() or await self._connect())
        except BaseException:
            self._slots.release()
            raise
        lease.connection.lent = lease
        self.leases += 1
        self.in_use += 1
        self.most_in_use = max(self.most_in_use, self.in_use)
        return lease

    async def check_in(self, lease: FakeLease) -> None:
        """End a lease. The release is shielded and takes a second at most; a step that fails raises nothing here."""
        self.check_loop()
        if lease.pool is not self:
            self.refuse(f"connection {lease.pid} is released to another pool than its own")
        if lease.ended:
            self.refuse(f"connection {lease.pid} is released twice")
        connection = lease.connection
        lease.ended, connection.lent = True, None
        put_back = False
        try:
            with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                if not lease.discarded:
                    await (hang() if connection.gone else connection.fault.release)()
                    put_back = True
        except Exception:
            put_back = False  # close the connection, as real pools do
        finally:  # asyncio's own cancellation passes the shield
            self.in_use -= 1
            self.releases += 1
            if put_back:
                connection.gone = "" if connection.fault.idle == "kept" else connection.fault.idle
                self.idle.append(connection)
            else:
                self._close(connection)
            assert self._slots is not None
            self._slots.release()

    def check_loop(self) -> None:
        """Refuse to be used from another event loop than the first one."""
        loop = current_token().native_token
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            self.refuse("the pool belongs to another event loop")

    def refuse(self, misuse: str) -> NoReturn:
        """Raise :class:`AssertionError`, and record the misuse, because the caller may catch the error."""
        self.misuses.append(misuse)
        raise AssertionError(misuse)

    def _take_idle(self) -> FakeConnection | None:
        while self.idle:
            connection = self.idle.pop(-1 if self.order == "lifo" else 0)
            if connection.gone != "lost":
                return connection
            self._close(connection)
        return None

    async def _connect(self) -> FakeConnection:
        number, self.opens = self.opens, self.opens + 1
        self.connecting += 1
        self.most_connecting = max(self.most_connecting, self.connecting)
        try:
            await self.plan[number].connect()
        finally:
            self.connecting -= 1
        connection = FakeConnection(self, 1000 + number, self.plan[number])  # `recover` may have replaced the plan
        self.connections.append(connection)
        return connection

    def _close(self, connection: FakeConnection) -> None:
        connection.closed = True
        self.terminations += 1
