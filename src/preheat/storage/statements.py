"""Every SQL text, as pure functions of a collection's name and metric.

Values are bound; the only things pasted into a text are identifiers, quoted, and whole numbers.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..errors import ArgumentError
from .encoding import COPY_COLUMNS
from .records import Metric

__all__ = (
    "check_collection",
    "check_metric",
    "collections",
    "count",
    "create_collection",
    "delete",
    "filtered_search",
    "get",
    "search",
    "table",
    "walk",
)

OPERATORS: dict[Metric, str] = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}
OPERATOR_CLASSES: dict[Metric, str] = {
    "cosine": "vector_cosine_ops",
    "l2": "vector_l2_ops",
    "inner_product": "vector_ip_ops",
}
FIRST_OF_CONDITION = 6
"""The number of the first placeholder of a condition that a search has."""

MAX_DIMENSIONS = 2000
"""The most dimensions of a `vector` that an HNSW index of pgvector holds."""

RESERVED = ("collections", "staging")  # preheat's own tables

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


def check_collection(name: str) -> str:
    """`name` itself if a collection can be called so.

    Raises:
        ArgumentError: if it cannot; table and index names made of it must fit PostgreSQL's 63 bytes.
    """
    if not _COLLECTION.fullmatch(name) or name in RESERVED:
        raise ArgumentError(
            f"{name!r} is not a name for a collection (nor are {' and '.join(RESERVED)}); "
            "start with a letter and use up to 40 letters, digits, underscores and hyphens"
        )
    return name


def check_metric(metric: str) -> Metric:
    """`metric` itself if it is one.

    Raises:
        ArgumentError: if it is not.
    """
    if metric not in OPERATORS:
        raise ArgumentError(f"{metric!r} is not a metric; choose one of {', '.join(OPERATORS)}")
    return metric


def quoted(identifier: str) -> str:
    """An identifier as PostgreSQL quotes it."""
    return '"' + identifier.replace('"', '""') + '"'


def table_name(collection: str) -> str:
    """The name of a collection's table."""
    return f"preheat_{collection}"


def table(collection: str) -> str:
    """The quoted name of a collection's table."""
    return quoted(table_name(collection))


_EF_SEARCH = "CASE WHEN $4::text IS NOT NULL THEN set_config('hnsw.ef_search', $4::text, true) END"
_AS_ASKED = "WHEN $5::text IS NOT NULL THEN set_config('hnsw.iterative_scan', $5::text, true)"
_OR_GO_ON = (  # the setting is null before pgvector 0.8, which cannot
    "WHEN current_setting('hnsw.iterative_scan', true) = 'off' "
    "THEN set_config('hnsw.iterative_scan', 'strict_order', true)"
)
_ORIGIN = "(SELECT metric || ' ' || coalesce(embedder, '') FROM preheat_collections WHERE name = $3::text) AS origin"


def _query(iterative_scan: str) -> str:
    settings = f"{_EF_SEARCH}, CASE {iterative_scan} END"
    return f"WITH query AS MATERIALIZED (SELECT $1::text::vector AS vector, {settings})"


def _distance(metric: Metric) -> str:
    return f"embedding {OPERATORS[metric]} (SELECT vector FROM query)"


@lru_cache(maxsize=256)
def search(collection: str, metric: Metric, *, exact: bool = False) -> str:
    """The whole search, one statement: `$1` the vector as text, `$2` how many rows, `$3` the collection's name, `$4`
    and `$5` what `hnsw.ef_search` and `hnsw.iterative_scan` are to be while it runs, or null.

    The vector comes out of a subquery, which runs before the scan begins, and sets the two on the way, for this one
    statement: no round trips for `BEGIN`, `SET LOCAL` and `COMMIT`. An exact search is one that no index serves.

    What the collection is, its metric and its model with a space between, rides along in each row, so that it is known
    without a round trip of its own.
    """
    distance = _distance(metric)
    return (
        f"{_query(_AS_ASKED)} SELECT id, document, position, text, metadata, {distance} AS distance, "
        f"{_ORIGIN} FROM {table(collection)} "
        f"ORDER BY {f'({distance}) + 0' if exact else distance} LIMIT $2::bigint"
    )


