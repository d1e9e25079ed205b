"""Find the chunks nearest to a vector or with certain words, or tell how PostgreSQL finds them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..._concurrency.offload import offloaded
from ...errors import (
    ArgumentError,
    CollectionError,
    CollectionNotFoundError,
    DatabaseError,
    DimensionError,
    EmbedderError,
)
from ...pools import Row
from ..encoding.vectors import check_half, check_query_direction, may_lose_direction, query_text
from ..executor import Executor, Statement
from ..filters.sql import Condition
from ..identifiers import check_metric
from ..models import Hit, Hits, Metric, VectorLike
from ..schema.sql import collection_row, described_collection
from ..schema.tables import read_registered
from ..sqlstates import DATA_EXCEPTION, OUT_OF_RANGE, sqlstate
from .options import MAX_EF_SEARCH, SearchOptions
from .plan import Plan, explain, read_plan
from .ranking import diverse, relevances, similarities
from .sql import Settings, Shape, filtered_search, ranked_search, search

INLINE_ROWS = 300
"""So many rows become hits in the event loop: about a millisecond of work."""


async def find(
    executor: Executor,
    asked: SearchOptions,
    *,
    vector: VectorLike | None = None,
    like: str | None = None,
    from_replica: bool | None = None,
) -> Hits:
    """The chunks nearest to a vector, or to a stored chunk, or with certain words: one statement, one round trip.

    The collection's model and metric come along in each row. The model is checked. The metric is learned if the caller
    gave none; if it is not cosine, a second search follows, once for each storage. With a condition a second search
    follows, too, if the index has not found enough rows and too many rows pass to be compared.

    Args:
        vector: the vector to search for; None for a search by words alone, which has nothing to do with the model.
        like: the id of the chunk to search for instead; that chunk is left out.
        from_replica: whether a replica answers; by default one does if the storage reads from replicas.
    """
    if from_replica is None and executor.reads_from_replica:
        return await _find_on_replica(executor, asked, vector, like)
    from_replica = from_replica is True
    collection = executor.collection
    name = collection.identifiers.collection
    target = like if like is not None else await _target(executor, vector, asked)
    exact = False
    while True:
        metric = asked.metric or collection.metric or "cosine"
        write, parameters = statement(asked, metric, target, name, like=like is not None, exact=exact)
        try:
            rows = await executor.fetch(write, *parameters, from_replica=from_replica)
        except Exception as error:
            await _explain(executor, error, vector)
            raise
        # The metric is compared, too: another search may have learned it while this one was under way with the default.
        origin = rows[0]["origin"] if rows else None
        if origin is not None and target is not None and (origin, metric) != executor.searched:
            own = collection.check_model(origin, executor.embedder)
            if asked.metric is None:
                if own != metric:
                    collection.learn_metric(own)
                    continue
                executor.searched = origin, metric
        if like is not None:
            _check_chunk(name, like, rows)
        if exact or not (rows and rows[0].get("short")):
            break
        exact = True
    if rows and rows[0]["id"] is None:  # a row that says that there are none
        rows = []
    size = len(rows) if asked.mmr is None else len(rows) + len(rows) ** 2 / 20
    if size <= INLINE_ROWS:
        found = hits(rows, metric, asked)
    else:
        found = await offloaded(partial(hits, rows, metric, asked), size=size, inline=INLINE_ROWS)
    return Hits(found, is_complete=len(rows) >= asked.k or not asked.may_miss_rows)


async def _find_on_replica(
    executor: Executor, asked: SearchOptions, vector: VectorLike | None, like: str | None
) -> Hits:
    """:func:`find` on a replica.

    A replica may not know yet of a chunk, or of a collection that is stored anew. So what it says of them is an error
    only if the primary says the same.
    """
    try:
        return await find(executor, asked, vector=vector, like=like, from_replica=True)
    except (CollectionError, EmbedderError, DimensionError, DatabaseError) as error:
        if isinstance(error, DatabaseError) and error.sqlstate != DATA_EXCEPTION:
            raise
    return await find(executor, asked, vector=vector, like=like, from_replica=False)


async def _target(executor: Executor, vector: VectorLike | None, asked: SearchOptions) -> str | None:
    """The text of the vector to search for; None for a search by words alone."""
    if vector is None:
        if asked.text_query is None:
            raise ArgumentError(
                "a search needs a vector, a text or both; to read chunks without a search, use chunks() or get()"
            )
        return None
    target = query_text(vector, executor.collection.dimensions)
    if may_lose_direction(target):
        await _check_direction(executor, target, asked.metric)
    return target


async def plan(executor: Executor, vector: VectorLike | None, asked: SearchOptions) -> Plan:
    """How the server that searches go to runs the first statement of a search."""
    collection = executor.collection
    target = await _target(executor, vector, asked)
    if asked.metric is None and collection.metric is None:
        for row in await executor.fetch(collection_row, collection.name):
            collection.metric = check_metric(row["metric"])
    metric = asked.metric or collection.metric or "cosine"
    write, parameters = statement(asked, metric, target, collection.name)
    try:
        rows = await executor.fetch(lambda identifiers: explain(write(identifiers)), *parameters, from_replica=True)
    except Exception as error:
        await _explain(executor, error, vector)
        raise
    if not rows:
        raise CollectionNotFoundError(
            f"nothing is stored in collection {collection.name!r} yet; store chunks before a search"
        )
    return read_plan(write(collection.identifiers), rows[0]["QUERY PLAN"], collection.identifiers.table_name)


def statement(
    asked: SearchOptions,
    metric: Metric,
    target: str | None,
    collection: str,
    *,
    like: bool = False,
    exact: bool = False,
) -> tuple[Statement, list[Any]]:
    """The one statement that makes a search, and the values of its placeholders.

    Args:
        target: the text of a vector; or the id of a chunk, if `like` is true; None for a search by words alone.
        exact: whether the table is scanned instead of the index. It is, too, if no scan of the index can yield as many
            rows as are asked for.
    """
    candidates = asked.candidates
    wanted = candidates + like
    exact = exact or (wanted > MAX_EF_SEARCH and asked.iterative_scan in (None, "off"))
    ef_search = None if asked.ef_search is None else str(asked.ef_search)
    parameters: list[Any] = [target, candidates, collection, ef_search, asked.iterative_scan]
    condition, rest = asked.condition, () if asked.condition is None else asked.condition.parameters
    if asked.text_query is None and asked.mmr is None and not asked.exclusion_query and not like:
        if condition is None and not asked.settings:
            return lambda identifiers: search(identifiers, metric, exact=exact), parameters
        parameters += rest
        passing, bound = _sql_of(condition), _settings(asked, len(parameters))
        write = partial(filtered_search, metric=metric, condition=passing, exact=exact, settings=bound)
        return write, [*parameters, *asked.settings]
    if asked.text_query is not None:
        parameters += [asked.text_query, asked.k if asked.mmr is None else candidates]
    if asked.exclusion_query:
        parameters.append(asked.exclusion_query)
    shape = Shape(
        metric,
        like=like,
        hybrid=asked.text_query is not None,
        words_alone=target is None,
        excluding=asked.exclusion_query != "",
        diverse=asked.mmr is not None,
        filter=_sql_of(condition),
        exact=exact or target is None,
        settings=_settings(asked, len(parameters) + len(rest)),
    )
    return lambda identifiers: ranked_search(identifiers, shape), [*parameters, *rest, *asked.settings]


def _sql_of(condition: Condition | None) -> str:
    """A condition as SQL; empty if all rows pass."""
    return "" if condition is None else condition.sql


def _settings(asked: SearchOptions, before: int) -> Settings:
    """The placeholders of the settings, which come after so many others."""
    return Settings(before + 1, len(asked.settings) // 2)


def _check_chunk(collection: str, id: str, rows: Sequence[Row]) -> None:
    """Raise unless there is a chunk of this id that others can be near to."""
    if not rows or rows[0]["missing"]:
        raise CollectionError(
            f"collection {collection!r} has no chunk with the id {id!r}; "
            "give the id of a hit, or look with get() for a chunk that is stored and has an embedding"
        )
    if rows[0]["nowhere"]:
        raise ArgumentError(
            f"the vector of chunk {id!r} is zero, so that no other is like it by cosine; "
            "give the id of another chunk, or search with metric='l2'"
        )


async def _explain(executor: Executor, error: Exception, vector: VectorLike | None) -> None:
    """Raise the error that a caller should see if the server refused the vector; return if `error` is that already."""
    if vector is None:
        return
    if sqlstate(error) == OUT_OF_RANGE:
        check_half(vector)
    if sqlstate(error) != DATA_EXCEPTION:
        return
    for row in await executor.fetch(collection_row, executor.collection.name):
        model, dimensions = row["embedder"], row["dimensions"]
        if executor.embedder is not None and model not in (None, executor.embedder):
            raise EmbedderError(executor.collection.name, model, executor.embedder) from error
        if dimensions != len(vector):
            raise DimensionError(dimensions, len(vector)) from error


async def _check_direction(executor: Executor, vector: str, asked: Metric | None) -> None:
    """:func:`check_query_direction`; the metric and the type that are not known yet are looked up."""
    collection = executor.collection
    metric, type = asked or collection.metric, collection.type
    if metric is None or (metric != "l2" and type is None):
        for row in await executor.fetch(described_collection, collection.name):
            found = read_registered(row)
            metric, type = metric or found.metric, type or found.type
    check_query_direction(vector, type or collection.stored_as, metric or "cosine")


# Rows as hits

_parsed = json.JSONDecoder().raw_decode  # jsonb's text has no space around it, for which json.loads() would look


def hits(rows: Sequence[Row], metric: Metric, asked: SearchOptions) -> list[Hit]:
    """The hits of a search: the rows with at least `min_score`, and with `mmr` the choice among them.

    Rows whose distance is not a number are left out: pgvector computes no cosine of a zero vector.
    """
    found: list[Hit] = []
    for row in rows:
        distance: float | None = row["distance"]
        if distance is None:
            distance = math.nan  # found by its words
        elif math.isnan(distance):
            continue
        metadata: str = row["metadata"]
        ranks: tuple[int | None, ...] = () if asked.text_query is None else (row["vector_rank"], row["text_rank"])
        found.append(
            Hit(
                row["id"],
                row["text"],
                row["score"] if ranks else score(metric, distance),
                distance,
                row["document"],
                row["position"],
                {} if metadata == "{}" else _parsed(metadata)[0],
                *ranks,
            )
        )
    if asked.min_score is None and asked.mmr is None:
        return found
    return _chosen(found, rows, metric, asked)


def _chosen(found: Sequence[Hit], rows: Sequence[Row], metric: Metric, asked: SearchOptions) -> list[Hit]:
    kept = [at for at, hit in enumerate(found) if asked.min_score is None or hit.score >= asked.min_score]
    if asked.mmr is not None:
        similar = similarities([row["similarities"] for row in rows], kept)
        relevance = relevances([found[at] for at in kept], are_cosines=asked.text_query is None and metric == "cosine")
        kept = [kept[at] for at in diverse(relevance, similar, asked.k, asked.mmr)]
    return [found[at] for at in kept]


def score(metric: Metric, distance: float) -> float:
    """The score for a distance: higher is better."""
    if metric == "cosine":
        return 1.0 - distance
    if metric == "l2":
        return 1.0 / (1.0 + distance)
    return -distance
