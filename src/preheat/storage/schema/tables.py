"""The tables of a collection: created at first use, by any number of processes at the same time, and checked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Protocol

from ...errors import (
    AccessError,
    CollectionError,
    CollectionMismatchError,
    CollectionNotFoundError,
    DimensionError,
    EmbedderError,
    ExtensionError,
)
from ...pools import Row, SQLConnection
from ..identifiers import Identifiers
from ..models import Metric, VectorType
from ..sqlstates import EXTENSION_NOT_AVAILABLE, INSUFFICIENT_PRIVILEGE, UNDEFINED_TABLE, sqlstate
from . import sql
from .migrations import LATEST, MIGRATIONS, NEEDED
from .sql import HNSW

MAX_DIMENSIONS: dict[VectorType, int] = {"vector": 2000, "halfvec": 4000}
"""The most dimensions of an HNSW index of pgvector; https://github.com/pgvector/pgvector#hnsw."""

DEFAULT_LANGUAGE = "english"
MOST_NAMES = 10
"""The most collections that an error names."""


class Queries(Protocol):
    """A lease or a connection."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement and return its rows."""
        ...


def locking(connection: SQLConnection) -> AbstractAsyncContextManager[Any]:
    """A transaction that takes locks, and then sees what others have written while it waited for them.

    It is read committed, whatever the session's default is. In a repeatable read or serializable transaction the first
    statement takes the snapshot before it waits for its lock. Later statements would not see the rows that the holder
    of the lock has committed, so the lock would protect nothing.
    """
    return connection.transaction(isolation="read_committed")


class ReplacedError(CollectionMismatchError):
    """The table of the collection was replaced since it was looked up. Its `sqlstate` is that of a missing table, as
    the remedy is the same: look the collection up again."""

    sqlstate: str | None = UNDEFINED_TABLE

    def __str__(self) -> str:
        return f"the table of collection {self.args[0]!r} has been replaced meanwhile; store that again"


@dataclass(frozen=True, slots=True)
class Registered:
    """The registry's entry of a collection. The defaults are the values of entries from before a column existed."""

    dimensions: int
    metric: Metric
    embedder: str | None
    type: VectorType = "vector"
    language: str = DEFAULT_LANGUAGE
    version: int = 1
    number: int = 0
    """The number (`oid`) of its table; a table that replaces it has another."""


@dataclass(frozen=True, slots=True)
class Description:
    """The properties that a caller expects of a collection; None for those that the caller did not give."""

    dimensions: int | None = None
    metric: Metric | None = None
    embedder: str | None = None
    type: VectorType | None = None
    language: str | None = None
    before: Registered | None = None
    """What the collection was when it was looked at the last time: who has no name for their model has that of then."""


async def ensure_collection(
    connection: SQLConnection, identifiers: Identifiers, wanted: Description, index: HNSW | None
) -> tuple[Registered, Identifiers]:
    """Create the collection if it is missing, bring it up to date, and check that it is as the caller expects.

    An operation on one connection: one round trip if the collection exists and is up to date.

    Returns:
        Its entry in the registry; and its identifiers, with the schema of pgvector if that had to be looked up.

    Raises:
        CollectionMismatchError: if it has another metric, type or language.
        CollectionNotFoundError: if it is missing and the caller gave no dimensions.
        DimensionError: if it has another number of dimensions.
        EmbedderError: if its vectors come from another model.
        ExtensionError: if pgvector is missing and cannot be added.
    """
    try:
        row = await _registered(connection, identifiers)
    except Exception as error:
        if sqlstate(error) != UNDEFINED_TABLE:
            raise
        row = None
    if row is None or row.version < LATEST:
        if row is None and wanted.dimensions is None:
            raise await unknown_collection(connection, identifiers)
        try:
            row, identifiers = await _make(connection, identifiers, wanted, index)
        except Exception as error:
            if sqlstate(error) != INSUFFICIENT_PRIVILEGE or row is None:
                raise
            if row.version < NEEDED:
                raise may_not_change(identifiers) from error
    await _check(connection, identifiers, row, wanted)
    return row, identifiers


