"""Faults behind PgBouncer: each of its modes, too few places, and an end of the pooler."""

from __future__ import annotations

import pytest
from tests.faults.row import Row
from tests.support.pgbouncer import pgbouncer
from tests.support.server import Server
from tests.support.waiting import until

from preheat.testing import FaultyNetwork

pytestmark = pytest.mark.slow


async def test_session_mode(row: Row, server: Server, dsn: str) -> None:
    """A pooler in session mode.

    warm-up: hot
    reads: answer, then answer
    writes: stored
    """
    await row.prepare(dsn)
    with pgbouncer(server, "session", default_pool_size=3) as through:
        async with row.storage(through) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)
            await row.read(storage)


async def test_transaction_mode(row: Row, server: Server, dsn: str) -> None:
    """A pooler in transaction mode, with two sessions for three connections.

    warm-up: hot
    reads: answer, then answer
    writes: stored
    """
    await row.prepare(dsn)
    with pgbouncer(server, "transaction") as through:
        async with row.storage(through) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)
            await row.read(storage)


async def test_statement_mode(row: Row, server: Server, dsn: str) -> None:
    """A pooler in statement mode, which cannot serve transactions.

    warm-up: cold
    reads: ConnectError
    writes: ConnectError
    """
    await row.prepare(dsn)
    with pgbouncer(server, "statement") as through:
        async with row.storage(through, keep_warm=False) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)


async def test_pooler_slots(row: Row, server: Server, dsn: str) -> None:
    """A pooler takes two clients of a pool of three.

    warm-up: 2 of 3 hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    with pgbouncer(server, "session", max_client_conn=2, default_pool_size=5) as through:
        async with row.storage(through, warm_timeout=1.0) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)


async def test_pooler_queue(row: Row, server: Server, dsn: str) -> None:
    """A pooler in session mode has two sessions for a pool of three; the third waits for a log-in that does not come.

    warm-up: 2 of 3 hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    with pgbouncer(server, "session", default_pool_size=2) as through:
        async with row.storage(through, warm_timeout=1.0) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)


async def test_pooler_restarts(row: Row, server: Server, dsn: str) -> None:
    """The pooler ends, and another one takes its place.

    warm-up: hot
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    with pgbouncer(server, "transaction") as through, FaultyNetwork(through) as network:
        async with row.storage(network.dsn, warm_timeout=0.5) as storage:
            await row.warm_up(storage)
            network.refuse()
            network.close()
            await until(lambda: storage.state != "warm")
            await row.read(storage)
            await row.write(storage)
            network.heal()
            await row.heal(storage)
