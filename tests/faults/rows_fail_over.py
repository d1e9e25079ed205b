"""Faults of whole servers: restart, crash, fail-over, a demoted primary and standbys."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from anyio import to_thread
from tests.faults.row import Row
from tests.support.replication import Node, dsn_of, reachable_folder, replicated
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """A primary and a standby."""
    with reachable_folder() as folder, replicated(folder, standbys=1) as nodes:
        yield nodes


@pytest.fixture
def row(nodes: list[Node], row: Row) -> Row:
    """The row looks for leaks before these servers end."""
    return row


async def test_restart(nodes: list[Node], row: Row) -> None:
    """The server is stopped and started again.

    warm-up: hot
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    primary = nodes[0]
    row.servers = [primary]
    await row.prepare(primary.dsn("tests"))
    async with row.storage(primary.dsn("tests"), warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await to_thread.run_sync(primary.stop)
        await until(lambda: storage.state != "warm")
        await row.read(storage)
        await row.write(storage)
        await to_thread.run_sync(primary.start)
        await row.heal(storage)


async def test_crash(nodes: list[Node], row: Row) -> None:
    """All processes of the server are killed (kill -9), and it recovers.

    warm-up: hot
    reads: ConnectError (transient)
    writes: stored, then ConnectError (transient)
    healing: warm without a call
    """
    primary = nodes[0]
    row.servers = [primary]
    await row.prepare(primary.dsn("tests"))
    async with row.storage(primary.dsn("tests"), warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await row.write(storage)
        await to_thread.run_sync(primary.stop, signal.SIGKILL)
        await until(lambda: storage.state != "warm")
        await row.read(storage)
        await row.write(storage)
        await to_thread.run_sync(primary.start)
        await row.heal(storage)


async def test_fail_over(nodes: list[Node], row: Row) -> None:
    """The primary is killed, and its standby becomes the primary.

    warm-up: hot
    reads: ConnectError (transient)
    writes: stored, then ConnectError (transient), then stored
    healing: warm without a call
    """
    primary, heir = nodes
    row.servers = [heir]
    await row.prepare(primary.dsn("tests"))
    dsn = dsn_of(primary, heir, words="target_session_attrs=read-write")
    async with row.storage(dsn, warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await row.write(storage)
        await to_thread.run_sync(heir.catch_up, primary)
        await to_thread.run_sync(primary.stop, signal.SIGKILL)
        await until(lambda: storage.state != "warm")
        await row.read(storage)
        await row.write(storage)
        await to_thread.run_sync(heir.promote)
        await row.heal(storage)
        await row.write(storage)


async def test_demoted_primary(nodes: list[Node], row: Row) -> None:
    """The primary takes no writes any more, and its standby becomes the primary.

    warm-up: hot
    reads: answer
    writes: DatabaseError 25006, then stored
    healing: the next read
    """
    primary, heir = nodes
    row.servers = [primary, heir]
    await row.prepare(primary.dsn("tests"))
    await to_thread.run_sync(heir.catch_up, primary)
    dsn = dsn_of(primary, heir, words="target_session_attrs=read-write")
    async with row.storage(dsn, size=1, warm_connections=1) as storage:
        await row.warm_up(storage)
        await to_thread.run_sync(primary.sql, "ALTER SYSTEM SET default_transaction_read_only = on")
        await to_thread.run_sync(primary.sql, "SELECT pg_reload_conf()")
        await to_thread.run_sync(heir.promote)
        await until(lambda: is_read_only(storage))
        await row.read(storage)
        await row.write(storage)
        await row.write(storage)
        await row.heal_by_call(storage)


async def is_read_only(storage: object) -> bool:
    """Whether the sessions of a storage know of the new setting."""
    [found] = await storage.pool.fetch("SHOW default_transaction_read_only")  # type: ignore[attr-defined]
    return bool(found[0] == "on")


async def test_standby_alone(nodes: list[Node], row: Row) -> None:
    """Only a standby is named, and the client wants to write (target_session_attrs=read-write).

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    primary, standby = nodes
    row.servers = nodes[:]
    await row.prepare(primary.dsn("tests"))
    await to_thread.run_sync(standby.catch_up, primary)
    dsn = dsn_of(standby, words="target_session_attrs=read-write")
    async with row.storage(dsn, warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        await to_thread.run_sync(standby.promote)
        await row.heal(storage)


async def test_standby_for_reads(nodes: list[Node], row: Row) -> None:
    """A standby answers searches and refuses writes.

    warm-up: hot
    reads: answer
    writes: DatabaseError 25006
    """
    primary, standby = nodes
    row.servers = nodes[:]
    await row.prepare(primary.dsn("tests"))
    await to_thread.run_sync(standby.catch_up, primary)
    async with row.storage(dsn_of(standby)) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_standby_ends(nodes: list[Node], row: Row) -> None:
    """The preferred standby is killed; the primary serves instead (target_session_attrs=prefer-standby).

    warm-up: hot
    reads: answer, then answer
    healing: warm without a call
    """
    primary, standby = nodes
    row.servers = [primary]
    await row.prepare(primary.dsn("tests"))
    await to_thread.run_sync(standby.catch_up, primary)
    dsn = dsn_of(primary, standby, words="target_session_attrs=prefer-standby")
    async with row.storage(dsn) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await to_thread.run_sync(standby.stop, signal.SIGKILL)
        await row.read(storage)
        await row.heal(storage)


async def test_replica_ends(nodes: list[Node], row: Row) -> None:
    """The standby that searches go to is killed (read_from="replica").

    warm-up: hot
    reads: answer, then answer
    writes: stored
    healing: warm without a call
    """
    primary, standby = nodes
    row.servers = [primary]
    await row.prepare(primary.dsn("tests"))
    await to_thread.run_sync(standby.catch_up, primary)
    async with row.storage(dsn_of(*nodes), read_from="replica") as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await to_thread.run_sync(standby.stop, signal.SIGKILL)
        await row.read(storage)
        await row.write(storage)
        await row.heal(storage)


async def test_replica_lags(nodes: list[Node], row: Row) -> None:
    """The standby that searches go to stops replaying (max_replica_lag=1).

    warm-up: hot
    reads: answer
    writes: stored
    healing: warm without a call
    """
    primary, standby = nodes
    row.servers = [primary, standby]
    await row.prepare(primary.dsn("tests"))
    await to_thread.run_sync(standby.catch_up, primary)
    async with row.storage(dsn_of(*nodes), read_from="replica", max_replica_lag=1) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_pause()", "tests")
        await row.write(storage)
        await until(lambda: storage.state != "warm")
        await row.heal(storage)
        await to_thread.run_sync(standby.sql, "SELECT pg_wal_replay_resume()", "tests")


async def test_fail_over_to_the_replica(nodes: list[Node], row: Row) -> None:
    """The primary is killed, and the standby that searches go to becomes the primary (read_from="replica").

    warm-up: hot
    reads: answer, then answer
    writes: ConnectError (transient), then stored
    healing: warm without a call
    """
    primary, heir = nodes
    row.servers = [heir]
    await row.prepare(primary.dsn("tests"))
    await to_thread.run_sync(heir.catch_up, primary)
    async with row.storage(dsn_of(*nodes), read_from="replica", warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await to_thread.run_sync(primary.stop, signal.SIGKILL)
        await until(lambda: storage.state != "warm")
        await row.read(storage)
        await row.write(storage)
        await to_thread.run_sync(heir.promote)
        await row.read(storage)
        await row.heal(storage)
        await row.write(storage)
