"""What the acceptance tests share: embedders, and ways to look at a PostgreSQL from outside."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import quote

import anyio
import anyio.lowlevel
import anyio.to_thread
import asyncpg
import numpy as np
import pytest
from tests.support.server import PASSWORD, Server
from tests.support.waiting import PATIENCE

from preheat import Chunk, ResearchRetriever, VectorStorage

T = TypeVar("T")


class Words:
    """An embedder that knows no words, only their lengths."""

    def __init__(self, name: str = "words", dimensions: int = 3) -> None:
        self.name = name
        self.dimensions = dimensions
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.calls += 1
        return np.array([[len(text) + n + 1 for n in range(self.dimensions)] for text in texts], dtype=np.float32)


class AsyncWords(Words):
    """The same without a thread, for virtual time."""

    async def embed(self, texts: Sequence[str]) -> Any:
        await anyio.lowlevel.checkpoint()
        return super().embed(texts)


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


class Gate:
    """A port that refuses connections until it is opened, and then forwards to a server."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._opened, self._loop, self._stop = threading.Event(), asyncio.SelectorEventLoop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        return self

    def open(self) -> None:
        self._thread.start()
        assert self._opened.wait(PATIENCE)

    def __exit__(self, *_: object) -> None:
        if self._thread.ident is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._loop.close()
        self._socket.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[Any]] = set()

        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while piece := await reader.read(65536):
                writer.write(piece)
            writer.close()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            try:
                await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                up_writer.close()
                writer.close()
                tasks.discard(task)

        server = await asyncio.start_server(accept, sock=self._socket)
        self._opened.set()
        await self._stop.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never speaks."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def assert_one_sentence(error: BaseException, *words: str) -> None:
    """One sentence, without secrets, that says each of `words` (alternatives are separated by a bar)."""
    text = str(error)
    assert text.strip(), f"{error!r} says nothing"
    assert "\n" not in text, text
    assert not re.search(r"[.!?]\s+[A-Z]", text), f"more than one sentence: {text}"
    for word in words:
        assert re.search(word, text, re.IGNORECASE), f"{word!r} is not in {text!r}"
    assert_no_secrets(text, repr(error))


def assert_no_secrets(*texts: str, secrets: Sequence[str] = (PASSWORD,)) -> None:
    for text in texts:
        for secret in secrets:
            assert secret not in text, text
            assert quote(secret, safe="") not in text, text


def records(log: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    """What the library has logged at a level."""
    return [record for record in log.records if record.name.split(".")[0] == "preheat" and record.levelno == level]


async def ask(retriever: ResearchRetriever, callers: int) -> list[int]:
    """Let callers ask at the same time; return how many hits each of them got."""
    hits: list[int] = []

    async def caller() -> None:
        hits.append(len(await retriever.retrieve("why is the first query slow?")))

    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(caller)
    return hits
