"""Give a collection the vectors of another model: fill a new table while the old one is in use, then replace it.

Everything happens on one connection, whose session holds a lock that keeps other processes from doing the same. What is
written to the new table stays there, so that the next run after a crash goes on from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio

from ...errors import AccessError, ArgumentError, CollectionBusyError, CollectionError, ConnectError, PreheatError
from ...pools import Row
from ..answers.sql import has_answers
from ..encoding.vectors import check_vector, query_text
from ..executor import Executor
from ..identifiers import Identifiers
from ..models import Chunk, VectorLike, VectorType
from ..schema.diagnosis import CREATES, explained
from ..schema.migrations import LATEST
from ..schema.sql import (
    HNSW,
    analyze,
    count_chunks,
    create_collection,
    create_indexes,
    described_collection,
    lock_schema,
)
from ..schema.tables import (
    DEFAULT_LANGUAGE,
    MAX_DIMENSIONS,
    Description,
    Registered,
    default_type,
    find_extension,
    locking,
)
from ..sqlstates import DEADLOCK_DETECTED, DEPENDENT_OBJECTS, INSUFFICIENT_PRIVILEGE, sqlstate
from ..validation import about
from ..write.sql import hold_writers
from . import sql


class Reembedding:
    """The steps of :func:`preheat.reembed` for one collection.

    Args:
        connection: the connection for all statements; from the pool's `lease`.
        found: the collection's entry in the registry.
        wanted: the entry that it gets.
        facts: the row of :func:`table_facts <preheat.storage.reembed.sql.table_facts>`.
    """

    def __init__(
        self, connection: Any, identifiers: Identifiers, found: Registered, wanted: Registered, facts: Any
    ) -> None:
        self._connection = connection
        self._identifiers = identifiers
        self._facts = facts
        self._turn = anyio.Lock()  # a connection runs one statement at a time
        self.found = found
        """The collection's entry in the registry."""
        self.wanted = wanted
        """The entry that it gets."""

    @property
    def is_done(self) -> bool:
        """Whether the collection has the vectors of the new model already."""
        return bool(self._facts["has_vectors"]) and replace(self.wanted, number=self.found.number) == self.found

    @classmethod
    @asynccontextmanager
    async def begin(
        cls, executor: Executor, embedder: str, dimensions: int, vector_type: VectorType | None = None
    ) -> AsyncGenerator[Reembedding]:
        """Look the collection up, bring it up to date, and keep other sessions from embedding it again meanwhile.

        Raises:
            ArgumentError: if no index can hold vectors of so many dimensions in that type.
            CollectionError: if it is missing or belongs to another role, or another session is embedding it again.
        """
        async with executor.pool.lease() as lease:
            connection = lease.connection
            try:
                found, identifiers = await executor.collection.look_at(connection, Description())
                identifiers = await find_extension(connection, identifiers) or identifiers
                (facts,) = await connection.fetch(sql.table_facts(identifiers))
                if not facts["mine"]:
                    raise AccessError(
                        f"the table of collection {identifiers.collection!r} belongs to the role "
                        f"{facts['owner']!r}, and embedding it again replaces the table",
                        f"let that role run: preheat reembed --collection {identifiers.collection}",
                        sqlstate=INSUFFICIENT_PRIVILEGE,
                    )
                if not (await connection.fetch(sql.try_reembedding(), str(facts["number"])))[0]["held"]:
                    raise CollectionBusyError(
                        f"collection {identifiers.collection!r} is being embedded again by another session",
                        "wait until that is done, or end it: what it has written is taken over by the next run",
                    )
                wanted = replace(
                    found, embedder=embedder, dimensions=dimensions, type=_type(found, dimensions, vector_type)
                )
                yield cls(connection, identifiers, found, wanted, facts)
            except BaseException as error:
                lease.discard()  # the end of the session releases its lock
                if isinstance(error, Exception) and not isinstance(error, PreheatError):
                    try:
                        lease.explain(error)
                    except ConnectError as lost:
                        remedy = f"{lost.remedy}; then embed it again: that goes on from here"
                        raise ConnectError(
                            lost.target, lost.reason, remedy, sqlstate=lost.sqlstate, transient=lost.transient
                        ) from error
                    except PreheatError as refused:
                        told = await explained(
                            executor.pool, refused, identifiers=executor.collection.identifiers, rights=CREATES
                        )
                        raise (told or refused) from error
                raise

    # While the old table is in use

    async def prepare(self) -> int:
        """Create the new table, or take over that of an interrupted run. Returns how many chunks the collection has."""
        identifiers, wanted = self._identifiers, self.wanted
        promise = json.dumps(
            {
                "in place of": self._facts["number"],
                "embedder": wanted.embedder,
                "dimensions": wanted.dimensions,
                "type": wanted.type,
                "version": LATEST,
            }
        )
        connection = self._connection
        async with locking(connection):
            await connection.execute(lock_schema())
            left = await connection.fetch(sql.promise_of_new(identifiers))
            if left and left[0]["promise"] != promise:
                await connection.execute(sql.drop_new(identifiers))
                left = []
            if not left:
                for statement in create_collection(identifiers.replacement, wanted.dimensions, wanted.type):
                    await connection.execute(statement)
                for statement in self._indexes()[:1]:  # the words, while there is nothing to be written anew
                    await connection.execute(statement)
                await connection.execute(sql.set_comment(identifiers, promise))
        return int((await connection.fetch(count_chunks(identifiers)))[0]["chunks"])

    async def page(self, after: str | None, most: int) -> tuple[int, str | None, list[Chunk]]:
        """The next chunks in the order of their ids: how many, the last id, and those that have to be embedded."""
        arguments = (most,) if after is None else (most, after)
        async with self._turn:
            rows = await self._connection.fetch(sql.chunks_page(self._identifiers, first=after is None), *arguments)
        chunks = [_chunk(row) for row in rows if row["text"] is not None]
        return len(rows), rows[-1]["id"] if rows else after, chunks

    async def write(self, chunks: Sequence[Chunk], vectors: Sequence[VectorLike]) -> None:
        """Store chunks with their new vectors in the new table; chunks whose texts have changed since are left out.

        Raises:
            DimensionError: if a vector has another number of dimensions.
            ArgumentError: if a vector holds a NaN or an infinity, or a number that its type cannot hold.
        """
        wanted = self.wanted
        for chunk, vector in zip(chunks, vectors, strict=True):
            try:
                check_vector(vector, wanted.dimensions, wanted.type, wanted.metric)
            except ArgumentError as error:
                raise about(error, chunk) from error.__cause__
        texts = [query_text(vector, wanted.dimensions) for vector in vectors]
        hashes = [hashlib.sha256(chunk.text.encode()).hexdigest() for chunk in chunks]
        statement = sql.store_new(self._identifiers, wanted.type)
        async with self._turn:
            await self._connection.fetch(statement, [chunk.id for chunk in chunks], hashes, texts)

    async def build(self) -> None:
        """Create the indexes of the new table, if the one in use has them."""
        async with self._turn:
            for statement in (*self._indexes(), analyze(self._identifiers.replacement)):
                await self._connection.execute(statement)

    def _indexes(self) -> tuple[str, ...]:
        said = self._facts["hnsw"]
        if said is None:
            return ()
        numbers = {name: int(value) for name, value in re.findall(r"(m|ef_construction)=(\d+)", " ".join(said))}
        wanted = self.wanted
        language = wanted.language or DEFAULT_LANGUAGE
        return create_indexes(self._identifiers.replacement, wanted.metric, wanted.type, language, HNSW(**numbers))

    # The end

    @asynccontextmanager
    async def last_look(self) -> AsyncGenerator[None]:
        """A transaction during which there is no other writer, while searches go on. The caller embeds the remaining
        chunks in it, and then calls :meth:`switch`.

        The lock of the schema comes first, as in every operation that takes several locks, and then writers are kept
        out. Only after that the facts about the table are read again: nothing can change them any more.
        """
        async with locking(self._connection):
            await self._connection.execute(lock_schema())
            for statement in hold_writers(self._identifiers):
                await self._connection.execute(statement)
            (facts,) = await self._connection.fetch(sql.table_facts(self._identifiers)) or [None]
            if facts is None or facts["number"] != self._facts["number"]:
                raise CollectionError(
                    f"collection {self._identifiers.collection!r} was replaced by another session meanwhile; "
                    "see what is in it now, and embed it again if necessary"
                )
            self._facts = facts
            yield

    async def rest(self, most: int) -> list[Chunk]:
        """Some of the chunks that still have to be embedded."""
        rows = await self._connection.fetch(sql.chunks_that_differ(self._identifiers), most)
        return [_chunk(row) for row in rows]

    async def switch(self) -> Registered:
        """Replace the table in use with the new one, visible to all sessions at once when the transaction commits.

        Searches read the old table until DROP TABLE waits for them. Those that come later wait for the commit, and then
        find the new table under the old name. Writers do the same, but they have packed vectors of the old model: the
        condition of their COPY compares the number of the table, and stores nothing in the new one.
        """
        connection, identifiers, wanted = self._connection, self._identifiers, self.wanted
        await connection.execute(sql.drop_stale(identifiers))
        await connection.execute(sql.carry_along(identifiers))
        for statement in self._indexes():  # `create_index` may have been called for the old table meanwhile
            await connection.execute(statement)
        for row in await connection.fetch(sql.grants(identifiers)):
            await connection.execute(sql.grant(identifiers, row["right"], row["grantee"], may_grant=row["may_grant"]))
        await connection.execute(sql.set_comment(identifiers, self._facts["comment"]))
        try:
            await connection.execute(sql.drop_old(identifiers))
        except Exception as error:
            if sqlstate(error) != DEPENDENT_OBJECTS:
                raise
            raise CollectionError(
                f"the table {identifiers.table} cannot be replaced, as something depends on it "
                f"({getattr(error, 'detail', None) or error}); drop that, embed again, which continues this run, and "
                "create it again"
            ) from error
        before, now = f"{identifiers.replacement.table_name}.", f"{identifiers.table_name}."
        for row in await connection.fetch(sql.indexes_of_new(identifiers)):
            rename = sql.rename_constraint if row["constraint"] else sql.rename_index
            if row["name"].startswith(before):
                await connection.execute(rename(identifiers, row["name"], now + row["name"].removeprefix(before)))
        for row in await connection.fetch(sql.not_nulls_of_new(identifiers)):
            name = f"{identifiers.table_name}_{row['column']}_not_null"
            await connection.execute(sql.rename_constraint(identifiers, row["name"], name))
        await connection.execute(sql.set_owner(identifiers, self._facts["owner"]))
        await connection.execute(sql.rename_new(identifiers))
        await connection.fetch(
            sql.register_model(identifiers), identifiers.collection, wanted.dimensions, wanted.embedder, wanted.type
        )
        if (await connection.fetch(has_answers(identifiers)))[0]["there"]:
            await connection.fetch(sql.drop_old_answers(identifiers), wanted.embedder)
        (row,) = await connection.fetch(described_collection(identifiers), identifiers.collection)
        return replace(wanted, number=row["number"])

    @staticmethod
    def met_another(error: BaseException) -> bool:
        """Whether the server has ended the transaction because of a deadlock."""
        return sqlstate(error) == DEADLOCK_DETECTED


def _chunk(row: Row) -> Chunk:
    """A chunk to embed, with the fields that an error names."""
    return Chunk(row["text"], None, {}, row["document"], row["position"], row["id"])


def _type(found: Registered, dimensions: int, asked: VectorType | None) -> VectorType:
    """The type of the new vectors: that of the old ones, unless it was the default for their dimensions."""
    usual = default_type(dimensions)
    type = asked or (usual if found.type == default_type(found.dimensions) else found.type)
    if asked is None and dimensions > MAX_DIMENSIONS[type]:
        type = usual
    if not 1 <= dimensions <= MAX_DIMENSIONS[type]:
        raise ArgumentError(
            f"the model gives vectors of {dimensions} dimensions; a {type} that pgvector can index has 1 to "
            f"{MAX_DIMENSIONS[type]}"
        )
    return type