@lru_cache(maxsize=256)
def filtered_search(collection: str, metric: Metric, condition: str, *, exact: bool = False) -> str:
    """The search among the rows that pass a condition: the parameters of :func:`search`, then the condition's own.

    A scan of the index that has run out of candidates goes on, if pgvector can and nobody has said otherwise. It may
    give up all the same. Then, and only then, the column `matching` tells how many rows pass, as far as `$2`; without a
    hit it stands in a row that has no id. Relaxed order is put right.
    """
    name, distance = table(collection), _distance(metric)
    short = "(SELECT count(*) FROM near) < $2::bigint"
    matching = f"SELECT count(*) FROM (SELECT FROM {name} WHERE {condition} LIMIT $2::bigint) AS passed"
    return (
        f"{_query(f'{_AS_ASKED} {_OR_GO_ON}')}, near AS MATERIALIZED ("
        f"SELECT id, document, position, text, metadata, {distance} AS distance FROM {name} "
        f"WHERE {condition} ORDER BY {f'({distance}) + 0' if exact else distance} LIMIT $2::bigint) "
        f"SELECT near.*, {_ORIGIN}, {'NULL' if exact else f'CASE WHEN {short} THEN ({matching}) END'} AS matching "
        f"FROM query LEFT JOIN near ON true ORDER BY distance"
    )


def walk(collection: str, metric: Metric, starts: int = 12, candidates: int = 20) -> str:
    """Search for the neighbours of a few stored vectors, so that a fresh backend has touched the index's pages.

    A backend maps each page of the shared buffers at its first touch. One search touches some; its neighbours next
    time touch others. Many short searches touch more than a few thorough ones. Without an index for this metric there
    is nothing to walk, and nothing is scanned.
    """
    name = table(collection)
    index = quoted(f"preheat_{collection}.embedding")
    indexed = (
        f"EXISTS (SELECT FROM pg_index JOIN pg_opclass ON pg_opclass.oid = indclass[0] "
        f"WHERE indexrelid = to_regclass('{index}') AND indisvalid AND opcname = '{OPERATOR_CLASSES[metric]}')"
    )
    short = f"set_config('hnsw.ef_search', '{int(candidates)}', true) IS NOT NULL"
    nearest = f"SELECT FROM {name} AS near ORDER BY near.embedding {OPERATORS[metric]} start.embedding LIMIT 5"
    start = f"SELECT embedding FROM {name} WHERE {indexed} AND {short} LIMIT {int(starts)}"
    return f"SELECT count(*) FROM ({start}) AS start, LATERAL ({nearest}) AS found"


def get(collection: str) -> str:
    """Chunks by id: `$1` the ids."""
    return (
        f"SELECT id, document, position, text, metadata, embedding::text AS embedding "
        f"FROM {table(collection)} WHERE id = ANY($1::text[]) ORDER BY document, position, id"
    )


def delete(collection: str, column: str) -> str:
    """Delete by `id` or `document`: `$1` the values. Answers with one row: how many went."""
    return (
        f"WITH gone AS (DELETE FROM {table(collection)} WHERE {quoted(column)} = ANY($1::text[]) RETURNING 1) "
        f"SELECT count(*) AS gone FROM gone"
    )


def count(collection: str) -> str:
    """How many chunks there are."""
    return f"SELECT count(*) AS chunks FROM {table(collection)}"


_HAS_TABLE = "to_regclass(quote_ident('preheat_' || name)) IS NOT NULL"  # nobody has dropped it by hand


def forget_collection() -> str:
    """Strike a collection whose table is gone from the registry: `$1` its name."""
    return f"DELETE FROM preheat_collections WHERE name = $1::text AND NOT {_HAS_TABLE}"


def collection_row() -> str:
    """What the registry says of one collection, if its table is there too: `$1` its name."""
    return f"SELECT dimensions, metric, embedder FROM preheat_collections WHERE name = $1::text AND {_HAS_TABLE}"


def claim_embedder() -> str:
    """Give a collection without a known model one: `$1` its name, `$2` the model's. Answers with its model."""
    return (
        "UPDATE preheat_collections SET embedder = coalesce(embedder, $2::text) WHERE name = $1::text "
        "RETURNING embedder"
    )


def has_extension() -> str:
    """One row if pgvector is in this database: the schema it is in, and whether that is on the search path."""
    return (
        "SELECT nspname AS schema, nspname = ANY(current_schemas(true)) AS visible "
        "FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
    )


