"""Every SQL text about chunks as parts of documents, as pure functions of their names: what stores, gets, counts and
deletes them.

Values are bound, as text; the only things pasted into a text are identifiers, quoted, and conditions.
"""

from __future__ import annotations

from functools import lru_cache

from ..encoding.copy_format import COPY_COLUMNS
from ..identifiers import Names
from ..schema.migrations import LATEST
from ..schema.sql import is_of_version, origin

__all__ = (
    "BY_ID",
    "MOST_LOCKS",
    "OF_DOCUMENT",
    "clear",
    "count",
    "count_all",
    "create_staging",
    "delete",
    "delete_in_order",
    "documents_page",
    "get",
    "lock_documents",
    "lock_table",
    "look_up",
    "merge_staging",
    "neighbors",
    "page",
    "update",
)

MOST_LOCKS = 256
"""How many documents are locked one by one: a lock takes one of some thousand places that all of a server share."""

BY_ID = "id = ANY($1::text[])"
"""Which chunks: those with the ids `$1`."""

OF_DOCUMENT = "document = $1::text"
"""Which chunks: those of the document with the key `$1`."""

_HASH = "encode(sha256(convert_to(stored.text, 'UTF8')), 'hex')"
_GIVEN = (
    "WITH given AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
    "AS given (id, hash, document, position, metadata))"
)
_OWN = "id, document, position, text, metadata"


def _chunk(*, embedding: bool) -> str:
    return f"{_OWN}, {'embedding::text' if embedding else 'NULL'} AS embedding"


def _where(*conditions: str) -> str:
    stated = [condition for condition in conditions if condition]
    return f" WHERE {' AND '.join(stated)}" if stated else ""


# Out of a collection


def get(names: Names) -> str:
    """Chunks by id: `$1` the ids."""
    shown = f"{_chunk(embedding=True)}, {origin(names)}"
    return f"SELECT {shown} FROM {names.table} WHERE {BY_ID} ORDER BY document, position, id"


@lru_cache(maxsize=256)
def count(names: Names, condition: str = "", *, document: bool = False) -> str:
    """How many chunks there are: `$1` the key of a document if it is those of one, then a condition's parameters."""
    where = _where(OF_DOCUMENT if document else "", condition)
    return f"SELECT count(*) AS chunks, {origin(names)} FROM {names.table}{where}"


@lru_cache(maxsize=256)
def page(
    names: Names,
    condition: str = "",
    *,
    document: bool = False,
    first: bool = True,
    embedding: bool = True,
) -> str:
    """Some chunks in the order of their ids, or those of a document in its own: `$1` how many, then `$2` the key of the
    document; then, unless it is the first page, the place where the one before ended, which is an id, for a document
    its position and its id; then a condition's parameters."""
    if document:
        of, after, order = "document = $2::text", "(position, id) > ($3::integer, $4::text)", "position, id"
    else:
        of, after, order = "", "id > $2::text", "id"
    where = _where(of, "" if first else after, condition)
    shown = f"{_chunk(embedding=embedding)}, {origin(names)}"
    return f"SELECT {shown} FROM {names.table}{where} ORDER BY {order} LIMIT $1::bigint"


def documents_page(names: Names, *, first: bool) -> str:
    """Some documents in the order of their keys, and how many chunks each has: `$1` how many, `$2` what their keys
    begin with, `$3` the key that the page before ended with."""
    where = _where("starts_with(document, $2::text)", "" if first else "document > $3::text")
    return (
        f"SELECT document AS key, count(*) AS chunks, {origin(names)} FROM {names.table}{where} "
        "GROUP BY document ORDER BY document LIMIT $1::bigint"
    )


def neighbors(names: Names) -> str:
    """The chunks beside a place in a document: `$1` its key, `$2` the position, `$3` how many before, `$4` after."""
    shown = f"{_chunk(embedding=False)}, {origin(names)}"
    chunk = f"SELECT {shown} FROM {names.table} WHERE document = $1::text AND position"
    return (
        f"(({chunk} < $2::integer ORDER BY position DESC, id LIMIT $3::bigint) "
        f"UNION ALL ({chunk} > $2::integer ORDER BY position, id LIMIT $4::bigint)) ORDER BY position, id"
    )


# Into a collection


@lru_cache(maxsize=256)
def delete(names: Names, condition: str) -> str:
    """Delete the chunks that pass a condition, whose parameters come first. Answers with one row: how many went. None
    goes if a later release has changed the collection, which the row tells."""
    gone = f"DELETE FROM {names.table} WHERE ({condition}) AND {is_of_version(names, LATEST)} RETURNING 1"
    return f"WITH gone AS ({gone}) SELECT count(*) AS gone, {origin(names)} FROM gone"