async def _check(connection: SQLConnection, identifiers: Identifiers, row: Registered, wanted: Description) -> None:
    """Raise unless the collection is what the caller takes it for; one without a known model gets the caller's."""
    name = identifiers.collection
    if row.version > LATEST:
        raise newer_error(identifiers, row.version)
    if wanted.embedder is not None and row.embedder not in (None, wanted.embedder):
        raise EmbedderError(name, row.embedder, wanted.embedder)
    before = wanted.before if wanted.embedder is None else None
    if before is not None and row.number != before.number and row.embedder != before.embedder:
        raise EmbedderError(name, str(row.embedder), before.embedder or "the one before")
    if wanted.dimensions is not None and row.dimensions != wanted.dimensions:
        raise DimensionError(row.dimensions, wanted.dimensions)
    if wanted.metric is not None and row.metric != wanted.metric:
        raise CollectionMismatchError(
            f"collection {name!r} is indexed for {row.metric} and was opened for {wanted.metric}; "
            f"open it with metric={row.metric!r}, or choose another name"
        )
    for what, so, asked in (
        ("vector_type", row.type, wanted.type),
        ("language", row.language, wanted.language),
    ):
        if asked is not None and asked != so:
            raise CollectionMismatchError(
                f"collection {name!r} was made with {what}={so!r} and was opened with {what}={asked!r}; "
                f"open it with {what}={so!r} or without, or choose another name"
            )
    model = row.embedder
    if wanted.embedder is not None and model is None:
        model = (await connection.fetch(sql.claim_embedder(identifiers), name, wanted.embedder))[0]["embedder"]
    if wanted.embedder is not None and model != wanted.embedder:
        raise EmbedderError(name, str(model), wanted.embedder)


async def _make(
    connection: SQLConnection, identifiers: Identifiers, wanted: Description, index: HNSW | None
) -> tuple[Registered, Identifiers]:
    """Create the collection, or bring it up to date. Of several processes at the same time the first one does it under
    the lock of the schema; the others wait for the lock, and then find it done."""
    async with locking(connection):
        await connection.execute(sql.lock_schema())
        identifiers = await ensure_extension(connection, identifiers)
        (existing,) = await connection.fetch(sql.what_exists(identifiers))
        row = await _registered(connection, identifiers) if existing["there"] else None
        if row is not None and row.version >= LATEST:
            return row, identifiers
        if row is None:
            row = await _new_entry(connection, wanted)
            if existing["type"] is not None:  # the list was lost: the table decides what its vectors are like
                row = replace(row, dimensions=existing["dimensions"], type=existing["type"])
            await ensure_schema(connection, identifiers)
            if existing["there"]:
                await connection.execute(sql.forget_collection(identifiers), identifiers.collection)
        for migration in MIGRATIONS:
            if migration.number <= row.version:
                continue
            if migration.is_done is not None and await connection.fetch(migration.is_done(identifiers)):
                continue
            for statement in migration.statements(identifiers, row.dimensions, row.type, row.language):
                await connection.execute(statement)
        if not row.version:
            for statement in (
                sql.create_indexes(identifiers, row.metric, row.type, row.language, index) if index else ()
            ):
                await connection.execute(statement)
            entry = (identifiers.collection, row.dimensions, row.metric, row.embedder, row.type, row.language)
            await connection.execute(sql.register_collection(identifiers), *entry)
        await connection.execute(sql.set_version(identifiers), identifiers.collection, LATEST)
        return await _registered(connection, identifiers) or row, identifiers


async def _new_entry(connection: SQLConnection, wanted: Description) -> Registered:
    """The entry of a collection that is to be created."""
    dimensions = wanted.dimensions or 0
    language = DEFAULT_LANGUAGE
    if wanted.language is not None:
        known = [row["language"] for row in await connection.fetch(sql.languages())]
        language = wanted.language
        if language not in known:
            raise CollectionError(
                f"the server knows no language {language!r} for full text; choose one of {', '.join(known)}"
            )
    type = wanted.type or default_type(dimensions)
    return Registered(dimensions, wanted.metric or "cosine", wanted.embedder, type, language, version=0)


def default_type(dimensions: int) -> VectorType:
    """The default type of vectors with so many dimensions, which an index can hold."""
    return "halfvec" if dimensions > MAX_DIMENSIONS["vector"] else "vector"


def may_not_change(identifiers: Identifiers) -> AccessError:
    """The error for a collection of an earlier version that this role cannot bring up to date."""
    return AccessError(
        f"collection {identifiers.collection!r} was made by an earlier version of preheat and this role may not change "
        "its tables",
        f"let their owner run: {apply_command(identifiers)}",
        sqlstate=INSUFFICIENT_PRIVILEGE,
    )