def create_extension() -> str:
    """Add pgvector to this database."""
    return "CREATE EXTENSION IF NOT EXISTS vector"


def lock_schema() -> str:
    """Let one transaction at a time make tables; held until it ends."""
    return "SELECT pg_advisory_xact_lock(hashtextextended('preheat schema', 0))"


def create_registry() -> str:
    """The table of collections."""
    return (
        "CREATE TABLE IF NOT EXISTS preheat_collections ("
        "name text PRIMARY KEY, "
        "dimensions integer NOT NULL, "
        "metric text NOT NULL, "
        "embedder text, "
        "created_at timestamptz NOT NULL DEFAULT now())"
    )


def has_registry() -> str:
    """One row, true if there is a table of collections."""
    return "SELECT to_regclass('preheat_collections') IS NOT NULL AS there"


def create_collection(collection: str, dimensions: int) -> tuple[str, ...]:
    """The table of a collection and its indexes but two. No collection's name holds the dot that theirs do."""
    name = table(collection)
    return (
        f"CREATE TABLE IF NOT EXISTS {name} ("
        f"id text CONSTRAINT {quoted(f'preheat_{collection}.id')} PRIMARY KEY, "
        f"document text NOT NULL, "
        f"position integer NOT NULL, "
        f"text text NOT NULL, "
        f"metadata jsonb NOT NULL, "
        f"embedding vector({int(dimensions)}) NOT NULL)",
        f"CREATE INDEX IF NOT EXISTS {quoted(f'preheat_{collection}.document')} ON {name} (document, position)",
    )


def create_indexes(collection: str, metric: Metric) -> str:
    """The two indexes of a collection that slow down a bulk load: of its vectors, and of its metadata. A script.

    The latter serves `metadata @> ...`, which is what equality in a filter is written as.
    """
    name = table(collection)
    return (
        f"CREATE INDEX IF NOT EXISTS {quoted(f'preheat_{collection}.embedding')} ON {name} "
        f"USING hnsw (embedding {OPERATOR_CLASSES[metric]}); "
        f"CREATE INDEX IF NOT EXISTS {quoted(f'preheat_{collection}.metadata')} ON {name} "
        f"USING gin (metadata jsonb_path_ops)"
    )


def register_collection() -> str:
    """Enter a collection: `$1` its name, `$2` dimensions, `$3` metric, `$4` the model's name or null."""
    return (
        "INSERT INTO preheat_collections (name, dimensions, metric, embedder) "
        "VALUES ($1::text, $2::integer, $3::text, $4::text) ON CONFLICT (name) DO NOTHING"
    )


def drop_collection(collection: str) -> tuple[str, str]:
    """Drop a collection's table, and its entry: `$1` its name."""
    return f"DROP TABLE IF EXISTS {table(collection)}", "DELETE FROM preheat_collections WHERE name = $1::text"


def create_staging(collection: str) -> str:
    """A table that lives as long as the transaction, to COPY a batch into."""
    return f"CREATE TEMPORARY TABLE preheat_staging (LIKE {table(collection)}) ON COMMIT DROP"


def lock_document() -> str:
    """Let one transaction at a time replace a document: `$1` collection and key. Held until it ends."""
    return "SELECT pg_advisory_xact_lock(hashtextextended('preheat document ' || $1::text, 0))"


def merge_staging(collection: str) -> str:
    """Move a batch from the staging table into its collection; what has the same id is replaced."""
    columns = ", ".join(COPY_COLUMNS)
    replaced = ", ".join(f"{column} = excluded.{column}" for column in COPY_COLUMNS if column != "id")
    return (
        # In the order of code points, as batches that are copied straight in have it.
        f'INSERT INTO {table(collection)} ({columns}) SELECT {columns} FROM preheat_staging ORDER BY id COLLATE "C" '
        f"ON CONFLICT (id) DO UPDATE SET {replaced}"
    )


def collections() -> str:
    """All collections, with the room that they take."""
    return (
        "SELECT name, dimensions, metric, embedder, created_at, "
        "pg_total_relation_size(to_regclass(quote_ident('preheat_' || name))) AS bytes "
        f"FROM preheat_collections WHERE {_HAS_TABLE} ORDER BY name"
    )
