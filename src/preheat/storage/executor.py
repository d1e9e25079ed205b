"""Run statements and operations on one collection, and tell what went wrong in the collection's terms.

Everything that storage does to a collection passes here. The rooms `search`, `write`, `answers` and `reembed` are given
an executor as an argument, and need nothing else of a storage.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio

from ..errors import CollectionNotFoundError, DatabaseError, EmbedderError
from ..pools import Operation, Row, SQLPool
from .identifiers import Identifiers
from .models import Metric
from .schema.collection import Collection, check_origin
from .schema.diagnosis import READS, WRITES, Rights, explained
from .schema.tables import ReplacedError, unknown_collection
from .session import Session
from .sqlstates import (
    BAD_BINARY,
    DEADLOCK_DETECTED,
    INVALID_SCHEMA,
    OFF_THE_SEARCH_PATH,
    SERIALIZATION_FAILURE,
    SOMETHING_IS_MISSING,
    UNDEFINED_TABLE,
    UNIQUE_VIOLATION,
    sqlstate,
)

T = TypeVar("T")

Statement: TypeAlias = Callable[[Identifiers], str]
"""Writes a statement for the identifiers of a collection."""

TRIES = 8
"""How often a transaction runs before its error is raised."""

FIRST_WAIT_SECONDS = 0.02
"""The longest pause before the second run; twice that before the third, and so on."""


async def rerun(run: Callable[[bool], Awaitable[T]], make: Callable[[], Awaitable[object]] | None = None) -> T:
    """Run a transaction, and run it again if the server has rolled it back because of another one.

    Writers lock rows in the order of their ids where they can, so that a deadlock of two writers is rare. The server
    ends one of the two. That one runs again with `alone` true: it first waits until no other writer is active and keeps
    new ones out, so it cannot meet another deadlock with a writer. The pauses between runs are random, so that two
    writers that failed together do not start together again.

    Args:
        run: runs the whole transaction, alone or not; a call that raises has written nothing.
        make: creates the tables again if another process has dropped them since.

    Raises:
        Exception: the error of the last run, and at once an error that no other transaction has caused.
    """
    alone = False
    for tries in range(TRIES - 1):
        try:
            return await run(alone)
        except Exception as error:
            state = sqlstate(error)
            if state in (UNDEFINED_TABLE, INVALID_SCHEMA) and make is not None:
                await make()
            elif state in (DEADLOCK_DETECTED, SERIALIZATION_FAILURE) or (state == UNIQUE_VIOLATION and not alone):
                alone = True
            else:
                raise
        await anyio.sleep(random.uniform(0, FIRST_WAIT_SECONDS * 2**tries))  # noqa: S311
    return await run(alone)


class Executor:
    """Runs statements and operations on one collection, for callers who use one model.

    Args:
        session: the pool, open or not.
        collection: what is known of the collection; shared by all executors of a storage.
        embedder: the name of the model whose vectors the callers store and search for; None if they name none.
    """

    def __init__(self, session: Session, collection: Collection, embedder: str | None) -> None:
        self.session = session
        self.reads_from_replica: bool = session.read_from == "replica"
        """Whether searches go to replicas."""
        self.collection = collection
        self.embedder = embedder
        self.searched: tuple[str, Metric] | None = None
        """The definition that came along with the rows of the latest search, and the metric of that search. Both have
        been checked, so a search with the same ones needs no check."""
        self._read_origin: str | None = None
        """The definition that came along with the rows of the latest statement, whose version has been checked."""

    @property
    def pool(self) -> SQLPool:
        """The pool in use; raises :class:`PreheatError` if the storage is not open."""
        return self.session.pool

    def bound_to(self, embedder: str) -> Executor:
        """An executor on the same pool and collection for callers who use this model.

        Raises:
            EmbedderError: if this one is for another model.
        """
        if self.embedder not in (None, embedder):
            raise EmbedderError(self.collection.name, str(self.embedder), embedder)
        return Executor(self.session, self.collection, embedder)

    async def create(self) -> int:
        """Make the collection if it is missing, and check its definition, once for each model; see
        :meth:`preheat.VectorStorage.create`."""
        if self.embedder not in self.collection.checked_for:
            await self.make()
        return self.collection.dimensions or 0

    async def make(self, *, index: bool = True) -> None:
        """Make the collection if it is missing, and check its definition, whatever is known of it.

        Args:
            index: False makes it without indexes even where they are wanted; the caller makes them afterwards.
        """
        ensure = partial(self.collection.ensure, embedder=self.embedder, index=index)
        await rerun(lambda _: self.run(ensure))

    async def fetch(
        self, statement: Statement, *args: Any, rights: Rights = READS, from_replica: bool = False
    ) -> Sequence[Row]:
        """Run one statement on the collection, in one round trip. No rows if nothing is stored yet.

        If the statement fails because pgvector is in a schema off the search path, that schema is looked up and the
        statement is written anew with it.

        Args:
            rights: the privileges that the statement needs.
            from_replica: whether a replica may answer, if the storage reads from replicas.
        """
        fetch = self._fetch_from_replica if from_replica and self.reads_from_replica else self.session.pool.fetch
        while True:
            identifiers = self.collection.identifiers
            try:
                rows = await fetch(statement(identifiers), *args)
                break
            except Exception as error:
                if await self.has_other_identifiers(error, identifiers):
                    continue
                told = await self._explained(error, rights)
                if told is None and self.collection.dimensions is not None:
                    return []
                if told is None:
                    told = await self.pool.run(partial(unknown_collection, identifiers=identifiers))
                if told is not error:
                    raise told from error
                if sqlstate(error) not in SOMETHING_IS_MISSING:
                    raise
            # Nothing is missing any more: another process has made the tables since the statement was sent.
            rows = await self.pool.fetch(statement(identifiers), *args)
            break
        if rows and (origin := rows[0].get("origin")) is not None:
            if origin != self._read_origin:
                check_origin(identifiers, origin)
                self._read_origin = origin
            self.collection.is_seen = True
        return rows

    async def _fetch_from_replica(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run a read on a replica. If what the primary has written is in its way there, run it on the primary."""
        try:
            return await self.session.read_pool.fetch(query, *args)
        except DatabaseError as error:
            if error.sqlstate not in (SERIALIZATION_FAILURE, DEADLOCK_DETECTED):
                raise
            return await self.pool.fetch(query, *args)

    async def run(self, operation: Operation[T], rights: Rights = WRITES) -> T:
        """Run an operation on the collection, on one connection.

        If it fails because pgvector is in a schema off the search path, that schema is looked up and the operation is
        run again. It must read the collection's identifiers each time.

        Args:
            rights: the privileges that the operation needs.
        """
        identifiers = self.collection.identifiers
        try:
            return await self.pool.run(operation)
        except Exception as error:
            about_data = any(sqlstate(told) in BAD_BINARY for told in (error, error.__cause__) if told is not None)
            if about_data and await self.pool.run(self.collection.was_replaced):
                raise ReplacedError(self.collection.name) from error
            if not await self.has_other_identifiers(error, identifiers):
                told = await self._explained(error, rights)
                if told is None or told is error:
                    raise
                raise told from error
        return await self.run(operation, rights)

    async def has_other_identifiers(self, error: Exception, before: Identifiers) -> bool:
        """Whether a statement that failed with `error` has to be written anew, as pgvector has been found in a schema
        off the search path since it was written for the identifiers `before`.

        Another task may have looked that schema up while the statement was under way. So the identifiers are compared
        with those of the statement, not with those from before the look-up.
        """
        if sqlstate(error) not in OFF_THE_SEARCH_PATH:
            return False
        if self.collection.identifiers == before:
            await self.pool.run(self.collection.find_extension)
        return self.collection.identifiers != before

    async def _explained(self, error: Exception, rights: Rights) -> Exception | None:
        """The error that a caller should see for `error`, which may be `error` itself; None if the collection has not
        been made yet."""
        collection = self.collection
        told = await explained(
            self.pool, error, identifiers=collection.identifiers, rights=rights, is_known=collection.was_used
        )
        if told is None or isinstance(told, CollectionNotFoundError):
            collection.doubt()
        return told
