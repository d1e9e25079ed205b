"""Every SQL text about giving a collection the vectors of another model, as pure functions of its names.

The table in use is called `old` here, and `new` the one that is to take its place; see :attr:`Names.successor`.
"""

from __future__ import annotations

from ..encoding.copy_format import COPY_COLUMNS
from ..identifiers import Names, literal, quoted
from ..models import VectorType

__all__ = (
    "analyze_new",
    "carry_along",
    "chunks_page",
    "chunks_that_differ",
    "count_chunks",
    "describe_new",
    "drop_new",
    "drop_old_answers",
    "drop_stale",
    "grant",
    "grants",
    "has_answers",
    "hold_writers",
    "indexes_of_new",
    "lock_old",
    "not_nulls_of_new",
    "promise_of_new",
    "register_model",
    "rename_constraint",
    "rename_index",
    "rename_new",
    "set_comment",
    "set_owner",
    "store_new",
    "table_facts",
    "try_reembedding",
)

COLUMNS = ", ".join(COPY_COLUMNS)
CARRIED = ("document", "position", "metadata")
"""What belongs to a chunk and has no part in its vector."""


# Before


def table_facts(names: Names) -> str:
    """One row about the table in use: its number, its owner and whether this role may do what an owner may, what is
    said about it, whether it has vectors, which go with the extension, and how the index of them is built, null if it
    has none."""
    return (
        "SELECT old.oid AS number, pg_get_userbyid(old.relowner)::text AS owner, "
        "pg_has_role(old.relowner, 'USAGE') AS mine, obj_description(old.oid, 'pg_class') AS comment, "
        "(SELECT coalesce(indexed.reloptions, '{}'::text[]) FROM pg_class AS indexed "
        f"WHERE indexed.oid = to_regclass({literal(names.relation(f'{names.table_name}.embedding'))})) AS hnsw, "
        "EXISTS (SELECT FROM pg_attribute WHERE attrelid = old.oid AND attname = 'embedding') AS has_vectors "
        f"FROM pg_class AS old WHERE old.oid = to_regclass({literal(names.table)})"
    )


def try_reembedding() -> str:
    """Keep others from embedding the same table again, as long as the session lasts: `$1` the table's number. One row,
    true if that could be done."""
    return "SELECT pg_try_advisory_lock(hashtextextended('preheat reembedding ' || $1::text, 0)) AS held"


def promise_of_new(names: Names) -> str:
    """One row if there is a new table: what it was made for."""
    return (
        "SELECT obj_description(new.oid, 'pg_class') AS promise FROM pg_class AS new "
        f"WHERE new.oid = to_regclass({literal(names.successor.table)})"
    )


def describe_new(names: Names, promise: str) -> str:
    """Say of the new table what it is made for."""
    return f"COMMENT ON TABLE {names.successor.table} IS {literal(promise)}"


def drop_new(names: Names) -> str:
    """Drop a new table that was made for something else."""
    return f"DROP TABLE IF EXISTS {names.successor.table}"


def count_chunks(names: Names) -> str:
    """How many chunks there are to look at."""
    return f"SELECT count(*) AS chunks FROM {names.table}"


# Meanwhile


def chunks_page(names: Names, *, first: bool) -> str:
    """Some chunks in the order of their ids: `$1` how many, and unless it is the first page `$2` the id that the page
    before ended with. The text is null if the new table has that very text already."""
    where = "" if first else " WHERE id > $2::text"
    return (
        "WITH page AS MATERIALIZED "
        f"(SELECT id, document, position, text FROM {names.table}{where} ORDER BY id LIMIT $1::bigint) "
        "SELECT page.id, page.document, page.position, "
        "CASE WHEN new.text IS DISTINCT FROM page.text THEN page.text END AS text "
        f"FROM page LEFT JOIN {names.successor.table} AS new ON new.id = page.id ORDER BY page.id"
    )


def chunks_that_differ(names: Names) -> str:
    """Some chunks that the new table lacks, or has with another text: `$1` how many."""
    return (
        f"SELECT old.id, old.document, old.position, old.text FROM {names.table} AS old "
        f"LEFT JOIN {names.successor.table} AS new "
        "ON new.id = old.id WHERE new.text IS DISTINCT FROM old.text LIMIT $1::bigint"
    )


def store_new(names: Names, type: VectorType) -> str:
    """Copy chunks into the new table with their new vectors: `$1` the ids, `$2` the hashes of the texts that were
    embedded, `$3` the vectors. A chunk whose text has changed since is left out, to be embedded again.

    All but the vectors stays in the server, so that it is the same to the last digit of a number in the metadata.
    """
    replaced = ", ".join(f"{column} = excluded.{column}" for column in COPY_COLUMNS if column != "id")
    kept = ", ".join(f"old.{column}" for column in COPY_COLUMNS if column != "embedding")
    return (
        "WITH given AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) "
        "AS given (id, hash, vector)) "
        f"INSERT INTO {names.successor.table} ({COLUMNS}) SELECT {kept}, given.vector::{names.type(type)} "
        f"FROM given JOIN {names.table} AS old ON old.id = given.id "
        "WHERE encode(sha256(convert_to(old.text, 'UTF8')), 'hex') = given.hash "
        f"ON CONFLICT (id) DO UPDATE SET {replaced}"
    )


