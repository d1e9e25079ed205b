"""The data that everybody searches: preheat's own table, and the tables of those that have a layout of their own."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pgvector.asyncpg import register_vector

from benchmarks.contestants import Contestant
from benchmarks.contestants.tables import COLUMNS, METADATA
from benchmarks.jobs import Job
from benchmarks.peers import work
from benchmarks.vectors import row_vectors, texts
from preheat import VectorStorage

COLLECTION = "contest"
DIMENSIONS = 384
ROWS = 50_000

FAST_INDEX = ("maintenance_work_mem = '1GB'", "max_parallel_maintenance_workers = 4")
"""Settings with which a whole HNSW graph is built in memory, by as many processes as there are cores."""


async def fill(dsn: str, rows: int = ROWS, dimensions: int = DIMENSIONS) -> None:
    """Make preheat's collection, with the same rows each time; the index is built after the rows are there.

    Args:
        dsn: of the superuser.
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


async def fill_own_table(dsn: str, contestant: Contestant, dimensions: int = DIMENSIONS) -> None:
    """Let a contestant with a table of its own make it out of preheat's, in its own environment.

    Raises:
        WorkerError: if it cannot.
    """
    async with connected(dsn) as connection, building_fast(connection):
        job = Job(contestant.name, "prepare", dsn, COLLECTION, dimensions)
        await asyncio.to_thread(work, contestant, job)
        await connection.execute("VACUUM ANALYZE")


@asynccontextmanager
async def building_fast(connection: Any) -> AsyncGenerator[None]:
    """Let the role's new sessions build indexes fast, whoever opens them."""
    for setting in FAST_INDEX:
        await connection.execute(f"ALTER ROLE CURRENT_USER SET {setting}")
    try:
        yield
    finally:
        await connection.execute("ALTER ROLE CURRENT_USER RESET ALL")


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
