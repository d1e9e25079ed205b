"""The chunks of a collection that are nearest to a vector."""

from __future__ import annotations

from . import statements
from .conditions import condition
from .encoding import check_k, check_min_score, query_text
from .filters import FilterLike, as_filter
from .open_collection import OpenCollection
from .records import Hit, Metric, VectorLike
from .scan import DEFAULT_SCAN, IterativeScan, Scan

__all__ = ("Searching",)


class Searching(OpenCollection):
    """What searches."""

    async def search(
        self,
        vector: VectorLike,
        k: int = 5,
        *,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """The `k` chunks nearest to `vector`, nearest first: one statement, one round trip, whatever is asked for.

        With a filter all of `k` are found if so many chunks pass it. If a scan of the index gave up before it had found
        them, which the answer tells, the table is scanned: a second statement, and a second round trip. The first
        filter of a shape on a connection is prepared: that is one more, too.

        Args:
            vector: shape `(dimensions,)`.
            k: how many; at least 1. More than 1,000 are found by a scan of the table, unless it is iterative.
            metric: another metric than the collection's; it scans the table, as the index does not serve it.
            ef_search: how many candidates the index scan keeps, 1 to 1,000: more find better, slower. By default `k`,
                and no less than the server's own, 40. A scan yields at most so many hits, unless it is iterative.
            iterative_scan: whether a scan that has run out of candidates goes on; pgvector 0.8 or later. By default it
                does so if there is a filter.
            filter: which chunks to look at, by their metadata: an expression of :class:`preheat.F`, or a dict.
            min_score: the least score of a hit. It is applied to the `k` that are found, and costs the server nothing.

        Returns:
            At most `k` hits; none if nothing is stored yet.

        Raises:
            ArgumentError: if `k` is below 1, the vector holds a NaN, a setting is none of pgvector's, `min_score` is no
                number or the filter is none.
            DimensionError: if the vector has another number of dimensions than the collection.
            CollectionError: if the collection is missing and the storage was opened without `dimensions`.
            EmbedderError: if the storage has an embedder and the collection's vectors come from another one.
            ConnectError: if there is no connection.
        """
        check_k(k)
        scan = DEFAULT_SCAN if ef_search is None and iterative_scan is None else Scan(ef_search, iterative_scan)
        where = None if filter is None else condition(as_filter(filter), statements.FIRST_OF_CONDITION)
        if min_score is not None:
            check_min_score(min_score)
        text = query_text(vector, self.dimensions)
        while True:
            names = self._names
            try:
                hits = await self._collection.nearest(self._fetch, text, k, metric, scan, where)
            except Exception as error:
                if self._names == names:  # else pgvector has been found off the search path
                    await self._collection.explain(self._fetch, error, vector)
                    raise
            else:
                return hits if min_score is None else [hit for hit in hits if hit.score >= min_score]
