"""The tables of a collection as an SQL script, for users who manage their tables themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from .answers.sql import create_answers
from .identifiers import Identifiers, check_schema, literal
from .models import Metric, VectorType
from .schema import sql
from .schema.collection import Collection
from .schema.migrations import LATEST, MIGRATIONS
from .schema.sql import HNSW
from .schema.tables import DEFAULT_LANGUAGE


def schema_script(
    collection: str,
    dimensions: int,
    *,
    metric: Metric = "cosine",
    embedder: str | None = None,
    index: bool | HNSW = True,
    schema: str | None = None,
    vector_type: VectorType | None = None,
    language: str = DEFAULT_LANGUAGE,
    extension: str | None = None,
    answers: bool = True,
) -> str:
    """The SQL script that creates a collection as a storage would, for `psql` or a migration tool.

    It is one transaction, and running it again changes nothing. After it, a storage works with a role that may only
    read and write the tables.

    Args:
        collection: the collection's name.
        dimensions: the number of dimensions of its vectors.
        metric: the metric that its index serves.
        embedder: the name of the model that the vectors come from; None leaves it to the first storage with a model.
        index: whether it has the indexes of vectors, words and metadata, and how that of the vectors is built.
        schema: the schema of its tables, created if it is missing; by default the first one of the search path.
        vector_type: `"vector"` or `"halfvec"`; by default `"halfvec"` above 2,000 dimensions.
        language: the server's configuration for full text.
        extension: the schema of pgvector, if that is not on the search path.
        answers: whether it has the table of answers.

    Raises:
        ArgumentError: if an argument is invalid.
    """
    described = Collection(
        collection,
        dimensions,
        metric,
        index=index,
        schema=schema,
        vector_type=vector_type,
        language=language,
    )
    identifiers = Identifiers(collection, schema, None if extension is None else check_schema(extension))
    hnsw = None if index is False else described.hnsw
    entry = (collection, dimensions, metric, embedder, described.stored_as, language)
    sections = [
        f"-- Collection {collection} of preheat. Running this again changes nothing.\nBEGIN;",
        _section("", _before(identifiers)),
    ]
    for migration in MIGRATIONS:
        statements = migration.statements(identifiers, dimensions, described.stored_as, language)
        sections.append(_section(f"{migration.number}: {migration.title}", statements))
    if hnsw is not None:
        statements = sql.create_indexes(identifiers, metric, described.stored_as, language, hnsw)
        sections.append(_section("the words of the texts, and the indexes that a search uses", statements))
    if answers:
        sections.append(_section("answers that are kept", create_answers(identifiers)))
    registered = (
        _bound(sql.register_collection(identifiers), *entry),
        _bound(sql.set_version(identifiers), collection, LATEST),
    )
    sections.append(_section("what the collection is", registered))
    return "\n".join([*sections, "COMMIT;", ""])


def _before(identifiers: Identifiers) -> Iterator[str]:
    yield sql.lock_schema()
    if identifiers.extension is not None:
        yield sql.create_schema(identifiers.extension)
    yield sql.create_extension(identifiers.extension)
    if identifiers.schema is not None:
        yield sql.create_schema(identifiers.schema)


def _section(title: str, statements: Iterable[str]) -> str:
    lines = [f"\n-- {title}"] if title else []
    return "\n".join([*lines, *(f"{statement};" for statement in statements)])


_PLACEHOLDERS = re.compile(r'"(?:[^"]|"")*"' + r"|'(?:[^']|'')*'" + r"|\$(\d+)")
"""A placeholder; or a quoted identifier or text, in which there is none."""


def _bound(statement: str, *values: Any) -> str:
    """A statement with its values written into it."""

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        given = values[int(found[1]) - 1]
        return "NULL" if given is None else str(given) if isinstance(given, int) else literal(given).lstrip()

    return _PLACEHOLDERS.sub(value, statement)
