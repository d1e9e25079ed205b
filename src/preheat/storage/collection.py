"""One collection: what is known of it, and what is done to it on one connection."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from ..errors import ArgumentError, CollectionError, EmbedderError
from ..pools import Row, SQLConnection, SQLLease
from . import document_statements, statements
from .conditions import Condition
from .encoding import COPY_COLUMNS, check_text, vector_text
from .names import Names, check_collection, check_metric, check_schema
from .records import Hit, Metric, VectorType, score
from .scan import DEFAULT_SCAN, EXACT_SCAN, Scan
from .schema import (
    MAX_DIMENSIONS,
    NOTHING_STORED,
    OFF_THE_SEARCH_PATH,
    UNIQUE_VIOLATION,
    Description,
    Queries,
    default_type,
    ensure_collection,
    find_extension,
    sqlstate,
)
from .schema_statements import HNSW, collection_row

__all__ = ("Collection",)

Rows: TypeAlias = Callable[[], Iterable[bytes]]
"""Packs a batch for COPY, each time anew."""

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
        self.names = Names(check_collection(name), None if schema is None else check_schema(schema))
        if vector_type is not None and vector_type not in MAX_DIMENSIONS:
            raise ArgumentError(f"vector_type is {vector_type!r}; choose one of {', '.join(MAX_DIMENSIONS)}")
        most = MAX_DIMENSIONS[vector_type or "halfvec"]
        if dimensions is not None and not 1 <= dimensions <= most:
            raise ArgumentError(
                f"dimensions is {dimensions}; a {vector_type or 'vector'} that pgvector can index has 1 to {most}"
            )
        if language is not None:
            check_text("language", language)
        self.dimensions = dimensions
        self.metric: Metric | None = None if metric is None else check_metric(metric)
        self.embedder = embedder
        self.type: VectorType | None = vector_type
        self.language = language
        self.hnsw = index if isinstance(index, HNSW) else HNSW()
        self.indexed = index is not False
        """Whether it is to have indexes without being asked for them."""
        self.is_known = False
        """Whether the database has been heard, and agrees."""
        self._walks_first = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.names.collection

    @property
    def stored_as(self) -> VectorType:
        """How its vectors are stored, as far as anybody knows."""
        return self.type or default_type(self.dimensions or 0)

    async def ensure(self, connection: SQLConnection, *, index: bool = True) -> None:
        """Make the collection if it is missing, and check that it is what it is taken for. An operation.

        Args:
            index: False makes it without indexes even where they are wanted: who says so makes them afterwards.
        """
        wanted = Description(self.dimensions, self.metric, self.embedder, self.type, self.language)
        hnsw = self.hnsw if self.indexed and index else None
        found, self.names = await ensure_collection(connection, self.names, wanted, hnsw)
        self.dimensions, self.metric, self.type, self.language = (
            found.dimensions,
            found.metric,
            found.type,
            found.language,
        )
        self.is_known = True

    async def find_extension(self, connection: Queries) -> bool:
        """Look up the schema that pgvector is in; whether that is news. An operation."""
        names = await find_extension(connection, self.names)
        if names is None or names == self.names:
            return False
        self.names = names
        return True

    async def probe(self, lease: SQLLease) -> None:
        """Make a connection hot: walk the index, and run the real search once.

        `SELECT 1` leaves over half of a cold start in place. Once, not more: five executions with made-up values could
        pin a plan that is wrong for real ones.

        A walk keeps a processor of the server busy; a first search is two round trips. Every other connection walks
        last, so that of those that are warmed together some walk while the others wait for the network.
        """
        try:
            await self._make_hot(lease)
        except Exception as error:
            if sqlstate(error) in OFF_THE_SEARCH_PATH and await self.find_extension(lease):
                await self.probe(lease)
                return
            if sqlstate(error) not in NOTHING_STORED:
                raise
            await lease.ping()  # there is no search to be hot for

    async def _make_hot(self, lease: SQLLease) -> None:
        if self.dimensions is None:
            rows = await lease.fetch(collection_row(self.names), self.name)
            if not rows:
                return
            self.dimensions = rows[0]["dimensions"]
        nowhere = vector_text([1.0] + [0.0] * (self.dimensions - 1))
        self._walks_first = not self._walks_first
        if self._walks_first:
            await self._walk(lease)
            await self.nearest(lease.fetch, nowhere, 1)
        else:
            await self.nearest(lease.fetch, nowhere, 1)
            await self._walk(lease)

    async def _walk(self, lease: SQLLease) -> None:
        await lease.execute(statements.walk(self.names, self.metric or "cosine"))

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
        condition it costs a second search, too, if a scan of the index gave up before it had found `k` that are there.
        """
        metric = check_metric(asked or self.metric or "cosine")
        if where is None:
            sql = statements.search(self.names, metric, exact=scan.is_exact(k))
            rows = await fetch(sql, vector, k, self.name, scan.ef_search_for(k), scan.iterative)
        else:
            sql = statements.filtered_search(self.names, metric, where.sql, exact=scan.is_exact(k))
            rows = await fetch(sql, vector, k, self.name, scan.ef_search_for(k), scan.iterative, *where.parameters)
        if rows and rows[0]["origin"] is not None:
            own, _, model = rows[0]["origin"].partition(" ")
            if model and self.embedder is not None and model != self.embedder:
                raise EmbedderError(self.name, model, self.embedder)
            if asked is None and own != metric:
                if self.metric not in (None, own):  # own: another search has learned it meanwhile
                    raise CollectionError(
                        f"collection {self.name!r} is indexed for {own} and was opened for {self.metric}; "
                        f"open it with metric={own!r}, or search with metric={self.metric!r} to scan it"
                    )
                self.metric = check_metric(own)
                return await self.nearest(fetch, vector, k, None, scan, where)
        if where is not None and rows:
            matching, rows = rows[0]["matching"], [row for row in rows if row["id"] is not None]
            if matching is not None and matching > len(rows):
                return await self.nearest(fetch, vector, k, asked, EXACT_SCAN, where)
        return hits(rows, metric)

    async def merge(self, connection: SQLConnection, *, rows: Rows, replacing: str | None) -> None:
        """Store a batch, all of it or nothing, in place of the document `replacing` if there is one. An operation.

        It is copied straight in, which is atomic and quickest. Where a row has the id of a stored one, that has not
        happened, and the batch goes by way of a staging table.
        """
        try:
            if replacing is None:
                await self.copy(connection, rows)
            else:
                async with connection.transaction():
                    await self._clear(connection, replacing)
                    await self.copy(connection, rows)
            return
        except Exception as error:
            if sqlstate(error) != UNIQUE_VIOLATION:
                raise
        async with connection.transaction():
            if replacing is not None:
                await self._clear(connection, replacing)
            await connection.execute(document_statements.create_staging(self.names))
            await self.copy(connection, rows, "preheat_staging")
            await connection.execute(document_statements.merge_staging(self.names))

    async def lock(self, connection: SQLConnection, documents: Sequence[str]) -> None:
        """Let nobody else change these documents until the transaction ends. An operation.

        Args:
            documents: their keys, sorted, so that two who lock the same ones never wait for each other.
        """
        label = f"{self.names.schema or ''} {self.name}"
        await connection.fetch(document_statements.lock_documents(len(documents)), label, documents)

    async def _clear(self, connection: SQLConnection, document: str) -> None:
        await self.lock(connection, [document])
        delete = document_statements.delete(self.names, document_statements.OF_DOCUMENT)
        await connection.fetch(delete, document)

    async def copy(self, connection: SQLConnection, rows: Rows, staging: str | None = None) -> None:
        """Copy packed rows into the table, or into a staging table. An operation."""

        async def pieces() -> AsyncGenerator[bytes]:
            for piece in rows():
                yield piece

        table, schema = (staging, None) if staging else (self.names.table_name, self.names.schema)
        await connection.copy_to_table(
            table, schema_name=schema, source=pieces(), columns=COPY_COLUMNS, format="binary"
        )


_parsed = json.JSONDecoder().raw_decode  # jsonb's text has no space around it, for which json.loads() would look


def hits(rows: Sequence[Row], metric: Metric) -> list[Hit]:
    """The rows of a search as hits."""
    found: list[Hit] = []
    for row in rows:
        distance: float = row["distance"]
        if math.isnan(distance):  # a zero vector points nowhere: as far as what is at right angles
            distance = 1.0
        metadata: str = row["metadata"]
        found.append(
            Hit(
                row["id"],
                row["text"],
                score(metric, distance),
                distance,
                row["document"],
                row["position"],
                {} if metadata == "{}" else _parsed(metadata)[0],
            )
        )
    return found
