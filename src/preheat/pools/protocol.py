"""What preheat needs of a pool: two members to warm it, one more to store and search on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

__all__ = ("Lease", "Operation", "Pool", "Row", "SQLConnection", "SQLLease", "SQLPool")

T = TypeVar("T")
LeaseT_co = TypeVar("LeaseT_co", bound="Lease", covariant=True)

Row: TypeAlias = Mapping[str, Any]


class Lease(Protocol):
    """One connection, checked out for as long as the context manager that gave it is open."""

    @property
    def pid(self) -> int | None:
        """The server's process id for this connection: the same for every lease of it. None if there is none."""
        ...

    @property
    def connection(self) -> Any:
        """The driver's own connection. Its user may change the session, so it is reset when it goes back."""
        ...

    async def ping(self) -> object:
        """Ask the server for the least there is to ask, such as `SELECT 1`: one round trip."""
        ...

    def discard(self) -> None:
        """Close the connection when the lease ends, instead of putting it back. Waits for nothing."""
        ...


@runtime_checkable
class Pool(Protocol[LeaseT_co]):
    """Opens, lends and takes back connections. These two members are all that :func:`preheat.warm` needs."""

    @property
    def size(self) -> int:
        """The most connections that the pool ever has open."""
        ...

    def lease(self) -> AbstractAsyncContextManager[LeaseT_co]:
        """Check one connection out, opening it if there is no idle one.

        When the lease ends the connection is put back, or closed if it was discarded; cleaning up is shielded from
        cancellation and takes a bounded time.
        """
        ...


class SQLConnection(Protocol):
    """The part of a driver's connection that operations use."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement with bound arguments and return its rows."""
        ...

    async def execute(self, query: str, /, *args: Any) -> str:
        """Run one statement, or a script without arguments, and return the server's command tag."""
        ...

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
        """`COPY table_name (columns) FROM STDIN` out of an asynchronous iterable of bytes; return the command tag."""
        ...

    def transaction(self, *, isolation: str | None = None) -> AbstractAsyncContextManager[Any]:
        """A transaction: committed when the block ends, rolled back when it raises. `isolation` is such as
        `"read_committed"`; by default it is the session's own."""
        ...


Operation: TypeAlias = Callable[[SQLConnection], Awaitable[T]]
"""What to do on one connection. It awaits nothing but that connection, because it runs where the driver lives."""


class SQLLease(Lease, Protocol):
    """A lease that also runs statements."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement that leaves no session state behind; it is not reset afterwards."""
        ...

    async def execute(self, query: str, /) -> str:
        """Run a script that leaves no session state behind, in one round trip, and return the command tag."""
        ...

    def explain(self, error: Exception) -> None:
        """Raise the :class:`preheat.PreheatError` for an error of the driver's that `connection` has raised; return for
        every other error."""
        ...


@runtime_checkable
class SQLPool(Pool[SQLLease], Protocol):
    """A pool that also runs operations: what :class:`preheat.VectorStorage` needs.

    A pool of your own needs `size`, `lease` and `run`; `name` and `fetch` have defaults, also if it does not inherit
    from this class.
    """

    @property
    def name(self) -> str:
        """What logs and reports call this pool; never a password. By default the name of its class."""
        return type(self).__name__

    async def run(self, operation: Operation[T], /) -> T:
        """Lease a connection, run `operation` on it and put the connection back: on trio, one crossing for all of it.

        The operation must leave no session state behind.

        Raises:
            ConnectError: if there is no connection, or it was lost during the operation.
            AccessError: if the role lacks a privilege.
            DatabaseError: if the server or the driver refused a statement, and the operation let that out.
            Exception: whatever else the operation raises.

        Cancellation: the server is told to stop the statement, and the connection goes back or is closed, before the
        cancellation goes on; that takes at most a second or two.
        """
        ...

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement with bound arguments on one connection. By default this is :meth:`run` with the `fetch` of
        the connection; a pool may have a faster way.

        Raises:
            ConnectError: if there is no connection, or it was lost meanwhile.
            AccessError: if the role lacks a privilege.
            DatabaseError: if the server or the driver refused the statement.

        Cancellation: as :meth:`run`.
        """
        return await self.run(lambda connection: connection.fetch(query, *args))
