"""Explain why a statement on a collection failed: an object is missing, or the role lacks a privilege.

The cause is looked up in the server's catalog after the failure, as the server's messages come in many languages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ...errors import (
    AccessError,
    CollectionBusyError,
    CollectionMismatchError,
    CollectionNotFoundError,
    DatabaseError,
    ExtensionError,
    PreheatError,
)
from ...pools import SQLPool
from ...pools.causes import ASK_THE_OWNER
from ..identifiers import ANSWERS, Identifiers, quoted
from ..sqlstates import (
    BUSY,
    INSUFFICIENT_PRIVILEGE,
    INVALID_NAME,
    NOT_NULL_VIOLATION,
    SOMETHING_IS_MISSING,
    UNDEFINED_COLUMN,
    UNDEFINED_FILE,
    UNDEFINED_FUNCTION,
    UNDEFINED_OBJECT,
    sqlstate,
)
from . import diagnosis_sql as sql
from .tables import Queries, may_not_change

REGISTRY = "preheat_collections"

COLUMNS = ("id", "document", "position", "text", "metadata", "embedding")
"""The columns of every collection's table."""

ANSWER_COLUMNS = ("key", "scope", "embedder", "question", "embedding", "answer", "created_at", "expires_at")
"""The columns of every table of answers."""


@dataclass(frozen=True, slots=True)
class Rights:
    """The privileges that a call needs on the tables of a collection."""

    table: tuple[str, ...] = ("SELECT",)
    registry: tuple[str, ...] = ("SELECT",)
    creates: bool = False
    """Whether the call creates tables."""


READS = Rights()
LISTS = Rights(())
DELETES = Rights(("SELECT", "DELETE"))
CHANGES = Rights(("SELECT", "UPDATE"))
WRITES = Rights(("SELECT", "INSERT", "UPDATE", "DELETE"))
CREATES = Rights((), ("SELECT", "INSERT", "UPDATE", "DELETE"), creates=True)
USES_ANSWERS = Rights(("SELECT", "INSERT", "UPDATE", "DELETE"), ())
CREATES_ANSWERS = Rights((), (), creates=True)


def said(error: BaseException) -> str:
    """The server's message, without a remedy."""
    return error.reason if isinstance(error, DatabaseError) else " ".join(str(error).split())


async def explained(
    pool: SQLPool, error: Exception, *, identifiers: Identifiers, rights: Rights = READS, is_known: bool = False
) -> Exception | None:
    """The error to raise for `error` of a statement on a collection: `error` itself if there is nothing to add; None if
    the collection has not been created yet.

    Args:
        rights: the privileges that the statement needs.
        is_known: whether this storage has used the collection before.
    """
    if isinstance(error, PreheatError) and not _is_raw(error):
        return error
    state = sqlstate(error)
    if state == INSUFFICIENT_PRIVILEGE:
        return await pool.run(partial(access_error, identifiers=identifiers, error=error, rights=rights))
    if state in BUSY:
        reason = f"another transaction is in the way of collection {identifiers.collection!r}"
        words = said(error)
        return CollectionBusyError(f"{reason} ({words})" if words else reason, "try again", sqlstate=state)
    if state == NOT_NULL_VIOLATION and "embedding" in said(error):
        return may_not_change(identifiers)
    if state in SOMETHING_IS_MISSING:
        return await pool.run(partial(missing_error, identifiers=identifiers, error=error, is_known=is_known))
    return error


def _is_raw(error: PreheatError) -> bool:
    """Whether it comes from the pool, which does not know of collections."""
    return type(error) is DatabaseError or (isinstance(error, AccessError) and error.remedy == ASK_THE_OWNER)


# Privileges


