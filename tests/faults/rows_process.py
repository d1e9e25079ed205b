"""Faults of the program: killed, frozen, forked, used from another event loop, or started ten times at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
import sniffio
from anyio import to_thread
from tests.faults.child import TEXTS, embed_again, ingest
from tests.faults.row import VECTOR, Row, name_of
from tests.faults.rows_server import locked, waiting
from tests.storage.test_migrations import AS_IT_WAS
from tests.support.models import Hashing
from tests.support.server import Server

from preheat import PreheatError, VectorStorage

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")]
ROOT = Path(__file__).parents[2]


@contextmanager
def child(row: Row, dsn: str, task: str, collection: str = "") -> Iterator[subprocess.Popen[str]]:
    """A program at work, which is killed (kill -9) at the end of the block."""
    through = f"{dsn}&application_name={row.name}"
    program = ["-m", "tests.faults.child", task, sniffio.current_async_library(), through, collection or row.name]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *program], stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


async def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await to_thread.run_sync(process.stdout.readline)).strip()


async def go_on(process: subprocess.Popen[str]) -> str:
    """Let a program go on, and return its next line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return await line(process)


async def test_killed_in_ingest(row: Row, dsn: str) -> None:
    """A program is killed in the midst of an ingest (kill -9). The same ingest again completes it.

    warm-up: hot
    reads: answer
    writes: stored
    healing: the next read
    """
    await row.prepare(dsn)
    with child(row, dsn, "ingest") as process:
        assert await line(process) == "now"
    row.tried |= set(TEXTS)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        await ingest(storage, Hashing("model", 3))
        row.stored |= set(TEXTS)
        await row.heal_by_call(storage)


async def test_killed_in_reembed(row: Row, dsn: str) -> None:
    """A program is killed while it embeds a collection again (kill -9). The collection stays as it was.

    warm-up: hot
    reads: answer
    writes: stored
    healing: the next read
    """
    await row.prepare(dsn)
    row.tried |= set(TEXTS)
    row.stored |= set(TEXTS)
    async with row.storage(dsn) as storage:
        await ingest(storage, Hashing("model", 3))
        with child(row, dsn, "reembed") as process:
            assert await line(process) == "now"
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        await embed_again(storage, Hashing("new", 3))
        await row.heal_by_call(storage)


async def test_killed_in_create_index(row: Row, dsn: str) -> None:
    """A program is killed while it creates an index (kill -9). The next attempt creates it.

    warm-up: hot
    reads: answer
    writes: stored
    healing: the next read
    """
    async with VectorStorage(dsn, row.name, 3, index=False) as storage:
        await storage.create()
    with child(row, dsn, "index") as process:
        assert await line(process) == "now"
    async with row.storage(dsn) as storage:
        await row.write(storage)
        await row.warm_up(storage)
        await row.read(storage)
        await storage.create_index()
        assert not await storage.lacks_index()
        await row.heal_by_call(storage)


async def test_killed_in_migration(row: Row, server: Server, database: str) -> None:
    """A program is killed while it brings an old collection up to date (kill -9). The next one does so.

    warm-up: hot
    reads: answer
    writes: stored
    healing: the next read
    """
    server.sql(AS_IT_WAS, database)
    dsn, row.name = server.dsn(database), "papers"
    async with row.storage(dsn) as storage:
        async with locked(storage, dsn, "SHARE", "preheat_collections"):
            with child(row, dsn, "create", "papers"):
                await waiting(server, row)
        row.stored |= {"warm pools", "cold starts"}
        row.tried |= row.stored
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        await storage.create()
        await row.heal_by_call(storage)


async def test_frozen_process(row: Row, dsn: str) -> None:
    """The program is stopped and goes on later (SIGSTOP, SIGCONT), while its connections are cut.

    warm-up: hot
    reads: answer
    """
    await row.prepare(dsn)
    with child(row, dsn, "search") as process:
        assert await line(process) == "now"
        process.send_signal(signal.SIGSTOP)
        server = row.servers[0]
        for_row = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{row.name}'"
        await to_thread.run_sync(server.sql, for_row)
        process.send_signal(signal.SIGCONT)
        found, hot = (await go_on(process)).split()
        row.saw("warm-up", "hot" if hot == "3" else f"{hot} of 3 hot")
        row.saw("reads", "answer" if found == "1" else f"{found} chunks")


async def test_ten_processes(row: Row, dsn: str) -> None:
    """Ten programs start at once, each with a pool of three.

    warm-up: hot
    reads: answer
    """
    await row.prepare(dsn)
    with ExitStack() as stack:
        processes = [stack.enter_context(child(row, dsn, "search")) for _ in range(10)]
        ready = [await line(process) for process in processes]
        row.saw("warm-up", "hot" if ready == ["now"] * 10 else str(ready))
        found = [await go_on(process) for process in processes]
        row.saw("reads", "answer" if found == ["1 3"] * 10 else str(found))


async def test_fork(row: Row, dsn: str) -> None:
    """A forked child uses the storage of its parent, which goes on undisturbed.

    warm-up: hot
    reads: PreheatError, then answer
    writes: stored
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        with warnings.catch_warnings(action="ignore"):  # Python warns of a fork beside threads
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                storage.search(VECTOR).send(None)
            except PreheatError as error:
                code = 0 if name_of(error) == "PreheatError" else 2
            finally:
                os._exit(code)
        _, status = await to_thread.run_sync(os.waitpid, pid, 0)
        code = os.waitstatus_to_exitcode(status)
        row.saw("reads", "PreheatError" if code == 0 else f"status {code}")
        await row.read(storage)
        await row.write(storage)


async def test_other_event_loop(row: Row, dsn: str) -> None:
    """A thread uses the storage in an event loop of its own; the owner goes on undisturbed.

    warm-up: hot
    reads: PreheatError, then answer
    writes: stored
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        backend = sniffio.current_async_library()
        await to_thread.run_sync(partial(anyio.run, row.read, storage, backend=backend))
        await row.read(storage)
        await row.write(storage)


async def test_cancelled_callers(row: Row, dsn: str) -> None:
    """Forty searches are cancelled while they wait for a lock.

    warm-up: hot
    reads: answer
    writes: stored
    healing: warm without a call
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        async with locked(storage, dsn), anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(storage.search, VECTOR)
            await waiting(row.servers[0], row, 3)
            tasks.cancel_scope.cancel()
        await row.read(storage)
        await row.write(storage)
        await row.heal(storage)


async def test_closed(row: Row, dsn: str) -> None:
    """The storage is used after its end.

    warm-up: hot
    reads: PreheatError
    writes: PreheatError
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
    await row.read(storage)
    await row.write(storage)
