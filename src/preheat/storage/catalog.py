"""What is in a database."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from ..pools import SQLPool, as_sql_pool, open_pool
from .names import Names, check_schema
from .records import CollectionInfo
from .schema import find_collection, list_collections

__all__ = ("check_collection", "collections")


async def check_collection(pool: SQLPool, collection: str, schema: str | None = None) -> None:
    """See that a collection is there.

    Raises:
        CollectionNotFoundError: if it is not; it names those that are, the likely ones first.
        ConnectError: if there is no connection.
    """
    await pool.run(partial(find_collection, names=Names(collection, schema)))


async def collections(pool: str | SQLPool | Any, schema: str | None = None) -> list[CollectionInfo]:
    """All collections of a database, in the order of their names.

    Args:
        pool: a DSN, a pool from :func:`preheat.open_pool`, or on asyncio an :class:`asyncpg.Pool`.
        schema: the schema that they are in; by default what the search path says.

    Raises:
        ArgumentError: if no schema can be called so.
        ConnectError: if there is no connection.
    """
    if schema is not None:
        check_schema(schema)
    async with AsyncExitStack() as stack:
        if isinstance(pool, str):
            opened = await stack.enter_async_context(open_pool(pool, size=1))
        else:
            opened = as_sql_pool(pool)
        return await opened.run(partial(list_collections, schema=schema))
