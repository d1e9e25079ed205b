"""The data that everybody searches: preheat's own table, and the tables of those that have a layout of their own."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
from pgvector.asyncpg import register_vector
from tests.support.server import Server

from benchmarks.contestants import Contestant
from benchmarks.contestants.tables import COLUMNS, METADATA
from benchmarks.data.vectors import row_vectors, texts
from benchmarks.runner.jobs import Job
from benchmarks.runner.peers import WorkerError, work
from preheat import VectorStorage

COLLECTION = "contest"
DIMENSIONS = 384
ROWS = 50_000

FAST_INDEX = ("maintenance_work_mem = '1GB'", "max_parallel_maintenance_workers = 4")
"""Settings with which a whole HNSW graph is built in memory, by as many processes as there are cores."""


async def fill(dsn: str, rows: int = ROWS, dimensions: int = DIMENSIONS) -> None:
    """Make preheat's collection, with the same rows each time; the index is built after the rows are there.

    Args:
        dsn: of an empty database's owner.
        rows: how many.
        dimensions: of every vector.
    """
    async with connected(dsn) as connection, building_fast(connection):
        async with VectorStorage(dsn, COLLECTION, dimensions, index=False, warm="never") as storage:
            await storage.create()
            await register_vector(connection)
            records = _records(rows, dimensions)
            await connection.copy_records_to_table(f"preheat_{COLLECTION}", records=records, columns=COLUMNS)
            await storage.create_index()
        await connection.execute("VACUUM ANALYZE")


def _records(rows: int, dimensions: int) -> Iterator[tuple[Any, ...]]:
    """Rows whose ids are UUIDs in their text form, for the peers that store UUIDs."""
    metadata = json.dumps(METADATA)
    for number, (text, vector) in enumerate(zip(texts(rows), row_vectors(rows, dimensions), strict=True)):
        yield str(uuid.UUID(int=number)), "benchmark", number, text, metadata, vector


async def fill_own_tables(
    dsn: str, contestants: Sequence[Contestant], dimensions: int = DIMENSIONS
) -> dict[Contestant, Exception]:
    """Let contestants with tables of their own make them out of preheat's, all at the same time.

    Returns:
        The errors of those that could not.
    """
    errors: dict[Contestant, Exception] = {}

    async def fill_one(contestant: Contestant) -> None:
        job = Job(contestant.name, "prepare", dsn, COLLECTION, dimensions)
        try:
            await asyncio.to_thread(work, contestant, job)
        except WorkerError as error:
            errors[contestant] = error

    async with connected(dsn) as connection, building_fast(connection):
        await asyncio.gather(*map(fill_one, contestants))
        await connection.execute("VACUUM ANALYZE")
    return errors


@asynccontextmanager
async def building_fast(connection: Any) -> AsyncGenerator[None]:
    """Let new sessions in this database build indexes fast, whoever opens them."""
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    for setting in FAST_INDEX:
        await connection.execute(f"ALTER DATABASE {database} SET {setting}")
    try:
        yield
    finally:
        await connection.execute(f"ALTER DATABASE {database} RESET ALL")


async def versions(dsn: str) -> dict[str, str]:
    """Of the server and of its extension."""
    async with connected(dsn) as connection:
        return {
            "PostgreSQL": await connection.fetchval("SHOW server_version"),
            "pgvector (server)": await connection.fetchval(
                "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
            ),
        }


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[Any]:
    """One connection, closed at the end."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@contextmanager
def new_database(server: Server, name: str) -> Iterator[None]:
    """An empty database with the extension, dropped at the end."""
    server.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    server.sql(f'CREATE DATABASE "{name}"')
    try:
        server.sql("CREATE EXTENSION vector", name)
        yield
    finally:
        server.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def most_rows(server: Server, database: str) -> int:
    """Rows of the largest table of a database."""
    tables = server.sql("SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public'", database)
    counts = [server.sql(f"SELECT count(*) AS n FROM {table['name']}", database)[0]["n"] for table in tables]
    return max(counts, default=0)
