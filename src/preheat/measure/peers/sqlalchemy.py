"""An async engine of SQLAlchemy with asyncpg."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from ...errors import DatabaseError
from ...pools.asyncpg.watched import watching
from ..wire import Wire

__all__ = ("open_sqlalchemy",)


class _Lease:
    def __init__(self, connection: Any, driver: Any) -> None:
        self.connection = connection
        self._driver = driver

    @property
    def pid(self) -> int | None:
        pid = self._driver.get_server_pid()
        return pid if isinstance(pid, int) else None

    async def fetch(self, query: str, /) -> Any:
        try:
            result = await self.connection.exec_driver_sql(query)
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            raise DatabaseError(str(error.orig), "check the statement", sqlstate=state) from error
        return result.fetchall()


class _Pool:
    """An engine, used as an application does."""

    def __init__(self, engine: Any) -> None:
        self.to_warm = engine

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[_Lease]:
        async with self.to_warm.connect() as connection:
            raw = await connection.get_raw_connection()
            yield _Lease(connection, raw.driver_connection)

    @staticmethod
    async def fetch_of(lease: Any, query: str) -> object:
        return (await lease.connection.exec_driver_sql(query)).fetchall()


@asynccontextmanager
async def open_sqlalchemy(
    dsn: str, size: int, watch: Callable[[], Wire], schema: str | None, _bounds: dict[str, Any]
) -> AsyncGenerator[Any]:
    """An engine that opens no connection ahead of time, with the codec of vectors as the documentation of pgvector has
    it."""
    connect = watching(watch)

    async def creator() -> Any:
        connection = await connect(dsn)
        if schema is not None:
            from pgvector.asyncpg import register_vector

            await register_vector(connection, schema=schema)
        return connection

    engine = create_async_engine("postgresql+asyncpg://", pool_size=size, max_overflow=0, async_creator=creator)
    try:
        yield _Pool(engine)
    finally:
        await engine.dispose()
