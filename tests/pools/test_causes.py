"""Which failures may pass by themselves."""

from __future__ import annotations

import socket
import ssl

import pytest

from preheat import ConnectError
from preheat.pools.causes import connect_error, is_transient, lost


class ServerError(Exception):
    """What a driver raises."""


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("57P03", True),  # starting up
        ("53300", True),  # too many clients
        ("57P01", True),  # shutting down
        ("57P02", True),
        ("25006", True),  # a demoted primary
        ("08006", True),
        ("08003", True),
        ("28P01", False),  # password
        ("28000", False),  # pg_hba.conf
        ("3D000", False),  # unknown database
        ("42501", False),  # privilege
        ("57P04", False),  # the database was dropped
        ("55000", False),
        ("08P01", False),
        ("XX000", False),
    ],
)
def test_the_class_of_what_a_server_says(sqlstate: str, expected: bool) -> None:
    error = connect_error(ServerError("no"), "db", sqlstate)
    assert error is not None
    assert error.transient is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("server login has been failing, try again later (server_login_retry)", True),
        ("no more connections allowed (max_client_conn)", True),
        ("query_wait_timeout", True),
        ("pgbouncer is shutting down", True),
        ("no such database: x", False),
        ("SASL authentication failed", False),
        ("unsupported startup parameter: jit", False),
    ],
)
def test_the_class_of_what_a_pooler_says_with_its_one_code(words: str, expected: bool) -> None:
    assert is_transient(ServerError(words), "08P01") is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError("refused"), True),
        (ConnectionResetError("reset"), True),
        (TimeoutError("too slow"), True),
        (socket.gaierror(-2, "Name or service not known"), True),
        (OSError(113, "No route to host"), True),
        (FileNotFoundError("no socket yet"), True),
        (ssl.SSLEOFError("hung up"), True),
        (ssl.SSLCertVerificationError("expired"), False),
        (ssl.SSLError("wrong version"), False),
        (ConnectionError("PostgreSQL server at x rejected SSL upgrade"), False),
        (PermissionError("socket folder"), False),
    ],
)
def test_the_class_of_what_a_network_does(error: OSError, expected: bool) -> None:
    assert is_transient(error, None) is expected


def test_a_lost_connection_is_transient_and_an_error_of_unknown_cause_is_not() -> None:
    assert lost(ServerError("gone"), "db", None).transient
    assert not ConnectError("db", "no", "do something").transient
