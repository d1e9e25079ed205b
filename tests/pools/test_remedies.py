"""Each cause of a connection that cannot be had has the remedy that helps: where it can be done, it is done here."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.support.network.tls_terminator import TLSTerminator
from tests.support.server import PASSWORD, Server, free_port

from preheat import ArgumentError, ConnectError, DatabaseError, PreheatError, open_pool


async def refused(dsn: str) -> PreheatError:
    """The error for a connection that cannot be had."""
    async with open_pool(dsn, size=1, connect_timeout=5) as pool:
        with pytest.raises((ConnectError, ArgumentError)) as caught:
            await pool.fetch("SELECT 1")
    assert PASSWORD not in str(caught.value)
    return caught.value


async def works(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        assert len(await pool.fetch("SELECT 1")) == 1


# The server's own words


@pytest.fixture
def plain_role(server: Server) -> Iterator[str]:
    server.sql(f"CREATE ROLE \"Plain 'role\" LOGIN PASSWORD '{PASSWORD}'")
    yield "Plain 'role"
    server.sql('DROP OWNED BY "Plain \'role"; DROP ROLE "Plain \'role";')


async def test_an_unknown_database_is_to_be_created(server: Server) -> None:
    error = await refused(server.dsn("nowhere"))
    assert (error.sqlstate, "create the database, or name another one" in str(error)) == ("3D000", True)


async def test_an_unknown_role_and_a_wrong_password_are_one_to_the_server(server: Server) -> None:
    for dsn in (server.dsn(user="nobody"), server.dsn(password="wrong")):
        error = await refused(dsn)
        assert (error.sqlstate, "check the user and the password" in str(error)) == ("28P01", True)


async def test_a_role_that_may_not_log_in_is_told_apart_from_a_wrong_password(server: Server) -> None:
    server.sql(f"CREATE ROLE nologin PASSWORD '{PASSWORD}'")
    try:
        error = await refused(server.dsn(user="nologin"))
    finally:
        server.sql("DROP ROLE nologin")
    assert error.sqlstate == "28000"
    assert "ALTER ROLE ... LOGIN" in str(error)
    assert "password" not in str(error)


async def test_the_error_for_a_role_that_may_not_connect_has_the_grant(
    server: Server, database: str, plain_role: str
) -> None:
    server.sql(f"REVOKE CONNECT ON DATABASE {database} FROM public")
    dsn = server.dsn(database, user=plain_role.replace(" ", "%20").replace("'", "%27"))

    error = await refused(dsn)

    assert error.sqlstate == "42501"
    server.sql(str(error).rpartition("run: ")[2])
    await works(dsn)
    server.sql(f'REVOKE CONNECT ON DATABASE {database} FROM "{plain_role}"')


async def test_the_limit_of_a_role_is_not_that_of_the_server(server: Server, plain_role: str) -> None:
    server.sql(f'ALTER ROLE "{plain_role}" CONNECTION LIMIT 0')
    error = await refused(server.dsn(user=plain_role.replace(" ", "%20").replace("'", "%27")))
    assert error.sqlstate == "53300"
    assert "CONNECTION LIMIT of the role" in str(error)


async def test_a_host_that_pg_hba_rejects_is_reported(server: Server, plain_role: str) -> None:
    file = server.folder / "pg_hba.conf"
    before = file.read_text()
    dsn = server.dsn(user=plain_role.replace(" ", "%20").replace("'", "%27"))
    try:
        file.write_text("local all all trust\nhost all postgres 127.0.0.1/32 scram-sha-256\n")
        server.sql("SELECT pg_reload_conf()")
        with suppress(PreheatError):  # the postmaster may not have read it yet
            while True:
                await works(dsn)
        error = await refused(dsn)
    finally:
        file.write_text(before)
        server.sql("SELECT pg_reload_conf()")
    assert error.sqlstate == "28000"
    assert "let pg_hba.conf on the server allow this host, user and database" in str(error)
    assert "password" not in str(error).partition("; ")[2]


@pytest.mark.parametrize("word", ["nonsense=1", "statement_timeout=soon"])
async def test_a_parameter_that_the_server_does_not_take_is_named(server: Server, word: str) -> None:
    error = await refused(f"{server.dsn()}&{word}")
    assert isinstance(error, ArgumentError)
    assert word.partition("=")[0] in str(error)


async def test_a_statement_timeout_of_the_role_is_reported(server: Server, plain_role: str) -> None:
    server.sql(f"ALTER ROLE \"{plain_role}\" SET statement_timeout = '1ms'")
    async with open_pool(server.dsn(user=plain_role.replace(" ", "%20").replace("'", "%27")), size=1) as pool:
        with pytest.raises(DatabaseError, match="raise statement_timeout for this role") as caught:
            await pool.fetch("SELECT pg_sleep(60)")
        assert caught.value.sqlstate == "57014"


@pytest.mark.parametrize(
    ("setting", "sqlstate", "remedy"),
    [
        ("transaction_timeout=100ms", "25P04", "raise transaction_timeout"),
        ("application_name=x", "57P01", "once the server is back"),
    ],
)
async def test_why_the_server_ends_a_session_in_a_statement_is_told(
    server: Server, setting: str, sqlstate: str, remedy: str
) -> None:
    async def in_a_transaction(connection: Any) -> None:
        async with connection.transaction():
            await connection.fetch(ends)

    ends = "SELECT pg_sleep(20)" if sqlstate == "25P04" else "SELECT pg_terminate_backend(pg_backend_pid())"
    async with open_pool(f"{server.dsn()}&{setting}", size=1) as pool:
        for call in (lambda: pool.fetch(ends), lambda: pool.run(in_a_transaction)):
            with pytest.raises(ConnectError, match=remedy) as caught:
                await call()
            assert caught.value.sqlstate == sqlstate


async def test_the_error_for_a_text_that_the_encoding_cannot_hold_names_one_that_can(server: Server) -> None:
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        async with open_pool(server.dsn("latin"), size=1) as pool:
            with pytest.raises(DatabaseError, match="ENCODING 'UTF8'") as caught:
                await pool.fetch("SELECT $1::text", "日本")
            assert caught.value.sqlstate == "22P05"
    finally:
        server.sql("DROP DATABASE latin WITH (FORCE)")


@pytest.mark.parametrize(
    ("sqlstate", "words", "remedy"),
    [
        ("57P03", "das Datenbanksystem startet", "wait until the server has started"),
        ("57P03", "not yet accepting connections", "hot_standby"),
        ("57P01", "terminating connection due to administrator command", "once the server is back"),
        ("53300", "sorry, too many clients already", "use a smaller pool"),
        ("53100", "no space left on device", "free some space"),
        ("53200", "out of memory", "more memory"),
        ("28P01", "Passwort-Authentifizierung fehlgeschlagen", "check the user and the password"),
        ("28000", 'no pg_hba.conf entry for host "::1", user "u", database "d", SSL encryption', "sslmode=disable"),
        ("28000", 'pg_hba.conf rejects connection for host "::1", user "u", no encryption', "sslmode=require"),
        ("08P01", "no such database: d", "a pooler in between has to know"),
        ("XX000", "Tenant or user not found", "check the user and the database in the DSN"),
    ],
)
async def test_a_refusal_by_the_server_is_classified_by_its_sqlstate(sqlstate: str, words: str, remedy: str) -> None:
    fields = zip(b"SVCM", ("FATAL", "FATAL", sqlstate, words), strict=True)
    body = b"".join(bytes([field]) + text.encode() + b"\0" for field, text in fields) + b"\0"
    with answering(lambda _: b"E" + (len(body) + 4).to_bytes(4, "big") + body) as port:
        error = await refused(f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable")
    assert error.sqlstate == sqlstate
    assert words in str(error)
    assert remedy in str(error)


# What is not PostgreSQL


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[int]:
    """The port of a server that answers what is said first, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.sendall(answer(client.recv(1000)))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.0\r\n", b""])
