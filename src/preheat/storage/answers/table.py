"""The stored answers of a collection, each to a question that was researched once."""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..._concurrency.single_flight import SingleFlight
from ...errors import ArgumentError, describe
from ...pools import Row, SQLConnection
from ..encoding.vectors import query_text
from ..executor import Executor, Statement
from ..models import VectorLike
from ..schema.collection import check_version
from ..schema.diagnosis import CREATES_ANSWERS, USES_ANSWERS, explained
from ..schema.index_sql import set_memory
from ..schema.sql import HNSW, lock_schema
from ..schema.tables import ensure_extension, ensure_schema, locking
from ..sqlstates import INSUFFICIENT_PRIVILEGE, SOMETHING_IS_MISSING, UNDEFINED_TABLE, sqlstate
from . import sql
from .locks import AnswerLocks

logger: logging.Logger = logging.getLogger("preheat")

LONGEST_TTL = 100 * 365 * 24 * 3600.0
"""In seconds; an answer with a longer time to live is kept without a limit."""


def normalized(question: str) -> str:
    """`question` as the exact tier compares it: in Unicode's normal form C, without the case of its letters, and with
    each run of white space as one space.

    Nothing else is changed. Form KC would make `10²` the same as `102`, and a punctuation mark at the end may change
    the question.
    """
    words = " ".join(unicodedata.normalize("NFC", question).casefold().split())
    return unicodedata.normalize("NFC", words)


def answer_key(scope: str, embedder: str, question: str) -> str:
    """The key of an answer: the same for the same normalized question, in one scope and for one model."""
    return hashlib.sha256(json.dumps([scope, embedder, normalized(question)]).encode()).hexdigest()


def answer_text(value: Any) -> str:
    """An answer as JSON text. Everything but ASCII is escaped, also NUL and lone surrogates, so that `json` can store
    it.

    Raises:
        ArgumentError: if it is not JSON.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"the answer of research is not JSON ({error}); return strings, finite numbers, booleans, None, "
            "lists and dicts of these"
        ) from None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A stored answer."""

    question: str
    """The question for which it was stored, as it was asked."""
    text: str
    """The answer as JSON text."""
    score: float
    """The similarity of that question to the one that is asked now: the cosine of their vectors, or 1 for the same
    question."""
    age: float
    """Seconds since it was stored, by the server's clock."""


