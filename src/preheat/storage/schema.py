"""Tables and indexes: made at first use, by as many processes at once as there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import CollectionError, DimensionError, EmbedderError, ExtensionError
from ..pools import Row, SQLConnection
from . import statements
from .records import CollectionInfo, Metric

__all__ = ("collection_names", "ensure_collection", "list_collections")


class Queries(Protocol):
    """A lease or a connection."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement and return its rows."""
        ...


UNIQUE_VIOLATION = "23505"
UNDEFINED_TABLE = "42P01"
UNDEFINED_OBJECT = "42704"
UNDEFINED_FUNCTION = "42883"
INSUFFICIENT_PRIVILEGE = "42501"
DATA_EXCEPTION = "22000"
OFF_THE_SEARCH_PATH = (UNDEFINED_OBJECT, UNDEFINED_FUNCTION)  # or not in this database at all
NOTHING_STORED = (UNDEFINED_TABLE, UNDEFINED_OBJECT)  # no table of that name, or no type `vector` for one
EXTENSION_NOT_AVAILABLE = ("0A000", "58P01", "22023")


def sqlstate(error: BaseException) -> str | None:
    """The five characters by which PostgreSQL classifies an error, whatever the driver; None for other errors."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


async def ensure_collection(
    connection: SQLConnection,
    name: str,
    dimensions: int | None,
    metric: Metric | None,
    embedder: str | None,
    index: bool,
) -> tuple[int, Metric]:
    """Make the collection if it is missing, and check that it is what the caller takes it for.

    An operation on one connection: one round trip if the collection is there.

    Returns:
        Its number of dimensions and its metric.

    Raises:
        CollectionError: if it has another metric, or is missing and `dimensions` is None.
        DimensionError: if it has another number of dimensions.
        EmbedderError: if its vectors come from another model.
        ExtensionError: if pgvector is missing and cannot be added.
    """
    rows = await _registry_rows(connection, name)
    if not rows:
        if dimensions is None:
            raise await unknown_collection(connection, name)
        try:
            await _create(connection, name, dimensions, metric or "cosine", embedder, index)
        except Exception as error:
            if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
                raise CollectionError(
                    f"collection {name!r} is missing and this role may not make tables here; "
                    "let an administrator run: GRANT CREATE ON SCHEMA public TO this role, or make the collection"
                ) from error
            raise
        rows = await _registry_rows(connection, name)
    row = rows[0]
    if dimensions is not None and row["dimensions"] != dimensions:
        raise DimensionError(row["dimensions"], dimensions)
    if metric is not None and row["metric"] != metric:
        raise CollectionError(
            f"collection {name!r} is indexed for {row['metric']} and was opened for {metric}; "
            f"open it with metric={row['metric']!r}, or choose another name"
        )
    model = row["embedder"]
    if embedder is not None and model is None:
        model = (await connection.fetch(statements.claim_embedder(), name, embedder))[0]["embedder"]
    if embedder is not None and model != embedder:
        raise EmbedderError(name, model, embedder)
    return row["dimensions"], statements.check_metric(row["metric"])


async def _create(
    connection: SQLConnection, name: str, dimensions: int, metric: Metric, embedder: str | None, index: bool
) -> None:
    """Make the collection; of many who come at once, one does and the others find it made."""
    async with connection.transaction():
        await connection.execute(statements.lock_schema())
        await _ensure_extension(connection)
        await connection.execute(statements.create_registry())
        await connection.execute(statements.forget_collection(), name)
        for statement in statements.create_collection(name, dimensions):
            await connection.execute(statement)
        if index:
            await connection.execute(statements.create_indexes(name, metric))
        await connection.execute(statements.register_collection(), name, dimensions, metric, embedder)


async def _registry_rows(connection: SQLConnection, name: str) -> Sequence[Row]:
    try:
        return await connection.fetch(statements.collection_row(), name)
    except Exception as error:
        if sqlstate(error) == UNDEFINED_TABLE:
            return []
        raise


async def check_search_path(connection: Queries) -> bool:
    """Whether pgvector is in this database; its type and operators are found by the search path.

    Raises:
        ExtensionError: if it is in a schema that is not on the search path.
    """
    rows = await connection.fetch(statements.has_extension())
    if rows and not rows[0]["visible"]:
        schema = rows[0]["schema"]
        raise ExtensionError(
            f"pgvector is in the schema {schema!r}, which is not on this role's search path; "
            f"let an administrator run: ALTER ROLE ... SET search_path = public, {schema}"
        )
    return bool(rows)


async def _ensure_extension(connection: SQLConnection) -> None:
    if await check_search_path(connection):
        return
    try:
        await connection.execute(statements.create_extension())
    except Exception as error:
        if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            raise ExtensionError(
                "the database has no pgvector and this role may not add it; "
                "let an administrator run: CREATE EXTENSION vector"
            ) from error
        if sqlstate(error) in EXTENSION_NOT_AVAILABLE:
            raise ExtensionError(
                "this PostgreSQL server has no pgvector to add; "
                "install the pgvector package on the server, or leave out the DSN to use the embedded one"
            ) from error
        raise


async def unknown_collection(connection: SQLConnection, name: str) -> CollectionError:
    """The error for a collection that is missing; it names those that are there."""
    names = await collection_names(connection)
    known = f"there are {', '.join(names)}" if names else "there are none yet"
    return CollectionError(f"there is no collection {name!r} in this database; {known}; store something in it first")


async def collection_names(connection: SQLConnection) -> list[str]:
    """The names of all collections, in order. An operation on one connection."""
    if not (await connection.fetch(statements.has_registry()))[0]["there"]:
        return []
    return [row["name"] for row in await connection.fetch(statements.collections())]


async def list_collections(connection: SQLConnection) -> list[CollectionInfo]:
    """All collections, in the order of their names. An operation on one connection."""
    if not (await connection.fetch(statements.has_registry()))[0]["there"]:
        return []
    infos = []
    for row in await connection.fetch(statements.collections()):
        chunks = (await connection.fetch(statements.count(row["name"])))[0]["chunks"]
        infos.append(CollectionInfo(chunks=chunks, **dict(row)))
    return infos
