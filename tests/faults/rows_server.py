"""Faults of the server: sessions that end or hang, limits, log-ins, and things that are gone."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from tests.faults.child import TEXTS, ingest
from tests.faults.row import Row, name_of
from tests.support.models import Hashing
from tests.support.server import Server
from tests.support.waiting import until

from preheat import PreheatError, VectorStorage, open_pool
from preheat.embedded.folder import account_for

pytestmark = pytest.mark.slow


async def terminate(server: Server, pids: list[int]) -> None:
    """End sessions, and wait until they have ended."""
    for pid in pids:
        await to_thread.run_sync(server.sql, f"SELECT pg_terminate_backend({pid}, 5000)", "tests")


@asynccontextmanager
async def locked(
    storage: VectorStorage, dsn: str, mode: str = "ACCESS EXCLUSIVE", table: str = ""
) -> AsyncGenerator[None]:
    """Statements on a table, by default that of a storage, wait for the end of the block.

    Args:
        mode: `SHARE` lets searches go on.
    """
    table = table or storage.executor.collection.identifiers.table_name
    async with open_pool(dsn, size=1) as pool, pool.lease() as lease:
        await lease.execute("BEGIN")
        await lease.execute(f'LOCK TABLE "{table}" IN {mode} MODE')
        try:
            yield
        finally:
            await lease.execute("ROLLBACK")


async def waiting(server: Server, row: Row, count: int = 1) -> list[int]:
    """The sessions of a row that wait for a lock, as soon as there are so many."""
    question = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{row.name}' AND wait_event_type = 'Lock'"

    async def asked() -> list[int]:
        pids = [found["pid"] for found in await to_thread.run_sync(server.sql, question)]
        return pids if len(pids) >= count else []

    return await until(asked)


async def test_wrong_password(row: Row, server: Server, dsn: str) -> None:
    """The password is wrong.

    warm-up: cold
    reads: ConnectError 28P01
    writes: ConnectError 28P01
    """
    async with row.storage(server.dsn("tests", password="wrong"), keep_warm=False) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_unknown_database(row: Row, server: Server) -> None:
    """The database does not exist.

    warm-up: cold
    reads: ConnectError 3D000
    writes: ConnectError 3D000
    """
    async with row.storage(server.dsn("missing"), keep_warm=False) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_unknown_role(row: Row, server: Server, dsn: str) -> None:
    """The role does not exist, which a server does not tell from a wrong password.

    warm-up: cold
    reads: ConnectError 28P01
    writes: ConnectError 28P01
    """
    async with row.storage(server.dsn("tests", user="nobody"), keep_warm=False) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_rotating_password(row: Row, server: Server, dsn: str) -> None:
    """The password is changed; a function returns the current one.

    warm-up: hot
    reads: answer
    writes: stored
    healing: warm without a call
    """
    await row.prepare(dsn)
    server.sql("CREATE ROLE rotating SUPERUSER LOGIN PASSWORD 'one';")
    current = "one"
    try:
        async with row.pool(server.dsn("tests", user="rotating"), password=lambda: current) as pool:
            async with row.storage(pool) as storage:
                await row.warm_up(storage)
                server.sql("ALTER ROLE rotating PASSWORD 'two';")
                current = "two"
                await terminate(server, row.pids(storage))
                await row.read(storage)
                await row.write(storage)
                await row.heal(storage)
    finally:
        server.sql("DROP ROLE rotating;")


async def test_terminated_while_idle(row: Row, server: Server, dsn: str) -> None:
    """An administrator ends all sessions while they are idle.

    warm-up: hot
    reads: answer
    writes: stored
    healing: warm without a call
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        await terminate(server, row.pids(storage))
        await row.read(storage)
        await row.write(storage)
        await row.heal(storage)


async def test_terminated_in_the_probe(row: Row, server: Server, dsn: str) -> None:
    """All sessions end while the warm-up probes them, which tries again in its time.

    warm-up: hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage, anyio.create_task_group() as tasks:
        async with locked(storage, dsn):
            tasks.start_soon(row.warm_up, storage)
            await terminate(server, await waiting(server, row, 3))
        await until(lambda: row.seen["warm-up"])
        await row.read(storage)
        await row.write(storage)


async def test_terminated_in_a_search(row: Row, server: Server, dsn: str) -> None:
    """The session of a search ends. The search runs again on another connection.

    warm-up: hot
    reads: answer
    healing: warm without a call
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        async with anyio.create_task_group() as tasks:
            async with locked(storage, dsn):
                tasks.start_soon(row.read, storage)
                await terminate(server, await waiting(server, row))
        await row.heal(storage)


