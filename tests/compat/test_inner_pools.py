"""Libraries whose pool lies inside: each is warmed by that pool. They are installed by `just compat`."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.waiting import PATIENCE

from preheat import warm

ASYNCIO = pytest.mark.parametrize("anyio_backend", [pytest.param("asyncio", id="asyncio")])
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # what these libraries' own imports say
]


async def check(pool: Any) -> None:
    report = await warm(pool, timeout=PATIENCE)
    assert report.ok, report
    assert len({connection.pid for connection in report.connections}) == 3


@ASYNCIO
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_tortoise(dsn: str, driver: str) -> None:
    context = pytest.importorskip("tortoise.context")
    url = dsn.replace("postgresql://", f"{driver}://").partition("?")[0]
    async with context.TortoiseContext() as opened:
        await opened.init(db_url=f"{url}?minsize=1", modules={"models": ["tests.compat.tortoise_models"]})
        connection = opened.connections.get("default")
        await connection.create_connection(with_db=True)
        await check(connection._pool)


@ASYNCIO
async def test_piccolo(dsn: str) -> None:
    engines = pytest.importorskip("piccolo.engine.postgres")
    engine = engines.PostgresEngine(config={"dsn": dsn})
    await engine.start_connection_pool(min_size=0, max_size=5)
    await check(engine.pool)
    await engine.close_connection_pool()


@ASYNCIO
async def test_databases(dsn: str) -> None:
    databases = pytest.importorskip("databases")
    async with databases.Database(dsn.partition("?")[0], min_size=1, max_size=5, ssl=False) as database:
        await check(database._backend._pool)


@ASYNCIO
async def test_sqlmodel(dsn: str) -> None:
    sqlmodel = pytest.importorskip("sqlmodel")
    from sqlalchemy.ext.asyncio import create_async_engine

    class Hero(sqlmodel.SQLModel, table=True):
        id: int | None = sqlmodel.Field(default=None, primary_key=True)

    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
    async with engine.begin() as connection:
        await connection.run_sync(sqlmodel.SQLModel.metadata.create_all)

    async def probe(lease: Any) -> None:
        await lease.connection.execute(sqlmodel.select(Hero).limit(1))

    report = await warm(engine, timeout=PATIENCE, probe=probe)
    assert report.ok, report
    await engine.dispose()
