"""Several hosts share the time of one connection, and the right one is used."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.support.server import PASSWORD, Server, free_port

from preheat import ConnectError, open_pool, warm


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts and never speaks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def dsn_of(server: Server, *ports: int, words: str = "") -> str:
    head, tail = server.dsn().split(f"127.0.0.1:{server.port}")
    return head + ",".join(f"127.0.0.1:{port}" for port in ports) + tail + words


async def test_a_silent_first_host_does_not_use_all_the_time_up(server: Server, silent: int) -> None:
    async with open_pool(dsn_of(server, silent, server.port), size=2, connect_timeout=3) as pool:
        report = await warm(pool, connections=2, timeout=8)

    assert report.ok, report


async def test_a_host_that_refuses_costs_nothing(server: Server) -> None:
    async with open_pool(dsn_of(server, free_port(), free_port(), server.port), size=1) as pool:
        assert await pool.fetch("SELECT 1 AS one")


async def test_each_host_is_named_if_none_could_be_used(server: Server) -> None:
    one, two = free_port(), free_port()
    async with open_pool(dsn_of(server, one, two), size=1) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.fetch("SELECT 1")

    assert f"127.0.0.1:{one}: ConnectionRefusedError" in caught.value.reason
    assert f"127.0.0.1:{two}: ConnectionRefusedError" in caught.value.reason


async def test_a_wrong_password_is_reported_at_once_and_not_tried_elsewhere(server: Server) -> None:
    dsn = dsn_of(server, server.port, free_port()).replace("postgres:", "nobody:")
    async with open_pool(dsn, size=1) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.fetch("SELECT 1")

    assert caught.value.sqlstate == "28P01"


@pytest.mark.parametrize("session", ["any", "read-write", "primary", "prefer-standby"])
async def test_a_primary_is_taken_where_it_may_be(server: Server, session: str) -> None:
    dsn = dsn_of(server, server.port, free_port(), words=f"&target_session_attrs={session}")
    async with open_pool(dsn, size=1) as pool:
        [row] = await pool.fetch("SELECT pg_is_in_recovery() AS standby")

    assert row["standby"] is False


@pytest.mark.parametrize(("session", "kind"), [("standby", "a primary"), ("read-only", "read-write")])
async def test_a_primary_is_refused_where_it_may_not_be(server: Server, session: str, kind: str) -> None:
    async with open_pool(f"{server.dsn()}&target_session_attrs={session}", size=1) as pool:
        with pytest.raises(ConnectError, match=f"no host is {session}: 127.0.0.1:{server.port} is {kind}"):
            await pool.fetch("SELECT 1")


async def test_every_socket_notices_a_silent_network(server: Server) -> None:
    async with open_pool(f"{server.dsn()}&keepalives_idle=42&tcp_user_timeout=7000", size=1) as pool:
        async with pool.lease() as lease:
            connection: Any = getattr(lease.connection, "asyncpg", lease.connection)
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 42
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


async def test_an_address_is_used_in_place_of_the_name_to_connect_and_to_cancel(server: Server) -> None:
    dsn = f"{server.dsn()}&host=no-such-name.invalid&hostaddr=127.0.0.1"
    async with open_pool(dsn, size=1) as pool, pool.lease() as lease:
        with anyio.move_on_after(0.2) as scope:
            await lease.fetch("SELECT pg_sleep(60)")
        assert scope.cancelled_caught
        [row] = await lease.fetch("SELECT 42 AS n")  # waits for the end of the statement before

    assert row["n"] == 42


async def test_a_password_file_is_read_for_each_connection(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:*:wrong\n")
    file.chmod(0o600)
    dsn = f"postgresql://postgres@127.0.0.1:{server.port}/postgres?sslmode=disable&passfile={file}"
    async with open_pool(dsn, size=1) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.fetch("SELECT 1")
        assert caught.value.sqlstate == "28P01"
        file.write_text(f"127.0.0.1:{server.port}:*:postgres:{PASSWORD}\n")
        assert await pool.fetch("SELECT 1")


async def test_hosts_are_shuffled_if_that_is_asked_for(server: Server) -> None:
    ports = [free_port() for _ in range(8)]
    async with open_pool(dsn_of(server, *ports, words="&load_balance_hosts=random"), size=1) as pool:
        reasons = set()
        for _ in range(5):
            with pytest.raises(ConnectError) as caught:
                await pool.fetch("SELECT 1")
            reasons.add(caught.value.reason)

    assert len(reasons) > 1
