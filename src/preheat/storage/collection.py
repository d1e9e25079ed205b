"""One collection: what is known of it, and what is done to it on one connection."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from ..errors import ArgumentError, CollectionError, EmbedderError
from ..pools import Row, SQLConnection, SQLLease
from . import statements
from .conditions import Condition
from .encoding import COPY_COLUMNS, vector_text
from .records import Hit, Metric, score
from .scan import DEFAULT_SCAN, EXACT_SCAN, Scan
from .schema import (
    NOTHING_STORED,
    OFF_THE_SEARCH_PATH,
    UNIQUE_VIOLATION,
    check_search_path,
    ensure_collection,
    sqlstate,
)

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
        self, name: str, dimensions: int | None, metric: Metric | None, embedder: str | None, index: bool = True
    ) -> None:
        self.name = statements.check_collection(name)
        if dimensions is not None and not 1 <= dimensions <= statements.MAX_DIMENSIONS:
            raise ArgumentError(
                f"dimensions is {dimensions}; a vector that pgvector can index has 1 to {statements.MAX_DIMENSIONS}"
            )
        self.dimensions = dimensions
        self.metric: Metric | None = None if metric is None else statements.check_metric(metric)
        self.embedder = embedder
        self._index = index
        self.is_known = False
        """Whether the database has been heard, and agrees."""
        self._walks_first = False

    async def ensure(self, connection: SQLConnection) -> None:
        """Make the collection if it is missing, and check that it is what it is taken for. An operation."""
        self.dimensions, self.metric = await ensure_collection(
            connection, self.name, self.dimensions, self.metric, self.embedder, self._index
        )
        self.is_known = True

    async def probe(self, lease: SQLLease) -> None:
        """Make a connection hot: walk the index, and run the real search once.

        `SELECT 1` leaves over half of a cold start in place. Once, not more: five executions with made-up values could
        pin a plan that is wrong for real ones.

        A walk keeps a processor of the server busy; a first search is two round trips. Every other connection walks
        last, so that of those that are warmed together some walk while the others wait for the network.
        """
        try:
            if self.dimensions is None:
                rows = await lease.fetch(statements.collection_row(), self.name)
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
        except Exception as error:
            if sqlstate(error) in OFF_THE_SEARCH_PATH:
                await check_search_path(lease)
            if sqlstate(error) not in NOTHING_STORED:
                raise
            await lease.ping()  # there is no search to be hot for

    async def _walk(self, lease: SQLLease) -> None:
        await lease.execute(statements.walk(self.name, self.metric or "cosine"))

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
        metric = statements.check_metric(asked or self.metric or "cosine")
        if where is None:
            sql = statements.search(self.name, metric, exact=scan.is_exact(k))
            rows = await fetch(sql, vector, k, self.name, scan.ef_search_for(k), scan.iterative)
        else:
            sql = statements.filtered_search(self.name, metric, where.sql, exact=scan.is_exact(k))
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
                self.metric = statements.check_metric(own)
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
                await self._copy(connection, statements.table_name(self.name), rows)
            else:
                async with connection.transaction():
                    await self._clear(connection, replacing)
                    await self._copy(connection, statements.table_name(self.name), rows)
            return
        except Exception as error:
            if sqlstate(error) != UNIQUE_VIOLATION:
                raise
        async with connection.transaction():
            if replacing is not None:
                await self._clear(connection, replacing)
            await connection.execute(statements.create_staging(self.name))
            await self._copy(connection, "preheat_staging", rows)
            await connection.execute(statements.merge_staging(self.name))

    async def _clear(self, connection: SQLConnection, document: str) -> None:
        await connection.fetch(statements.lock_document(), f"{self.name} {document}")
        await connection.fetch(statements.delete(self.name, "document"), [document])

    async def _copy(self, connection: SQLConnection, table: str, rows: Rows) -> None:
        async def pieces() -> AsyncGenerator[bytes]:
            for piece in rows():
                yield piece

        await connection.copy_to_table(table, source=pieces(), columns=COPY_COLUMNS, format="binary")


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
