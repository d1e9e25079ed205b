"""Faults of the network: hosts that refuse, reset, are mute or slow, and names that are not found."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import anyio
import pytest
from tests.faults.row import Row
from tests.support.server import Server, free_port
from tests.support.waiting import until

from preheat.testing import FaultyNetwork

pytestmark = pytest.mark.slow


@pytest.fixture
def network(dsn: str) -> Iterator[FaultyNetwork]:
    with FaultyNetwork(dsn) as network:
        yield network


async def test_refused(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """The server is down when the service starts.

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    network.refuse()
    async with row.storage(network.dsn, warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        network.heal()
        await row.heal(storage)


async def test_refused_later(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """New connections are refused; those that are open go on.

    warm-up: hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    async with row.storage(network.dsn) as storage:
        await row.warm_up(storage)
        network.refuse()
        await row.read(storage)
        await row.write(storage)


async def test_reset_in_start_up(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """Each new connection is reset before its first answer.

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    network.close_after(0, reset=True)
    async with row.storage(network.dsn, warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        network.heal()
        await row.heal(storage)


async def test_closed_in_log_in(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """Each new connection is closed in the midst of the log-in.

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    network.close_after(60)
    async with row.storage(network.dsn, warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        network.heal()
        await row.heal(storage)


async def test_mute(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """The server accepts connections and never answers.

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    network.mute()
    async with row.storage(network.dsn, seconds=1.0) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        network.heal()
        await row.heal(storage)


async def test_many_callers_of_a_mute_server(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """The server never answers 500 callers.

    reads: ConnectError (transient) or PoolBusyError (transient)
    healing: the next read
    """
    await row.prepare(dsn)
    network.mute()
    async with row.storage(network.dsn, seconds=1.0, keep_warm=False, warm="never") as storage:
        seen: set[str] = set()

        async def caller() -> None:
            seen.add((await row.outcome_of_read(storage))[0])

        async with anyio.create_task_group() as tasks:
            for _ in range(500):
                tasks.start_soon(caller)
        row.saw("reads", " or ".join(sorted(seen)))
        network.heal()
        await row.heal_by_call(storage)


async def test_half_open(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """A firewall forgets the open connections and tells nobody.

    warm-up: hot
    reads: DatabaseError 57014
    writes: DatabaseError 57014
    healing: the next read
    """
    await row.prepare(dsn)
    async with row.storage(network.dsn, size=2, warm_connections=2, seconds=1.0, keep_warm=False) as storage:
        await row.warm_up(storage)
        network.half_open()
        await row.read(storage)
        await row.write(storage)
        await row.heal_by_call(storage)


async def test_reset_while_idle(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """All idle connections are reset.

    warm-up: hot
    reads: answer
    writes: stored
    healing: warm without a call
    """
    await row.prepare(dsn)
    async with row.storage(network.dsn) as storage:
        await row.warm_up(storage)
        network.reset()
        await row.read(storage)
        await row.write(storage)
        await row.heal(storage)


async def test_answers_lost(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """The connection is lost between a request and its answer.

    warm-up: hot
    reads: answer
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    async with row.storage(network.dsn) as storage:
        await row.warm_up(storage)
        lose_answers(network)
        await row.read(storage)
        assert await storage.wait_warm(20)
        lose_answers(network)
        await row.write(storage)
        await row.heal(storage)


def lose_answers(network: FaultyNetwork) -> None:
    """Close each open connection in the moment that its server answers. New ones work."""

    def change() -> None:
        for link in network._links:
            link.remaining = 0

    network._call(change)


async def test_latency(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """Every piece takes 50 ms each way.

    warm-up: hot
    reads: answer
    writes: stored
    """
    network.latency = 0.05
    await row.prepare(dsn)
    async with row.storage(network.dsn) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_latency_above_the_bound(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """The network takes longer than the time-outs.

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    network.latency = 2.0
    async with row.storage(network.dsn, seconds=1.0) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        network.heal()
        await row.heal(storage)


async def test_slow_line(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """The line carries 50 kB a second, with jitter.

    warm-up: hot
    reads: answer
    writes: stored
    """
    network.bandwidth, network.jitter = 50_000, 0.01
    await row.prepare(dsn)
    async with row.storage(network.dsn) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_silent_first_host(row: Row, server: Server, dsn: str) -> None:
    """The first of two hosts accepts and never answers.

    warm-up: hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{server.port}"
        async with row.storage(dsn.replace(f"127.0.0.1:{server.port}", hosts)) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)


async def test_refusing_first_host(row: Row, server: Server, dsn: str) -> None:
    """The first of two hosts refuses connections.

    warm-up: hot
    reads: answer
    writes: stored
    """
    await row.prepare(dsn)
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{server.port}"
    async with row.storage(dsn.replace(f"127.0.0.1:{server.port}", hosts)) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)


async def test_slow_name(row: Row, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name server does not answer.

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    answer, look_up = threading.Event(), socket.getaddrinfo

    def slow(host: object, *args: object, **words: object) -> object:
        answer.wait()
        return look_up("127.0.0.1", *args[:1], type=socket.SOCK_STREAM)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        async with row.storage(dsn.replace("127.0.0.1", "database.internal"), seconds=1.0) as storage:
            await row.warm_up(storage)
            await row.read(storage)
            await row.write(storage)
            answer.set()
            await row.heal(storage)
    finally:
        answer.set()


async def test_unknown_name(row: Row, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the host is not found for a while.

    warm-up: cold
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    look_up, is_known = socket.getaddrinfo, False

    def failing(host: object, *args: object, **words: object) -> object:
        if not is_known:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up("127.0.0.1", *args[:1], type=socket.SOCK_STREAM)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", failing)
    async with row.storage(dsn.replace("127.0.0.1", "database.internal"), warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        await row.read(storage)
        await row.write(storage)
        is_known = True
        await row.heal(storage)


async def test_outage(row: Row, dsn: str, network: FaultyNetwork) -> None:
    """The network is down for a while: all connections are reset and new ones refused.

    warm-up: hot
    reads: ConnectError (transient)
    writes: ConnectError (transient)
    healing: warm without a call
    """
    await row.prepare(dsn)
    async with row.storage(network.dsn, warm_timeout=0.5) as storage:
        await row.warm_up(storage)
        network.refuse()
        network.reset()
        await until(lambda: storage.state != "warm")
        await row.read(storage)
        await row.write(storage)
        network.heal()
        await row.heal(storage)
