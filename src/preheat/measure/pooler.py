"""Find out whether a pooler is in between, and its mode."""

from __future__ import annotations

from ..errors import ConnectError
from ..pools import SQLPool

__all__ = ("pooler_mode",)

ROUNDS = 2


async def pooler_mode(pool: SQLPool) -> str | None:
    """The mode of the pooler in between, `"session"` or `"transaction"`; None if there is none.

    A pooler makes the process id up that it gives to its client. In session mode, two connections keep two sessions of
    the server; in transaction mode they get any session for each statement, mostly the one that was used last.
    """
    ask = "SELECT pg_catalog.pg_backend_pid() AS pid"
    async with pool.lease() as one:
        (row,) = await one.fetch(ask)
        first = row["pid"]
        if one.pid == first:
            return None
        try:
            async with pool.lease() as two:
                for _ in range(ROUNDS):
                    (other,), (again,) = await two.fetch(ask), await one.fetch(ask)
                    if other["pid"] == first or again["pid"] != first:
                        return "transaction"
        except ConnectError:
            pass  # a pooler with a single session has none left, as its first client keeps that one
        return "session"
