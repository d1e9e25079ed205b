"""SQL about the creation of indexes; their definitions are in :mod:`preheat.storage.schema.sql`."""

from __future__ import annotations

from ..identifiers import Identifiers, literal, quoted, sql_text
from ..models import VectorType
from .sql import has_old_words

STEPS = ("the words of the texts", "the index of the words", "the index of the metadata", "the index of the vectors")
"""What :func:`create_indexes <preheat.storage.schema.sql.create_indexes>` creates, in its order."""


def lacks_index(identifiers: Identifiers) -> str:
    """One row: whether there is a table without the index of its vectors, which is created last."""
    table, index = literal(identifiers.table), literal(identifiers.relation(f"{identifiers.table_name}.embedding"))
    return f"SELECT to_regclass({table}) IS NOT NULL AND to_regclass({index}) IS NULL AS lacks"


def made(identifiers: Identifiers) -> str:
    """One row with a column for each of :data:`STEPS`: whether it has been created."""
    words = sql_text(f"""
        EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = to_regclass({literal(identifiers.table)}) AND attname = 'words'
          ) AND NOT {has_old_words(identifiers)}
        """)
    by_words, by_metadata, by_vectors = (
        f"to_regclass({literal(identifiers.relation(f'{identifiers.table_name}.{name}'))}) IS NOT NULL"
        for name in ("words", "metadata", "embedding")
    )
    step_words, step_words_index, step_metadata, step_vectors = map(quoted, STEPS)
    return sql_text(f"""
        SELECT
          {words} AS {step_words},
          {words} AND {by_words} AS {step_words_index},
          {by_metadata} AS {step_metadata},
          {by_vectors} AS {step_vectors}
        """)


def lock_indexes() -> str:
    """Let one transaction at a time create indexes: `$1` the schema and the name of the collection."""
    return "SELECT pg_advisory_xact_lock(hashtextextended('preheat indexes ' || $1::text, 0))"


def set_memory(identifiers: Identifiers, dimensions: int, type: VectorType, m: int) -> str:
    """Set the memory for the creation of indexes in this transaction, so that the graph of the vectors fits: what it
    takes for the rows of the table, but no more than a quarter of the memory that the server takes its machine to have
    (`effective_cache_size`), and no less than the session has now."""
    vector = dimensions * (2 if type == "halfvec" else 4)
    element = vector + 2 * m * 16 + 400  # the neighbors in the lowest layer, the element, and what allocations add
    return sql_text(f"""
        SELECT set_config('maintenance_work_mem', greatest(has, least(needs, may))::bigint || 'kB', true) AS memory
        FROM (
          SELECT
            (SELECT setting::bigint FROM pg_settings WHERE name = 'maintenance_work_mem') AS has,
            (SELECT count(*) * {int(element * 1.2)} / 1024 + 1024 FROM {identifiers.table}) AS needs,
            (SELECT setting::bigint * 8 / 4 FROM pg_settings WHERE name = 'effective_cache_size') AS may
        ) AS memory
        """)


def set_given_memory() -> str:
    """Set the memory for the creation of indexes in this transaction to `$1`, such as `2GB`."""
    return "SELECT set_config('maintenance_work_mem', $1::text, true) AS memory"


def without_workers() -> str:
    """Create indexes in this transaction with one process, which takes no shared memory for them."""
    return "SELECT set_config('max_parallel_maintenance_workers', '0', true)"


def backend() -> str:
    """The number by which the server knows this connection."""
    return "SELECT pg_backend_pid() AS pid"


def index_progress() -> str:
    """The progress of the index that a connection creates now: `$1` the connection's number. No row if there is none.

    The unit depends on the phase and the index: rows, or pages of the table.
    """
    return sql_text("""
        SELECT
          phase,
          CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END AS done,
          CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END AS total
        FROM pg_stat_progress_create_index
        WHERE pid = $1::integer
        """)
