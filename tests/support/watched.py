"""A database that a test looks at from outside: its connections, their locks, and the statements that it ran."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import asyncpg
from tests.support.server import Server
from tests.support.waiting import PATIENCE

from preheat import Chunk, VectorStorage

T = TypeVar("T")


def chunk(number: int, **changes: Any) -> Chunk:
    values = {"text": f"text {number}", "embedding": [1.0, float(number), 2.0], "document": "a.md", "position": number}
    return Chunk(**{**values, **changes})


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    return await anyio.to_thread.run_sync(lambda: function(*args))


@dataclass(frozen=True)
class Watched:
    """A database with pgvector whose every statement the server writes down."""

    server: Server
    name: str

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    def dsn_at(self, port: int) -> str:
        return self.server.dsn(self.name, port=port)

    def mark(self) -> int:
        return (self.server.folder / "log").stat().st_size

    def statements(self, since: int) -> list[tuple[int, str]]:
        """Backend pid and SQL of each statement that was executed after a mark."""
        with (self.server.folder / "log").open("rb") as log:
            log.seek(since)
            text = log.read().decode()
        found: list[tuple[int, str]] = []
        pattern = r"\[(\d+)\] LOG:  (?:execute [^:\n]*|statement): (.*(?:\n\t.*)*)"
        for pid, sql in re.findall(pattern, text):
            found.append((int(pid), " ".join(sql.split())))
        return found

    async def sql(self, script: str) -> list[Any]:
        return await in_thread(self.server.sql, script, self.name)

    async def look(self, query: str) -> list[Any]:
        """Ask from the database `postgres`, so that nothing is written down and nobody is counted."""
        return await in_thread(self.server.sql, query)

    async def pids(self) -> set[int]:
        query = f"SELECT pid FROM pg_stat_activity WHERE datname = '{self.name}' AND backend_type = 'client backend'"
        return {row["pid"] for row in await self.look(query)}

    async def running(self, text: str) -> list[int]:
        """The pids of backends that run a statement with this text now."""
        rows = await self.look(
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{self.name}' AND state = 'active' "
            f"AND position('{text}' IN query) > 0"
        )
        return [row["pid"] for row in rows]

    async def waiting_for_locks(self) -> set[int]:
        rows = await self.look(
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{self.name}' AND wait_event_type = 'Lock'"
        )
        return {row["pid"] for row in rows}

    async def embedding_table(self) -> str:
        """The one table that has a column of vectors."""
        rows = await self.sql(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
            "JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE c.relkind = 'r' AND t.typname IN ('vector', 'halfvec') AND NOT a.attisdropped"
        )
        assert len(rows) == 1, rows
        name: str = rows[0]["name"]
        return name

    async def fill(self, collection: str, count: int = 3, embedder: str | None = None) -> str:
        """Store chunks; return the text of the statement that searches them."""
        async with VectorStorage(self.dsn, collection, 3, embedder=embedder, warm="never") as storage:
            assert await storage.add([chunk(n) for n in range(count)]) == count
            await storage.search([1.0, 2.0, 3.0])
            mark = self.mark()
            assert len(await storage.search([1.0, 2.0, 3.0])) == min(count, 5)
            executed = self.statements(mark)
        assert len(executed) == 1, f"a steady search is one statement: {executed}"
        return executed[0][1]


@asynccontextmanager
async def table_locked(database: Watched, table: str) -> AsyncGenerator[Callable[[], None]]:
    """Lock a table from a thread of its own, until the yielded function is called."""
    locked, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(database.dsn)
        try:
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                locked.set()
                await asyncio.to_thread(release.wait, 60)
        finally:
            await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()), daemon=True)
    thread.start()
    assert await in_thread(locked.wait, PATIENCE)
    try:
        yield release.set
    finally:
        release.set()
        with anyio.CancelScope(shield=True):
            await in_thread(thread.join)