def delete_in_order(names: Names) -> str:
    """Delete chunks by id: `$1` the ids. Their rows are locked in the order in which batches are merged, so that this
    and a merge rarely wait for each other."""
    ordered = f'SELECT id FROM {names.table} WHERE {BY_ID} ORDER BY id COLLATE "C" FOR UPDATE'
    return f"DELETE FROM {names.table} WHERE id = ANY(ARRAY({ordered}))"


def count_all(names: Names) -> str:
    """One row: how many chunks there are, and whether this role may truncate the table and nothing but the table has
    to be asked: no trigger and no foreign key, which counts as one, and no policy for rows."""
    return (
        f"SELECT (SELECT count(*) FROM {names.table}) AS chunks, NOT relhastriggers AND NOT row_security_active(oid) "
        f"AND has_table_privilege(oid, 'TRUNCATE') AS truncates FROM pg_class WHERE oid = {names.table_now}"
    )


def clear(names: Names, *, truncates: bool) -> str:
    """Delete all chunks. Truncated, the table and its indexes are as good as new; rows that are deleted stay in the
    index of the vectors until the server cleans up, and a search goes through them."""
    return f"TRUNCATE {names.table}" if truncates else f"DELETE FROM {names.table}"


def lock_documents(documents: int) -> str:
    """Let one transaction at a time change a document: `$1` what tells the collection from all others, `$2` the keys,
    in the order in which everybody takes them. Held until it ends.

    Many documents are the whole collection; who changes few shares it.
    """
    collection = "(hashtextextended('preheat collection ' || $1::text, 0))"
    if documents > MOST_LOCKS:
        return f"SELECT pg_advisory_xact_lock{collection} WHERE $2::text[] IS NOT NULL"
    return (
        f"WITH shared AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared{collection}) "
        "SELECT pg_advisory_xact_lock(hashtextextended('preheat document ' || $1::text || ' ' || key, 0)) "
        "FROM shared, unnest($2::text[]) AS key"
    )


def lock_table(names: Names) -> str:
    """Let nobody put another table in place of this one until the transaction ends. It comes before anything that
    only reads the table: who has done that, and wants to write then, may wait for somebody who waits for them."""
    return f"LOCK TABLE {names.table} IN ROW EXCLUSIVE MODE"


def look_up(names: Names) -> str:
    """What is stored of a batch: `$1` the ids of its chunks, `$2` the hashes of their texts, `$3` their documents, `$4`
    positions and `$5` metadata, and `$6` the documents that it is all of.

    A row for each id that is stored: whether it has the same text, and the same of all else, but for the embedding. A
    row with nulls for each chunk of those documents that is not in the batch.
    """
    return (
        f"{_GIVEN} SELECT stored.id, stored.document, {_HASH} = given.hash AS same_text, "
        "(stored.document, stored.position, stored.metadata) = "
        f"(given.document, given.position::integer, given.metadata::jsonb) AS same_place, {origin(names)} "
        f"FROM given JOIN {names.table} AS stored ON stored.id = given.id "
        f"UNION ALL SELECT stored.id, stored.document, NULL, NULL, {origin(names)} FROM {names.table} AS stored "
        "WHERE stored.document = ANY($6::text[]) AND NOT EXISTS (SELECT FROM given WHERE given.id = stored.id)"
    )


def update(names: Names) -> str:
    """Give stored chunks another place or other metadata, as long as they have the text: parameters as
    :func:`look_up`, but for the last. Answers with one row: how many there were."""
    return (
        f"{_GIVEN}, written AS (UPDATE {names.table} AS stored SET document = given.document, "
        "position = given.position::integer, metadata = given.metadata::jsonb FROM given "
        f"WHERE stored.id = given.id AND {_HASH} = given.hash RETURNING 1) SELECT count(*) AS written FROM written"
    )


def create_staging(names: Names) -> str:
    """A table that lives as long as the transaction, to COPY a batch into."""
    return f"CREATE TEMPORARY TABLE preheat_staging (LIKE {names.table}) ON COMMIT DROP"


def merge_staging(names: Names) -> str:
    """Move a batch from the staging table into its collection; what has the same id is replaced."""
    columns = ", ".join(COPY_COLUMNS)
    replaced = ", ".join(f"{column} = excluded.{column}" for column in COPY_COLUMNS if column != "id")
    return (
        # In the order of code points, as batches that are copied straight in have it.
        f'INSERT INTO {names.table} ({columns}) SELECT {columns} FROM preheat_staging ORDER BY id COLLATE "C" '
        f"ON CONFLICT (id) DO UPDATE SET {replaced}"
    )
