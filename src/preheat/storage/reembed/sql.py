"""SQL that gives a collection the vectors of another model, as pure functions of its identifiers.

The table in use is called `old` here, and the table that replaces it `new`; see :attr:`Identifiers.replacement`.
"""

from __future__ import annotations

from ..encoding.copy_format import COPY_COLUMNS
from ..identifiers import Identifiers, literal, quoted, sql_text
from ..models import VectorType

COLUMNS = ", ".join(COPY_COLUMNS)
CARRIED = ("document", "position", "metadata")
"""The columns that may change without a new vector."""


# Before


def table_facts(identifiers: Identifiers) -> str:
    """One row about the table in use: its number, its owner and whether this role has the owner's rights, its comment,
    whether it has vectors, which a dropped extension takes away, and the options of their index, null if there is
    none."""
    return sql_text(f"""
        SELECT
          old.oid AS number,
          pg_get_userbyid(old.relowner)::text AS owner,
          pg_has_role(old.relowner, 'USAGE') AS mine,
          obj_description(old.oid, 'pg_class') AS comment,
          (
            SELECT coalesce(indexed.reloptions, '{{}}'::text[])
            FROM pg_class AS indexed
            WHERE indexed.oid = to_regclass({literal(identifiers.relation(f"{identifiers.table_name}.embedding"))})
          ) AS hnsw,
          EXISTS (SELECT FROM pg_attribute WHERE attrelid = old.oid AND attname = 'embedding') AS has_vectors
        FROM pg_class AS old
        WHERE old.oid = to_regclass({literal(identifiers.table)})
        """)


def try_reembedding() -> str:
    """Keep other sessions from reembedding the same table, as long as this session lasts: `$1` the table's number. One
    row, true if this session has the lock."""
    return "SELECT pg_try_advisory_lock(hashtextextended('preheat reembedding ' || $1::text, 0)) AS held"


def promise_of_new(identifiers: Identifiers) -> str:
    """One row if there is a new table: its comment, which tells its purpose."""
    return sql_text(f"""
        SELECT obj_description(new.oid, 'pg_class') AS promise
        FROM pg_class AS new
        WHERE new.oid = to_regclass({literal(identifiers.replacement.table)})
        """)


def drop_new(identifiers: Identifiers) -> str:
    """Drop a new table that was created for another purpose."""
    return f"DROP TABLE IF EXISTS {identifiers.replacement.table}"


# Meanwhile


def chunks_page(identifiers: Identifiers, *, first: bool) -> str:
    """Some chunks in the order of their ids: `$1` how many, and unless it is the first page `$2` the last id of the
    page before. The text is null if the new table has that very text already."""
    return sql_text(f"""
        WITH page AS MATERIALIZED (
          SELECT id, document, position, text
          FROM {identifiers.table}{"" if first else " WHERE id > $2::text"}
          ORDER BY id
          LIMIT $1::bigint
        )
        SELECT
          page.id,
          page.document,
          page.position,
          CASE WHEN new.text IS DISTINCT FROM page.text THEN page.text END AS text
        FROM page LEFT JOIN {identifiers.replacement.table} AS new ON new.id = page.id
        ORDER BY page.id
        """)


def chunks_that_differ(identifiers: Identifiers) -> str:
    """Some chunks that the new table lacks, or has with another text: `$1` how many."""
    return sql_text(f"""
        SELECT old.id, old.document, old.position, old.text
        FROM {identifiers.table} AS old LEFT JOIN {identifiers.replacement.table} AS new ON new.id = old.id
        WHERE new.text IS DISTINCT FROM old.text
        LIMIT $1::bigint
        """)


def store_new(identifiers: Identifiers, type: VectorType) -> str:
    """Copy chunks into the new table with their new vectors: `$1` the ids, `$2` the hashes of the texts that were
    embedded, `$3` the vectors. A chunk whose text has changed since is left out, to be embedded again.

    Everything but the vectors is copied within the server, so that numbers in the metadata keep all their digits.
    """
    replaced = ", ".join(f"{column} = excluded.{column}" for column in COPY_COLUMNS if column != "id")
    kept = ", ".join(f"old.{column}" for column in COPY_COLUMNS if column != "embedding")
    return sql_text(f"""
        WITH given AS MATERIALIZED (
          SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS given (id, hash, vector)
        )
        INSERT INTO {identifiers.replacement.table} ({COLUMNS})
        SELECT {kept}, given.vector::{identifiers.of_pgvector(type)}
        FROM given JOIN {identifiers.table} AS old ON old.id = given.id
        WHERE encode(sha256(convert_to(old.text, 'UTF8')), 'hex') = given.hash
        ON CONFLICT (id) DO UPDATE SET {replaced}
        """)