async def test_terminated_in_a_write(row: Row, server: Server, dsn: str) -> None:
    """The session of a write ends. A write never runs again by itself.

    warm-up: hot
    writes: ConnectError 57P01 (transient), then stored
    healing: warm without a call
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        async with anyio.create_task_group() as tasks:
            async with locked(storage, dsn):
                tasks.start_soon(row.write, storage)
                await terminate(server, await waiting(server, row))
        await row.write(storage)
        await row.heal(storage)


async def test_cancelled_by_the_server(row: Row, server: Server, dsn: str) -> None:
    """An administrator cancels a search and a write (pg_cancel_backend).

    warm-up: hot
    reads: DatabaseError 57014, then answer
    writes: DatabaseError 57014, then stored
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        async with locked(storage, dsn), anyio.create_task_group() as tasks:
            tasks.start_soon(row.read, storage)
            tasks.start_soon(row.write, storage)
            for pid in await waiting(server, row, 2):
                await to_thread.run_sync(server.sql, f"SELECT pg_cancel_backend({pid})")
        await row.read(storage)
        await row.write(storage)


async def test_some_connections_fail(row: Row, server: Server, dsn: str) -> None:
    """One of three new connections fails once, which the warm-up tries again.

    warm-up: hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    opened = itertools.count(1)

    async def init(connection: Any) -> None:
        if next(opened) == 2:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    async with row.pool(dsn, init=init) as pool:
        async with row.storage(pool) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)


async def test_too_many_connections(row: Row, server: Server, dsn: str) -> None:
    """The server has two places for a pool of three.

    warm-up: 2 of 3 hot
    reads: answer
    writes: stored
    healing: warm without a call
    """
    await row.prepare(dsn)
    server.sql("CREATE ROLE limited LOGIN PASSWORD 'limited' CONNECTION LIMIT 2;")
    server.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO limited;", "tests")
    try:
        async with row.storage(server.dsn("tests", user="limited", password="limited"), warm_timeout=1.0) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)
            server.sql("ALTER ROLE limited CONNECTION LIMIT 9;")
            await row.heal(storage)
    finally:
        server.sql("DROP OWNED BY limited; DROP ROLE limited;", "tests")


async def test_no_place_at_all(row: Row, server: Server, dsn: str) -> None:
    """The server takes no connection of this role for a while.

    warm-up: cold
    reads: ConnectError 53300 (transient)
    writes: ConnectError 53300 (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    server.sql("CREATE ROLE nowhere LOGIN PASSWORD 'nowhere' CONNECTION LIMIT 0;")
    server.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO nowhere;", "tests")
    try:
        async with row.storage(server.dsn("tests", user="nowhere", password="nowhere"), warm_timeout=0.5) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)
            server.sql("ALTER ROLE nowhere CONNECTION LIMIT 9;")
            await row.heal(storage)
    finally:
        server.sql("DROP OWNED BY nowhere; DROP ROLE nowhere;", "tests")


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """The processes `pids` do nothing until the end of the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_frozen_sessions(row: Row, server: Server, dsn: str) -> None:
    """The server's processes for the open connections are stopped (SIGSTOP).

    warm-up: hot
    reads: DatabaseError 57014
    writes: DatabaseError 57014
    healing: the next read
    """
    await row.prepare(dsn)
    async with row.storage(dsn, size=2, warm_connections=2, seconds=1.0, keep_warm=False) as storage:
        await row.warm_up(storage)
        with stopped(row.pids(storage)):
            await row.read(storage)
            await row.write(storage)
            await row.heal_by_call(storage)


async def test_statement_timeout(row: Row, server: Server, dsn: str) -> None:
    """The server ends a statement that waits for a lock (statement_timeout).

    warm-up: hot
    reads: DatabaseError 57014, then answer
    writes: DatabaseError 57014, then stored
    """
    await row.prepare(dsn)
    async with row.storage(f"{dsn}&options=-c%20statement_timeout%3D300") as storage:
        await row.warm_up(storage)
        async with locked(storage, dsn):
            await row.read(storage)
            await row.write(storage)
        await row.read(storage)
        await row.write(storage)


async def test_lock_timeout(row: Row, server: Server, dsn: str) -> None:
    """The server ends a statement that waits for a lock (lock_timeout).

    warm-up: hot
    reads: CollectionBusyError 55P03, then answer
    writes: CollectionBusyError 55P03, then stored
    """
    await row.prepare(dsn)
    async with row.storage(f"{dsn}&options=-c%20lock_timeout%3D300") as storage:
        await row.warm_up(storage)
        async with locked(storage, dsn):
            await row.read(storage)
            await row.write(storage)
        await row.read(storage)
        await row.write(storage)


async def test_idle_session_timeout(row: Row, server: Server, dsn: str) -> None:
    """The server ends idle sessions after 0.3 s (idle_session_timeout).

    warm-up: hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    async with row.storage(f"{dsn}&options=-c%20idle_session_timeout%3D300", keep_warm=False) as storage:
        await row.warm_up(storage)
        await until(lambda: storage.state != "warm")
        await row.read(storage)
        await row.write(storage)


