"""The options of the commands. Each option is declared once; records of options go down to what uses them."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

import typer

from ..errors import ArgumentError
from ..pools import prepare_of
from ..storage import ReadFrom, VectorType
from .console import Backend

__all__ = (
    "DEFAULT_COLLECTION",
    "DEFAULT_MODEL",
    "Collection",
    "Database",
    "ModelOption",
    "Reads",
    "Schema",
    "VectorTypeOption",
    "YesOption",
    "json_object",
    "spread",
)

DEFAULT_COLLECTION = "documents"
DEFAULT_MODEL = "wordllama"

ModelOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="PREHEAT_MODEL",
        help="The model for texts: wordllama, wordllama:128, wordllama:64, model2vec:NAME, fastembed:NAME, "
        "sentence-transformers:NAME or openai:NAME.",
    ),
]
VectorTypeOption: TypeAlias = Annotated[
    VectorType | None, typer.Option("--vector-type", help="How vectors are stored; by default as they are.")
]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


@dataclass(frozen=True, slots=True)
class Database:
    """Which database a command uses, on which event loop, and how the command prints its result."""

    dsn: Annotated[
        str | None,
        typer.Option(
            envvar="PREHEAT_DSN",
            help="postgresql://user:password@host:port/database; by default DATABASE_URL, unless --data is given, or "
            "an embedded PostgreSQL.",
        ),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PREHEAT_DATA",
            help="The folder of the embedded PostgreSQL; by default in your user data folder.",
        ),
    ] = None
    connect_timeout: Annotated[
        float | None,
        typer.Option(envvar="PREHEAT_CONNECT_TIMEOUT", help="Seconds for a connection; by default 10."),
    ] = None
    acquire_timeout: Annotated[
        float | None,
        typer.Option(envvar="PREHEAT_ACQUIRE_TIMEOUT", help="Seconds to wait for a connection; by default 30."),
    ] = None
    statement_timeout: Annotated[
        float | None,
        typer.Option(envvar="PREHEAT_STATEMENT_TIMEOUT", help="Seconds for one statement; by default 60 for a search."),
    ] = None
    max_waiting: Annotated[
        int | None,
        typer.Option(envvar="PREHEAT_MAX_WAITING", help="How many may wait for a connection; by default any number."),
    ] = None
    prepare: Annotated[
        str | None,
        typer.Option(
            envvar="PREHEAT_PREPARE", help="Prepare statements under a name: auto, true or false; by default auto."
        ),
    ] = None
    backend: Annotated[Backend, typer.Option(help="The event loop to run on.")] = Backend.asyncio
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False

    @property
    def url(self) -> str | None:
        """The DSN to use: the given one, or DATABASE_URL unless a folder was given; None for an embedded PostgreSQL."""
        return self.dsn or (None if self.data else os.environ.get("DATABASE_URL")) or None

    @property
    def bounds(self) -> dict[str, Any]:
        """The time limits, as arguments of what opens a pool."""
        names = ("connect_timeout", "acquire_timeout", "statement_timeout")
        return {name: getattr(self, name) for name in names}

    @property
    def pool_options(self) -> dict[str, Any]:
        """The options of a pool, as arguments of what opens one.

        Raises:
            ArgumentError: if `prepare` is not one of its values.
        """
        prepare = None
        if self.prepare is not None:
            try:
                prepare = prepare_of(self.prepare)
            except ValueError:
                raise ArgumentError(f"--prepare is {self.prepare!r}; give auto, true or false") from None
        return {**self.bounds, "max_waiting": self.max_waiting, "prepare": prepare}


@dataclass(frozen=True, slots=True)
class Schema(Database):
    """Which schema of a database has the collections."""

    schema: Annotated[
        str | None,
        typer.Option(
            envvar="PREHEAT_SCHEMA",
            help="The schema of the collections; by default the search path decides.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Collection(Schema):
    """Which collection a command uses."""

    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to use.")] = DEFAULT_COLLECTION


@dataclass(frozen=True, slots=True)
class Reads:
    """Which servers searches go to."""

    read_from: Annotated[
        ReadFrom | None,
        typer.Option(
            envvar="PREHEAT_READ_FROM",
            help="The server for searches: primary, or replica for a standby among the hosts of the DSN.",
        ),
    ] = None
    max_replica_lag: Annotated[
        float | None,
        typer.Option(envvar="PREHEAT_MAX_REPLICA_LAG", help="Seconds by which a replica may lag; by default any time."),
    ] = None

    @property
    def read_options(self) -> dict[str, Any]:
        """The options as arguments of a storage."""
        return {"read_from": self.read_from, "max_replica_lag": self.max_replica_lag}


def spread(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose parameters may be records: each field becomes an option of its own.

    Typer builds the options of a command from the signature of a function, and knows no records. So it is given a
    signature in which the fields stand in place of their record, those of a derived class first.
    """
    hints = get_type_hints(function, include_extras=True)
    records: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if is_dataclass(hint):
            records[parameter.name] = hint
            parameters += _options(hint)
        else:
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

    def command(**given: Any) -> None:
        for name, record in records.items():
            given[name] = record(**{field.name: given.pop(field.name) for field in fields(record)})
        function(**given)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _options(record: Any) -> Iterator[inspect.Parameter]:
    """The fields of a record as parameters."""
    hints = get_type_hints(record, include_extras=True)
    known = {field.name: field for field in fields(record)}
    for owner in inspect.getmro(record):
        for name in inspect.get_annotations(owner):
            default = inspect.Parameter.empty if known[name].default is MISSING else known[name].default
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object in the value of an option.

    Raises:
        ArgumentError: if the value is not a JSON object.
    """
    example = """give an object, such as '{"lang": "en"}'"""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{option} is not JSON ({error}); {example}") from None
    if not isinstance(value, dict):
        raise ArgumentError(f"{option} is {text:.200}; {example}")
    return value
