"""SQL that looks up in the catalog why a statement on a collection failed."""

from __future__ import annotations

from ..identifiers import Identifiers, literal, sql_text

_EXTENSION = "FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
_USABLE = "has_schema_privilege(pg_namespace.oid, 'USAGE')"
_ON_PATH = (
    "(SELECT btrim(word, ' \"') FROM unnest(string_to_array(replace(current_setting('search_path'), '\"$user\"', "
    "quote_ident(current_user)), ',')) AS word)"
)
"""The schemas that the search path names, whether this role may use them or not."""


def role() -> str:
    """One row: the role, the database, and what the role may do there and in a schema: `$1` its name, or null for the
    schema in which tables are created by default."""
    return sql_text(f"""
        SELECT
          current_user::text AS role,
          current_database()::text AS database,
          has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
          (SELECT nspname::text {_EXTENSION}) AS extension,
          (SELECT {_USABLE} {_EXTENSION}) AS extension_usage,
          home.schema,
          pg_namespace.oid IS NOT NULL AS schema_exists,
          coalesce({_USABLE}, false) AS usage,
          coalesce(has_schema_privilege(pg_namespace.oid, 'CREATE'), false) AS creates
        FROM (SELECT coalesce($1::text, current_schema()::text, 'public') AS schema) AS home
        LEFT JOIN pg_namespace ON nspname = home.schema
        """)


def tables() -> str:
    """The tables called `$1` in the schema `$2`, or, if that is null, in those of the search path: what the role may do
    with each, and which role owns it."""
    return sql_text(f"""
        SELECT
          relname::text AS name,
          nspname::text AS schema,
          pg_get_userbyid(relowner)::text AS owner,
          pg_has_role(relowner, 'USAGE') AS mine,
          relrowsecurity AS has_policies,
          {_USABLE} AS usage,
          ARRAY(
            SELECT word FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS word
            WHERE has_table_privilege(pg_class.oid, word)
          ) AS rights
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relname = ANY($1::text[]) AND relkind IN ('r', 'p')
          AND CASE WHEN $2::text IS NULL THEN nspname IN {_ON_PATH} ELSE nspname = $2::text END
        ORDER BY relname
        """)


def found(identifiers: Identifiers) -> str:
    """One row: which parts of a collection exist, and in which other schemas there are tables of its name."""
    table = literal(identifiers.table_name)
    if identifiers.schema is None:
        here, has_schema = "pg_table_is_visible(pg_class.oid)", "true"
        on_path = f"nspname IN {_ON_PATH}"
    else:
        schema = literal(identifiers.schema)
        here, on_path = f"nspname = {schema}", f"nspname = {schema}"
        has_schema = f"EXISTS (SELECT FROM pg_namespace WHERE nspname = {schema})"
    called = (
        "FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE relkind IN ('r', 'p') AND relname"
    )
    return sql_text(f"""
        SELECT
          current_database()::text AS database,
          (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS extension,
          {has_schema} AS has_schema,
          EXISTS (SELECT {called} = 'preheat_collections' AND {here}) AS registry,
          EXISTS (SELECT {called} = {table} AND {here}) AS has_table,
          (SELECT nspname::text {called} = {table} AND {on_path} AND NOT {_USABLE} LIMIT 1) AS unusable,
          (
            SELECT indrelid::regclass::text
            FROM pg_index
            JOIN pg_class ON pg_class.oid = indexrelid
            JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE relname = {literal(f"{identifiers.table_name}.id")} AND {here}
            LIMIT 1
          ) AS renamed,
          ARRAY(
            SELECT 'the schema ' || quote_ident(nspname) {called} = {table} AND NOT ({here}) ORDER BY nspname
          ) AS elsewhere,
          ARRAY(
            SELECT attname::text
            FROM pg_attribute
            WHERE attrelid = (SELECT pg_class.oid {called} = {table} AND {here} LIMIT 1)
              AND attnum > 0 AND NOT attisdropped
          ) AS columns
        """)


def is_registered(identifiers: Identifiers) -> str:
    """One row if the registry has a collection called `$1`."""
    return f"SELECT FROM {identifiers.registry} WHERE name = $1::text"
