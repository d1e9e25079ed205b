"""The SQL of `preheat doctor`: the catalog and settings alone."""

from __future__ import annotations

from ..storage.identifiers import sql_text

__all__ = ("entries", "indexes", "is_analyzed", "server")


def server() -> str:
    """One row about the server, the database and the role: `$1` the schema of the collections, or null."""

    def seconds(setting: str) -> str:
        """A setting in milliseconds; null before the version that has it."""
        return f"(SELECT setting::float / 1000 FROM pg_settings WHERE name = '{setting}')"

    return sql_text(f"""
        SELECT
          current_setting('server_version') AS version,
          current_setting('server_version_num')::int AS version_number,
          pg_is_in_recovery() AS in_recovery,
          current_setting('default_transaction_read_only') = 'on' AS read_only,
          {seconds("idle_session_timeout")} AS idle_session_seconds,
          {seconds("statement_timeout")} AS statement_seconds,
          current_user::text AS role,
          current_database()::text AS database,
          rolsuper AS is_superuser,
          rolconnlimit AS role_limit,
          datconnlimit AS database_limit,
          current_setting('max_connections')::int AS max_connections,
          (
            SELECT sum(setting::int)::int FROM pg_settings
            WHERE name IN ('superuser_reserved_connections', 'reserved_connections')
          ) AS reserved,
          (SELECT sum(numbackends)::int FROM pg_stat_database WHERE datid <> 0) AS used,
          has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
          extension.extversion AS extension_version,
          (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS extension_available,
          (
            SELECT bool_or(trusted AND has_database_privilege(current_database(), 'CREATE') OR rolsuper)
            FROM pg_available_extension_versions WHERE name = 'vector'
          ) AS may_add_extension,
          extension_home.nspname::text AS extension_schema,
          coalesce(has_schema_privilege(extension_home.oid, 'USAGE'), false) AS extension_usage,
          coalesce(extension_home.nspname = ANY(current_schemas(true)), false) AS extension_visible,
          home.schema,
          schema.oid IS NOT NULL AS schema_exists,
          coalesce(has_schema_privilege(schema.oid, 'USAGE'), false) AS usage,
          coalesce(has_schema_privilege(schema.oid, 'CREATE'), false) AS creates
        FROM pg_roles
        JOIN pg_database ON datname = current_database()
        CROSS JOIN (SELECT coalesce($1::text, current_schema()::text, 'public') AS schema) AS home
        LEFT JOIN pg_namespace AS schema ON schema.nspname = home.schema
        LEFT JOIN pg_extension AS extension ON extname = 'vector'
        LEFT JOIN pg_namespace AS extension_home ON extension_home.oid = extnamespace
        WHERE rolname = current_user
        """)


def entries(registry: str) -> str:
    """The list of collections as JSON, whatever columns it has."""
    return f"SELECT to_jsonb(entry)::text AS entry FROM {registry} AS entry ORDER BY name"


def indexes() -> str:
    """The indexes of a table: `$1` its schema, `$2` its name. One row if there is a table and no index."""
    return sql_text("""
        SELECT
          index.relname::text AS name,
          indisvalid AND indisready AS is_valid,
          pg_relation_size(relation.oid) > 0 AS has_rows
        FROM pg_class AS relation
        JOIN pg_namespace AS home ON home.oid = relation.relnamespace
        LEFT JOIN pg_index ON indrelid = relation.oid
        LEFT JOIN pg_class AS index ON index.oid = indexrelid
        WHERE home.nspname = $1::text AND relation.relname = $2::text
        ORDER BY index.relname
        """)


def is_analyzed() -> str:
    """One row if the planner has statistics of a table: `$1` its schema, `$2` its name."""
    return "SELECT FROM pg_stats WHERE schemaname = $1::text AND tablename = $2::text LIMIT 1"
