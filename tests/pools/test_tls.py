"""libpq's words for TLS, in front of a server that offers it, has none, or changes its mind; round trips counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import anyio
import pytest
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.network.tls_terminator import TLSTerminator
from tests.support.server import Server

from preheat import ConnectError, SQLPool, open_pool, warm
from preheat.pools.network import tls

CONNECT = 4  # TCP, the start-up and two turns of SCRAM


@dataclass
class Door:
    """The way to a server, through a meter and a terminator."""

    server: Server
    terminator: TLSTerminator
    meter: RoundTripMeter

    def dsn(self, words: str) -> str:
        bare = self.server.dsn(port=self.meter.port).partition("?")[0]
        return f"{bare}?{words}" if words else bare

    @property
    def connects(self) -> list[int]:
        """Round trips of each connection without the one statement that it was opened for, while the pool is open."""
        return [traffic.round_trips - 1 for traffic in self.meter.traffic if not traffic.cancel]


@contextmanager
def door(server: Server, *, plain: bool = True) -> Iterator[Door]:
    with TLSTerminator(server.port, plain=plain) as terminator, RoundTripMeter(terminator.port) as meter:
        yield Door(server, terminator, meter)


@pytest.fixture
def to(server: Server) -> Iterator[Door]:
    with door(server) as way:
        yield way


async def open_another(pool: SQLPool) -> None:
    """Open a connection beside the idle ones, with one statement of one round trip."""
    async with pool.lease() as lease:
        await lease.ping()


async def use(pool: SQLPool, connections: int) -> None:
    """Open connections one after the other, held together."""
    if connections:
        async with pool.lease() as lease:
            await lease.ping()
            await use(pool, connections - 1)


@pytest.mark.parametrize(("words", "round_trips"), [("sslmode=disable", CONNECT), ("sslmode=allow", CONNECT)])
async def test_without_tls_a_connection_is_four_round_trips(to: Door, words: str, round_trips: int) -> None:
    async with open_pool(to.dsn(words), size=2) as pool:
        await use(pool, 2)

        assert to.connects == [round_trips] * 2
    assert to.terminator.requests == 0


@pytest.mark.parametrize("words", ["", "sslmode=prefer"])
async def test_a_refusal_of_tls_is_paid_for_once_in_a_pool(to: Door, words: str) -> None:
    to.terminator.offers_tls = False
    async with open_pool(to.dsn(words), size=4) as pool:
        await use(pool, 4)

        assert to.connects == [CONNECT + 1, CONNECT, CONNECT, CONNECT]
    assert to.terminator.requests == 1


async def test_connections_that_are_warmed_together_wait_for_the_refusal_together(to: Door) -> None:
    to.terminator.offers_tls = False
    async with open_pool(to.dsn("sslmode=prefer"), size=3) as pool:
        assert (await warm(pool, connections=3)).ok

        assert max(to.connects) == CONNECT + 1  # nobody waits longer than for an answer of its own


async def test_each_pool_asks_for_itself(to: Door) -> None:
    to.terminator.offers_tls = False
    for _ in range(2):
        async with open_pool(to.dsn("sslmode=prefer"), size=2) as pool:
            await use(pool, 2)

    assert to.terminator.requests == 2


@pytest.mark.parametrize("words", ["", "sslmode=prefer", "sslmode=require"])
async def test_tls_is_used_whenever_it_is_offered(to: Door, words: str) -> None:
    async with open_pool(to.dsn(words), size=3) as pool:
        await use(pool, 3)

        assert to.terminator.handshakes == 3
        assert [traffic.opening for traffic in to.meter.traffic] == ["ssl-request"] * 3
        assert to.connects == [CONNECT + 2] * 3


async def test_a_server_that_is_known_to_refuse_is_asked_again_after_a_while(
    to: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    to.terminator.offers_tls = False
    now = 1000.0
    monkeypatch.setattr(tls, "monotonic", lambda: now)
    async with open_pool(to.dsn("sslmode=prefer"), size=3) as pool, pool.lease() as first:
        await first.ping()
        to.terminator.offers_tls = True
        now += tls.REMEMBERED_SECONDS - 1
        async with pool.lease() as second:
            await second.ping()
            assert to.terminator.handshakes == 0
            now += 1
            await open_another(pool)

    assert to.terminator.handshakes == 1


async def test_a_server_that_wants_tls_by_now_gets_it(server: Server) -> None:
    with door(server) as way:
        way.terminator.offers_tls = False
        async with open_pool(way.dsn("sslmode=prefer"), size=2) as pool, pool.lease() as first:
            await first.ping()
            way.terminator.offers_tls, way.terminator._plain = True, False
            await open_another(pool)

        assert way.terminator.handshakes == 1


async def test_a_lost_connection_makes_the_next_one_ask_again(to: Door) -> None:
    to.terminator.offers_tls = False
    async with open_pool(to.dsn("sslmode=prefer"), size=1) as pool:
        async with pool.lease() as lease:
            rows = await lease.fetch("SELECT pg_backend_pid() AS pid")
        to.terminator.offers_tls = True
        await anyio.to_thread.run_sync(
            lambda: to.server.sql(f"SELECT pg_terminate_backend({rows[0]['pid']}, 5000) AS gone")
        )
        with anyio.fail_after(30):
            while not to.terminator.handshakes:  # until the client has seen it
                with suppress(ConnectError):
                    await open_another(pool)

    assert to.terminator.requests == 2


async def test_a_connection_that_requires_tls_is_never_unencrypted(to: Door) -> None:
    to.terminator.offers_tls = False
    async with open_pool(to.dsn("sslmode=require"), size=1) as pool:
        with pytest.raises(ConnectError, match="SSL"):
            await open_another(pool)


async def test_certificates_are_checked_where_that_is_asked_for(to: Door) -> None:
    async with open_pool(to.dsn(f"sslmode=verify-full&sslrootcert={to.terminator.certificate}"), size=1) as pool:
        await open_another(pool)

    assert to.terminator.handshakes == 1


async def test_tls_from_the_first_byte_saves_a_round_trip(to: Door) -> None:
    async with open_pool(to.dsn("sslmode=require&sslnegotiation=direct"), size=2) as pool:
        await use(pool, 2)

        assert to.connects == [CONNECT + 1] * 2
    assert (to.terminator.requests, to.terminator.direct) == (0, 2)


async def test_without_asyncpgs_transport_nothing_is_remembered(to: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    to.terminator.offers_tls = False
    is_plain = tls._is_plain
    monkeypatch.setattr(tls, "_is_plain", lambda _: is_plain(object()))  # which has no transport
    async with open_pool(to.dsn("sslmode=prefer"), size=3) as pool:
        await use(pool, 3)

    assert to.terminator.requests == 3


async def test_the_authorities_of_this_machine_are_trusted_if_they_are_asked_for(
    to: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pool(to.dsn("sslrootcert=system"), size=1) as pool:
        with pytest.raises(ConnectError, match="name the authority that signed it in sslrootcert"):
            await open_another(pool)
    monkeypatch.setenv("SSL_CERT_FILE", str(to.terminator.certificate))
    async with open_pool(to.dsn("sslrootcert=system"), size=1) as pool:
        await open_another(pool)

    assert to.terminator.handshakes == 1


async def test_the_certificate_is_for_the_host_whatever_its_address(to: Door) -> None:
    words = f"sslmode=verify-full&sslrootcert={to.terminator.certificate}&hostaddr=127.0.0.1"
    async with open_pool(to.dsn(f"{words}&host=elsewhere.example"), size=1) as pool:
        with pytest.raises(ConnectError, match="use the name that the certificate is for"):
            await open_another(pool)
    async with open_pool(to.dsn(f"{words}&host=localhost"), size=1) as pool:
        await open_another(pool)
