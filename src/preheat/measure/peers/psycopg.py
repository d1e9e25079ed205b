"""psycopg's async pool."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from ...errors import DatabaseError
from ...pools.dsn.parameters import connection_parameters, parameters_of
from ..relay import relay
from ..wire import Wire

__all__ = ("open_psycopg",)


class _Lease:
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.pid: int = local_port(connection)
        """The port by which the relay knows the connection."""

    async def fetch(self, query: str, /) -> Any:
        try:
            return await (await self.connection.execute(query)).fetchall()
        except psycopg.Error as error:
            raise DatabaseError(str(error), "check the statement", sqlstate=error.sqlstate) from error


class _Pool:
    """psycopg's pool, used as an application does."""

    def __init__(self, pool: Any) -> None:
        self.to_warm = pool

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[_Lease]:
        async with self.to_warm.connection() as connection:
            yield _Lease(connection)

    @staticmethod
    async def fetch_of(lease: Any, query: str) -> object:
        return await (await lease.connection.execute(query)).fetchall()


@asynccontextmanager
async def open_psycopg(
    dsn: str, size: int, watch: Callable[[], Wire], schema: str | None, _bounds: dict[str, Any]
) -> AsyncGenerator[Any]:
    """A pool that opens no connection ahead of time, with the types of pgvector as its documentation has it.

    It connects through a relay on loopback, since libpq opens its sockets itself. The name of the host stays, so that
    the certificate of the server is checked as before.
    """
    host = connection_parameters(dsn).hosts[0]
    wires: list[Wire] = []

    def watch_and_keep() -> Wire:
        wires.append(watch())
        return wires[-1]

    async def configure(connection: Any) -> None:
        if schema is not None:
            from pgvector.psycopg import register_vector_async

            for wire in wires:
                if wire.key == local_port(connection):
                    wire.types_at = wire.now()
            await register_vector_async(connection)
            await connection.commit()

    async with relay(host, watch_and_keep) as port:
        words: dict[str, Any] = {**parameters_of(dsn), "hostaddr": "127.0.0.1", "port": port}
        words["host"] = "127.0.0.1" if host.is_socket else host.name or host.address
        if host.is_socket:
            words["sslmode"] = "disable"
        pool = AsyncConnectionPool(
            make_conninfo("", **words), min_size=0, max_size=size, open=False, configure=configure
        )
        async with pool:
            yield _Pool(pool)


def local_port(connection: Any) -> int:
    """The port of this end of a connection."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        port: int = end.getsockname()[1]
        return port
