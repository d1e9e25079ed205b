"""SQL that stores, gets, counts and deletes chunks, as pure functions of the collection's identifiers.

Values are bound, as text; only quoted identifiers and conditions are written into a statement.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from ..encoding.copy_format import COPY_COLUMNS
from ..identifiers import Identifiers, literal, sql_text
from ..models import VectorType
from ..schema.migrations import LATEST
from ..schema.sql import is_of_version, origin

MOST_LOCKS = 256
"""How many documents are locked one by one: all sessions of a server share some thousand places for locks."""

BY_ID = "id = ANY($1::text[])"
"""A condition: the chunks with the ids `$1`."""

OF_DOCUMENT = "document = $1::text"
"""A condition: the chunks of the document with the key `$1`."""

_HASH = "encode(sha256(convert_to(stored.text, 'UTF8')), 'hex')"
_GIVEN = """given AS MATERIALIZED (
  SELECT *
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS given (id, hash, document, position, metadata)
)"""


def _columns(*, embedding: bool) -> str:
    return f"id, document, position, text, metadata, {'embedding::text' if embedding else 'NULL'} AS embedding"


def _where(*conditions: str) -> str:
    given = [condition for condition in conditions if condition]
    return f"WHERE {' AND '.join(given)}" if given else ""


# Out of a collection


def get(identifiers: Identifiers) -> str:
    """Chunks by id: `$1` the ids."""
    return sql_text(f"""
        SELECT {_columns(embedding=True)}, {origin(identifiers)}
        FROM {identifiers.table}
        WHERE {BY_ID}
        ORDER BY document, position, id
        """)


@lru_cache(maxsize=256)
def count(identifiers: Identifiers, condition: str = "", *, document: bool = False) -> str:
    """How many chunks there are: `$1` the key of a document to count its chunks alone, then the parameters of the
    condition."""
    return sql_text(f"""
        SELECT count(*) AS chunks, {origin(identifiers)}
        FROM {identifiers.table}
        {_where(OF_DOCUMENT if document else "", condition)}
        """)


@lru_cache(maxsize=256)
def page(
    identifiers: Identifiers,
    condition: str = "",
    *,
    document: bool = False,
    first: bool = True,
    embedding: bool = True,
) -> str:
    """Some chunks in the order of their ids, or those of a document in its own order.

    `$1` is how many, then `$2` the key of the document. Unless it is the first page, the end of the page before
    follows: an id, or for a document a position and an id. Then come the parameters of the condition.
    """
    if document:
        of, after, order = "document = $2::text", "(position, id) > ($3::integer, $4::text)", "position, id"
    else:
        of, after, order = "", "id > $2::text", "id"
    return sql_text(f"""
        SELECT {_columns(embedding=embedding)}, {origin(identifiers)}
        FROM {identifiers.table}
        {_where(of, "" if first else after, condition)}
        ORDER BY {order}
        LIMIT $1::bigint
        """)


@lru_cache(maxsize=256)
def values(identifiers: Identifiers, keys: int, condition: str = "") -> str:
    """The distinct values under a path in the metadata, the most frequent first, and how many chunks have each: `$1` is
    how many, then the keys of the path, and the parameters of the condition."""
    path = " ".join(f"-> ${2 + key}::text" for key in range(keys))
    return sql_text(f"""
        SELECT value, count(*) AS chunks, {origin(identifiers)}
        FROM (
          SELECT (metadata {path})::text AS value FROM {identifiers.table} {_where(condition)}
        ) AS found
        WHERE value IS NOT NULL
        GROUP BY value
        ORDER BY chunks DESC, value COLLATE "C"
        LIMIT $1::bigint
        """)


def keys(identifiers: Identifiers) -> str:
    """The keys of the metadata in their order, each with the JSON types of its values."""
    return sql_text(f"""
        SELECT key, array_agg(DISTINCT jsonb_typeof(value)) AS types, {origin(identifiers)}
        FROM {identifiers.table}, jsonb_each(metadata)
        GROUP BY key
        ORDER BY key COLLATE "C"
        """)


def documents_page(identifiers: Identifiers, *, first: bool) -> str:
    """Some documents in the order of their keys, and how many chunks each has: `$1` how many, `$2` the prefix of their
    keys, `$3` the last key of the page before.

    An index serves the prefix only in a plan for its value. The last condition is true, and never computed, but too
    expensive for a generic plan.
    """
    planned = "CASE WHEN $1::bigint IS NULL THEN (SELECT count(*) FROM generate_series(1, 1000000000)) END IS NULL"
    return sql_text(f"""
        SELECT document AS key, count(*) AS chunks, {origin(identifiers)}
        FROM {identifiers.table}
        {_where("starts_with(document, $2::text)", "" if first else "document > $3::text", planned)}
        GROUP BY document
        ORDER BY document
        LIMIT $1::bigint
        """)


def neighbors(identifiers: Identifiers) -> str:
    """The chunks next to a place in a document: `$1` its key, `$2` the position, `$3` how many before, `$4` after."""
    chunk = (
        f"SELECT {_columns(embedding=False)}, {origin(identifiers)} FROM {identifiers.table} WHERE document = $1::text"
    )
    return sql_text(f"""
        (
          ({chunk} AND position < $2::integer ORDER BY position DESC, id LIMIT $3::bigint)
          UNION ALL
          ({chunk} AND position > $2::integer ORDER BY position, id LIMIT $4::bigint)
        )
        ORDER BY position, id
        """)


# Into a collection


@lru_cache(maxsize=256)
def delete(identifiers: Identifiers, condition: str) -> str:
    """Delete the chunks that pass a condition, whose parameters come first. One row: how many were deleted. No chunk is
    deleted if a later release has changed the collection, which the row tells."""
    return sql_text(f"""
        WITH gone AS (
          DELETE FROM {identifiers.table}
          WHERE ({condition}) AND {is_of_version(identifiers, LATEST)}
          RETURNING 1
        )
        SELECT count(*) AS gone, {origin(identifiers)}
        FROM gone
        """)


@lru_cache(maxsize=256)
def update_metadata(identifiers: Identifiers, condition: str, *, replaces: bool) -> str:
    """Merge the keys of an object into the metadata of the chunks that pass a condition, or put it in their place: `$1`
    the object, then the parameters of the condition. One row, as of :func:`delete`: how many were written."""
    return sql_text(f"""
        WITH written AS (
          UPDATE {identifiers.table}
          SET metadata = {"" if replaces else "metadata || "}$1::text::jsonb
          WHERE {condition or "true"} AND {is_of_version(identifiers, LATEST)}
          RETURNING 1
        )
        SELECT count(*) AS written, {origin(identifiers)}
        FROM written
        """)


def delete_in_order(identifiers: Identifiers) -> str:
    """Delete chunks by id: `$1` the ids. Their rows are locked in the order in which batches are merged, so that a
    deadlock with a merge is rare."""
    return sql_text(f"""
        DELETE FROM {identifiers.table}
        WHERE id = ANY(ARRAY(
          SELECT id FROM {identifiers.table} WHERE {BY_ID} ORDER BY id COLLATE "C" FOR UPDATE
        ))
        """)


def count_all(identifiers: Identifiers) -> str:
    """One row: how many chunks there are, and whether the table may be truncated: this role has the privilege, and
    there is no trigger, no foreign key, which counts as one, and no policy for rows that a deletion has to respect."""
    return sql_text(f"""
        SELECT
          (SELECT count(*) FROM {identifiers.table}) AS chunks,
          NOT relhastriggers AND NOT row_security_active(oid) AND has_table_privilege(oid, 'TRUNCATE') AS truncates
        FROM pg_class
        WHERE oid = {identifiers.table_regclass}
        """)


def clear(identifiers: Identifiers, *, truncates: bool) -> str:
    """Delete all chunks. TRUNCATE leaves an empty table and empty indexes. Rows that are deleted one by one stay in the
    index of the vectors until a vacuum, and searches go through them."""
    return f"TRUNCATE {identifiers.table}" if truncates else f"DELETE FROM {identifiers.table}"


def lock_documents(documents: int) -> str:
    """Let one transaction at a time change a document: `$1` the schema and the name of the collection, `$2` the keys,
    in the order in which all writers lock them. Held until the transaction ends.

    Above :data:`MOST_LOCKS` documents, lock the whole collection; below, take a shared lock of it.
    """
    collection = "(hashtextextended('preheat collection ' || $1::text, 0))"
    if documents > MOST_LOCKS:
        return f"SELECT pg_advisory_xact_lock{collection} WHERE $2::text[] IS NOT NULL"
    return sql_text(f"""
        WITH shared AS MATERIALIZED (
          SELECT pg_advisory_xact_lock_shared{collection}
        )
        SELECT pg_advisory_xact_lock(hashtextextended('preheat document ' || $1::text || ' ' || key, 0))
        FROM shared, unnest($2::text[]) AS key
        """)


def hold_writers(identifiers: Identifiers) -> tuple[str, ...]:
    """Wait for the writers, and keep new ones out until the transaction ends. Searches go on.

    The lock of the collection comes first: a writer of several documents holds it from its start, so a writer that has
    read the table and is about to write to it cannot be caught between this lock and that of the table.
    """
    label = literal(f"preheat collection {identifiers.schema or ''} {identifiers.collection}")
    return (
        f"SELECT pg_advisory_xact_lock(hashtextextended({label}, 0))",
        f"LOCK TABLE {identifiers.table} IN SHARE ROW EXCLUSIVE MODE",
    )


def lock_table(identifiers: Identifiers) -> str:
    """Keep the table in place until the transaction ends: reembed cannot replace it.

    It comes before the transaction reads the table. A transaction that has read a table and then asks for the stronger
    lock of a writer can deadlock with one that waits to replace the table.
    """
    return f"LOCK TABLE {identifiers.table} IN ROW EXCLUSIVE MODE"


def look_up(identifiers: Identifiers) -> str:
    """What is stored of a batch: `$1` the ids of its chunks, `$2` the hashes of their texts, `$3` their documents, `$4`
    positions and `$5` metadata, and `$6` the documents of which the batch is the whole content.

    One row for each id that is stored: whether its text is the same, whether all else but the embedding is, and whether
    it has an embedding. One row with nulls for each chunk of those documents that is not in the batch.
    """
    return sql_text(f"""
        WITH {_GIVEN}
        SELECT
          stored.id,
          stored.document,
          {_HASH} = given.hash AS same_text,
          (stored.document, stored.position, stored.metadata)
            = (given.document, given.position::integer, given.metadata::jsonb) AS same_place,
          stored.embedding IS NOT NULL AS embedded,
          {origin(identifiers)}
        FROM given JOIN {identifiers.table} AS stored ON stored.id = given.id
        UNION ALL
        SELECT stored.id, stored.document, NULL, NULL, NULL, {origin(identifiers)}
        FROM {identifiers.table} AS stored
        WHERE stored.document = ANY($6::text[]) AND NOT EXISTS (SELECT FROM given WHERE given.id = stored.id)
        """)


def update(identifiers: Identifiers) -> str:
    """Give stored chunks another place or other metadata, if they still have the text: parameters as of
    :func:`look_up`, without the last. One row: how many were written."""
    return sql_text(f"""
        WITH {_GIVEN},
        written AS (
          UPDATE {identifiers.table} AS stored
          SET document = given.document, position = given.position::integer, metadata = given.metadata::jsonb
          FROM given
          WHERE stored.id = given.id AND {_HASH} = given.hash
          RETURNING 1
        )
        SELECT count(*) AS written FROM written
        """)


def not_embedded(identifiers: Identifiers, *, first: bool) -> str:
    """Some chunks without an embedding in the order of their ids: `$1` how many, and unless it is the first page `$2`
    the last id of the page before."""
    return sql_text(f"""
        SELECT {_columns(embedding=False)}, {origin(identifiers)}
        FROM {identifiers.table}
        {_where("embedding IS NULL", "" if first else "id > $2::text")}
        ORDER BY id
        LIMIT $1::bigint
        """)


def embed(identifiers: Identifiers, type: VectorType) -> str:
    """Give chunks that have none their embeddings, if they still have the texts: `$1` the ids, `$2` the hashes of the
    texts, `$3` the vectors. One row: how many were written."""
    return sql_text(f"""
        WITH given AS MATERIALIZED (
          SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS given (id, hash, vector)
        ),
        written AS (
          UPDATE {identifiers.table} AS stored
          SET embedding = given.vector::{identifiers.of_pgvector(type)}
          FROM given
          WHERE stored.id = given.id AND stored.embedding IS NULL AND {_HASH} = given.hash
          RETURNING 1
        )
        SELECT count(*) AS written FROM written
        """)


def existing(identifiers: Identifiers) -> str:
    """Which of the ids `$1` are stored."""
    return f"SELECT id FROM {identifiers.table} WHERE {BY_ID}"


def create_staging(identifiers: Identifiers) -> str:
    """A table that lives until the transaction ends, to COPY a batch into."""
    return f"CREATE TEMPORARY TABLE preheat_staging (LIKE {identifiers.table}) ON COMMIT DROP"


def merge_staging(identifiers: Identifiers, on_conflict: Literal["replace", "skip"]) -> str:
    """Move a batch from the staging table into its collection; a stored chunk with the same id is replaced, or stays.
    One row: how many were written.

    The rows are inserted in the order of code points of their ids, as COPY inserts those of a sorted batch. So two
    writers of the same ids lock rows in one order, and do not deadlock. An insertion that meets the uncommitted row of
    another writer waits for that writer, whichever the policy.
    """
    columns = ", ".join(COPY_COLUMNS)
    replaced = ", ".join(f"{column} = excluded.{column}" for column in COPY_COLUMNS if column != "id")
    return sql_text(f"""
        WITH written AS (
          INSERT INTO {identifiers.table} ({columns})
          SELECT {columns} FROM preheat_staging ORDER BY id COLLATE "C"
          ON CONFLICT (id) DO {f"UPDATE SET {replaced}" if on_conflict == "replace" else "NOTHING"}
          RETURNING 1
        )
        SELECT count(*) AS written FROM written
        """)
