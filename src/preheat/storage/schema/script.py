"""What the library makes, as a script for those who manage their tables themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..answers import sql as answer_statements
from ..collection import Collection
from ..identifiers import Names, check_schema, literal
from ..models import Metric, VectorType
from . import sql
from .migrations import LATEST, MIGRATIONS
from .sql import HNSW
from .tables import DEFAULT_LANGUAGE

__all__ = ("schema_script",)


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
    """The SQL script that makes a collection just as a storage would, for `psql` or a tool for migrations.

    It is one transaction, and running it again changes nothing. A storage whose role may read and write the tables, and
    nothing more, then works with them.

    Args:
        collection: the collection's name.
        dimensions: the number of dimensions of its vectors.
        metric: the metric that its index serves.
        embedder: the name of the model that the vectors come from; None leaves it to the first who stores with one.
        index: whether it has the indexes of vectors, words and metadata, and how that of the vectors is built.
        schema: the schema that its tables are in, made if it is missing; by default what the search path says.
        vector_type: `"vector"` or `"halfvec"`; by default `"halfvec"` above 2,000 dimensions.
        language: the server's configuration for full text.
        extension: the schema that pgvector is in, or is added to, if that is not on the search path.
        answers: whether it has the table in which answers are kept.

    Raises:
        ArgumentError: if an argument cannot be right.
    """
    described = Collection(
        collection,
        dimensions,
        metric,
        embedder,
        index=index,
        schema=schema,
        vector_type=vector_type,
        language=language,
    )
    names = Names(collection, schema, None if extension is None else check_schema(extension))
    hnsw = None if index is False else described.hnsw
    parts = [
        f"-- Collection {collection} of preheat. Running this again changes nothing.",
        "BEGIN;",
        *_before(names),
    ]
    for migration in MIGRATIONS:
        parts.append(f"\n-- {migration.number}: {migration.title}")
        parts += map(_laid_out, migration.statements(names, dimensions, described.stored_as, language))
    if hnsw is not None:
        parts.append("\n-- the words of the texts, and the indexes that a search uses")
        parts += map(_laid_out, sql.create_indexes(names, metric, described.stored_as, language, hnsw))
    if answers:
        parts.append("\n-- answers that are kept")
        parts += map(_laid_out, answer_statements.create_answers(names))
    parts.append("\n-- what the collection is")
    entry = (collection, dimensions, metric, embedder, described.stored_as, language)
    parts.append(_laid_out(_bound(sql.register_collection(names), *entry)))
    parts.append(_laid_out(_bound(sql.set_version(names), collection, LATEST)))
    return "\n".join([*parts, "COMMIT;", ""])


def _before(names: Names) -> Iterator[str]:
    yield _laid_out(sql.lock_schema())
    if names.extension is not None:
        yield _laid_out(sql.create_schema(names.extension))
    yield _laid_out(sql.create_extension(names.extension))
    if names.schema is not None:
        yield _laid_out(sql.create_schema(names.schema))


_QUOTED = r'"(?:[^"]|"")*"' + r"|'(?:[^']|'')*'"
_PLACEHOLDERS = re.compile(rf"{_QUOTED}|\$(\d+)")
_BREAKS = re.compile(rf"{_QUOTED}|[()]|,? (?=ADD COLUMN|VALUES|ON CONFLICT|USING|WITH \()|, ")


def _bound(statement: str, *values: Any) -> str:
    """A statement with its values written into it."""

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        given = values[int(found[1]) - 1]
        return "NULL" if given is None else str(given) if isinstance(given, int) else literal(given).lstrip()

    return _PLACEHOLDERS.sub(value, statement)


def _laid_out(statement: str) -> str:
    """A statement as a person would write it: columns and clauses on lines of their own."""
    depth = 0
    in_table = statement.startswith("CREATE TABLE")

    def broken(found: re.Match[str]) -> str:
        nonlocal depth
        piece = found[0]
        if piece == "(":
            depth += 1
            return "(\n  " if in_table and depth == 1 else piece
        if piece == ")":
            depth -= 1
            return "\n)" if in_table and depth == 0 else piece
        if piece == ", ":
            is_column = in_table and depth == 1
            return ",\n  " if is_column or statement.startswith("ADD COLUMN", found.end()) else piece
        return "\n  " if piece == " " else piece

    return f"{_BREAKS.sub(broken, statement)};"
