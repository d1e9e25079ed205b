"""The pools that can be measured. Each one is imported when it is opened."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import ArgumentError
from ..pools import SQLPool, open_pool
from .wire import Wire

__all__ = ("CONTESTANTS", "Contestant", "Opened")


class Lease(Protocol):
    """One connection, as an application has it."""

    @property
    def pid(self) -> int | None:
        """What tells connections apart, as the `key` of a wire."""
        ...

    async def fetch(self, query: str, /) -> Any:
        """Run a statement, and return when its rows are there."""
        ...


class Opened(Protocol):
    """A pool that is open."""

    @property
    def to_warm(self) -> Any:
        """What :func:`preheat.warm` is given."""
        ...

    def lease(self) -> AbstractAsyncContextManager[Lease]:
        """Check a connection out, as an application does."""
        ...

    async def fetch_of(self, lease: Any, query: str, /) -> object:
        """Run a statement on a lease of :func:`preheat.warm`."""
        ...


class _SQLPool:
    """A pool whose leases run statements by themselves."""

    def __init__(self, pool: SQLPool) -> None:
        self.to_warm = pool
        self.lease = pool.lease

    @staticmethod
    async def fetch_of(lease: Any, query: str) -> object:
        return await lease.fetch(query)


Opener = Callable[[str, int, Callable[[], Wire], str | None, dict[str, Any]], AbstractAsyncContextManager[Opened]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A pool that can be measured."""

    name: str
    open: Opener
    """Opens a pool; the arguments are the DSN, the size, what makes the watcher of a connection, the schema of pgvector
    if the query has vectors, and time limits."""
    needs: tuple[str, ...] = ()
    """Packages that have to be installed, by the names of pip."""

    def check(self, backend: str) -> None:
        """Raise unless it can be measured here.

        Raises:
            ArgumentError: if it does not run on the backend, or is not installed.
        """
        if self.name != "preheat" and backend == "trio":
            raise ArgumentError(f"--via {self.name} runs on asyncio only; leave --backend trio out")
        missing = [name for name in self.needs if importlib.util.find_spec(name.replace("-", "_")) is None]
        if missing:
            raise ArgumentError(
                f"--via {self.name} measures a library that is not installed; install it with: "
                f"pip install {' '.join(missing)}"
            )


@asynccontextmanager
async def _open_preheat(
    dsn: str, size: int, watch: Callable[[], Wire], _schema: str | None, bounds: dict[str, Any]
) -> AsyncGenerator[Any]:
    from ..pools.asyncpg.watched import watching

    async with open_pool(dsn, size=size, connect=watching(watch), **bounds) as pool:
        yield _SQLPool(pool)


@asynccontextmanager
async def _open_asyncpg(
    dsn: str, size: int, watch: Callable[[], Wire], schema: str | None, _bounds: dict[str, Any]
) -> AsyncGenerator[Any]:
    """With the codec of vectors, as the documentation of pgvector has it."""
    from ..pools.asyncpg.watched import open_driver_pool

    async def init(connection: Any) -> None:
        if schema is not None:
            from pgvector.asyncpg import register_vector

            await register_vector(connection, schema=schema)

    async with open_driver_pool(dsn, size, watch, init) as pool:
        yield _SQLPool(pool)


@asynccontextmanager
async def _open_psycopg(*args: Any) -> AsyncGenerator[Any]:
    from .peers.psycopg import open_psycopg

    async with open_psycopg(*args) as pool:
        yield pool


@asynccontextmanager
async def _open_sqlalchemy(*args: Any) -> AsyncGenerator[Any]:
    from .peers.sqlalchemy import open_sqlalchemy

    async with open_sqlalchemy(*args) as pool:
        yield pool


CONTESTANTS: dict[str, Contestant] = {
    one.name: one
    for one in (
        Contestant("preheat", _open_preheat),
        Contestant("asyncpg", _open_asyncpg),
        Contestant("psycopg", _open_psycopg, ("psycopg", "psycopg-pool")),
        Contestant("sqlalchemy", _open_sqlalchemy, ("sqlalchemy", "greenlet")),
    )
}
"""By the name on the command line."""
