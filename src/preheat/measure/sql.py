"""The SQL of measurements. The queries touch no table."""

from __future__ import annotations

__all__ = ("CREATE_EXTENSION", "FACTS", "PLAIN", "nearest")

CREATE_EXTENSION = "CREATE EXTENSION IF NOT EXISTS vector"

FACTS = """\
SELECT
    pg_catalog.current_setting('server_version') AS version,
    pg_catalog.current_setting('server_version_num')::int AS version_number,
    pg_catalog.current_setting('max_connections')::int AS max_connections,
    extversion AS pgvector,
    nspname AS schema_name,
    pg_catalog.quote_ident(nspname) AS schema
FROM (SELECT) AS always
LEFT JOIN (
    pg_catalog.pg_extension JOIN pg_catalog.pg_namespace AS n ON n.oid = extnamespace
) ON extname = 'vector'"""
"""What a measurement has to know about the server and the database."""

PLAIN = "SELECT number FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c')) AS rows (number, letter) ORDER BY letter LIMIT 2"
"""A query for a database without pgvector."""


def nearest(schema: str) -> str:
    """A search by vectors that loads all that a real one needs of pgvector.

    Args:
        schema: of the extension, quoted.
    """
    rows = ", ".join(f"({number}, '[{number},2,3]'::{schema}.vector)" for number in range(1, 6))
    return (
        f"SELECT number FROM (VALUES {rows}) AS chunks (number, embedding) "
        f"ORDER BY embedding OPERATOR({schema}.<=>) '[1,2,3]'::{schema}.vector LIMIT 3"
    )
