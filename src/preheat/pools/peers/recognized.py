"""Which other library's pool an object is, told by the names of its class, without importing that library."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ...errors import ArgumentError
from ..backend import running_backend
from ..protocol import Lease, Pool

__all__ = ("Peer", "peer_of")

OPEN_ANOTHER = "open one with preheat.open_pool(dsn)"


@dataclass(frozen=True)
class Peer:
    """A class of another library that :func:`preheat.warm` takes."""

    library: str
    """The name of its top package, or of the package in it that is async."""
    kind: str
    """The name of the class."""
    module: str = ""
    """The module here that has the adapter; empty if it cannot be warmed."""
    name: str = ""
    """The name of the adapter."""
    remedy: str = ""
    """Why it cannot be warmed, and what to do; or what to do on trio. Empty if it works there."""

    @property
    def title(self) -> str:
        """How it is called in a sentence."""
        return f"{'an' if self.kind.startswith('A') else 'a'} {self.kind} of {self.library}"

    def adapter(self, pool: Any) -> Pool[Lease]:
        """The adapter of such a pool.

        Raises:
            ArgumentError: if it cannot be warmed, or not on the running backend.
        """
        if not self.module:
            raise ArgumentError(f"{self.title} {self.remedy}")
        if self.remedy and running_backend() == "trio":
            raise ArgumentError(f"{self.title} works on asyncio alone and trio is running; {self.remedy}")
        adapter: Pool[Lease] = getattr(import_module(f"..{self.module}", __name__), self.name)(pool)
        return adapter


_PEERS = {
    (peer.library, peer.kind): peer
    for peer in (
        Peer("psycopg_pool", "AsyncConnectionPool", "psycopg", "PsycopgPool", OPEN_ANOTHER),
        Peer(
            "psycopg_pool",
            "AsyncNullConnectionPool",
            remedy="keeps no connection, so there is nothing to warm; use an AsyncConnectionPool",
        ),
        Peer("psycopg_pool", "ConnectionPool", remedy="is synchronous; use an AsyncConnectionPool"),
        Peer("sqlalchemy", "AsyncEngine", "sqlalchemy", "EnginePool", OPEN_ANOTHER),
        Peer("sqlalchemy", "Engine", remedy="is synchronous; make it with create_async_engine"),
        Peer("redis.asyncio", "Redis", "redis", "RedisPool", "run the application on asyncio"),
        Peer("redis.asyncio", "ConnectionPool", "redis", "RedisPool", "run the application on asyncio"),
        Peer("redis", "Redis", remedy="is synchronous; use redis.asyncio.Redis"),
        Peer("redis", "ConnectionPool", remedy="is synchronous; use redis.asyncio.ConnectionPool"),
        Peer("httpx", "AsyncClient", "http", "HTTPPool"),
        Peer("httpx2", "AsyncClient", "http", "HTTPPool"),
    )
}


def peer_of(pool: Any) -> Peer | None:
    """The peer that `pool` belongs to; None if it is unknown."""
    for base in type(pool).__mro__:
        parts = base.__module__.split(".")
        for library in (".".join(parts[:2]), parts[0]):
            if (library, base.__name__) in _PEERS:
                return _PEERS[library, base.__name__]
    return None
