"""The identifiers of a collection's tables, indexes and types in SQL. They are quoted here and nowhere else.

SQL in this package is triple-quoted text, indented as Python is; :func:`sql_text` takes the indentation away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..errors import ArgumentError
from .models import Metric, VectorType
from .validation import check_text

OPERATORS: dict[Metric, str] = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}
_OPERATOR_CLASSES: dict[Metric, str] = {"cosine": "cosine_ops", "l2": "l2_ops", "inner_product": "ip_ops"}

RESERVED = ("collections", "staging")  # preheat's own tables

LONGEST_IDENTIFIER = 63
"""Bytes; PostgreSQL truncates longer names silently."""

ANSWERS = ".answers"
"""The end of the name of the table of answers."""

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


def check_collection(name: str) -> str:
    """`name` itself if it is a valid name for a collection.

    Raises:
        ArgumentError: if it is not. The names of tables and indexes, which contain it, must fit PostgreSQL's 63 bytes.
    """
    if not _COLLECTION.fullmatch(name) or name in RESERVED:
        raise ArgumentError(
            f"{name!r} is not a name for a collection (nor are {' and '.join(RESERVED)}); "
            "start with a letter and use up to 40 letters, digits, underscores and hyphens"
        )
    return name


def check_schema(name: str) -> str:
    """`name` itself if it is a valid name for a schema.

    Raises:
        ArgumentError: if it is empty or longer than 63 bytes, holds a NUL character, or belongs to the server.
    """
    encoded = check_text("schema", name)
    if not 1 <= len(encoded) <= LONGEST_IDENTIFIER or name.startswith("pg_") or name == "information_schema":
        raise ArgumentError(
            f"{name!r} is not a name for a schema of yours; give one of 1 to {LONGEST_IDENTIFIER} bytes "
            "that does not begin with pg_"
        )
    return name


def check_metric(metric: str) -> Metric:
    """`metric` itself if it is a metric.

    Raises:
        ArgumentError: if it is not.
    """
    if metric not in OPERATORS:
        raise ArgumentError(f"{metric!r} is not a metric; choose one of {', '.join(OPERATORS)}")
    return metric


def quoted(identifier: str) -> str:
    """An identifier as PostgreSQL quotes it."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as PostgreSQL quotes it, whatever `standard_conforming_strings` is. It is for definitions, which have no
    parameters; all other values are bound."""
    text = text.replace("'", "''")
    return " E'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'"


def sql_text(text: str) -> str:
    """A statement, or a part of one, without the indentation that its first line has in Python.

    Lines with less indentation, which come from parts that were dedented before, stay as they are.
    """
    text = text.lstrip("\n")
    margin = len(text) - len(text.lstrip(" "))
    return text[margin:].rstrip().replace("\n" + margin * " ", "\n")


@dataclass(frozen=True, slots=True)
class Identifiers:
    """The identifiers of everything that belongs to one collection.

    The names of its tables and indexes begin with `preheat_` and the collection's name. Those of its indexes and
    further tables have a dot next, which no collection's name contains.
    """

    collection: str
    """The collection's own name."""
    schema: str | None = None
    """The schema of its tables; None for the first one of the search path."""
    extension: str | None = None
    """The schema of pgvector; None if that is on the search path."""
    suffix: str = ""
    """The end of its table's name: empty for the table in use."""

    @property
    def table_name(self) -> str:
        """The bare name of its table."""
        return f"preheat_{self.collection}{self.suffix}"

    @property
    def replacement(self) -> Identifiers:
        """The identifiers of the table that is to replace its table."""
        return replace(self, suffix=".new")

    @property
    def for_answers(self) -> Identifiers:
        """The same, with the table of answers as the table."""
        return replace(self, suffix=ANSWERS)

    @property
    def table_regclass(self) -> str:
        """SQL for the table that has its name when a statement begins, as `regclass`."""
        return f"{literal(self.table)}::regclass"

    @property
    def table(self) -> str:
        """Its table."""
        return self.relation(self.table_name)

    @property
    def answers(self) -> str:
        """The table of its answers."""
        return self.relation(f"{self.table_name}{ANSWERS}")

    @property
    def registry(self) -> str:
        """The table of all collections of the schema."""
        return self.relation("preheat_collections")

    def index(self, name: str) -> str:
        """An index or a constraint of its table in a definition, which creates it in the table's schema."""
        return quoted(f"{self.table_name}.{name}")

    def relation(self, name: str) -> str:
        """A table or an index in its schema."""
        return quoted(name) if self.schema is None else f"{quoted(self.schema)}.{quoted(name)}"

    def regclass_of(self, expression: str) -> str:
        """SQL for the table, as `regclass` or null, of the collection whose name is the value of `expression`."""
        schema = "" if self.schema is None else f"{literal(quoted(self.schema) + '.')} || "
        return f"to_regclass({schema}quote_ident('preheat_' || {expression}))"

    def of_pgvector(self, name: str) -> str:
        """A type, a function, an operator or an operator class of pgvector."""
        return name if self.extension is None else f"{quoted(self.extension)}.{name}"

    def operator(self, metric: Metric) -> str:
        """The operator that gives the distance."""
        operator = OPERATORS[metric]
        return operator if self.extension is None else f"OPERATOR({self.of_pgvector(operator)})"

    def operator_class_name(self, metric: Metric, type: VectorType) -> str:
        """The bare name of the operator class of an index for the metric."""
        return f"{type}_{_OPERATOR_CLASSES[metric]}"

    def operator_class(self, metric: Metric, type: VectorType) -> str:
        """The operator class of an index for the metric."""
        return self.of_pgvector(self.operator_class_name(metric, type))
