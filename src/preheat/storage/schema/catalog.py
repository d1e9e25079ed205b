"""The collections of a database."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from ...errors import CollectionMismatchError, CollectionNotFoundError
from ...pools import SQLConnection, SQLPool, as_sql_pool, open_pool
from ..identifiers import Identifiers, check_schema
from ..models import CollectionInfo
from ..sqlstates import INSUFFICIENT_PRIVILEGE, UNDEFINED_COLUMN, sqlstate
from . import sql
from .diagnosis import LISTS, READS, access_error, missing_error
from .tables import find_collection


async def check_collection(pool: SQLPool, collection: str, schema: str | None = None) -> None:
    """Check that a collection exists.

    Raises:
        CollectionNotFoundError: if it does not; it names those that do, the most similar ones first.
        ConnectError: if there is no connection.
    """
    await pool.run(partial(find_collection, identifiers=Identifiers(collection, schema)))


async def server_versions(pool: SQLPool) -> tuple[str, str | None]:
    """The version of the server, and that of pgvector in the database, or None if it is not installed there."""
    (row,) = await pool.fetch(sql.VERSIONS)
    return row["server"], row["extension"]


async def collections(pool: str | SQLPool | Any, schema: str | None = None) -> list[CollectionInfo]:
    """All collections of a database, in the order of their names.

    A collection whose table is gone is in the list, with `missing`.

    Args:
        pool: a DSN, a pool from :func:`preheat.open_pool`, or on asyncio an :class:`asyncpg.Pool`.
        schema: the schema of the collections; by default the search path decides.

    Raises:
        ArgumentError: if `schema` is not a name for a schema.
        AccessError: if this role may not read all of the collections.
        CollectionMismatchError: if there are tables of collections, and the list of collections is gone.
        ConnectError: if there is no connection.
    """
    if schema is not None:
        check_schema(schema)
    async with AsyncExitStack() as stack:
        if isinstance(pool, str):
            opened = await stack.enter_async_context(open_pool(pool, size=1))
        else:
            opened = as_sql_pool(pool)
        return await opened.run(partial(_list, identifiers=Identifiers("", schema)))


async def _list(connection: SQLConnection, *, identifiers: Identifiers) -> list[CollectionInfo]:
    """An operation."""
    infos = []
    try:
        if not (await connection.fetch(sql.what_exists(identifiers)))[0]["there"]:
            return await _without_list(connection, identifiers)
        for row in await connection.fetch(sql.collections(identifiers)):
            identifiers = replace(identifiers, collection=row["name"])
            info = {key: value for key, value in row.items() if key != "has_table"}
            if row["has_table"]:
                (counted,) = await connection.fetch(sql.count_chunks(identifiers))
                infos.append(CollectionInfo(chunks=counted["chunks"], **info))
            else:
                infos.append(CollectionInfo(chunks=0, missing=await _missing(connection, identifiers), **info))
    except Exception as error:
        if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            rights = READS if identifiers.collection else LISTS
            raise await access_error(connection, identifiers=identifiers, error=error, rights=rights) from error
        if sqlstate(error) == UNDEFINED_COLUMN:
            raise CollectionMismatchError(
                f"the table {identifiers.registry} is not preheat's list of collections ({error}); rename it, or give "
                "the schema in which preheat's tables are"
            ) from error
        raise
    return infos


async def _missing(connection: SQLConnection, identifiers: Identifiers) -> str:
    """What is missing of a collection that has no table, and the remedy."""
    unknown = CollectionNotFoundError(f"collection {identifiers.collection!r} is gone; store its chunks again")
    found = await missing_error(connection, identifiers=identifiers, error=unknown)
    return f"{found or unknown}; to take it off the list, drop the collection"


async def _without_list(connection: SQLConnection, identifiers: Identifiers) -> list[CollectionInfo]:
    """No collections, if there is no table of one either."""
    found = await connection.fetch(sql.unlisted(identifiers))
    if not found:
        return []
    first = found[0]
    raise CollectionMismatchError(
        f"the list of collections {identifiers.registry} is gone, and there are tables of "
        f"{', '.join(row['name'] for row in found)}; put each collection into a new list, with its own dimensions: "
        f"preheat schema --apply --collection {first['name']} --dimensions {first['dimensions']}"
    )
