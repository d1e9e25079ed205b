"""One collection: what is known of it, and how that is learned on one connection."""

from __future__ import annotations

from ...errors import ArgumentError, CollectionMismatchError, CollectionNotFoundError, EmbedderError
from ...pools import SQLConnection
from ..identifiers import Identifiers, check_collection, check_metric, check_schema
from ..models import Metric, VectorType
from ..validation import check_text
from .diagnosis import missing_error
from .migrations import LATEST
from .sql import HNSW, number_of_table, origin
from .tables import (
    MAX_DIMENSIONS,
    Description,
    Queries,
    Registered,
    default_type,
    ensure_collection,
    find_extension,
    newer_error,
)


class Collection:
    """One collection of a database, as far as it is known.

    Its dimensions and its metric are learned from the database if the caller gave none. What the caller gave is checked
    against the database before something is stored.
    """

    def __init__(
        self,
        name: str,
        dimensions: int | None = None,
        metric: Metric | None = None,
        *,
        index: bool | HNSW = True,
        schema: str | None = None,
        vector_type: VectorType | None = None,
        language: str | None = None,
    ) -> None:
        self.identifiers: Identifiers = Identifiers(
            check_collection(name), None if schema is None else check_schema(schema)
        )
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
        self.type: VectorType | None = vector_type
        self.language = language
        self.hnsw: HNSW = index if isinstance(index, HNSW) else HNSW()
        self.indexed: bool = index is not False
        """Whether it gets indexes without being asked for them."""
        self.checked_for: set[str | None] = set()
        """The models for which the collection's definition has been checked against the database; None is among them if
        it was checked for a caller who names no model."""
        self.is_seen: bool = False
        """Whether a statement has read its table."""
        self._found: Registered | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.identifiers.collection

    @property
    def stored_as(self) -> VectorType:
        """How its vectors are stored; the default for its dimensions while the database was not asked."""
        return self.type or default_type(self.dimensions or 0)

    @property
    def was_used(self) -> bool:
        """Whether this storage has found it in the database."""
        return self.is_seen or self._found is not None

    async def ensure(self, connection: SQLConnection, *, embedder: str | None, index: bool = True) -> None:
        """Make the collection if it is missing, and check its definition against the database. An operation.

        Args:
            embedder: the model that the caller uses; None if the caller names none.
            index: False makes it without indexes even where they are wanted; the caller makes them afterwards.
        """
        wanted = Description(self.dimensions, self.metric, embedder, self.type, self.language, before=self._found)
        hnsw = self.hnsw if self.indexed and index else None
        found, self.identifiers = await self.look_at(connection, wanted, hnsw)
        self.accept(found, embedder)

    async def look_at(
        self, connection: SQLConnection, wanted: Description, index: HNSW | None = None
    ) -> tuple[Registered, Identifiers]:
        """:func:`ensure_collection`; the error for a collection that is missing tells whether it has been there. An
        operation."""
        try:
            return await ensure_collection(connection, self.identifiers, wanted, index)
        except CollectionNotFoundError as error:
            told = await missing_error(connection, identifiers=self.identifiers, error=error, is_known=self.was_used)
            raise told or error from None

    def accept(self, found: Registered, embedder: str | None) -> None:
        """Take over the definition that was found in the database, which is right for this model. If it is that of
        another table than before, it has to be checked again for the other models."""
        if self._found is not None and found.number != self._found.number:
            self.doubt()
        self.dimensions, self.metric = found.dimensions, found.metric
        self.type, self.language = found.type, found.language
        self._found = found
        self.checked_for.add(embedder)

    def doubt(self) -> None:
        """Have the definition checked again before something is stored."""
        self.checked_for.clear()

    def forget(self) -> None:
        """Forget what was found, as the collection was dropped."""
        self.doubt()
        self.is_seen, self._found = False, None

    def check_model(self, origin: str, embedder: str | None) -> Metric:
        """Check the model in what came along with a row; see :func:`preheat.storage.schema.sql.origin`.

        Returns:
            The metric of the collection's index.

        Raises:
            EmbedderError: if the vectors come from another model than `embedder`.
        """
        _, metric, model = origin.split(" ", 2)
        if model and embedder is not None and model != embedder:
            raise EmbedderError(self.name, model, embedder)
        return check_metric(metric)

    def learn_metric(self, metric: Metric) -> None:
        """Take over the metric of the collection's index, unless the storage was opened for another one.

        Raises:
            CollectionMismatchError: if it was.
        """
        if self.metric not in (None, metric):  # another search may have learned the same since
            raise CollectionMismatchError(
                f"collection {self.name!r} is indexed for {metric} and was opened for {self.metric}; "
                f"open it with metric={metric!r}, or search with metric={self.metric!r} to scan it"
            )
        self.metric = metric

    @property
    def number(self) -> int | None:
        """The number by which the server knew its table when it was last looked at; None if that is unknown."""
        return None if self._found is None else self._found.number or None

    async def was_replaced(self, connection: SQLConnection) -> bool:
        """Whether its table is another one than the one that was found. An operation."""
        (row,) = await connection.fetch(number_of_table(self.identifiers))
        return self._found is not None and row["number"] != self._found.number

    async def find_extension(self, connection: Queries) -> None:
        """Look up the schema that pgvector is in, and keep it in :attr:`identifiers`. An operation."""
        self.identifiers = await find_extension(connection, self.identifiers) or self.identifiers


async def check_version(connection: Queries, identifiers: Identifiers) -> None:
    """Raise unless this release can use the tables of a collection. An operation; one round trip.

    Raises:
        CollectionMismatchError: if a later release has created or changed them.
    """
    rows = await connection.fetch(f"SELECT {origin(identifiers)}")
    if rows:
        check_origin(identifiers, rows[0]["origin"])


def check_origin(identifiers: Identifiers, origin: str | None) -> None:
    """As :func:`check_version`, for the column `origin` of a row."""
    if origin is not None and int(origin.partition(" ")[0]) > LATEST:
        raise newer_error(identifiers, int(origin.partition(" ")[0]))
