"""Make a connection hot for searches."""

from __future__ import annotations

from ...errors import CollectionNotFoundError
from ...pools import SQLLease
from ..encoding.vectors import vector_text
from ..schema.collection import Collection, check_origin
from ..schema.diagnosis import missing_error
from ..schema.sql import collection_row
from ..sqlstates import OFF_THE_SEARCH_PATH, SOMETHING_IS_MISSING, sqlstate
from .sql import search, walk


class Probe:
    """The probe of a storage: walk the index of the vectors, and run the real search once.

    `SELECT 1` leaves over half of a cold start in place. The search runs once, not more often: five executions with
    made-up values could pin a plan that is wrong for real ones.

    A walk keeps a processor of the server busy; a first search is two round trips. Every other connection walks last.
    So of those that are warmed together some walk while the others wait for the network.
    """

    def __init__(self, collection: Collection, embedder: str | None) -> None:
        self._collection = collection
        self._embedder = embedder
        self._walks_first = False

    async def __call__(self, lease: SQLLease) -> None:
        """Make one connection hot.

        Raises:
            CollectionError: if the collection was used before and is gone.
            EmbedderError: if its vectors come from another model than the storage's.
        """
        identifiers = self._collection.identifiers
        try:
            await self._warm(lease)
        except Exception as error:
            if sqlstate(error) in OFF_THE_SEARCH_PATH:
                await self._collection.find_extension(lease)
                if self._collection.identifiers != identifiers:  # another connection may have found it since
                    await self(lease)
                    return
            if sqlstate(error) not in SOMETHING_IS_MISSING:
                raise
            await self._explain(lease, error)
            await lease.ping()  # there is no search to be hot for

    async def _warm(self, lease: SQLLease) -> None:
        collection = self._collection
        if collection.dimensions is None:
            rows = await lease.fetch(collection_row(collection.identifiers), collection.name)
            if not rows:
                await self._explain(lease, CollectionNotFoundError("the list of collections has no such table"))
                return
            collection.dimensions = int(rows[0]["dimensions"])
        walks_first = self._walks_first = not self._walks_first
        if walks_first:
            await lease.execute(walk(collection.identifiers, collection.metric or "cosine"))
        await self._search(lease, vector_text([1.0] + [0.0] * (collection.dimensions - 1)))
        if not walks_first:
            await lease.execute(walk(collection.identifiers, collection.metric or "cosine"))

    async def _search(self, lease: SQLLease, vector: str) -> None:
        """Search for one chunk, and once more if this shows that the collection has another metric than cosine."""
        collection = self._collection
        metric = collection.metric or "cosine"
        rows = await lease.fetch(search(collection.identifiers, metric), vector, 1, collection.name, None, None)
        if rows and (origin := rows[0]["origin"]) is not None:
            check_origin(collection.identifiers, origin)
            own = collection.check_model(origin, self._embedder)
            if own != metric:
                collection.learn_metric(own)
                await self._search(lease, vector)

    async def _explain(self, lease: SQLLease, error: Exception) -> None:
        """Raise what a caller should see of `error`; return if the collection has not been made yet."""
        collection = self._collection
        told = await missing_error(lease, identifiers=collection.identifiers, error=error, is_known=collection.was_used)
        if told is not None:
            raise told from error
