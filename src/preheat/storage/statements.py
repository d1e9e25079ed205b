"""Every SQL text that stores, gets, counts and deletes the chunks of a collection, as pure functions of its names.

Values are bound; the only things pasted into a text are identifiers, quoted, and whole numbers.
"""

from __future__ import annotations

from .encoding import COPY_COLUMNS
from .names import Names, quoted

__all__ = (
    "count",
    "create_staging",
    "delete",
    "get",
    "lock_document",
    "lock_table",
    "merge_staging",
)


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


def lock_table(names: Names) -> str:
    """Let nobody put another table in place of this one until the transaction ends. It comes before anything that
    only reads the table: who has done that, and wants to write then, may wait for somebody who waits for them."""
    return f"LOCK TABLE {names.table} IN ROW EXCLUSIVE MODE"


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