class AnswerTable:
    """The answers of a collection, in a table of their own; :attr:`preheat.VectorStorage.answer_table`.

    The table is created when the first answer is stored.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._locks: AnswerLocks | None = None
        self._is_indexing = False
        """Whether an index is being created, or could not be."""
        self.changes: int = 0
        """How often this storage has stored or deleted answers. A look-up that began before a change may miss it."""

    @property
    def flights(self) -> SingleFlight:
        """The research calls that are running, in the storage's own task group.

        Raises:
            PreheatError: if the storage is not open.
        """
        return self._executor.session.flights

    async def exact(self, key: str) -> StoredAnswer | None:
        """The answer with this key, unless it has expired. One round trip."""
        rows = await self._fetch(sql.exact, key)
        return _stored(rows[0]) if rows else None

    async def nearest(
        self, vector: VectorLike, scope: str, embedder: str, threshold: float, most: int
    ) -> list[StoredAnswer]:
        """At most `most` answers to questions with a score of at least `threshold`, nearest first. One round trip."""
        write = partial(sql.nearest, dimensions=len(vector))
        rows = await self._fetch(write, query_text(vector), scope, embedder, repr(threshold), str(most))
        return [_stored(row) for row in rows]

    async def store(
        self, key: str, scope: str, embedder: str, question: str, vector: VectorLike, text: str, ttl: float | None
    ) -> None:
        """Store an answer in place of the one with this key, and delete some that have expired. One round trip.

        Args:
            ttl: for how many seconds it is kept; None keeps it without a limit.
        """
        seconds = None if ttl is None or ttl > LONGEST_TTL else repr(float(ttl))
        values = (key, scope, embedder, question, query_text(vector), text, seconds)
        await self._check_version()
        try:
            write = partial(sql.store, dimensions=len(vector))
            rows = await self._run(write, *values)
            if rows is None:
                await self.create()
                rows = await self._run(write, *values)
        finally:
            self.changes += 1
        if rows and rows[0]["lacks_index"] and len(vector) <= sql.MOST_DIMENSIONS and not self._is_indexing:
            self._is_indexing = True
            self.flights.start_soon(partial(self._index, len(vector)), name="preheat: index the answers")

    async def create_index(self, dimensions: int) -> None:
        """Create the index of the vectors with this number of dimensions, and the table, if they are missing. From
        10,000 answers on storing an answer does so in the background. Meanwhile answers are found as before, and to
        store one waits.

        Args:
            dimensions: of the model's vectors, 1 to 2,000.
        """
        if not 1 <= dimensions <= sql.MOST_DIMENSIONS:
            raise ArgumentError(f"dimensions is {dimensions}; an index takes vectors of 1 to {sql.MOST_DIMENSIONS:,}")
        await self.create()

        async def create(connection: SQLConnection) -> None:
            identifiers = self._executor.collection.identifiers
            async with locking(connection):
                if (await connection.fetch(sql.try_indexing(identifiers)))[0]["held"]:
                    await connection.fetch(set_memory(identifiers.for_answers, dimensions, "vector", HNSW().m))
                    await connection.execute(sql.create_index(identifiers, dimensions))

        await self._executor.run(create)

    async def _index(self, dimensions: int) -> None:
        """Create the index in the background. If that fails, answers are found without it."""
        try:
            await self.create_index(dimensions)
            self._is_indexing = False
        except Exception as error:
            logger.warning(
                "collection %s: going on without an index of its answers: %s",
                self._executor.collection.name,
                describe(error),
            )

    async def create(self) -> None:
        """Create the table now, if it is missing. Otherwise the first answer that is stored creates it.

        Raises:
            AccessError: if this role may not create tables.
            CollectionMismatchError: if a later release has changed the collection.
            ExtensionError: if pgvector is missing and cannot be added.
        """
        await self._check_version()

        async def create(connection: SQLConnection) -> None:
            async with locking(connection):
                await connection.execute(lock_schema())
                if (await connection.fetch(sql.has_answers(self._executor.collection.identifiers)))[0]["there"]:
                    return  # to make its indexes if they are missing would take its owner, even if they are not
                identifiers = await ensure_extension(connection, self._executor.collection.identifiers)
                await ensure_schema(connection, identifiers)
                for statement in sql.create_answers(identifiers):
                    await connection.execute(statement)

        try:
            await self._executor.pool.run(create)
        except Exception as error:
            told = await explained(
                self._executor.pool,
                error,
                identifiers=self._executor.collection.identifiers.for_answers,
                rights=CREATES_ANSWERS,
            )
            if told is None or told is error:
                raise
            raise told from error

    async def sweep(self) -> int:
        """Delete all answers that have expired. They are never served, and each store deletes some of them.

        Returns:
            How many were deleted.
        """
        await self._check_version()
        return await self._delete(sql.sweep)

    async def clear(self, scope: str | None = None) -> int:
        """Delete answers: those of one scope, or all. For example after the sources of the answers have changed.

        Args:
            scope: the scope; None for all scopes.

        Returns:
            How many were deleted.
        """
        await self._check_version()
        return await self._delete(sql.clear, scope)

    def locked(self, key: str) -> AbstractAsyncContextManager[bool]:
        """Keep other processes from researching the answer with this key; True if the lock is held."""
        flights = self.flights
        if self._locks is None or self._locks.flights is not flights:
            self._locks = AnswerLocks(self._executor.pool, self._executor.session.shared_pool, flights)
        identifiers = self._executor.collection.identifiers
        return self._locks.hold(f"{identifiers.schema or ''} {identifiers.collection} {key}")

    async def _delete(self, statement: Statement, *args: Any) -> int:
        """Run a statement that deletes answers; how many were deleted."""
        try:
            rows = await self._fetch(statement, *args)
        finally:
            self.changes += 1
        return int(rows[0]["gone"]) if rows else 0

    async def _fetch(self, statement: Statement, *args: Any) -> Sequence[Row]:
        """One statement; no rows if no answer was ever stored."""
        return await self._run(statement, *args) or []

    async def _run(self, statement: Statement, *args: Any) -> Sequence[Row] | None:
        """One statement; None if there is no table of answers. Once more if pgvector turns out to be in a schema that
        is off the search path."""
        identifiers = self._executor.collection.identifiers
        try:
            return await self._executor.pool.fetch(statement(identifiers), *args)
        except Exception as error:
            if not await self._executor.has_other_identifiers(error, identifiers):
                told = await explained(
                    self._executor.pool, error, identifiers=identifiers.for_answers, rights=USES_ANSWERS
                )
                if told is None:
                    return None
                if told is not error:
                    raise told from error
                if sqlstate(error) not in SOMETHING_IS_MISSING:
                    raise
                # Nothing is missing any more: somebody has made the table since the statement was sent. Run it again.
                return await self._executor.pool.fetch(statement(identifiers), *args)
        return await self._run(statement, *args)

    async def _check_version(self) -> None:
        """Raise if a later release has changed the collection, which may be missing or out of this role's reach."""
        try:
            await self._executor.pool.run(partial(check_version, identifiers=self._executor.collection.identifiers))
        except Exception as error:
            if sqlstate(error) in (UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE):
                return
            told = await explained(self._executor.pool, error, identifiers=self._executor.collection.identifiers)
            if told is None or told is error:
                raise
            raise told from error


def _stored(row: Row) -> StoredAnswer:
    return StoredAnswer(row["question"], row["answer"], row["score"], row["age"])