async def access_error(
    connection: Queries, *, identifiers: Identifiers, error: Exception, rights: Rights = READS
) -> AccessError:
    """The error for a role that lacks a privilege, with the SQL that grants what this call needs. An operation.

    Args:
        rights: what the call needs.
    """
    relations = [identifiers.table_name, REGISTRY]
    (role,) = await connection.fetch(sql.role(), identifiers.schema)
    tables = await connection.fetch(sql.tables(), relations, identifiers.schema)
    if rights.table and all(table["name"] != identifiers.table_name for table in tables):
        rights = CREATES if rights.registry else CREATES_ANSWERS
    asked = {name: list(needed) for name, needed in zip(relations, (rights.table, rights.registry), strict=True)}
    grants = _schema_grants(role, tables, rights)
    to = f"TO {quoted(role['role'])}"
    for table in tables:
        if lacking := [right for right in asked[table["name"]] if right not in table["rights"]]:
            grants.append(f"GRANT {', '.join(lacking)} ON {_qualified(table)} {to}")
    if not grants and rights.table == WRITES.table:
        # The message names the table in any language: a collection that has no model yet is given one.
        listed = next((table for table in tables if table["name"] == REGISTRY and REGISTRY in said(error)), None)
        if listed is not None and "UPDATE" not in listed["rights"]:
            grants.append(f"GRANT UPDATE ON {_qualified(listed)} {to}")
        elif not role["temporary"]:
            grants.append(f"GRANT TEMPORARY ON DATABASE {quoted(role['database'])} {to}")
    reason = f"the role {role['role']!r} may not do that with collection {identifiers.collection!r} ({said(error)})"
    if grants:
        remedy = f"let an administrator run: {'; '.join(grants)}"
    elif owned := next((table for table in tables if asked[table["name"]] and not table["mine"]), None):
        what = "change the policy of its rows, or run" if owned["has_policies"] else "do it, or run"
        remedy = (
            f"let the owner of {_qualified(owned)}, the role {owned['owner']!r}, {what}: "
            f"GRANT {quoted(owned['owner'])} {to}"
        )
    else:
        remedy = "let an administrator grant this role what the server names"
    return AccessError(reason, remedy, sqlstate=INSUFFICIENT_PRIVILEGE)


