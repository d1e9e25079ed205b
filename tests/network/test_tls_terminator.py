"""The terminator gives TLS to a PostgreSQL that has none, and is counted by the meter in front of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator

import asyncpg
import pytest
from tests.support.network.ends import Ends, all_gone, connect, is_closed_by_its_peer, query, receive
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.network.tls_terminator import TLSTerminator
from tests.support.network.traffic import GSS_REQUEST, SSL_REQUEST, Traffic
from tests.support.server import Server


@pytest.fixture
def terminator(server: Server) -> Iterator[TLSTerminator]:
    with TLSTerminator(server.port) as made:
        yield made


def counts(terminator: TLSTerminator) -> tuple[int, int, int, int]:
    return terminator.requests, terminator.refusals, terminator.handshakes, terminator.direct


def request(code: int) -> bytes:
    return (8).to_bytes(4, "big") + code.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("sslmode", "direct", "round_trips", "opening"),
    [
        ("disable", False, 4, "plain"),
        ("prefer", False, 6, "ssl-request"),
        ("require", False, 6, "ssl-request"),
        ("require", True, 5, "direct tls"),
    ],
)
def test_the_round_trips_to_a_connection(
    server: Server, terminator: TLSTerminator, sslmode: str, direct: bool, round_trips: int, opening: str
) -> None:
    """TLS 1.3 takes one round trip more, and asking for it another."""

    async def go(port: int) -> list[Traffic]:
        dsn = server.dsn(port=port).replace("disable", sslmode)
        connection = await asyncpg.connect(dsn, direct_tls=direct)
        connected = meter.traffic
        await connection.close()
        return connected

    with RoundTripMeter(terminator.port) as meter:
        [connected] = asyncio.run(go(meter.port))
        assert (connected.round_trips, connected.opening) == (round_trips, opening)
    tls = sslmode != "disable"
    assert counts(terminator) == (int(tls and not direct), 0, int(tls), int(direct))


def test_a_meter_behind_the_terminator_sees_what_is_within(server: Server) -> None:
    with RoundTripMeter(server.port) as meter, TLSTerminator(meter.port) as terminator:
        query(server.dsn(port=terminator.port), "require")
        all_gone(meter)
        [counted] = meter.traffic
    assert counted.opening == "plain"
    assert terminator.handshakes == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("direct", [False, True])
def test_the_certificate_is_good_for_verify_full(
    server: Server, terminator: TLSTerminator, host: str, direct: bool
) -> None:
    dsn = server.dsn(port=terminator.port).replace("127.0.0.1", host)
    query(f"{dsn}&sslrootcert={terminator.certificate}", "verify-full", direct_tls=direct)
    assert terminator.handshakes == 1


def test_a_certificate_that_the_client_does_not_trust_is_no_handshake(
    server: Server, terminator: TLSTerminator
) -> None:
    with TLSTerminator(server.port) as another, pytest.raises(ssl.SSLCertVerificationError):
        query(f"{server.dsn(port=terminator.port)}&sslrootcert={another.certificate}", "verify-full")
    assert terminator.requests == 1
    query(server.dsn(port=terminator.port), "require")  # it serves others as before


def test_tls_can_be_taken_away_and_given_back(server: Server, terminator: TLSTerminator) -> None:
    dsn = server.dsn(port=terminator.port)
    terminator.offers_tls = False
    query(dsn, "prefer")
    assert counts(terminator) == (1, 1, 0, 0)
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        query(dsn, "require")
    assert counts(terminator) == (2, 2, 0, 0)
    with pytest.raises(ConnectionError):
        query(dsn, "require", direct_tls=True)
    assert counts(terminator) == (2, 2, 0, 1)
    terminator.offers_tls = True
    query(dsn, "prefer")
    assert counts(terminator) == (3, 2, 1, 1)


def test_clients_without_tls_can_be_turned_away(server: Server) -> None:
    with TLSTerminator(server.port, plain=False) as terminator:
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
            query(server.dsn(port=terminator.port), "disable")
        query(server.dsn(port=terminator.port), "require")


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
def test_a_statement_can_be_cancelled(server: Server, terminator: TLSTerminator, sslmode: str) -> None:
    async def go() -> None:
        connection = await asyncpg.connect(server.dsn(port=terminator.port).replace("disable", sslmode))
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.05)
        assert await connection.fetchval("SELECT 42") == 42
        await connection.close()

    asyncio.run(go())
    assert terminator.requests == (0 if sslmode == "disable" else 2)


def test_gss_encryption_is_refused_and_asking_for_tls_may_follow(terminator: TLSTerminator) -> None:
    with connect(terminator.port) as client:
        client.sendall(request(GSS_REQUEST))
        assert receive(client, 1) == b"N"
        client.sendall(request(SSL_REQUEST))
        assert receive(client, 1) == b"S"
    all_gone(terminator)
    assert counts(terminator) == (1, 0, 0, 0)


def test_tls_from_the_first_byte_needs_alpn(terminator: TLSTerminator) -> None:
    context = ssl.create_default_context(cafile=terminator.certificate)
    with connect(terminator.port) as client, context.wrap_socket(client, server_hostname="localhost") as within:
        assert is_closed_by_its_peer(within)
    assert counts(terminator) == (0, 0, 0, 1)


def test_plain_bytes_pass_unchanged(ends: Ends) -> None:
    with TLSTerminator(ends.port) as terminator, connect(terminator.port) as client:
        client.sendall(b"anything, and more than eight bytes of it")
        with ends.accepted() as server:
            assert receive(server, 41) == b"anything, and more than eight bytes of it"
            server.sendall(b"an answer")
            assert receive(client, 9) == b"an answer"


def test_whoever_leaves_before_saying_what_he_wants_is_forgotten(terminator: TLSTerminator) -> None:
    for said in (b"", b"\0\0", request(SSL_REQUEST), b"\x16\x03"):
        with connect(terminator.port) as client:
            client.sendall(said)
        all_gone(terminator)
        assert terminator.open == 0


def test_50_megabytes_pass_through_tls(server: Server, terminator: TLSTerminator) -> None:
    async def go() -> int:
        connection = await asyncpg.connect(server.dsn(port=terminator.port).replace("disable", "require"))
        received = 0

        async def sink(data: bytes) -> None:
            nonlocal received
            received += len(data)

        await connection.copy_from_query("SELECT repeat('x', 999) FROM generate_series(1, 50000)", output=sink)
        await connection.close()
        return received

    assert asyncio.run(go()) == 50_000_000
