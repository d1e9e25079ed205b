"""Every SQL text about the chunks of a collection, as pure functions of its names and its metric.

Values are bound; the only things pasted into a text are identifiers, quoted, and whole numbers.
"""

from __future__ import annotations

from functools import lru_cache

from .encoding import COPY_COLUMNS
from .names import Names, literal, quoted
from .records import Metric

__all__ = (
    "FIRST_OF_CONDITION",
    "count",
    "create_staging",
    "delete",
    "filtered_search",
    "get",
    "lock_document",
    "merge_staging",
    "search",
    "walk",
)

_COLUMNS = "id, document, position, text, metadata"

FIRST_OF_CONDITION = 6
"""The number of the first placeholder of a condition that a search has."""

SMALL = 100_000
"""Rows of a table in which comparing all that pass a condition is quicker than letting a scan of the index go on."""

FEW = 50_000
"""How many rows that pass are compared one by one if the index does not yield enough."""

_EF_SEARCH = (
    "set_config('hnsw.ef_search', coalesce($4::text, greatest(current_setting('hnsw.ef_search', true)::bigint, "
    "{least}, least({times} * $2::bigint, 1000))::text), true)"
)
_CANDIDATES = _EF_SEARCH.format(least=100, times=2)  # of pgvector's own 40, too often none is in the right cluster
_CANDIDATES_TO_FILTER = _EF_SEARCH.format(least=200, times=20)
_AS_ASKED = "WHEN $5::text IS NOT NULL THEN set_config('hnsw.iterative_scan', $5::text, true)"

_FOR_THESE_VALUES = "CASE WHEN $2::bigint IS NULL THEN (SELECT count(*) FROM generate_series(1, 1000000000)) END"
"""Null, and never worked out, but too dear for a plan that is to serve all values: how many rows pass, and so which
index helps, is known of the values alone."""


def _or_go_on(names: Names) -> str:
    rows = f"(SELECT reltuples FROM pg_class WHERE oid = to_regclass({literal(names.table)}))"
    return (  # the setting is null before pgvector 0.8, which cannot
        f"WHEN current_setting('hnsw.iterative_scan', true) = 'off' AND {rows} > {SMALL} "
        "THEN set_config('hnsw.iterative_scan', 'relaxed_order', true)"
    )


def _query(names: Names, *settings: str) -> str:
    return f"WITH query AS MATERIALIZED (SELECT {', '.join((f'$1::text::{names.type()} AS vector', *settings))})"


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
        f"{_query(names, _CANDIDATES, f'CASE {_AS_ASKED} END')} SELECT {_COLUMNS}, {distance} AS distance, "
        f"{_origin(names)} FROM {names.table} "
        f"ORDER BY {f'({distance}) + 0' if exact else distance} LIMIT $2::bigint"
    )


@lru_cache(maxsize=256)
def filtered_search(names: Names, metric: Metric, condition: str, *, exact: bool = False) -> str:
    """The search among the rows that pass a condition: the parameters of :func:`search`, then the condition's own.

    An index of vectors knows no conditions. It yields rows in about the right order, the less so the farther away those
    that pass lie; so the answer is trusted if 4 times as many rows are found there as are wanted, or as many as are
    wanted if the caller has said how to scan. The scan of a large table goes on until it has found 8 times as many, if
    pgvector can, or gives up. Otherwise all rows that pass are compared, in the same statement, unless these are more
    than :data:`FEW`. Then, and only then, `matching` says that `$2` pass, whatever the index has found; without a hit
    it stands in a row that has no id.
    """
    name, distance = names.table, _distance(names, metric)
    settings = _CANDIDATES_TO_FILTER, f"CASE {_AS_ASKED} {_or_go_on(names)} END", _FOR_THESE_VALUES
    if exact:
        return (
            f"{_query(names, *settings)}, found AS MATERIALIZED ("
            f"SELECT {_COLUMNS}, {distance} AS distance FROM {name} "
            f"WHERE {condition} ORDER BY ({distance}) + 0 LIMIT $2::bigint) "
            f"SELECT found.*, {_origin(names)}, NULL AS matching "
            f"FROM query LEFT JOIN found ON true ORDER BY distance + 0"
        )
    enough = "CASE WHEN $4::text IS NULL AND $5::text IS NULL THEN 4 * $2::bigint ELSE $2::bigint END"
    passed = "(SELECT passed FROM counted)"
    return (
        f"{_query(names, *settings)}, "
        f"near AS MATERIALIZED (SELECT {_COLUMNS}, {distance} AS distance FROM {name} "
        f"WHERE {condition} ORDER BY {distance} LIMIT 8 * $2::bigint), "
        f"few AS MATERIALIZED (SELECT id, {distance} AS distance FROM {name} "
        f"WHERE {condition} AND (SELECT count(*) FROM near) < {enough} LIMIT {FEW + 1}), "
        f"counted AS MATERIALIZED (SELECT count(*) AS passed FROM few), "
        f"best AS MATERIALIZED (SELECT id, distance FROM few "
        f"WHERE {passed} <= {FEW} ORDER BY distance + 0 LIMIT $2::bigint), "
        f"found AS (SELECT {_COLUMNS}, distance FROM best JOIN {name} USING (id) "
        f"UNION ALL SELECT {_COLUMNS}, distance FROM near WHERE {passed} NOT BETWEEN 1 AND {FEW}) "
        f"SELECT found.*, {_origin(names)}, CASE WHEN {passed} > {FEW} THEN $2::bigint END AS matching "
        # Adding nothing has it sorted: else the order of `near` is believed, which may be relaxed.
        f"FROM query LEFT JOIN found ON true ORDER BY distance + 0 LIMIT $2::bigint"
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


def get(names: Names) -> str:
    """Chunks by id: `$1` the ids."""
    return (
        f"SELECT id, document, position, text, metadata, embedding::text AS embedding "
        f"FROM {names.table} WHERE id = ANY($1::text[]) ORDER BY document, position, id"
    )


def delete(names: Names, column: str) -> str:
    """Delete by `id` or `document`: `$1` the values. Answers with one row: how many went."""
    return (
        f"WITH gone AS (DELETE FROM {names.table} WHERE {quoted(column)} = ANY($1::text[]) RETURNING 1) "
        f"SELECT count(*) AS gone FROM gone"
    )


def count(names: Names) -> str:
    """How many chunks there are."""
    return f"SELECT count(*) AS chunks FROM {names.table}"


def create_staging(names: Names) -> str:
    """A table that lives as long as the transaction, to COPY a batch into."""
    return f"CREATE TEMPORARY TABLE preheat_staging (LIKE {names.table}) ON COMMIT DROP"


def lock_document() -> str:
    """Let one transaction at a time replace a document: `$1` collection and key. Held until it ends."""
    return "SELECT pg_advisory_xact_lock(hashtextextended('preheat document ' || $1::text, 0))"


def merge_staging(names: Names) -> str:
    """Move a batch from the staging table into its collection; what has the same id is replaced."""
    columns = ", ".join(COPY_COLUMNS)
    replaced = ", ".join(f"{column} = excluded.{column}" for column in COPY_COLUMNS if column != "id")
    return (
        # In the order of code points, as batches that are copied straight in have it.
        f'INSERT INTO {names.table} ({columns}) SELECT {columns} FROM preheat_staging ORDER BY id COLLATE "C" '
        f"ON CONFLICT (id) DO UPDATE SET {replaced}"
    )