def _schema_grants(role: Any, tables: Any, rights: Rights) -> list[str]:
    """The grants on schemas that are missing."""
    to = f"TO {quoted(role['role'])}"
    schema = role["schema"]
    usable = {table["schema"] for table in tables if not table["usage"]}
    grants = []
    if rights.creates:
        if not role["schema_exists"]:
            grants.append(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        if lacking := [right for right, has in (("USAGE", role["usage"]), ("CREATE", role["creates"])) if not has]:
            grants.append(f"GRANT {', '.join(lacking)} ON SCHEMA {quoted(schema)} {to}")
            usable.discard(schema)
    elif role["schema_exists"] and not role["usage"]:
        usable.add(schema)
    if role["extension"] is not None and not role["extension_usage"]:
        usable.add(role["extension"])
    return [*grants, *(f"GRANT USAGE ON SCHEMA {quoted(schema)} {to}" for schema in sorted(usable))]


def _qualified(table: Any) -> str:
    return f"{quoted(table['schema'])}.{quoted(table['name'])}"


# What is missing


async def missing_error(
    connection: Queries, *, identifiers: Identifiers, error: Exception, is_known: bool = False
) -> Exception | None:
    """The error for a collection of which an object is missing; `error` if none is; None if the collection has not been
    created yet. An operation.

    Args:
        error: the error of the statement.
        is_known: whether this storage has used the collection before.
    """
    (found,) = await connection.fetch(sql.found(identifiers))
    if not found["has_table"] and found["unusable"] is not None:
        return await access_error(connection, identifiers=identifiers, error=error)
    is_registered = False
    if identifiers.suffix == ANSWERS and not found["has_table"]:
        return None
    if found["registry"]:
        is_registered = bool(await connection.fetch(sql.is_registered(identifiers), identifiers.collection))
    state = sqlstate(error)
    told = _old_extension(found, error)
    if told is None and not (is_known or is_registered or found["has_table"]):
        return None
    told = told or _missing(identifiers, found, is_registered=is_registered, state=state)
    if told is None:
        return error
    told.sqlstate = state
    return told


INTRODUCED = {"halfvec": "0.7", "l2_normalize": "0.7", "hnsw.iterative_scan": "0.8"}
"""The version of pgvector that has introduced a type, a function or a setting; errors have these names in any
language."""


def _old_extension(found: Any, error: Exception) -> PreheatError | None:
    """The error for a pgvector without a feature that the call needs. The caller has looked for pgvector off the search
    path before."""
    version, state = found["extension"], sqlstate(error)
    if version is None or state not in (UNDEFINED_FUNCTION, UNDEFINED_OBJECT, INVALID_NAME):
        return None
    needed = next((since for name, since in INTRODUCED.items() if name in str(error)), None)
    if needed is None and state != UNDEFINED_FUNCTION:
        return None
    what = "a later version of pgvector" if needed is None else f"pgvector {needed} or later"
    return ExtensionError(
        f"this needs {what}, and the database {found['database']!r} has pgvector {version} ({said(error)}); "
        "install it on the server, and let an administrator run: ALTER EXTENSION vector UPDATE"
    )


def _missing(identifiers: Identifiers, found: Any, *, is_registered: bool, state: str | None) -> PreheatError | None:
    name, database = identifiers.collection, found["database"]
    for_answers = identifiers.suffix == ANSWERS
    gone = [column for column in (ANSWER_COLUMNS if for_answers else COLUMNS) if column not in found["columns"]]
    if found["extension"] is None:
        remedy = "let an administrator run: CREATE EXTENSION vector"
        if found["has_table"] and "embedding" in gone:
            remedy = f"the embeddings went with it: restore them, or drop the collection, and before that {remedy}"
        return ExtensionError(
            f"the database {database!r} has no pgvector any more, which collection {name!r} needs; {remedy}"
        )
    if state == UNDEFINED_FILE:
        return ExtensionError(
            "this PostgreSQL server has lost the files of pgvector; install the pgvector package on the server again"
        )
    if not found["has_table"]:
        what = f"the table {identifiers.table}" if found["has_schema"] else f"the schema {identifiers.schema!r}"
        listed = "the list of collections has it, but " if is_registered else ""
        if found["renamed"] is not None:
            return CollectionNotFoundError(
                f"the table {identifiers.table} of collection {name!r} is called {found['renamed']} now, which its "
                f"indexes tell; let its owner run: ALTER TABLE {found['renamed']} RENAME TO "
                f"{quoted(identifiers.table_name)}"
            )
        elsewhere = f"there is one in {', '.join(found['elsewhere'])}; " if found["elsewhere"] else ""
        return CollectionNotFoundError(
            f"collection {name!r} is gone: {listed}{what} is not in the database {database!r}; {elsewhere}"
            "put it back from where it was moved to or from a backup, or store its chunks again"
        )
    if gone:
        again = (
            f"make it again empty: DROP TABLE {identifiers.table}"
            if for_answers
            else "drop the collection (await storage.drop()) and store its chunks again"
        )
        if gone == ["embedding"] and not for_answers:
            again = f"embed its texts again (preheat reembed), or {again}"
        return CollectionMismatchError(
            f"the table {identifiers.table} of collection {name!r} has no column {', '.join(gone)}, which DROP "
            f"EXTENSION or ALTER TABLE has taken away; restore it from a backup, or {again}"
        )
    if for_answers:
        return None
    if not found["registry"]:
        return CollectionNotFoundError(
            f"the list of collections, {identifiers.registry}, is not in the database {database!r}, though the table "
            f"of collection {name!r} is; restore it from a backup, or make it again: open the storage with the "
            "dimensions and the metric of the collection, and run await storage.create()"
        )
    if state == UNDEFINED_COLUMN and "words" not in found["columns"]:
        return CollectionMismatchError(
            f"collection {name!r} has no index of its words, which a search with words needs; "
            "make it with `await storage.create_index()`"
        )
    return None
