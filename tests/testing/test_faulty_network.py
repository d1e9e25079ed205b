"""A network that fails when it is told to, seen by a client on asyncio and trio."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from tests.support.network.ends import Ends, is_closed_by_its_peer, receive
from tests.support.server import Server, free_port
from tests.support.waiting import wait_until

from preheat import ArgumentError, ConnectError, open_pool, warm
from preheat.embedded import embedded_postgres
from preheat.testing import FaultyNetwork


@pytest.fixture
def network(server: Server) -> Iterator[FaultyNetwork]:
    with FaultyNetwork(server.dsn()) as network:
        yield network


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


async def ask(dsn: str, *, connect_timeout: float = 5) -> None:
    """One statement on a connection of its own."""
    async with open_pool(dsn, size=1, connect_timeout=connect_timeout) as pool:
        assert (await pool.fetch("SELECT 42 AS n"))[0]["n"] == 42


async def test_a_healthy_network_is_not_noticed(network: FaultyNetwork) -> None:
    async with open_pool(network.dsn, size=3) as pool:
        assert (await warm(pool, connections=3)).ok
        assert network.connections == network.accepted == 3


async def test_everything_takes_the_latency_each_way(network: FaultyNetwork) -> None:
    async with open_pool(network.dsn, size=1) as pool:
        await pool.fetch("SELECT 1")
        network.latency = 0.2
        began = anyio.current_time()
        await pool.fetch("SELECT 1")

    assert anyio.current_time() - began > 0.4


async def test_jitter_keeps_the_order(network: FaultyNetwork) -> None:
    network.jitter = 0.01
    async with open_pool(network.dsn, size=1) as pool:
        rows = await pool.fetch("SELECT n FROM generate_series(1, 20000) AS n")

    assert [row["n"] for row in rows] == list(range(1, 20001))


async def test_a_slow_line_lets_so_many_bytes_through(network: FaultyNetwork) -> None:
    async with open_pool(network.dsn, size=1) as pool:
        await pool.fetch("SELECT repeat('x', 20000)")
        network.bandwidth = 50_000
        began = anyio.current_time()
        await pool.fetch("SELECT repeat('x', 20000)")

    assert anyio.current_time() - began > 0.4


async def test_a_refused_connection_is_told_and_healed_on_the_same_port(network: FaultyNetwork) -> None:
    async with open_pool(network.dsn, size=2) as pool, pool.lease() as open_before:
        await open_before.ping()
        network.refuse()
        network.refuse()
        with pytest.raises(ConnectError, match="ConnectionRefusedError"):
            await pool.fetch("SELECT 1")
        await open_before.ping()
        network.heal()
        await pool.fetch("SELECT 1")


async def test_a_mute_server_accepts_and_never_speaks(network: FaultyNetwork) -> None:
    network.mute()
    with pytest.raises(ConnectError, match="TimeoutError"):
        await ask(network.dsn, connect_timeout=0.3)
    assert network.accepted == 1
    network.heal()
    await ask(network.dsn)


@pytest.mark.parametrize("count", [0, 10, 200])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_ends_after_so_many_bytes(network: FaultyNetwork, count: int, reset: bool) -> None:
    network.close_after(count, reset=reset)
    with pytest.raises(ConnectError):
        await ask(network.dsn)
    network.heal()
    await ask(network.dsn)


@pytest.mark.parametrize("by_reset", [False, True])
async def test_open_connections_end_at_once(network: FaultyNetwork, by_reset: bool) -> None:
    async with open_pool(network.dsn, size=1) as pool:
        async with pool.lease() as lease:
            await lease.ping()
            (network.reset if by_reset else network.close)()
            with pytest.raises(ConnectError):
                await lease.ping()
        await pool.fetch("SELECT 1")


async def test_a_half_open_connection_says_nothing_and_others_work(network: FaultyNetwork) -> None:
    async with open_pool(network.dsn, size=2) as pool, pool.lease() as lost:
        await lost.ping()
        network.half_open()
        with anyio.move_on_after(0.3) as scope:
            await lost.ping()
        assert scope.cancelled_caught
        await pool.fetch("SELECT 1")
        lost.discard()


def test_a_reset_reaches_both_ends(ends: Ends) -> None:
    with FaultyNetwork(f"postgresql://u@127.0.0.1:{ends.port}/d") as network, ends.connected(network.port) as pair:
        pair.client_says(b"hello")
        network.reset()
        for end in (pair.client, pair.server):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_bytes_stop_at_the_very_count(ends: Ends) -> None:
    with FaultyNetwork(f"postgresql://u@127.0.0.1:{ends.port}/d") as network, ends.connected(network.port) as pair:
        pair.server_says(b"12345")
        network.close_after(3)
        pair.client_says(b"as many as you like")
        pair.server.sendall(b"67890")
        assert receive(pair.client, 5) == b"678"
        assert is_closed_by_its_peer(pair.client)


def test_neither_end_of_a_half_open_connection_is_told(ends: Ends) -> None:
    with FaultyNetwork(f"postgresql://u@127.0.0.1:{ends.port}/d") as network, ends.connected(network.port) as pair:
        pair.client_says(b"hello")
        network.half_open()
        pair.server.sendall(b"lost")
        pair.client.sendall(b"lost")
        for end in (pair.client, pair.server):
            end.settimeout(0.2)
            with pytest.raises(TimeoutError):
                end.recv(1)
        pair.server.close()
        with pytest.raises(TimeoutError):
            pair.client.recv(1)


def test_nothing_stays_open_when_it_ends(ends: Ends) -> None:
    with FaultyNetwork(f"postgresql://u@127.0.0.1:{ends.port}/d") as network:
        with ends.connected(network.port) as pair:
            pair.client_says(b"hello")
        network.half_open()
        port = network.port
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pytest.fail("the port is still open")
    assert network.connections == 0


async def test_a_database_on_a_unix_socket_is_reached(folder: Path) -> None:
    async with embedded_postgres(folder) as dsn:
        with FaultyNetwork(dsn) as network:
            await ask(network.dsn)
            assert network.accepted == 1


@pytest.mark.parametrize(
    ("dsn", "through"),
    [
        (
            "postgresql://u:p%40%2F@h:1/d%20b?application_name=a%20b",
            "postgresql://u:p%40%2F@127.0.0.1:{}/d%20b?application_name=a%20b",
        ),
        ("host=a,b hostaddr=1.1.1.1,2.2.2.2 port=1 dbname=d", "postgresql://127.0.0.1:{}/d"),
        ("postgresql:///d?host=/run&user=u", "postgresql://u@127.0.0.1:{}/d?sslmode=disable"),
    ],
)
def test_the_dsn_leads_through_the_network(dsn: str, through: str) -> None:
    with FaultyNetwork(dsn) as network:
        assert network.dsn == through.format(network.port)


def test_invalid_arguments_are_refused() -> None:
    network = FaultyNetwork(f"postgresql://127.0.0.1:{free_port()}/d")
    with pytest.raises(ArgumentError, match="not running"):
        network.dsn  # noqa: B018
    with pytest.raises(ArgumentError, match="count is -1"):
        network.close_after(-1)


def test_a_reset_reaches_the_server_whose_client_has_left_a_half_open_connection(ends: Ends) -> None:
    with FaultyNetwork(f"postgresql://u@127.0.0.1:{ends.port}/d") as network, ends.connected(network.port) as pair:
        pair.client_says(b"hello")
        network.half_open()
        [link] = network._links
        socket_to_client = link.sides[0].transport.get_extra_info("socket")
        pair.client.close()
        wait_until(lambda: socket_to_client.fileno() < 0)
        network.reset()
        with pytest.raises(ConnectionResetError):
            pair.server.recv(1)
