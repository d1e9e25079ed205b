"""Faults of TLS: a server without it or with nothing else, certificates that are not trusted, a lost handshake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.faults.row import Row
from tests.support.network.tls_terminator import TLSTerminator
from tests.support.server import Server

from preheat.testing import FaultyNetwork

pytestmark = pytest.mark.slow


@pytest.fixture
def door(server: Server, dsn: str) -> Iterator[TLSTerminator]:
    """A server that offers TLS and does not insist on it."""
    with TLSTerminator(server.port) as door:
        yield door


def through(server: Server, port: int, words: str) -> str:
    return f"{server.dsn('tests', port=port).partition('?')[0]}?{words}"


async def test_verified(row: Row, server: Server, dsn: str, door: TLSTerminator) -> None:
    """The certificate is trusted and names the host (sslmode=verify-full).

    warm-up: hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    async with row.storage(
        through(server, door.port, f"sslmode=verify-full&sslrootcert={door.certificate}")
    ) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_no_tls(row: Row, server: Server, dsn: str, door: TLSTerminator) -> None:
    """The server has no TLS, and the client wants it (sslmode=require).

    warm-up: cold
    reads: ConnectError
    writes: ConnectError
    """
    door.offers_tls = False
    async with row.storage(through(server, door.port, "sslmode=require"), keep_warm=False) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_only_tls(row: Row, server: Server, dsn: str) -> None:
    """The server insists on TLS, and the client has it off (sslmode=disable).

    warm-up: cold
    reads: ConnectError 28000
    writes: ConnectError 28000
    """
    with TLSTerminator(server.port, plain=False) as door:
        async with row.storage(through(server, door.port, "sslmode=disable"), keep_warm=False) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)


async def test_unknown_authority(row: Row, server: Server, dsn: str, door: TLSTerminator) -> None:
    """The certificate is signed by an unknown authority (sslrootcert=system).

    warm-up: cold
    reads: ConnectError
    writes: ConnectError
    """
    words = "sslmode=verify-full&sslrootcert=system"
    async with row.storage(through(server, door.port, words), keep_warm=False) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_other_name(row: Row, server: Server, dsn: str, door: TLSTerminator) -> None:
    """The certificate names another host (sslmode=verify-full).

    warm-up: cold
    reads: ConnectError
    writes: ConnectError
    """
    words = f"sslmode=verify-full&sslrootcert={door.certificate}&hostaddr=127.0.0.1"
    other = through(server, door.port, words).replace("@127.0.0.1", "@database.internal")
    async with row.storage(other, keep_warm=False) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_mute_handshake(row: Row, server: Server, dsn: str, door: TLSTerminator) -> None:
    """The connection is lost in the handshake of TLS.

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    with FaultyNetwork(through(server, door.port, "sslmode=require")) as network:
        network.close_after(200, reset=True)
        async with row.storage(network.dsn, warm_timeout=0.5) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)
            network.heal()
            await row.heal(storage)