async def test_frozen_lock(row: Row, server: Server, dsn: str) -> None:
    """Another transaction holds a lock for longer than the time for a statement.

    warm-up: hot
    reads: DatabaseError 57014, then answer
    writes: DatabaseError 57014, then stored
    """
    await row.prepare(dsn)
    async with row.storage(dsn, statement_timeout=0.5) as storage:
        await row.warm_up(storage)
        async with locked(storage, dsn):
            await row.read(storage)
            await row.write(storage)
        await row.read(storage)
        await row.write(storage)


async def test_extension_dropped(row: Row, server: Server, database: str) -> None:
    """Somebody drops pgvector, and with it all vectors.

    warm-up: hot
    reads: ExtensionError 42704
    writes: ExtensionError 42703
    """
    dsn = server.dsn(database)
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        server.sql("DROP EXTENSION vector CASCADE;", database)
        await row.read(storage)
        await row.write(storage)


async def test_table_dropped(row: Row, server: Server, dsn: str) -> None:
    """Somebody drops the table. A write makes it anew.

    warm-up: hot
    reads: CollectionNotFoundError 42P01, then answer
    writes: stored
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        server.sql(f'DROP TABLE "{storage.executor.collection.identifiers.table_name}" CASCADE;', "tests")
        row.stored.clear()
        await row.read(storage)
        await row.write(storage)
        await row.read(storage)


async def test_prepared_statements_dropped(row: Row, server: Server, dsn: str) -> None:
    """The sessions forget their prepared statements (DISCARD ALL), as a pooler makes them.

    warm-up: hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    async with row.storage(dsn, size=1, warm_connections=1) as storage:
        await row.warm_up(storage)
        await storage.pool.fetch("DISCARD ALL")
        await row.read(storage)
        await row.write(storage)


async def test_no_privilege(row: Row, server: Server, dsn: str) -> None:
    """The role may not read the collection.

    warm-up: cold
    reads: AccessError 42501
    writes: AccessError 42501
    """
    await row.prepare(dsn)
    through = server.role("reader", "tests")
    try:
        async with row.storage(through, keep_warm=False) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)
    finally:
        server.sql("DROP OWNED BY reader; DROP ROLE reader;", "tests")


async def test_terminated_with_the_answer_lock(row: Row, server: Server, dsn: str) -> None:
    """The session that holds the locks of the answers ends. Its holder goes on without a lock.

    warm-up: hot
    reads: answer
    writes: stored
    healing: warm without a call
    """
    await row.prepare(dsn)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        async with storage.answer_table.locked("key") as is_held:
            assert is_held
            of_row = f"(SELECT pid FROM pg_stat_activity WHERE application_name = '{row.name}')"
            locks = f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid IN {of_row}"
            await to_thread.run_sync(server.sql, locks)
            await row.read(storage)
            await row.write(storage)
            async with storage.answer_table.locked("other") as is_held:
                assert not is_held  # another holder may be at work without a lock
        async with storage.answer_table.locked("key") as is_held:
            assert is_held
        await row.heal(storage)


async def test_terminated_in_an_ingest(row: Row, server: Server, dsn: str) -> None:
    """The session of a batch of an ingest ends. Nothing of the batch is stored; the same ingest again completes it.

    warm-up: hot
    writes: ConnectError 57P01 (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    model = Hashing("model", 3)
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        async with anyio.create_task_group() as tasks:
            async with locked(storage, dsn, "SHARE"):
                tasks.start_soon(ingested, row, storage, model)
                await terminate(server, await waiting(server, row))
        await ingest(storage, model)
        row.stored |= set(TEXTS)
        row.tried |= set(TEXTS)
        await row.heal(storage)


async def ingested(row: Row, storage: VectorStorage, model: Hashing) -> None:
    """An ingest that is expected to fail."""
    try:
        await ingest(storage, model)
    except PreheatError as error:
        row.saw("writes", name_of(error), error)


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    """A disk of 24 MB with the database `small`, if this user may mount one."""
    account = account_for(server.folder)
    with tempfile.TemporaryDirectory(prefix="preheat-") as folder:
        Path(folder).chmod(0o755)
        disk = Path(folder) / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=False).returncode:
            pytest.skip("no right to mount a small disk")
        try:
            (disk / "data").mkdir()
            os.chown(disk / "data", account.uid, account.gid)
            server.sql(f"CREATE TABLESPACE small LOCATION '{disk / 'data'}'")
            server.sql("CREATE DATABASE small TABLESPACE small")
            server.sql("CREATE EXTENSION vector;", "small")
            yield disk
            server.sql("DROP DATABASE small WITH (FORCE)")
            server.sql("DROP TABLESPACE small")
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


async def test_disk_full(row: Row, server: Server, small_disk: Path) -> None:
    """The disk of the database is full for a while.

    warm-up: hot
    reads: answer
    writes: DatabaseError 53100, then stored
    healing: the next read
    """
    dsn = server.dsn("small")
    await row.prepare(dsn)
    filler = small_disk / "filler"
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        await row.read(storage)
        await row.write(storage, os.urandom(20_000).hex())
        filler.unlink()
        await row.write(storage)
        await row.heal_by_call(storage)
