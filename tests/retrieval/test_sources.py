"""A plain source is read in one thread, from its first document to its end."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import from_thread
from anyio.lowlevel import current_token
from tests.support.waiting import PATIENCE, until

from preheat import Document, ResearchRetriever, VectorStorage
from preheat.retrieval import batching
from preheat.retrieval.batching import read
from preheat.storage.write.batch import Batch


def one_each(document: Any, _: object) -> list[Batch]:
    return [Batch((), [document.key])]


class Taken:
    """Takes batches, and can be blocked."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.holds = False

    async def __call__(self, batch: Batch) -> None:
        self.keys += batch.documents
        if self.holds:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()


class Watched:
    """A source that records in which threads it was read and closed."""

    def __init__(self, documents: int = 50, error: Exception | None = None) -> None:
        self.documents = documents
        self.error = error
        self.threads: list[int] = []
        self.closed: list[int] = []

    def __iter__(self) -> Iterator[Document]:
        try:
            for number in range(self.documents):
                self.threads.append(threading.get_ident())
                yield Document(f"{number}", "text")
            if self.error is not None:
                raise self.error
        finally:
            self.closed.append(threading.get_ident())


async def test_a_source_is_read_and_closed_in_one_worker_thread() -> None:
    source, taken = Watched(), Taken()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, source, one_each, list, taken)
            for _ in range(50):  # others use worker threads meanwhile
                await anyio.to_thread.run_sync(threading.get_ident)
    assert len(source.threads) == 50 == len(taken.keys)
    assert len({*source.threads, *source.closed}) == 1
    assert threading.get_ident() not in source.threads


async def test_an_error_of_a_source_is_raised_and_the_source_is_closed_in_its_thread() -> None:
    source, taken = Watched(3, KeyError("source")), Taken()
    with pytest.raises(KeyError, match="source"):
        await read(source, one_each, list, taken)
    assert taken.keys == ["0", "1", "2"]
    assert source.closed == source.threads[:1]


async def test_a_cancelled_reader_closes_its_source_in_its_thread() -> None:
    source, taken = Watched(), Taken()
    taken.holds = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, source, one_each, list, taken)
        await until(lambda: taken.keys)
        tasks.cancel_scope.cancel()
    assert (taken.keys, source.closed) == (["0"], source.threads)


async def test_an_error_of_the_consumer_closes_the_source_in_its_thread() -> None:
    source = Watched()

    async def deliver(batch: Batch) -> None:
        raise LookupError("no room")

    with pytest.raises(LookupError, match="no room"):
        await read(source, one_each, list, deliver)
    assert source.closed == source.threads
    assert len(source.closed) == 1


async def test_a_source_that_blocks_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread closes it after it has produced its document."""
    monkeypatch.setattr(batching, "CLOSE_SECONDS", 0.05)
    blocked, go_on, closed = anyio.Event(), threading.Event(), threading.Event()
    threads: list[int] = []
    loop = current_token()

    def source() -> Iterator[Document]:
        try:
            yield Document("0", "text")
            threads.append(threading.get_ident())
            from_thread.run_sync(blocked.set, token=loop)
            go_on.wait(PATIENCE)
            yield Document("1", "text")
            raise AssertionError("it was asked for more")
        finally:
            threads.append(threading.get_ident())
            closed.set()

    taken = Taken()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, source(), one_each, list, taken)
            await blocked.wait()
            tasks.cancel_scope.cancel()
    assert not closed.is_set()
    go_on.set()
    assert await anyio.to_thread.run_sync(closed.wait, PATIENCE)
    assert taken.keys == ["0"]
    assert threads[0] == threads[1]


async def test_rows_of_sqlite_are_ingested(dsn: str, collection: str, folder: Path) -> None:
    """A connection of sqlite3 can be used only in the thread that opened it."""
    folder.mkdir()
    with sqlite3.connect(folder / "texts.db") as connection:
        connection.execute("CREATE TABLE texts (key TEXT, text TEXT)")
        connection.executemany("INSERT INTO texts VALUES (?, ?)", [(f"{n}.md", f"text {n}") for n in range(200)])
    connection.close()

    def source() -> Iterator[Document]:
        connection = sqlite3.connect(folder / "texts.db")
        try:
            for key, text in connection.execute("SELECT key, text FROM texts"):
                yield Document(key, text)
        finally:
            connection.close()

    class Lengths:
        name, dimensions = "lengths", 2

        async def embed(self, texts: Any) -> Any:
            return [[float(len(text)), 1.0] for text in texts]

    async with VectorStorage(dsn, collection, 2) as storage:
        report = await ResearchRetriever(storage, Lengths()).ingest(source(), batch_size=10)
        assert (report.documents, report.failures, await storage.count()) == (200, (), 200)

        with pytest.raises(RuntimeError, match="stop"):
            await ResearchRetriever(storage, Lengths()).ingest(source(), batch_size=10, progress=_stop)


def _stop(_: object) -> None:
    raise RuntimeError("stop")


BLOCKED = """
import signal, sys, threading
import anyio
from contextvars import ContextVar
from preheat import Document
from preheat.retrieval.batching import read

request = ContextVar("request")

def source():
    assert request.get() == 7
    yield Document("a", "text")
    print("blocked", flush=True)
    threading.Event().wait()

async def main():
    request.set(7)
    async def deliver(batch):
        pass
    with anyio.move_on_after(0.1) as scope:
        await read(source(), lambda document, check: [], list, deliver)
    assert scope.cancelled_caught
    print("left", flush=True)

anyio.run(main, backend=sys.argv[1])
"""


def test_a_source_that_blocks_forever_does_not_delay_the_end_of_the_process(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, backend], capture_output=True, text=True, check=False, timeout=PATIENCE
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "blocked\nleft\n", "")
