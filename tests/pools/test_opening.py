from __future__ import annotations

from typing import Any

import pytest

from preheat import ArgumentError, SQLPool, open_pool
from preheat.errors import describe, without_secrets
from preheat.pools import as_pool, as_sql_pool, identity
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


async def test_name_and_fetch_of_a_pool_have_defaults() -> None:
    class Connection:
        async def fetch(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
            return [(query, *args)]

    class Own:
        size = 2

        def lease(self) -> str:
            return "a lease"

        async def run(self, operation: Any) -> Any:
            return await operation(Connection())

    class Inherits(SQLPool):
        size = 2
        lease: Any = Own.lease
        run: Any = Own.run

    class Named(Own):
        name = "named"

    class Faster(Named):
        async def fetch(self, query: str, *args: Any) -> str:
            return "faster"

    for own in (Own(), Inherits()):
        pool = as_sql_pool(own)
        assert (pool.name, pool.size) == (type(own).__name__, 2)
        assert pool.lease() == "a lease"
        assert await pool.fetch("SELECT $1", 1) == [("SELECT $1", 1)]
        assert identity(pool) is own
    faster = as_sql_pool(Faster())
    assert (faster.name, await faster.fetch("SELECT 1")) == ("named", "faster")
    named = as_sql_pool(Named())
    assert (named.name, await named.fetch("SELECT 1")) == ("named", [("SELECT 1",)])


def test_the_refusal_of_a_pool_names_the_members_that_it_lacks() -> None:
    class Own:
        size = 2

    with pytest.raises(ArgumentError, match=r"^a Own is not a pool: it has no `lease`; .*members of preheat\.Pool$"):
        as_pool(Own())
    with pytest.raises(ArgumentError, match=r"it has no `lease` and no `run`; .*members of preheat\.SQLPool$"):
        as_sql_pool(Own())


def test_secrets_are_taken_out_of_what_others_say() -> None:
    error = OSError("cannot reach postgresql://me:hunter2@host/db with password='hunter2' sslmode=x")

    assert "hunter2" not in describe(error)
    assert describe(error).startswith("OSError: cannot reach postgresql://me:***@host/db")
    assert without_secrets("PASSWORD = hunter2 host=x") == "PASSWORD = *** host=x"
    assert describe(TimeoutError()) == "TimeoutError"