# At the end, in one transaction


def drop_stale(identifiers: Identifiers) -> str:
    """Delete from the new table the chunks that have been deleted from the one in use."""
    return sql_text(f"""
        DELETE FROM {identifiers.replacement.table} AS new
        WHERE NOT EXISTS (SELECT FROM {identifiers.table} AS old WHERE old.id = new.id)
        """)


def carry_along(identifiers: Identifiers) -> str:
    """Copy changed places and metadata of chunks with the same text. They are compared as text, since 1 and 1.0 are
    equal as `jsonb`."""
    new, old = (", ".join(f"{table}.{column}::text" for column in CARRIED) for table in ("new", "old"))
    given = ", ".join(f"old.{column}" for column in CARRIED)
    return sql_text(f"""
        UPDATE {identifiers.replacement.table} AS new
        SET ({", ".join(CARRIED)}) = ROW({given})
        FROM {identifiers.table} AS old
        WHERE old.id = new.id AND ({new}) IS DISTINCT FROM ({old})
        """)


def grants(identifiers: Identifiers) -> str:
    """One row for each privilege on the table in use that its owner has granted."""
    return sql_text(f"""
        SELECT
          CASE WHEN given.grantee = 0 THEN NULL ELSE pg_get_userbyid(given.grantee)::text END AS grantee,
          given.privilege_type AS right,
          given.is_grantable AS may_grant
        FROM pg_class AS old, aclexplode(old.relacl) AS given
        WHERE old.oid = to_regclass({literal(identifiers.table)}) AND given.grantee <> old.relowner
        """)


def grant(identifiers: Identifiers, right: str, grantee: str | None, *, may_grant: bool) -> str:
    """Grant a role, or everybody, a privilege on the new table."""
    to = "PUBLIC" if grantee is None else quoted(grantee)
    return f"GRANT {right} ON {identifiers.replacement.table} TO {to}{' WITH GRANT OPTION' if may_grant else ''}"


def set_owner(identifiers: Identifiers, owner: str) -> str:
    """Give the new table to the owner of the one in use."""
    return f"ALTER TABLE {identifiers.replacement.table} OWNER TO {quoted(owner)}"


def set_comment(identifiers: Identifiers, comment: str | None) -> str:
    """Set the comment of the new table: its purpose, and at the end the comment of the one in use."""
    return f"COMMENT ON TABLE {identifiers.replacement.table} IS {'NULL' if comment is None else literal(comment)}"


def drop_old(identifiers: Identifiers) -> str:
    """Drop the table in use."""
    return f"DROP TABLE {identifiers.table}"


def indexes_of_new(identifiers: Identifiers) -> str:
    """The bare names of the new table's indexes, and whether each belongs to a constraint."""
    return sql_text(f"""
        SELECT
          relname::text AS name,
          EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid) AS constraint
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = to_regclass({literal(identifiers.replacement.table)})
        """)


def not_nulls_of_new(identifiers: Identifiers) -> str:
    """The NOT NULL constraints of the new table, which have names since PostgreSQL 18, and their columns."""
    return sql_text(f"""
        SELECT conname::text AS name, attname::text AS column
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
        WHERE conrelid = to_regclass({literal(identifiers.replacement.table)}) AND contype = 'n'
        """)


def rename_constraint(identifiers: Identifiers, name: str, to: str) -> str:
    """Rename a constraint of the new table, and with it the constraint's index."""
    return f"ALTER TABLE {identifiers.replacement.table} RENAME CONSTRAINT {quoted(name)} TO {quoted(to)}"


def rename_index(identifiers: Identifiers, name: str, to: str) -> str:
    """Rename an index of the new table."""
    return f"ALTER INDEX {identifiers.relation(name)} RENAME TO {quoted(to)}"


def rename_new(identifiers: Identifiers) -> str:
    """Give the new table the name of the one that was in use."""
    return f"ALTER TABLE {identifiers.replacement.table} RENAME TO {quoted(identifiers.table_name)}"


def register_model(identifiers: Identifiers) -> str:
    """Enter the new model: `$1` the collection's name, `$2` dimensions, `$3` the model's name, `$4` the type."""
    return sql_text(f"""
        UPDATE {identifiers.registry}
        SET dimensions = $2::integer, embedder = $3::text, type = $4::text
        WHERE name = $1::text
        """)


def drop_old_answers(identifiers: Identifiers) -> str:
    """Delete the answers of all models but `$1`, as no later question can find them."""
    return f"DELETE FROM {identifiers.answers} WHERE embedder <> $1::text"
