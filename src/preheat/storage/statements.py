"""Every SQL text that searches, as pure functions of a collection's names and its metric.

Values are bound; the only things pasted into a text are identifiers, quoted, and whole numbers.
"""

from __future__ import annotations

from functools import lru_cache

from .names import Names, literal
from .records import Metric

__all__ = (
    "FIRST_OF_CONDITION",
    "filtered_search",
    "search",
    "walk",
)

FIRST_OF_CONDITION = 6
"""The number of the first placeholder of a condition that a search has."""

_EF_SEARCH = "CASE WHEN $4::text IS NOT NULL THEN set_config('hnsw.ef_search', $4::text, true) END"
_AS_ASKED = "WHEN $5::text IS NOT NULL THEN set_config('hnsw.iterative_scan', $5::text, true)"
_OR_GO_ON = (  # the setting is null before pgvector 0.8, which cannot
    "WHEN current_setting('hnsw.iterative_scan', true) = 'off' "
    "THEN set_config('hnsw.iterative_scan', 'strict_order', true)"
)


def _query(names: Names, iterative_scan: str) -> str:
    settings = f"{_EF_SEARCH}, CASE {iterative_scan} END"
    return f"WITH query AS MATERIALIZED (SELECT $1::text::{names.type()} AS vector, {settings})"


def _distance(names: Names, metric: Metric) -> str:
    return f"embedding {names.operator(metric)} (SELECT vector FROM query)"


def _origin(names: Names) -> str:
    what = "metric || ' ' || coalesce(embedder, '')"
    return f"(SELECT {what} FROM {names.registry} WHERE name = $3::text) AS origin"


@lru_cache(maxsize=256)
def search(names: Names, metric: Metric, *, exact: bool = False) -> str:
    """The whole search, one statement: `$1` the vector as text, `$2` how many rows, `$3` the collection's name, `$4`
    and `$5` what `hnsw.ef_search` and `hnsw.iterative_scan` are to be while it runs, or null.

    The vector comes out of a subquery, which runs before the scan begins, and sets the two on the way, for this one
    statement: no round trips for `BEGIN`, `SET LOCAL` and `COMMIT`. An exact search is one that no index serves.

    What the collection is, its metric and its model with a space between, rides along in each row, so that it is known
    without a round trip of its own.
    """
    distance = _distance(names, metric)
    return (
        f"{_query(names, _AS_ASKED)} SELECT id, document, position, text, metadata, {distance} AS distance, "
        f"{_origin(names)} FROM {names.table} "
        f"ORDER BY {f'({distance}) + 0' if exact else distance} LIMIT $2::bigint"
    )


@lru_cache(maxsize=256)
def filtered_search(names: Names, metric: Metric, condition: str, *, exact: bool = False) -> str:
    """The search among the rows that pass a condition: the parameters of :func:`search`, then the condition's own.

    A scan of the index that has run out of candidates goes on, if pgvector can and nobody has said otherwise. It may
    give up all the same. Then, and only then, the column `matching` tells how many rows pass, as far as `$2`; without a
    hit it stands in a row that has no id. Relaxed order is put right.
    """
    name, distance = names.table, _distance(names, metric)
    short = "(SELECT count(*) FROM near) < $2::bigint"
    matching = f"SELECT count(*) FROM (SELECT FROM {name} WHERE {condition} LIMIT $2::bigint) AS passed"
    told = "NULL" if exact else f"CASE WHEN {short} THEN ({matching}) END"
    return (
        f"{_query(names, f'{_AS_ASKED} {_OR_GO_ON}')}, near AS MATERIALIZED ("
        f"SELECT id, document, position, text, metadata, {distance} AS distance FROM {name} "
        f"WHERE {condition} ORDER BY {f'({distance}) + 0' if exact else distance} LIMIT $2::bigint) "
        f"SELECT near.*, {_origin(names)}, {told} AS matching "
        f"FROM query LEFT JOIN near ON true ORDER BY distance"
    )


def walk(names: Names, metric: Metric, starts: int = 12, candidates: int = 20) -> str:
    """Search for the neighbours of a few stored vectors, so that a fresh backend has touched the index's pages.

    A backend maps each page of the shared buffers at its first touch. One search touches some; its neighbours next
    time touch others. Many short searches touch more than a few thorough ones. Without an index for this metric there
    is nothing to walk, and nothing is scanned.
    """
    name = names.table
    index = literal(names.relation(f"{names.table_name}.embedding"))
    classes = f"('{names.operator_class_name(metric, 'vector')}', '{names.operator_class_name(metric, 'halfvec')}')"
    indexed = (
        f"EXISTS (SELECT FROM pg_index JOIN pg_opclass ON pg_opclass.oid = indclass[0] "
        f"WHERE indexrelid = to_regclass({index}) AND indisvalid AND opcname IN {classes})"
    )
    short = f"set_config('hnsw.ef_search', '{int(candidates)}', true) IS NOT NULL"
    nearest = f"SELECT FROM {name} AS near ORDER BY near.embedding {names.operator(metric)} start.embedding LIMIT 5"
    start = f"SELECT embedding FROM {name} WHERE {indexed} AND {short} LIMIT {int(starts)}"
    return f"SELECT count(*) FROM ({start}) AS start, LATERAL ({nearest}) AS found"
