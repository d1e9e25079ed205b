"""One collection: what is known of it, and what is done to it on one connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from .._concurrency.offload import offloaded
from ..errors import (
    ArgumentError,
    CollectionError,
    CollectionMismatchError,
    CollectionNotFoundError,
    DimensionError,
    EmbedderError,
)
from ..pools import Row, SQLConnection, SQLLease
from .encoding.vectors import check_half, vector_text
from .filters.sql import Condition
from .identifiers import Names, check_collection, check_metric, check_schema
from .models import Hit, Metric, VectorLike, VectorType
from .schema.diagnosis import check_origin, missing_error
from .schema.sql import HNSW, collection_row, described_collection, number_of_table
from .schema.tables import (
    MAX_DIMENSIONS,
    Description,
    Queries,
    Registered,
    default_type,
    ensure_collection,
    find_extension,
    read_registered,
)
from .search.explain import Plan, explained, read_plan
from .search.hnsw_settings import DEFAULT_SCAN, EXACT_SCAN, Scan
from .search.question import Question, check_direction, may_lose_direction, plain_statement, statement
from .search.ranking import chosen, hits
from .search.sql import walk
from .sqlstates import DATA_EXCEPTION, OFF_THE_SEARCH_PATH, OUT_OF_RANGE, SOMETHING_IS_MISSING, sqlstate
from .validation import check_text

__all__ = ("Collection",)

INLINE_ROWS = 300
"""So many rows become hits in the event loop: about a millisecond of work."""

Fetch: TypeAlias = Callable[..., Awaitable[Sequence[Row]]]
"""Runs one statement with bound arguments, somewhere."""


class Collection:
    """One collection of a database.

    Its dimensions and its metric are learned from the database if the caller did not say them; what the caller said is
    checked as soon as the database has been heard.
    """

    def __init__(
        self,
        name: str,
        dimensions: int | None = None,
        metric: Metric | None = None,
        embedder: str | None = None,
        *,
        index: bool | HNSW = True,
        schema: str | None = None,
        vector_type: VectorType | None = None,
        language: str | None = None,
    ) -> None:
        self.names: Names = Names(check_collection(name), None if schema is None else check_schema(schema))
        if vector_type is not None and vector_type not in MAX_DIMENSIONS:
            raise ArgumentError(f"vector_type is {vector_type!r}; choose one of {', '.join(MAX_DIMENSIONS)}")
        most = MAX_DIMENSIONS[vector_type or "halfvec"]
        if dimensions is not None and not 1 <= dimensions <= most:
            raise ArgumentError(
                f"dimensions is {dimensions}; a {vector_type or 'vector'} that pgvector can index has 1 to {most}"
            )
        if language is not None:
            check_text("language", language)
        self.dimensions: int | None = dimensions
        self.metric: Metric | None = None if metric is None else check_metric(metric)
        self.embedder = embedder
        self.type: VectorType | None = vector_type
        self.language = language
        self.hnsw: HNSW = index if isinstance(index, HNSW) else HNSW()
        self.indexed: bool = index is not False
        """Whether it is to have indexes without being asked for them."""
        self.is_known: bool = False
        """Whether the database has been heard, and agrees."""
        self.is_seen: bool = False
        """Whether a statement has read its table."""
        self._found: Registered | None = None
        self._walks_first = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.names.collection

    @property
    def stored_as(self) -> VectorType:
        """How its vectors are stored, as far as anybody knows."""
        return self.type or default_type(self.dimensions or 0)

    @property
    def was_used(self) -> bool:
        """Whether it has been there, as far as this storage knows."""
        return self.is_seen or self._found is not None

    async def ensure(self, connection: SQLConnection, *, index: bool = True) -> None:
        """Make the collection if it is missing, and check that it is what it is taken for. An operation.

        Args:
            index: False makes it without indexes even where they are wanted: who says so makes them afterwards.
        """
        wanted = Description(self.dimensions, self.metric, self.embedder, self.type, self.language, before=self._found)
        hnsw = self.hnsw if self.indexed and index else None
        found, self.names = await self.look_at(connection, wanted, hnsw)
        self.take_for(found)

    async def look_at(
        self, connection: SQLConnection, wanted: Description, index: HNSW | None = None
    ) -> tuple[Registered, Names]:
        """:func:`ensure_collection`, which tells of a collection that is missing whether it has been there. An
        operation."""
        try:
            return await ensure_collection(connection, self.names, wanted, index)
        except CollectionNotFoundError as error:
            told = await missing_error(connection, names=self.names, error=error, is_known=self.was_used)
            raise told or error from None

    def take_for(self, found: Registered) -> None:
        """From now on it is what was found."""
        self.dimensions, self.metric = found.dimensions, found.metric
        self.type, self.language = found.type, found.language
        self._found = found
        self.is_known = True

    def forget(self) -> None:
        """Nothing is known of it any more, as it was dropped."""
        self.is_known, self.is_seen, self._found = False, False, None

    @property
    def number(self) -> int | None:
        """The number that the server knew its table by when it was looked at; None if it was not."""
        return None if self._found is None else self._found.number or None

    async def was_replaced(self, connection: SQLConnection) -> bool:
        """Whether its table is another one than the one that was found. An operation."""
        (row,) = await connection.fetch(number_of_table(self.names))
        return self._found is not None and row["number"] != self._found.number

    async def find_extension(self, connection: Queries) -> None:
        """Look up the schema that pgvector is in, which :attr:`names` then say. An operation."""
        self.names = await find_extension(connection, self.names) or self.names

    async def probe(self, lease: SQLLease) -> None:
        """Make a connection hot: walk the index, and run the real search once.

        `SELECT 1` leaves over half of a cold start in place. Once, not more: five executions with made-up values could
        pin a plan that is wrong for real ones.

        A walk keeps a processor of the server busy; a first search is two round trips. Every other connection walks
        last, so that of those that are warmed together some walk while the others wait for the network.
        """
        names = self.names
        try:
            await self._make_hot(lease)
        except Exception as error:
            if sqlstate(error) in OFF_THE_SEARCH_PATH:
                await self.find_extension(lease)
                if self.names != names:  # or another connection has found it meanwhile
                    await self.probe(lease)
                    return
            if sqlstate(error) not in SOMETHING_IS_MISSING:
                raise
            told = await missing_error(lease, names=self.names, error=error, is_known=self.was_used)
            if told is not None:
                raise told from error
            await lease.ping()  # there is no search to be hot for

    async def _make_hot(self, lease: SQLLease) -> None:
        if self.dimensions is None:
            rows = await lease.fetch(collection_row(self.names), self.name)
            if not rows:
                missing = CollectionNotFoundError("the list of collections has no such table")
                if told := await missing_error(lease, names=self.names, error=missing, is_known=self.was_used):
                    raise told
                return
            self.dimensions = int(rows[0]["dimensions"])
        nowhere = vector_text([1.0] + [0.0] * (self.dimensions - 1))
        self._walks_first = not self._walks_first
        if self._walks_first:
            await self._walk(lease)
            await self.nearest(lease.fetch, nowhere, 1)
        else:
            await self.nearest(lease.fetch, nowhere, 1)
            await self._walk(lease)

    async def _walk(self, lease: SQLLease) -> None:
        await lease.execute(walk(self.names, self.metric or "cosine"))

    async def nearest(
        self,
        fetch: Fetch,
        vector: str,
        k: int,
        asked: Metric | None = None,
        scan: Scan = DEFAULT_SCAN,
        where: Condition | None = None,
    ) -> list[Hit]:
        """The search for the text of a vector, one statement through `fetch`.

        What the collection is rides along in each row: its model is checked, and its metric is learned if nobody has
        said it, at the cost of a second search the one time that it is not the default. Among rows that pass a
        condition it costs a second search, too, if the index has not found `k` and too many pass to be compared.
        """
        if may_lose_direction(vector):
            await self._check_direction(fetch, vector, asked)
        metric = check_metric(asked or self.metric or "cosine")
        sql, parameters = plain_statement(self.names, self.name, metric, vector, k, scan, where)
        rows = await fetch(sql, *parameters)
        if rows and self._learns(rows[0]["origin"], metric, asked):
            return await self.nearest(fetch, vector, k, None, scan, where)
        if where is not None and rows:
            matching, rows = rows[0]["matching"], [row for row in rows if row["id"] is not None]
            if matching is not None and matching > len(rows):
                return await self.nearest(fetch, vector, k, asked, EXACT_SCAN, where)
        return await offloaded(partial(hits, rows, metric), size=len(rows), inline=INLINE_ROWS)

    async def ranked(self, fetch: Fetch, asked: Question) -> list[Hit]:
        """The answer to a question that is not plain, one statement through `fetch`; what rides along, and when there
        is a second one, is as in :meth:`nearest`."""
        if not asked.like and may_lose_direction(asked.vector):
            await self._check_direction(fetch, asked.vector, asked.metric)
        metric = check_metric(asked.metric or self.metric or "cosine")
        sql, parameters = statement(self.names, self.name, metric, asked)
        rows = await fetch(sql, *parameters)
        if rows and self._learns(rows[0]["origin"], metric, asked.metric):
            return await self.ranked(fetch, asked)
        if asked.like and (not rows or rows[0]["missing"]):
            raise CollectionError(
                f"collection {self.name!r} has no chunk with the id {asked.vector!r}; "
                "give the id of a hit, or look for what is stored with get()"
            )
        if rows and rows[0]["nowhere"]:
            raise ArgumentError(
                f"the vector of chunk {asked.vector!r} is zero, so that no other is like it by cosine; "
                "give the id of another chunk, or search with metric='l2'"
            )
        if rows and rows[0]["short"]:
            return await self.ranked(fetch, replace(asked, scan=EXACT_SCAN))
        rows = [row for row in rows if row["id"] is not None]
        hybrid, mmr = asked.words is not None, asked.mmr
        choose = partial(chosen, rows, metric, hybrid=hybrid, min_score=asked.min_score, k=asked.k, mmr=mmr)
        similarities = 0 if mmr is None else len(rows) ** 2 / 20
        return await offloaded(choose, size=len(rows) + similarities, inline=INLINE_ROWS)

    async def plan(self, fetch: Fetch, asked: Question) -> Plan:
        """How the server runs the statement that answers a question."""
        if may_lose_direction(asked.vector):
            await self._check_direction(fetch, asked.vector, asked.metric)
        if asked.metric is None and self.metric is None:
            stored = await fetch(collection_row(self.names), self.name)
            if stored:
                self.metric = check_metric(stored[0]["metric"])
        metric = check_metric(asked.metric or self.metric or "cosine")
        sql, parameters = statement(self.names, self.name, metric, asked)
        rows = await fetch(explained(sql), *parameters)
        if not rows:
            raise CollectionNotFoundError(
                f"nothing is stored in collection {self.name!r} yet; store chunks before a search"
            )
        return read_plan(sql, rows[0]["QUERY PLAN"], self.names.table_name)

    async def _check_direction(self, fetch: Fetch, vector: str, asked: Metric | None) -> None:
        """Raise if a search for the text of a vector would be one for another direction. What nobody has said of the
        collection is looked up."""
        metric, type = asked or self.metric, self.type
        if metric is None or (metric != "l2" and type is None):
            for row in await fetch(described_collection(self.names), self.name):
                found = read_registered(row)
                metric, type = metric or found.metric, type or found.type
        check_direction(vector, type or self.stored_as, metric or "cosine")

    def _learns(self, origin: str | None, metric: Metric, asked: Metric | None) -> bool:
        """Check the model that rode along with a search; whether the metric that did is news, and is another one."""
        if origin is None:
            return False
        check_origin(self.names, origin)
        _, own, model = origin.split(" ", 2)
        if model and self.embedder is not None and model != self.embedder:
            raise EmbedderError(self.name, model, self.embedder)
        if asked is not None or own == metric:
            return False
        if self.metric not in (None, own):  # own: another search has learned it meanwhile
            raise CollectionMismatchError(
                f"collection {self.name!r} is indexed for {own} and was opened for {self.metric}; "
                f"open it with metric={own!r}, or search with metric={self.metric!r} to scan it"
            )
        self.metric = check_metric(own)
        return True

    async def explain(self, fetch: Fetch, error: Exception, vector: VectorLike | None) -> None:
        """Raise what a caller should see of a search for `vector` that the server refused, if that is not `error`."""
        if sqlstate(error) == OUT_OF_RANGE and vector is not None:
            check_half(vector)
        if sqlstate(error) != DATA_EXCEPTION or vector is None:
            return
        for row in await fetch(collection_row(self.names), self.name):
            model, dimensions = row["embedder"], row["dimensions"]
            if self.embedder is not None and model not in (None, self.embedder):
                raise EmbedderError(self.name, model, self.embedder) from error
            if dimensions != len(vector):
                raise DimensionError(dimensions, len(vector)) from error
