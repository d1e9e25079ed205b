"""The chunks of a collection that are nearest to a vector, or have some words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

from ..encoding.vectors import query_text
from ..executor import OpenCollection
from ..filters.sql import condition
from ..filters.tree import FilterLike, as_filter
from ..models import Hits, Metric, VectorLike
from ..validation import check_k, check_min_score, check_text
from .explain import Plan
from .hnsw_settings import IterativeScan
from .question import Question, scan_for
from .sql import FIRST_OF_CONDITION

__all__ = ("Searching",)

T = TypeVar("T")


class Searching(OpenCollection):
    """What searches."""

    async def search(
        self,
        vector: VectorLike,
        k: int = 5,
        *,
        text: str | None = None,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        min_score: float | None = None,
    ) -> Hits:
        """The `k` chunks nearest to `vector`, nearest first: one statement, one round trip, whatever is asked for.

        Those that are equally near are in the order of their ids. By cosine a zero vector is near to nothing: one that
        is stored is passed over.

        With a filter all of `k` are found if so many chunks pass it. Where the index is no guide to them all that pass
        are compared, in the same statement; if they are more than 50,000, and fewer than `k` were found, in a second
        one, with a second round trip. The first filter of a shape on a connection is prepared: that is one more, too.

        A hybrid search, one with a `text`, looks for chunks by their words as well. Of both ways it takes some
        candidates, `max(20, 4 * k)`, and orders them by the sum of their reciprocal ranks, `1 / (60 + rank)`, which is
        the score then. Chunks need not have all of the words, and nothing in the text is an operator: quotation marks,
        `OR` or `-word` are looked for like all else. What no hit may have goes into `without`.

        With `mmr` the hits are chosen among so many candidates one after the other, each for its maximal marginal
        relevance: the greatest `mmr * relevance - (1 - mmr) * similarity`, where the latter is its cosine similarity to
        the nearest of those chosen before. The relevance is the score, if it is not a cosine itself as a share of the
        best one. The hits are in the order of choosing. It needs pgvector 0.7 or later.

        Args:
            vector: shape `(dimensions,)`.
            k: how many; at least 1. More than 1,000 are found by a scan of the table, unless it is iterative.
            text: makes it hybrid: the words to look for, of its first 4,000 characters. If it holds only stop words the
                vectors alone decide.
            without: words that no hit has, however near its vector is, together at most 4,000 characters; more than
                one in a string are a phrase. It needs no `text`.
            mmr: how much relevance counts beside novelty: 1 relevance alone, 0 novelty alone.
            metric: another metric than the collection's; it scans the table, as the index does not serve it.
            ef_search: how many candidates the index scan keeps, 1 to 1,000: more find better, slower. By default
                `2 * k`, and no less than 100 or the server's own; with a filter `20 * k`, and no less than 200. A scan
                yields at most so many hits, unless it is iterative.
            iterative_scan: whether a scan that has run out of candidates goes on; pgvector 0.8 or later. By default it
                does so if there is a filter and the collection has more than 100,000 chunks.
            filter: which chunks to look at, by their metadata: an expression of :class:`preheat.F`, or a dict.
            min_score: the least score of a hit. It is applied to the `k` that are found, and costs the server nothing;
                with `mmr` to the candidates.

        Returns:
            At most `k` hits, a list; none if nothing is stored yet. If there are fewer, its `is_complete` tells whether
            that is all there is.

        Raises:
            ArgumentError: if `k` is below 1, the vector holds a NaN, or is zero where the metric is cosine, a setting
                is none of pgvector's, `min_score` is no number, the filter is none, the text holds a NUL character,
                `without` holds something without a word, or `mmr` is outside 0 to 1.
            DimensionError: if the vector has another number of dimensions than the collection.
            CollectionError: if the collection is missing and the storage was opened without `dimensions`; or if it has
                no index of its words for a search with `text` or `without`, see :meth:`create_index`.
            EmbedderError: if the storage has an embedder and the collection's vectors come from another one.
            ConnectError: if there is no connection.
        """
        if text is not None or without or mmr is not None:
            asked = Question.checked(
                query_text(vector, self.dimensions),
                k,
                metric=metric,
                ef_search=ef_search,
                iterative_scan=iterative_scan,
                filter=filter,
                min_score=min_score,
                text=text,
                without=without,
                mmr=mmr,
            )
            return await self._ranked(asked, vector)
        check_k(k)
        scan = scan_for(ef_search, iterative_scan)
        where = None if filter is None else condition(as_filter(filter), FIRST_OF_CONDITION)
        if min_score is not None:
            check_min_score(min_score)
        written = query_text(vector, self.dimensions)
        find = partial(self._collection.nearest, self._fetch, written, k, metric, scan, where)
        hits = await self._answer(find, vector)
        is_complete = len(hits) >= k or where is not None or not scan.may_end_before(k)
        return Hits(
            hits if min_score is None else [hit for hit in hits if hit.score >= min_score], is_complete=is_complete
        )

    async def more_like(
        self,
        id: str | UUID,
        k: int = 5,
        *,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        min_score: float | None = None,
    ) -> Hits:
        """The `k` chunks nearest to a stored one, nearest first, itself left out: one statement, one round trip.

        Args:
            id: the identity of the chunk, such as that of a hit.
            k: how many; at least 1. This and all that follows is as in :meth:`search`.

        Returns:
            At most `k` hits.

        Raises:
            CollectionError: if there is no chunk with this id.
            PreheatError: whatever else :meth:`search` raises.
        """
        asked = Question.checked(
            check_text("id", str(id) if isinstance(id, UUID) else id).decode(),
            k,
            metric=metric,
            ef_search=ef_search,
            iterative_scan=iterative_scan,
            filter=filter,
            min_score=min_score,
            without=without,
            mmr=mmr,
            like=True,
        )
        return await self._ranked(asked)

    async def explain(
        self,
        vector: VectorLike,
        k: int = 5,
        *,
        text: str | None = None,
        without: Sequence[str] = (),
        mmr: float | None = None,
        metric: Metric | None = None,
        ef_search: int | None = None,
        iterative_scan: IterativeScan | None = None,
        filter: FilterLike | None = None,
        min_score: float | None = None,
    ) -> Plan:
        """How PostgreSQL runs a search: the statement of :meth:`search` with the same arguments, run and explained.

        It is one round trip, as the search is; one more, once, if nobody has said the collection's metric. What it does
        not show is the second statement of a search whose first one found too few.

        Returns:
            The plan, with the names of the indexes that served.

        Raises:
            CollectionError: if nothing is stored yet.
            PreheatError: whatever else :meth:`search` raises.
        """
        asked = Question.checked(
            query_text(vector, self.dimensions),
            k,
            metric=metric,
            ef_search=ef_search,
            iterative_scan=iterative_scan,
            filter=filter,
            min_score=min_score,
            text=text,
            without=without,
            mmr=mmr,
        )
        return await self._answer(partial(self._collection.plan, self._fetch, asked), vector)

    async def _ranked(self, asked: Question, vector: VectorLike | None = None) -> Hits:
        """The answer to a question that is not plain. What a condition leaves out is counted by the server."""
        hits = await self._answer(partial(self._collection.ranked, self._fetch, asked), vector)
        is_counted = asked.filter is not None or asked.excluded != ""
        is_complete = len(hits) >= asked.k or is_counted or not asked.scan.may_end_before(asked.candidates)
        return Hits(hits, is_complete=is_complete)

    async def _answer(self, find: Callable[[], Awaitable[T]], vector: VectorLike | None = None) -> T:
        """What `find` finds; it is tried again for as long as the names are others than when it failed."""
        while True:
            names = self._names
            try:
                return await find()
            except Exception as error:
                if self._names == names:  # else pgvector has been found off the search path
                    await self._collection.explain(self._fetch, error, vector)
                    raise
