"""What `preheat doctor` says about the collections of a database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from ..storage import HNSW
from ..storage.identifiers import Identifiers, quoted
from ..storage.schema import diagnosis_sql
from ..storage.schema.diagnosis import REGISTRY
from ..storage.schema.sql import create_indexes
from ..storage.schema.tables import Queries
from . import doctor_sql as sql
from .checks import Check, Needs

__all__ = ("check_collections",)

READS = ("SELECT",)
WRITES = ("SELECT", "INSERT", "UPDATE", "DELETE")
SERVED = {"embedding": "the vectors", "words": "the words", "metadata": "the metadata"}
"""What each index serves, by the end of its name; in the order in which they are reported."""


async def check_collections(
    connection: Queries, server: Any, needs: Needs, schema: str | None, only: str | None
) -> AsyncIterator[Check]:
    """The rights on the tables of the collections, and their indexes.

    Args:
        server: the row of :func:`preheat.measure.doctor_sql.server`.
        schema: of the collections; None for the default.
        only: the name of the one collection to check; None for all.
    """
    (registry, *_), lacking = await _tables(connection, [REGISTRY], server, needs, schema)
    if registry is None:
        if only is None:
            yield Check("collections", "green", "there are none yet; they are created when something is stored")
        else:
            yield _unknown(only, ())
        return
    if lacking:
        yield lacking[0]
        return
    rows = await connection.fetch(sql.entries(f"{quoted(registry['schema'])}.{quoted(REGISTRY)}"))
    found = [json.loads(row["entry"]) for row in rows]
    wanted = [entry for entry in found if only in (None, entry["name"])]
    if only is not None and not wanted:
        yield _unknown(only, [entry["name"] for entry in found])
    if not found and only is None:
        yield Check("collections", "green", "there are none yet; they are created when something is stored")
    for entry in wanted:
        async for check in _check_one(connection, entry, registry["schema"], server, needs):
            yield check


def _unknown(name: str, known: Sequence[str]) -> Check:
    there = f"there are {', '.join(known)}" if known else "there are no collections"
    return Check(
        f"collection {name}", "red", f"it does not exist; {there}", f"create it: preheat schema --apply -c {name}"
    )


async def _tables(
    connection: Queries, names: list[str], server: Any, needs: Needs, schema: str | None
) -> tuple[list[Any], list[Check]]:
    """The tables with these names, None for one that is missing, and what the role may not do with each."""
    rows = {row["name"]: row for row in reversed(await connection.fetch(diagnosis_sql.tables(), names, schema))}
    checks = []
    for row in rows.values():
        grants = _grants(row, server["role"], needs)
        if grants:
            role = server["role"]
            what = "the list of collections" if row["name"] == REGISTRY else f"the table {row['name']}"
            words = "use" if not needs.writes else "use and change"
            checks.append(
                Check(
                    "rights",
                    "red",
                    f"the role {role!r} may not {words} {what}",
                    "let an administrator grant it",
                    tuple(grants),
                )
            )
    return [rows.get(name) for name in names], checks


def _grants(table: Any, role: str, needs: Needs) -> Iterator[str] | list[str]:
    to = f"TO {quoted(role)}"
    wanted = WRITES if needs.writes else READS
    grants = [] if table["usage"] else [f"GRANT USAGE ON SCHEMA {quoted(table['schema'])} {to}"]
    lacking = [right for right in wanted if right not in table["rights"]]
    if lacking:
        grants.append(f"GRANT {', '.join(lacking)} ON {quoted(table['schema'])}.{quoted(table['name'])} {to}")
    return grants


async def _check_one(
    connection: Queries, entry: dict[str, Any], schema: str, server: Any, needs: Needs
) -> AsyncIterator[Check]:
    name = f"collection {entry['name']}"
    extension = None if server["extension_visible"] else server["extension_schema"]
    identifiers = Identifiers(entry["name"], schema, extension)
    (table,), lacking = await _tables(connection, [identifiers.table_name], server, needs, schema)
    if table is None:
        yield Check(
            name,
            "red",
            f"its table {identifiers.table} is gone",
            f"restore it from a backup, or take it off the list: preheat drop -c {entry['name']}",
        )
        return
    if lacking:
        yield lacking[0]
        return
    rows = await connection.fetch(sql.indexes(), schema, identifiers.table_name)
    is_valid = {row["name"]: row["is_valid"] for row in rows if row["name"] is not None}
    bad = list(_check_indexes(name, identifiers, entry, is_valid))
    for check in bad:
        yield check
    if rows and rows[0]["has_rows"] and not await connection.fetch(sql.is_analyzed(), schema, identifiers.table_name):
        yield Check(
            name,
            "yellow",
            "its table was never analyzed, so the planner guesses which index helps",
            "analyze it",
            (f"ANALYZE {identifiers.table}",),
        )
    elif not bad:
        yield Check(name, "green", f"{len(is_valid)} indexes, all of them valid")


def _check_indexes(
    name: str, identifiers: Identifiers, entry: dict[str, Any], is_valid: dict[str, bool]
) -> Iterator[Check]:
    """Indexes that are invalid or missing."""
    for index, valid in is_valid.items():
        if not valid:
            yield Check(
                name,
                "red",
                f"the index {index!r} is invalid, so no search uses it: its creation was interrupted",
                "build it again",
                (f"REINDEX INDEX {identifiers.relation(index)}",),
            )
    metric, type, language = entry["metric"], entry.get("type", "vector"), entry.get("language", "english")
    statements = create_indexes(identifiers, metric, type, language, HNSW())
    makes = {"words": statements[:2], "metadata": statements[2:3], "embedding": statements[3:4]}
    for end, served in SERVED.items():
        if f"{identifiers.table_name}.{end}" not in is_valid:
            slow = "every search reads all rows" if end == "embedding" else "such a search or filter reads all rows"
            yield Check(
                name,
                "red" if end == "embedding" else "yellow",
                f"the index of {served} is missing: {slow}",
                f"create it: preheat schema --apply -c {entry['name']}",
                makes[end],
            )