def analyze_new(names: Names) -> str:
    """Let the server see what the new table is like, before it has to plan for it."""
    return f"ANALYZE {names.successor.table}"


# At the end, in one transaction


def hold_writers(names: Names) -> tuple[str, ...]:
    """Wait until nobody writes, and let nobody begin to, until the transaction ends. Searches go on.

    Who changes several documents holds a lock of the collection from the start, so that nobody who has read the table
    and is going to write to it is left waiting here.
    """
    label = literal(f"preheat collection {names.schema or ''} {names.collection}")
    return f"SELECT pg_advisory_xact_lock(hashtextextended({label}, 0))", lock_old(names)


def lock_old(names: Names) -> str:
    """Keep writers out of the table in use."""
    return f"LOCK TABLE {names.table} IN SHARE ROW EXCLUSIVE MODE"


def drop_stale(names: Names) -> str:
    """Drop from the new table what has been deleted meanwhile."""
    return (
        f"DELETE FROM {names.successor.table} AS new "
        f"WHERE NOT EXISTS (SELECT FROM {names.table} AS old WHERE old.id = new.id)"
    )


def carry_along(names: Names) -> str:
    """Give what has the same text but is otherwise changed its new place and metadata; compared as they are written,
    since to `jsonb` 1 and 1.0 are equal."""
    columns = ", ".join(CARRIED)
    ours, theirs = (", ".join(f"{table}.{column}::text" for column in CARRIED) for table in ("new", "old"))
    given = ", ".join(f"old.{column}" for column in CARRIED)
    return (
        f"UPDATE {names.successor.table} AS new SET ({columns}) = ROW({given}) FROM {names.table} AS old "
        f"WHERE old.id = new.id AND ({ours}) IS DISTINCT FROM ({theirs})"
    )


def grants(names: Names) -> str:
    """What roles may do with the table in use: one row for each right that its owner has given."""
    return (
        "SELECT CASE WHEN given.grantee = 0 THEN NULL ELSE pg_get_userbyid(given.grantee)::text END AS grantee, "
        "given.privilege_type AS right, given.is_grantable AS may_grant "
        f"FROM pg_class AS old, aclexplode(old.relacl) AS given WHERE old.oid = to_regclass({literal(names.table)}) "
        "AND given.grantee <> old.relowner"
    )


def grant(names: Names, right: str, grantee: str | None, *, may_grant: bool) -> str:
    """Give a role, or everybody, a right on the new table."""
    to = "PUBLIC" if grantee is None else quoted(grantee)
    return f"GRANT {right} ON {names.successor.table} TO {to}{' WITH GRANT OPTION' if may_grant else ''}"


def set_owner(names: Names, owner: str) -> str:
    """Give the new table to the owner of the one in use."""
    return f"ALTER TABLE {names.successor.table} OWNER TO {quoted(owner)}"


def set_comment(names: Names, comment: str | None) -> str:
    """Say of the new table what was said of the one in use."""
    return f"COMMENT ON TABLE {names.successor.table} IS {'NULL' if comment is None else literal(comment)}"


def indexes_of_new(names: Names) -> str:
    """The bare names of the new table's indexes, and whether each is a constraint's."""
    return (
        "SELECT relname::text AS name, EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid) AS constraint "
        "FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
        f"WHERE indrelid = to_regclass({literal(names.successor.table)})"
    )


def not_nulls_of_new(names: Names) -> str:
    """The constraints that keep nulls out of the new table, which have names since PostgreSQL 18, and their columns."""
    return (
        "SELECT conname::text AS name, attname::text AS column FROM pg_constraint "
        "JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1] "
        f"WHERE conrelid = to_regclass({literal(names.successor.table)}) AND contype = 'n'"
    )


def rename_constraint(names: Names, name: str, to: str) -> str:
    """Give a constraint of the new table another name; its index is called the same."""
    return f"ALTER TABLE {names.successor.table} RENAME CONSTRAINT {quoted(name)} TO {quoted(to)}"


def rename_index(names: Names, name: str, to: str) -> str:
    """Give an index of the new table another name."""
    return f"ALTER INDEX {names.relation(name)} RENAME TO {quoted(to)}"


def rename_new(names: Names) -> str:
    """Give the new table the name of the one that was in use."""
    return f"ALTER TABLE {names.successor.table} RENAME TO {quoted(names.table_name)}"


def register_model(names: Names) -> str:
    """Enter what the collection is now: `$1` its name, `$2` dimensions, `$3` the model's name, `$4` the type."""
    return (
        f"UPDATE {names.registry} SET dimensions = $2::integer, embedder = $3::text, type = $4::text "
        "WHERE name = $1::text"
    )


def has_answers(names: Names) -> str:
    """One row, true if answers are kept beside the collection."""
    return f"SELECT to_regclass({literal(names.answers)}) IS NOT NULL AS there"


def drop_old_answers(names: Names) -> str:
    """Take away the answers of all models but `$1`: nobody will find them any more."""
    return f"DELETE FROM {names.answers} WHERE embedder <> $1::text"
