"""What a database holds, as its own catalogs tell it, so that two can be compared."""

from __future__ import annotations

from typing import Any

from tests.support.server import Server

COLUMNS = """
SELECT relname, attnum, attname, format_type(atttypid, atttypmod) AS type, attnotnull, attgenerated::text,
  pg_get_expr(adbin, adrelid) AS expression
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE nspname = '{}' AND relkind = 'r' AND attnum > 0 AND NOT attisdropped ORDER BY relname, attnum
"""
INDEXES = """
SELECT pg_class.relname, pg_get_indexdef(indexrelid) AS definition, reloptions, indisvalid
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = '{}' ORDER BY relname
"""
CONSTRAINTS = """
SELECT conname, conrelid::regclass::text AS of, pg_get_constraintdef(pg_constraint.oid) AS definition
FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace WHERE nspname = '{}' ORDER BY of, conname
"""


def catalog(server: Server, database: str, schema: str = "public") -> dict[str, list[tuple[Any, ...]]]:
    """The columns, indexes and constraints of a schema."""
    return {
        what: [tuple(row.values()) for row in server.sql(query.format(schema.replace("'", "''")), database)]
        for what, query in (("columns", COLUMNS), ("indexes", INDEXES), ("constraints", CONSTRAINTS))
    }


def registered(server: Server, database: str, schema: str = "public") -> list[dict[str, Any]]:
    """What the table of collections says, but when."""
    rows = server.sql(f'SELECT * FROM "{schema}".preheat_collections ORDER BY name', database)
    return [{column: value for column, value in row.items() if column != "created_at"} for row in rows]
