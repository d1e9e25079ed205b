"""`channel_binding=require`: a log-in that is bound to the server's certificate, or none."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from tests.support.bound_server import BoundServer, bound_server
from tests.support.network.tls_terminator import TLSTerminator
from tests.support.server import Server

from preheat import ConnectError, open_pool, warm
from preheat.pools.network.scram import BindingError, ScramPlus, certificate_hash, prepared

PASSWORD = "pä ss@w/ord"


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[BoundServer]:
    with bound_server(tmp_path, PASSWORD) as server:
        yield server


def dsn_of(port: int, words: str = "", password: str = PASSWORD) -> str:
    secret = quote(password, safe="")
    return f"postgresql://u:{secret}@127.0.0.1:{port}/d?channel_binding=require&application_name=x{words}"


@pytest.mark.parametrize("words", ["", "&sslmode=require", "&sslmode=require&sslnegotiation=direct"])
async def test_a_log_in_is_bound_to_the_certificate(bound: BoundServer, words: str) -> None:
    async with open_pool(dsn_of(bound.port, words), size=2) as pool:
        assert (await warm(pool, connections=2)).ok

    assert bound.bound == 2


async def test_the_certificate_is_checked_as_well_where_that_is_asked_for(bound: BoundServer, tmp_path: Path) -> None:
    async with open_pool(dsn_of(bound.port, f"&sslmode=verify-full&sslrootcert={bound.root}"), size=1) as pool:
        assert (await warm(pool, connections=1)).ok
    other = tmp_path / "other.crt"
    trustme.CA().cert_pem.write_to_path(str(other))
    async with open_pool(dsn_of(bound.port, f"&sslmode=verify-full&sslrootcert={other}"), size=1) as pool:
        with pytest.raises(ConnectError, match="sslrootcert"):
            async with pool.lease():
                pass

    assert bound.bound == 1


async def refused(dsn: str) -> str:
    async with open_pool(dsn, size=1) as pool:
        with pytest.raises(ConnectError) as caught:
            async with pool.lease():
                pass
    return str(caught.value)


async def test_a_wrong_password_is_a_wrong_password(bound: BoundServer) -> None:
    assert "check the user and the password" in await refused(dsn_of(bound.port, password="wrong"))


async def test_a_connection_without_channel_binding_is_never_accepted(bound: BoundServer) -> None:
    bound.mechanisms = ["SCRAM-SHA-256"]
    assert "offers no log-in with channel binding" in await refused(dsn_of(bound.port))
    bound.lets_in = True
    assert "offers no log-in with channel binding" in await refused(dsn_of(bound.port))


async def test_a_server_that_does_not_know_the_password_is_not_used(bound: BoundServer) -> None:
    bound.knows_password = False
    assert "does not know the password" in await refused(dsn_of(bound.port))


async def test_somebody_in_between_is_noticed(server: Server) -> None:
    with TLSTerminator(server.port) as terminator:
        dsn = server.dsn(port=terminator.port).replace("sslmode=disable", "channel_binding=require")
        assert "offers no log-in with channel binding" in await refused(dsn)


async def test_a_server_without_tls_is_not_used(server: Server) -> None:
    dsn = server.dsn().replace("sslmode=disable", "channel_binding=require")
    assert "the server has no TLS" in await refused(dsn)


# The parts


def signed(key: object, algorithm: object, **options: object) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, algorithm, **options)  # type: ignore[arg-type]
    )
    return built.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "pss"])
@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda each: each.name)
def test_the_binding_is_the_hash_that_the_certificate_was_signed_with(
    kind: str, algorithm: hashes.HashAlgorithm
) -> None:
    options = {"rsa_padding": padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)} if kind == "pss" else {}
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)
    certificate = signed(key, algorithm, **options)

    assert certificate_hash(certificate) == hashlib.new(algorithm.name, certificate).digest()


@pytest.mark.parametrize(
    "certificate",
    [signed(ed25519.Ed25519PrivateKey.generate(), None), b"", b"0\x03\x02\x01\x01"],
    ids=["ed25519", "empty", "not a certificate"],
)
def test_a_certificate_that_cannot_be_bound_to_is_told(certificate: bytes) -> None:
    with pytest.raises(BindingError, match="cannot be bound to"):
        certificate_hash(certificate)


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("plain", "plain"),
        ("\u00aa", "a"),  # the examples of RFC 4013
        ("I\u00adX", "IX"),
        ("\u2168", "IX"),
        ("\u0007\u00aa", "\u0007\u00aa"),  # prohibited: as it is
        ("\u0627\u0031", "\u0627\u0031"),  # of both directions: as it is
        ("a\u00a0ä", "a ä"),
        ("\u00ad", "\u00ad"),
    ],
)
def test_a_password_is_prepared_as_postgresql_does(password: str, expected: str) -> None:
    assert prepared(password) == expected


@pytest.mark.parametrize(
    "challenge", [b"", b"r=other,s=AAAA,i=1", b"r=mine,s=AAAA,i=1", b"r=mine+,i=1", b"r=mine+,s=AAAA,i=x"]
)
def test_a_challenge_that_is_not_one_is_told(challenge: bytes) -> None:
    certificate = ssl.PEM_cert_to_DER_cert(trustme.CA().cert_pem.bytes().decode())
    with pytest.raises(BindingError, match="challenge"):
        ScramPlus("p", certificate, "mine").final(challenge)
