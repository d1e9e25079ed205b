"""Hostile DSNs with several hosts, ports and addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.support.server import PASSWORD, Server, free_port

from preheat import ArgumentError, ConnectError, open_pool, warm


@contextmanager
def named(monkeypatch: pytest.MonkeyPatch, name: str, *addresses: str) -> Iterator[None]:
    """Let a name stand for several addresses."""
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != name:
            return real(host, port, *args, **options)
        return [found for each in addresses for found in real(each, port, *args, **options)]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        yield


def dsn_of(server: Server, hosts: str, words: str = "") -> str:
    return server.dsn().replace(f"127.0.0.1:{server.port}", hosts) + words


async def test_a_name_whose_first_address_is_silent_is_reached_at_the_second(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        socket.create_server(("127.0.0.2", server.port)),
        named(monkeypatch, "several.example", "127.0.0.2", "127.0.0.1"),
    ):
        async with open_pool(dsn_of(server, f"several.example:{server.port}"), size=2, connect_timeout=5) as pool:
            report = await warm(pool, connections=2, timeout=8)

    assert report.ok, report


async def test_a_name_whose_first_addresses_refuse_is_reached_at_the_last(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with named(monkeypatch, "several.example", "127.0.0.2", "127.0.0.3", "127.0.0.1"):
        async with open_pool(dsn_of(server, f"several.example:{server.port}"), size=2) as pool:
            assert (await warm(pool, connections=2)).ok


async def test_each_address_of_a_name_is_tried_before_the_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with named(monkeypatch, "several.example", "127.0.0.2", "127.0.0.3"):
        async with open_pool(dsn_of(server, f"several.example:{server.port}"), size=1) as pool:
            with pytest.raises(ConnectError, match="ConnectionRefusedError"):
                await pool.fetch("SELECT 1")


async def test_an_unknown_name_is_looked_up_once_for_each_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def look_up(host: str, *_: Any, **__: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        async with open_pool(dsn_of(server, "nowhere.example:1"), size=1) as pool:
            with pytest.raises(ConnectError, match="check the name of the host"):
                await pool.fetch("SELECT 1")

    assert asked == ["nowhere.example"]


async def test_a_wrong_password_is_not_tried_at_the_next_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with named(monkeypatch, "several.example", "127.0.0.1", "127.0.0.2"):
        dsn = dsn_of(server, f"several.example:{server.port}").replace("postgres:", "nobody:")
        async with open_pool(dsn, size=1) as pool:
            with pytest.raises(ConnectError) as caught:
                await pool.fetch("SELECT 1")
            assert caught.value.sqlstate == "28P01"


async def test_addresses_in_place_of_several_names(server: Server) -> None:
    words = f"&host=a.invalid,b.invalid&hostaddr=127.0.0.1,127.0.0.1&port={free_port()},{server.port}"
    dsn = dsn_of(server, "", words)
    async with open_pool(dsn, size=1) as pool:
        assert await pool.fetch("SELECT 1")
        assert pool.name.startswith("a.invalid:")


@pytest.mark.parametrize("hosts", ["[::1]:{closed},127.0.0.1:{open}", "127.0.0.1:{open},[::1]:{closed}"])
async def test_an_ipv6_literal_among_several_hosts(server: Server, hosts: str) -> None:
    dsn = dsn_of(server, hosts.format(closed=free_port(), open=server.port))
    async with open_pool(dsn, size=1) as pool:
        assert await pool.fetch("SELECT 1")
        assert "[::1]:" in pool.name


async def test_one_port_is_that_of_all_hosts(server: Server) -> None:
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    dsn = (
        f"host=127.0.0.2,127.0.0.1 port={server.port} user=postgres password='{quoted}' dbname=postgres sslmode=disable"
    )
    async with open_pool(dsn, size=1) as pool:
        assert await pool.fetch("SELECT 1")


def test_ports_that_do_not_match_the_hosts_are_refused() -> None:
    for words in ("host=a,b,c port=1,2", "host=a port=1,2"):
        with pytest.raises(ArgumentError, match="port"):
            open_pool(words)


@pytest.mark.parametrize("word", ["target_session_attrs=leader", "load_balance_hosts=yes", "port=0", "port=65536"])
def test_a_word_that_libpq_would_refuse_is_refused(word: str) -> None:
    with pytest.raises(ArgumentError, match=word.partition("=")[0]):
        open_pool(f"postgresql://h/d?{word}")