def apply_command(identifiers: Identifiers) -> str:
    """The shell command that brings a collection up to date."""
    schema = "" if identifiers.schema is None else f" --schema {shlex.quote(identifiers.schema)}"
    return f"preheat schema --collection {identifiers.collection}{schema} --apply"


def drop_command(identifiers: Identifiers) -> str:
    """The shell command that drops a collection."""
    schema = "" if identifiers.schema is None else f" --schema {shlex.quote(identifiers.schema)}"
    return f"preheat drop --collection {identifiers.collection}{schema}"


def newer_error(identifiers: Identifiers, version: int) -> CollectionMismatchError:
    """The error for a collection that a later release has made or changed."""
    return CollectionMismatchError(
        f"collection {identifiers.collection!r} was made or changed by a later release of preheat: its tables have "
        f"version {version}, and this release knows {LATEST}; update preheat: pip install --upgrade preheat"
    )


async def _registered(connection: SQLConnection, identifiers: Identifiers) -> Registered | None:
    """The registry's entry of the collection; None if it is missing."""
    rows = await connection.fetch(sql.described_collection(identifiers), identifiers.collection)
    if not rows:
        return None
    return read_registered(rows[0])


def read_registered(row: Row) -> Registered:
    """The entry in a row of :func:`described_collection <preheat.storage.schema.sql.described_collection>`."""
    said = {**json.loads(row["described"]), "number": row["number"]}
    return Registered(**{field.name: said[field.name] for field in fields(Registered) if field.name in said})


async def ensure_schema(connection: SQLConnection, identifiers: Identifiers) -> None:
    """Create the schema that the caller has named, if it is missing."""
    if identifiers.schema is not None and not await connection.fetch(sql.has_schema(), identifiers.schema):
        await connection.execute(sql.create_schema(identifiers.schema))


async def find_extension(connection: Queries, identifiers: Identifiers) -> Identifiers | None:
    """The identifiers with the schema of pgvector, if that is off the search path; None if this database has no
    pgvector."""
    rows = await connection.fetch(sql.has_extension())
    if not rows:
        return None
    return replace(identifiers, extension=None if rows[0]["visible"] else rows[0]["schema"])


async def ensure_extension(connection: SQLConnection, identifiers: Identifiers) -> Identifiers:
    """The identifiers with the schema of pgvector, which is added to the database if it is missing.

    Raises:
        ExtensionError: if it is missing and cannot be added.
    """
    found = await find_extension(connection, identifiers)
    if found is not None:
        return found
    try:
        await connection.execute(sql.create_extension())
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
    return await find_extension(connection, identifiers) or identifiers


async def unknown_collection(connection: SQLConnection, identifiers: Identifiers) -> CollectionNotFoundError:
    """The error for a missing collection; it names those that exist."""
    there = await collection_names(connection, identifiers)
    where = "this database" if identifiers.schema is None else f"the schema {identifiers.schema!r} of this database"
    return CollectionNotFoundError(
        f"there is no collection {identifiers.collection!r} in {where}; {_known(identifiers.collection, there)}"
    )


def _known(name: str, there: Sequence[str]) -> str:
    """The remedy for a missing collection, with the most similar names first."""
    if not there:
        return "there are none yet; store something in it first"
    alike = get_close_matches(name, there, n=MOST_NAMES) or [one for one in there if one.lower() == name.lower()]
    shown = [*alike, *(one for one in there if one not in alike)][:MOST_NAMES]
    more = f" and {len(there) - len(shown)} more" if len(there) > len(shown) else ""
    question = f"do you mean {alike[0]!r}? " if alike else ""
    return f"{question}there are {', '.join(shown)}{more}; store something in it first"


async def find_collection(connection: SQLConnection, identifiers: Identifiers) -> None:
    """Raise CollectionNotFoundError if there is no such collection. An operation on one connection."""
    if identifiers.collection not in await collection_names(connection, identifiers):
        raise await unknown_collection(connection, identifiers)


async def collection_names(connection: SQLConnection, identifiers: Identifiers) -> list[str]:
    """The names of all collections, in order. An operation on one connection."""
    if not (await connection.fetch(sql.what_exists(identifiers)))[0]["there"]:
        return []
    return [row["name"] for row in await connection.fetch(sql.collections(identifiers)) if row["has_table"]]
