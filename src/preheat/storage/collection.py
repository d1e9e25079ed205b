"""One collection: what is known of it, and what is done to it on one connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

from ..errors import (
    AccessError,
    ArgumentError,
    CollectionError,
    CollectionMismatchError,
    CollectionNotFoundError,
    DimensionError,
    EmbedderError,
)
from ..pools import Row, SQLConnection, SQLLease
from . import document_statements
from .asking import Question, is_nowhere, plain_statement, statement
from .conditions import Condition
from .diagnosis import SOMETHING_IS_MISSING, check_origin, check_version, missing_error
from .encoding import COPY_COLUMNS, EMPTY_COPY, check_half, check_text, copy_rows, vector_text
from .names import Names, check_collection, check_metric, check_schema
from .plan import Plan, explained, read_plan
from .ranking import diverse, hits, ranked_hits, relevances, similarities
from .records import Chunk, Hit, Metric, VectorLike, VectorType
from .reembedding_statements import hold_writers
from .scan import DEFAULT_SCAN, EXACT_SCAN, Scan
from .schema import (
    DATA_EXCEPTION,
    DEPENDENT_OBJECTS,
    INSUFFICIENT_PRIVILEGE,
    MAX_DIMENSIONS,
    OFF_THE_SEARCH_PATH,
    OUT_OF_RANGE,
    UNIQUE_VIOLATION,
    Description,
    Queries,
    Registered,
    ReplacedError,
    default_type,
    drop_command,
    ensure_collection,
    find_extension,
    read_registered,
    sqlstate,
)
from .schema_statements import (
    HNSW,
    collection_row,
    described_collection,
    drop_collection,
    lock_schema,
    made_of_collection,
    number_of_table,
    unregister_collection,
)
from .search_statements import walk

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
        self.is_seen = False
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
        if is_nowhere(vector, "halfvec"):
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
        return hits(rows, metric)

    async def ranked(self, fetch: Fetch, asked: Question) -> list[Hit]:
        """The answer to a question that is not plain, one statement through `fetch`; what rides along, and when there
        is a second one, is as in :meth:`nearest`."""
        if not asked.like and is_nowhere(asked.vector, "halfvec"):
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
        found = hits(rows, metric) if asked.words is None else ranked_hits(rows, metric)
        kept = [at for at, hit in enumerate(found) if asked.min_score is None or hit.score >= asked.min_score]
        if asked.mmr is not None:
            similar = similarities([row["similarities"] for row in rows], kept)
            relevance = relevances([found[at] for at in kept], are_cosines=asked.words is None and metric == "cosine")
            kept = [kept[at] for at in diverse(relevance, similar, asked.k, asked.mmr)]
        return [found[at] for at in kept]

    async def plan(self, fetch: Fetch, asked: Question) -> Plan:
        """How the server runs the statement that answers a question."""
        if is_nowhere(asked.vector, "halfvec"):
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
        """Raise if a search for the text of a vector, which is next to nothing, would be by cosine: all distances from
        a zero vector are not a number. What nobody has said of the collection is looked up."""
        metric, type = asked or self.metric, self.type
        if metric is None or (metric == "cosine" and type is None):
            for row in await fetch(described_collection(self.names), self.name):
                found = read_registered(row)
                metric, type = metric or found.metric, type or found.type
        type = type or self.stored_as
        if metric in (None, "cosine") and is_nowhere(vector, type):
            raise ArgumentError(
                f"the vector to search for is zero, or so small that it is zero as a {type}, and so near to nothing "
                "by cosine; look at what the model returned for the query, or search with metric='l2'"
            )

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

    def rows(self, chunks: Iterable[Chunk], dimensions: int) -> Iterable[bytes]:
        """Chunks packed for it, as far as it is known; raises as :func:`copy_rows` does."""
        return copy_rows(chunks, dimensions, self.stored_as, self.metric or "cosine")

    async def merge(self, connection: SQLConnection, *, rows: Rows, replacing: str | None, alone: bool) -> None:
        """Store a batch, all of it or nothing, in place of the document `replacing` if there is one. An operation.

        It is copied straight in, which is atomic and quickest. Where a row has the id of a stored one, that has not
        happened, and the batch goes by way of a staging table.
        """
        documents = [] if replacing is None else [replacing]
        if not alone:
            try:
                if not documents:
                    await check_version(connection, self.names)
                    await self.copy(connection, rows)
                    return
                async with self.changing(connection, documents):
                    await self._delete_documents(connection, documents)
                    await self.copy(connection, rows)
                return
            except Exception as error:
                if sqlstate(error) != UNIQUE_VIOLATION:
                    raise
        async with self.changing(connection, documents, alone=alone):
            await self._delete_documents(connection, documents)
            await connection.execute(document_statements.create_staging(self.names))
            await self.copy(connection, rows, "preheat_staging")
            await connection.execute(document_statements.merge_staging(self.names))

    async def _delete_documents(self, connection: SQLConnection, documents: Sequence[str]) -> None:
        sql = document_statements.delete(self.names, document_statements.OF_DOCUMENT)
        for document in documents:
            await connection.fetch(sql, document)

    async def delete(self, connection: SQLConnection, *, where: Condition) -> Sequence[Row]:
        """Delete chunks in a transaction in which nobody else writes. An operation."""
        async with self.changing(connection, (), alone=True):
            return await connection.fetch(document_statements.delete(self.names, where.sql), *where.parameters)

    async def clear(self, connection: SQLConnection) -> int:
        """Delete all chunks, and return how many there were. An operation."""
        async with self.changing(connection, (), alone=True):
            rows = await connection.fetch(document_statements.count_all(self.names))
            truncates = bool(rows and rows[0]["truncates"])
            await connection.execute(document_statements.clear(self.names, truncates=truncates))
        return int(rows[0]["chunks"]) if rows else 0

    @asynccontextmanager
    async def changing(
        self, connection: SQLConnection, documents: Sequence[str], *, alone: bool = False
    ) -> AsyncGenerator[None]:
        """A transaction that changes these documents; nobody else does until it ends. Part of an operation.

        All locks but those of rows are taken at first, and by everybody in the same order: the lock of the schema, of
        the collection, of documents, of the table.

        Args:
            documents: their keys, sorted, so that two who lock the same ones never wait for each other.
            alone: whether nobody else writes anything to the collection meanwhile; searches go on. It sees what others
                have written while it waited, whatever isolation is the default.
        """
        if alone:
            async with connection.transaction(isolation="read_committed"):
                for lock in hold_writers(self.names):
                    await connection.execute(lock)
                await check_version(connection, self.names)
                yield
            return
        async with connection.transaction():
            if documents:
                label = f"{self.names.schema or ''} {self.name}"
                await connection.fetch(document_statements.lock_documents(len(documents)), label, documents)
            await connection.execute(document_statements.lock_table(self.names))
            await check_version(connection, self.names)
            yield

    async def drop(self, connection: SQLConnection) -> bool:
        """Drop the tables and the entry in the registry, and return whether there were any. An operation.

        Raises:
            AccessError: if this role may not do that.
            CollectionError: if something else depends on the tables.
        """
        try:
            async with connection.transaction():
                await connection.execute(lock_schema())
                rows = await connection.fetch(made_of_collection(self.names))
                has_table = bool(rows and rows[0]["chunks"])
                if has_table:
                    for lock in hold_writers(self.names):
                        await connection.execute(lock)
                if rows and rows[0]["registry"]:
                    await check_version(connection, self.names)
                await connection.execute(drop_collection(self.names))
                if rows and rows[0]["registry"]:
                    await connection.execute(unregister_collection(self.names), self.name)
        except Exception as error:
            if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
                raise AccessError(
                    f"this role may not drop collection {self.name!r} ({error})",
                    f"let the owner of its tables run: {drop_command(self.names)}",
                    sqlstate=INSUFFICIENT_PRIVILEGE,
                ) from error
            if sqlstate(error) == DEPENDENT_OBJECTS:
                raise CollectionError(
                    f"collection {self.name!r} cannot be dropped, as something depends on it "
                    f"({getattr(error, 'detail', None) or error}); drop that first"
                ) from error
            raise
        self.is_known, self.is_seen, self._found = False, False, None
        return has_table

    async def copy(self, connection: SQLConnection, rows: Rows, staging: str | None = None) -> None:
        """Copy packed rows into the table, or into a staging table, unless the table is no longer the one that was
        found, which may hold the vectors of another model. An operation.

        Raises:
            ReplacedError: if it is not.
        """
        size = 0

        async def pieces() -> AsyncGenerator[bytes]:
            nonlocal size
            for piece in rows():
                size += len(piece)
                yield piece

        table, schema = (staging, None) if staging else (self.names.table_name, self.names.schema)
        number = None if self._found is None else self._found.number
        tag = await connection.copy_to_table(
            table,
            schema_name=schema,
            source=pieces(),
            columns=COPY_COLUMNS,
            format="binary",
            where=f"{self.names.table_now} = {number:d}" if number else None,
        )
        if tag == "COPY 0" and size > EMPTY_COPY:
            raise ReplacedError(self.name)
