from __future__ import annotations

import pytest

from preheat import ArgumentError, open_pool
from preheat.errors import describe, without_secrets
from preheat.pools import as_pool
from preheat.pools.opening import target
from preheat.testing import FakePool


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:secret@db.example:5432/app", "db.example:5432/app"),
        ("postgres://db/app?sslmode=require", "db/app"),
        ("postgresql://u:se%40cret@[::1]:5432/app", "[::1]:5432/app"),
        ("postgresql://u:secret@one:1,two:2/app", "one:1,two:2/app"),
        ("postgresql://postgres@/postgres?host=/run/pg", "local socket/postgres"),
        ("postgresql://", "local socket"),
    ],
)
def test_a_dsn_is_shown_without_its_user_and_password(dsn: str, shown: str) -> None:
    assert target(dsn) == shown


@pytest.mark.parametrize(
    "dsn",
    [
        "mysql://u:secret@host/db",
        "host=localhost password=secret",
        "",
        "postgresql://u:p@secret/x@host/db",
        "postgresql://u:secret/x@host/db",
        "postgresql://u:secret#x@host/db",
        "postgresql://u:secret?x@host/db",
        "postgresql://u:p[secret]w@h/db",
        "postgresql://u:1?secret@h/db",
        "postgresql://u:secret@h/db?novalue",
        "postgresql://u:secret@h:99999/db",
    ],
)
async def test_a_dsn_that_cannot_be_right_is_refused_without_showing_it(dsn: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        open_pool(dsn)

    assert "secret" not in str(caught.value)
    assert "DSN" in str(caught.value)


@pytest.mark.parametrize("size", [0, -3])
async def test_a_pool_without_connections_is_refused(size: int) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        open_pool("postgresql://localhost/x", size=size)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_a_connect_timeout_must_be_positive(seconds: float) -> None:
    with pytest.raises(ArgumentError, match="connect_timeout"):
        open_pool("postgresql://localhost/x", connect_timeout=seconds)


def test_a_pool_of_the_protocol_is_taken_as_it_is() -> None:
    pool = FakePool()

    assert as_pool(pool) is pool


def test_secrets_are_taken_out_of_what_others_say() -> None:
    error = OSError("cannot reach postgresql://me:hunter2@host/db with password='hunter2' sslmode=x")

    assert "hunter2" not in describe(error)
    assert describe(error).startswith("OSError: cannot reach postgresql://me:***@host/db")
    assert without_secrets("PASSWORD = hunter2 host=x") == "PASSWORD = *** host=x"
    assert describe(TimeoutError()) == "TimeoutError"
