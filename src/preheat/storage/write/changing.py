"""The operations that change a collection, each on one connection.

Every operation takes its locks in one order: the schema, the collection, documents, the table, and only then rows. So
two operations cannot deadlock on anything but rows. Rows are locked in the order of their ids where that is possible;
where it is not, the server ends one of two transactions, and :func:`rerun <preheat.storage.executor.rerun>` runs it
again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from ...errors import AccessError, ChunkExistsError, CollectionError
from ...pools import Row, SQLConnection
from ..encoding.copy_format import COPY_COLUMNS, EMPTY_COPY, copy_rows
from ..executor import Statement
from ..models import Chunk, OnConflict
from ..schema.collection import Collection, check_version
from ..schema.sql import drop_collection, lock_schema, made_of_collection, unregister_collection
from ..schema.tables import ReplacedError, drop_command, locking
from ..sqlstates import DEPENDENT_OBJECTS, INSUFFICIENT_PRIVILEGE, UNIQUE_VIOLATION, sqlstate
from ..validation import about
from . import sql

Rows: TypeAlias = Callable[[], Iterable[bytes]]
"""Packs a batch for COPY; called again for each run of the transaction."""


def packed_rows(collection: Collection, chunks: Iterable[Chunk], dimensions: int) -> Iterable[bytes]:
    """Chunks packed for what is known of the collection; raises as :func:`copy_rows` does."""
    return copy_rows(chunks, dimensions, collection.stored_as, collection.metric or "cosine")


async def merge(
    collection: Collection,
    connection: SQLConnection,
    *,
    batch: Sequence[Chunk],
    rows: Rows,
    replacing: str | None,
    on_conflict: OnConflict,
    alone: bool,
) -> int:
    """Store a batch, all of it or nothing, in place of the document `replacing` if there is one. An operation.

    It is copied straight in, which is atomic and fastest. If a row has the id of a stored one, COPY has stored nothing,
    and the policy decides: the batch goes by way of a staging table, or the error names the chunk.

    Args:
        batch: the chunks, sorted by their ids.
        rows: the same, packed.

    Returns:
        How many chunks were written.

    Raises:
        ChunkExistsError: if the policy is `"error"` and an id is stored.
    """
    documents = [] if replacing is None else [replacing]
    if not alone:
        try:
            if not documents:
                # One transaction around these two statements would cost two more round trips. It is not needed: if a
                # later release changes the collection between them, it has either replaced the table, which the
                # condition of COPY detects, or it meets these rows as if they had been stored before it came.
                await check_version(connection, collection.identifiers)
                await copy(collection, connection, rows)
                return len(batch)
            async with changing(collection, connection, documents):
                await _delete_documents(collection, connection, documents)
                await copy(collection, connection, rows)
            return len(batch)
        except Exception as error:
            if sqlstate(error) != UNIQUE_VIOLATION:
                raise
    async with changing(collection, connection, documents, alone=alone):
        await _delete_documents(collection, connection, documents)
        if on_conflict == "error":
            # The writer of the row that COPY met may have deleted it since. Then nothing is found, and COPY runs again.
            # If that meets yet another row, the whole operation runs again, alone.
            await _check_new(collection, connection, batch)
            await copy(collection, connection, rows)
            return len(batch)
        await connection.execute(sql.create_staging(collection.identifiers))
        await copy(collection, connection, rows, "preheat_staging")
        (row,) = await connection.fetch(sql.merge_staging(collection.identifiers, on_conflict))
    return int(row["written"])


async def _check_new(collection: Collection, connection: SQLConnection, batch: Sequence[Chunk]) -> None:
    """Raise unless no chunk of the batch is stored."""
    rows = await connection.fetch(sql.existing(collection.identifiers), [chunk.id for chunk in batch])
    if stored := {row["id"] for row in rows}:
        raise about(ChunkExistsError(), next(chunk for chunk in batch if chunk.id in stored))


async def _delete_documents(collection: Collection, connection: SQLConnection, documents: Sequence[str]) -> None:
    for document in documents:
        await connection.fetch(sql.delete(collection.identifiers, sql.OF_DOCUMENT), document)


async def embed(
    collection: Collection,
    connection: SQLConnection,
    *,
    ids: Sequence[str],
    hashes: Sequence[str],
    vectors: Sequence[str],
    alone: bool,
) -> int:
    """Give chunks that have none their embeddings, and return how many got one. An operation.

    Raises:
        ReplacedError: if the table is no longer the one that was found, whose model the vectors come from.
    """
    async with changing(collection, connection, (), alone=alone):
        if await collection.was_replaced(connection):
            raise ReplacedError(collection.name)
        statement = sql.embed(collection.identifiers, collection.stored_as)
        (row,) = await connection.fetch(statement, ids, hashes, vectors)
    return int(row["written"])


async def alone(collection: Collection, connection: SQLConnection, *, write: Statement, values: Any) -> Sequence[Row]:
    """Run a statement in a transaction during which there is no other writer. An operation."""
    async with changing(collection, connection, (), alone=True):
        return await connection.fetch(write(collection.identifiers), *values)


async def clear(collection: Collection, connection: SQLConnection) -> int:
    """Delete all chunks, and return how many there were. An operation."""
    async with changing(collection, connection, (), alone=True):
        rows = await connection.fetch(sql.count_all(collection.identifiers))
        truncates = bool(rows and rows[0]["truncates"])
        await connection.execute(sql.clear(collection.identifiers, truncates=truncates))
    return int(rows[0]["chunks"]) if rows else 0


@asynccontextmanager
async def changing(
    collection: Collection, connection: SQLConnection, documents: Sequence[str], *, alone: bool = False
) -> AsyncGenerator[None]:
    """A transaction that changes these documents, and locks them until it ends. Part of an operation.

    Args:
        documents: their keys, sorted, so that two transactions that lock the same ones do not deadlock.
        alone: whether to wait for all other writers of the collection and keep new ones out; searches go on.
    """
    if alone:
        async with locking(connection):
            for lock in sql.hold_writers(collection.identifiers):
                await connection.execute(lock)
            await check_version(connection, collection.identifiers)
            yield
        return
    async with locking(connection):
        if documents:
            label = f"{collection.identifiers.schema or ''} {collection.name}"
            await connection.fetch(sql.lock_documents(len(documents)), label, documents)
        await connection.execute(sql.lock_table(collection.identifiers))
        await check_version(connection, collection.identifiers)
        yield


async def drop(collection: Collection, connection: SQLConnection) -> bool:
    """Drop the tables and the entry in the registry, and return whether there were any. An operation.

    Raises:
        AccessError: if this role may not do that.
        CollectionError: if something else depends on the tables.
    """
    try:
        async with locking(connection):
            await connection.execute(lock_schema())
            rows = await connection.fetch(made_of_collection(collection.identifiers))
            has_table = bool(rows and rows[0]["chunks"])
            if has_table:
                for lock in sql.hold_writers(collection.identifiers):
                    await connection.execute(lock)
            if rows and rows[0]["registry"]:
                await check_version(connection, collection.identifiers)
            await connection.execute(drop_collection(collection.identifiers))
            if rows and rows[0]["registry"]:
                await connection.execute(unregister_collection(collection.identifiers), collection.name)
    except Exception as error:
        if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            raise AccessError(
                f"this role may not drop collection {collection.name!r} ({error})",
                f"let the owner of its tables run: {drop_command(collection.identifiers)}",
                sqlstate=INSUFFICIENT_PRIVILEGE,
            ) from error
        if sqlstate(error) == DEPENDENT_OBJECTS:
            raise CollectionError(
                f"collection {collection.name!r} cannot be dropped, as something depends on it "
                f"({getattr(error, 'detail', None) or error}); drop that first"
            ) from error
        raise
    collection.forget()
    return has_table


async def copy(collection: Collection, connection: SQLConnection, rows: Rows, staging: str | None = None) -> None:
    """Copy packed rows into the table, or into a staging table. An operation.

    The condition of COPY compares the number of the table with the number that was found. It is evaluated when COPY has
    its lock of the table, from when on reembed cannot replace the table. So no row gets into a table whose vectors come
    from another model: COPY then stores no row, which is an error if the stream had any.

    Raises:
        ReplacedError: if the table is no longer the one that was found.
    """
    size = 0

    async def pieces() -> AsyncGenerator[bytes]:
        nonlocal size
        for piece in rows():
            size += len(piece)
            yield piece
            await _Turn()

    table, schema = (staging, None) if staging else (collection.identifiers.table_name, collection.identifiers.schema)
    tag = await connection.copy_to_table(
        table,
        schema_name=schema,
        source=pieces(),
        columns=COPY_COLUMNS,
        format="binary",
        where=f"{collection.identifiers.table_regclass} = {collection.number:d}" if collection.number else None,
    )
    if tag == "COPY 0" and size > EMPTY_COPY:
        raise ReplacedError(collection.name)


class _Turn:
    """Let other tasks of the event loop run once. An operation runs in the driver's event loop, which on trio is one
    that anyio does not know."""

    def __await__(self) -> Generator[None]:
        yield