async def test_another_service_on_that_port_is_not_taken_for_a_server_that_is_down(answer: bytes, sslmode: str) -> None:
    with answering(lambda _: answer) as port:
        error = await refused(f"postgresql://u:p@127.0.0.1:{port}/d?sslmode={sslmode}")
    assert isinstance(error, ConnectError)
    assert "PostgreSQL" in error.remedy
    assert "port" in error.remedy
    assert "try again" not in error.remedy


async def test_a_closed_port_and_an_unknown_host_are_reported(server: Server) -> None:
    assert "host and port in the DSN" in str(await refused(server.dsn(port=free_port())))
    assert "check the name of the host" in str(await refused("postgresql://u:p@no-such-host.invalid/d"))
    assert "socket folder that the DSN names" in str(await refused("postgresql:///d?host=/no/such/folder"))


# What is special in a password


async def test_a_password_may_have_an_at_sign_as_it_is(server: Server) -> None:
    server.sql("CREATE ROLE at LOGIN PASSWORD 'p@ss@word'")
    try:
        await works(f"postgresql://at:p@ss@word@127.0.0.1:{server.port}/postgres?sslmode=disable")
        await works(f"postgresql://at:p%40ss@word@127.0.0.1:{server.port}/postgres?sslmode=disable")
        error = await refused(f"postgresql://at:wr@ng@127.0.0.1:{server.port}/postgres?sslmode=disable")
    finally:
        server.sql("DROP ROLE at")
    assert error.sqlstate == "28P01"


