"""Every SQL text about the making of indexes, beside their definitions in :mod:`preheat.storage.schema.sql`."""

from __future__ import annotations

from ..identifiers import Names, literal, quoted
from .sql import has_old_words

__all__ = ("STEPS", "analyze", "backend", "index_progress", "lacks_index", "lock_indexes", "made")

STEPS = ("the words of the texts", "the index of the words", "the index of the metadata", "the index of the vectors")
"""What :func:`create_indexes <preheat.storage.schema.sql.create_indexes>` makes, one after the other."""


def lacks_index(names: Names) -> str:
    """One row: whether there is a table without the index of its vectors, which is made last."""
    table, index = literal(names.table), literal(names.relation(f"{names.table_name}.embedding"))
    return f"SELECT to_regclass({table}) IS NOT NULL AND to_regclass({index}) IS NULL AS lacks"


def made(names: Names) -> str:
    """One row: for each of :data:`STEPS` whether it is there."""
    table = literal(names.table)
    words = f"EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass({table}) AND attname = 'words')"
    words = f"({words} AND NOT {has_old_words(names)})"
    indexes = (literal(names.relation(f"{names.table_name}.{name}")) for name in ("words", "metadata", "embedding"))
    by_words, *others = (f"to_regclass({index}) IS NOT NULL" for index in indexes)
    there = (words, f"{words} AND {by_words}", *others)  # without the words their index is not there either
    return f"SELECT {', '.join(f'{what} AS {quoted(step)}' for what, step in zip(there, STEPS, strict=True))}"


def lock_indexes() -> str:
    """Let one transaction at a time make indexes: `$1` what tells the collection from all others."""
    return "SELECT pg_advisory_xact_lock(hashtextextended('preheat indexes ' || $1::text, 0))"


def backend() -> str:
    """By which number the server knows this connection."""
    return "SELECT pg_backend_pid() AS pid"


def index_progress() -> str:
    """How far an index is that a connection makes now: `$1` its number. No row while it makes none.

    What a phase counts depends on the index: rows, or pages of the table.
    """
    return (
        "SELECT phase, CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END AS done, "
        "CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END AS total "
        "FROM pg_stat_progress_create_index WHERE pid = $1::integer"
    )


def analyze(names: Names) -> str:
    """Let the planner know what is in the table."""
    return f"ANALYZE {names.table}"
