from __future__ import annotations

import pytest

from preheat import ArgumentError, open_pool
from preheat.errors import describe, without_secrets
from preheat.pools import as_pool
from preheat.testing import FakePool


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
