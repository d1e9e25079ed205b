"""What everything that is done to a collection shares: its pool, what is known of it, its tables."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from ..errors import CollectionNotFoundError, EmbedderError
from ..pools import Operation, Row, SQLPool
from .collection import Collection
from .identifiers import Names
from .models import Metric, VectorType
from .schema.diagnosis import READS, WRITES, Rights, check_origin, explained
from .schema.tables import ReplacedError, unknown_collection
from .session import WarmedPool, WarmPolicy
from .sqlstates import BAD_BINARY, OFF_THE_SEARCH_PATH, SOMETHING_IS_MISSING, sqlstate
from .write.rerunning import rerun

__all__ = ("OpenCollection",)

T = TypeVar("T")


class OpenCollection(WarmedPool):
    """A collection on a pool that is warmed with its own search."""

    def __init__(
        self,
        pool: str | SQLPool | Any,
        collection: Collection,
        *,
        size: int,
        warm: WarmPolicy | None,
        warm_connections: int | None,
        warm_timeout: float | None,
    ) -> None:
        self._collection = collection
        super().__init__(
            pool,
            size=size,
            warm=warm,
            warm_connections=warm_connections,
            warm_timeout=warm_timeout,
            probe=collection.probe,
        )

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self._collection.name

    @property
    def dimensions(self) -> int | None:
        """The number of dimensions of its vectors; None while nobody has said it and the database was not asked."""
        return self._collection.dimensions

    @property
    def metric(self) -> Metric | None:
        """The metric of its index; None while nobody has said it and the database was not asked."""
        return self._collection.metric

    @property
    def schema(self) -> str | None:
        """The schema that its tables are in; None for what the search path says."""
        return self._names.schema

    @property
    def vector_type(self) -> VectorType | None:
        """How its vectors are stored; None while nobody has said it and the database was not asked."""
        return self._collection.type

    @property
    def embedder(self) -> str | None:
        """The name of the model that its vectors come from; None if nobody has said it. It can be set once."""
        return self._collection.embedder

    @embedder.setter
    def embedder(self, name: str) -> None:
        if self._collection.embedder not in (None, name):
            raise EmbedderError(self.collection, str(self._collection.embedder), name)
        self._collection.embedder = name
        self._collection.is_known = False

    async def create(self) -> int:
        """Make the collection if it is missing, and check that it is what this storage was opened for.

        `add` does it by itself, the first time.

        Returns:
            The number of dimensions of the collection's vectors.

        Raises:
            CollectionError: if the collection is missing and the storage was opened without `dimensions`, or if it
                has another metric.
            DimensionError: if it has another number of dimensions.
            EmbedderError: if the collection's vectors come from another model.
            ExtensionError: if pgvector is missing and cannot be added.
            ConnectError: if there is no connection.
        """
        if not self._collection.is_known:
            await rerun(lambda _: self._run(self._collection.ensure))
        return self._collection.dimensions or 0

    @asynccontextmanager
    async def get_connection(self) -> AsyncGenerator[Any]:
        """A connection of the pool, for statements of your own; its session is reset when it goes back.

        On asyncio it is the :class:`asyncpg.Connection`; on trio a thin wrapper of it whose methods can be awaited
        from trio, with the asyncpg connection as its attribute `asyncpg`.

        Raises:
            ConnectError: if there is no connection.
        """
        async with self.pool.lease() as lease:
            yield lease.connection

    # The way down

    @property
    def _names(self) -> Names:
        """What statements are about."""
        return self._collection.names

    async def _fetch(self, sql: str, *args: Any, rights: Rights = READS) -> Sequence[Row]:
        """One statement on this collection, in one crossing; no rows if nothing is stored yet.

        If it fails because pgvector is in a schema that is off the search path, that has been looked up when the error
        comes back: the names are others then, and the statement can be made of them.

        Args:
            rights: the privileges that it needs.
        """
        try:
            rows = await self.pool.fetch(sql, *args)
        except Exception as error:
            if await self._has_found_extension(error):
                raise
            told = await self._explained(error, rights)
            if told is None and self.dimensions is not None:
                return []
            if told is None:
                told = await self.pool.run(partial(unknown_collection, names=self._names))
            if told is not error:
                raise told from error
            if sqlstate(error) not in SOMETHING_IS_MISSING:
                raise
            # Nothing is missing any more: somebody has made the tables since the statement was sent.
            rows = await self.pool.fetch(sql, *args)
        if rows and (origin := rows[0].get("origin")) is not None:
            check_origin(self._names, origin)
            self._collection.is_seen = True
        return rows

    async def _run(self, operation: Operation[T], rights: Rights = WRITES) -> T:
        """An operation on this collection."""
        try:
            result = await self.pool.run(operation)
        except Exception as error:
            about_data = any(sqlstate(told) in BAD_BINARY for told in (error, error.__cause__) if told is not None)
            if about_data and await self.pool.run(self._collection.was_replaced):
                raise ReplacedError(self.collection) from error
            if not await self._has_found_extension(error):
                told = await self._explained(error, rights)
                if told is None or told is error:
                    raise
                raise told from error
            result = await self.pool.run(operation)
        return result

    async def _has_found_extension(self, error: Exception) -> bool:
        """Whether pgvector turns out to be in a schema that is off the search path, for which `error` came."""
        if sqlstate(error) not in OFF_THE_SEARCH_PATH:
            return False
        names = self._names
        await self.pool.run(self._collection.find_extension)
        return self._names != names

    async def _explained(self, error: Exception, rights: Rights) -> Exception | None:
        """The error that a caller should see for `error`, which may be that; None if nobody has made the collection."""
        told = await explained(self.pool, error, names=self._names, rights=rights, is_known=self._collection.was_used)
        if told is None or isinstance(told, CollectionNotFoundError):
            self._collection.is_known = False
        return told