# TLS


@pytest.fixture
def terminator(server: Server) -> Iterator[TLSTerminator]:
    with TLSTerminator(server.port, plain=False) as terminator:
        yield terminator


def through(server: Server, port: int, words: str, host: str = "127.0.0.1") -> str:
    bare = server.dsn(port=port).partition("?")[0].replace("127.0.0.1", host)
    return f"{bare}?{words}"


async def test_a_server_without_tls_is_told_apart_from_one_that_is_down(server: Server) -> None:
    error = await refused(through(server, server.port, "sslmode=require"))
    assert "the server has no TLS" in str(error)
    assert "sslmode=prefer" in str(error)
    await works(through(server, server.port, "sslmode=prefer"))


async def test_a_server_that_wants_tls_says_so(server: Server, terminator: TLSTerminator) -> None:
    error = await refused(through(server, terminator.port, "sslmode=disable"))
    assert error.sqlstate == "28000"
    assert "sslmode=require" in str(error)
    assert "password" not in str(error).partition("; ")[2]
    await works(through(server, terminator.port, "sslmode=require"))


@pytest.mark.parametrize("word", ["sslrootcert", "sslcert"])
async def test_a_missing_file_of_the_dsn_is_named(server: Server, terminator: TLSTerminator, word: str) -> None:
    error = await refused(through(server, terminator.port, f"sslmode=require&{word}=/no/such/file"))
    assert f"{word} names /no/such/file" in str(error)


async def test_without_a_root_certificate_sslrootcert_is_the_remedy(
    server: Server, terminator: TLSTerminator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    error = await refused(through(server, terminator.port, "sslmode=verify-full"))
    assert "sslrootcert=/path/to/root.crt" in str(error)
    assert "\n" not in str(error)


async def test_a_file_without_a_certificate_is_reported(
    server: Server, terminator: TLSTerminator, folder: Path
) -> None:
    folder.write_text("no certificate")
    error = await refused(through(server, terminator.port, f"sslmode=verify-full&sslrootcert={folder}"))
    assert "PEM" in str(error)


async def test_a_certificate_of_another_authority_is_reported(
    server: Server, terminator: TLSTerminator, folder: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(folder)
    error = await refused(through(server, terminator.port, f"sslmode=verify-full&sslrootcert={folder}"))
    assert "name the authority that signed it in sslrootcert" in str(error)
    await works(through(server, terminator.port, f"sslmode=verify-full&sslrootcert={terminator.certificate}"))


@contextmanager
def showing(server: Server, root: Path, *names: str, **options: Any) -> Iterator[TLSTerminator]:
    """A terminator with a certificate of its own, whose authority is written to `root`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(root)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    with TLSTerminator(server.port) as terminator:
        terminator._context = context
        yield terminator


async def test_a_certificate_for_another_name_is_reported(server: Server, folder: Path) -> None:
    with showing(server, folder, "elsewhere.example") as terminator:
        for host in ("127.0.0.1", "localhost"):
            words = f"sslmode=verify-full&sslrootcert={folder}"
            error = await refused(through(server, terminator.port, words, host))
            assert "use the name that the certificate is for" in str(error)
        await works(through(server, terminator.port, f"sslmode=verify-ca&sslrootcert={folder}"))


async def test_an_expired_certificate_is_reported(server: Server, folder: Path) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with showing(server, folder, "127.0.0.1", not_after=yesterday) as terminator:
        error = await refused(through(server, terminator.port, f"sslmode=verify-full&sslrootcert={folder}"))
    assert "renew it" in str(error)
