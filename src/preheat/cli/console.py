"""What all commands share: where output goes, how they end, and which database they use."""

from __future__ import annotations

import getpass
import json
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import anyio
import typer
from rich.console import Console
from rich.markup import escape

from ..embedded import embedded_postgres
from ..errors import ArgumentError, DimensionError, EmbeddedPostgresError, MissingExtraError, PreheatError, describe
from ..storage.filters.tree import Filter, as_filter

T = TypeVar("T")

out: Console = Console(highlight=False)
"""Results: what a pipe or a file wants to have."""
err: Console = Console(stderr=True, highlight=False)
"""Progress, notes and errors: what a person wants to see meanwhile."""

FAILED = 1
"""Exit code: an error, told in a sentence; or something was left out, and named."""
MISUSED = 2
"""Exit code: a wrong command line; nothing was done."""
INTERRUPTED = 130
"""Exit code: Ctrl-C."""


class Backend(StrEnum):
    """The event loops that preheat runs on."""

    asyncio = "asyncio"
    trio = "trio"


DsnOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="PREHEAT_DSN",
        show_envvar=True,
        help="postgresql://user:password@host:port/database; without it, an embedded PostgreSQL is used.",
        show_default=False,
    ),
]
DataOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="PREHEAT_DATA",
        show_envvar=True,
        help="The folder of the embedded PostgreSQL; by default in your user data folder.",
        show_default=False,
    ),
]
CollectionOption: TypeAlias = Annotated[str, typer.Option("--collection", "-c", help="The collection to use.")]
SchemaOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--schema",
        envvar="PREHEAT_SCHEMA",
        show_envvar=True,
        help="The schema that the collections are in; by default what the search path says.",
        show_default=False,
    ),
]
FilterOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--filter",
        help="""Which chunks to look at, by their metadata, as JSON: '{"year": {"$gte": 2020}}'.""",
        show_default=False,
    ),
]
BackendOption: TypeAlias = Annotated[Backend, typer.Option("--backend", help="The event loop to run on.")]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def default_data() -> Path:
    """Where the embedded database of the command line is, unless it is told otherwise."""
    from platformdirs import user_data_path

    try:
        return user_data_path("preheat", appauthor=False) / "postgres"
    except RuntimeError as error:  # a user without a name, as in a container, and no HOME
        raise EmbeddedPostgresError(f"there is no folder for data ({error}); choose one with --data") from error


@asynccontextmanager
async def database(dsn: str | None, data: Path | None) -> AsyncGenerator[str]:
    """The DSN that was given, or that of an embedded PostgreSQL which runs meanwhile."""
    if dsn:
        yield dsn
        return
    folder = data or default_data()
    if data is None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            try:
                user = getpass.getuser()
            except (KeyError, OSError):
                user = "without a name"
            raise EmbeddedPostgresError(
                f"the folder {folder.parent} cannot be made by user {user} ({error.strerror}); "
                "choose another one with --data"
            ) from error
    with err.status(f"starting PostgreSQL in {folder}"):
        manager = embedded_postgres(folder)
        embedded = await manager.__aenter__()
    try:
        yield embedded
    finally:
        await manager.__aexit__(None, None, None)


def run(backend: Backend, command: Callable[[], Awaitable[T]], *, interrupted: str = "interrupted") -> T:
    """Run a command on an event loop; an error of the user's, and Ctrl-C, end it with a sentence.

    Args:
        interrupted: what to say after Ctrl-C.
    """
    options = {"restrict_keyboard_interrupt_to_checkpoints": True} if backend is Backend.trio else {}
    try:
        if backend is Backend.trio and backend not in anyio.get_available_backends():
            raise MissingExtraError("--backend trio", "trio")
        return anyio.run(command, backend=backend.value, backend_options=options)
    except BaseException as raised:
        error = _only(raised)
        if isinstance(error, PreheatError):
            err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
            is_misused = isinstance(error, ArgumentError) and not isinstance(error, DimensionError)
            raise typer.Exit(MISUSED if is_misused else FAILED) from None
        if isinstance(error, KeyboardInterrupt):
            if err.is_terminal:
                err.print()  # after ^C
            err.print(escape(interrupted), soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None
        if not isinstance(error, Exception) or logging.getLogger("preheat").isEnabledFor(logging.DEBUG):
            raise
        err.print(f"[bold red]error:[/] {escape(describe(error))}", soft_wrap=True)
        err.print("set PREHEAT_LOG=debug to see where it comes from")
        raise typer.Exit(FAILED) from None


def _only(error: BaseException) -> BaseException:
    """What an exception group is about: Ctrl-C if that is in it, else its first error."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    interrupt, _ = error.split(KeyboardInterrupt)
    first: BaseException = error if interrupt is None else interrupt
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def parse_filter(text: str | None) -> Filter | None:
    """The filter that an option holds.

    Raises:
        ArgumentError: if it is not JSON, or no filter.
    """
    if text is None:
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"""--filter is not JSON ({error}); give an object, such as '{{"lang": "en"}}'""") from None
    return as_filter(words)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def logging_to_stderr() -> None:
    """With `PREHEAT_LOG=info` or another level, show preheat's log."""
    level = os.environ.get("PREHEAT_LOG", "").upper()
    if level and level not in logging.getLevelNamesMapping():
        err.print(
            f"[bold red]error:[/] PREHEAT_LOG is {level.lower()!r}; set it to info, warning or debug, or unset it"
        )
        raise typer.Exit(MISUSED)
    if not level:
        logging.getLogger("preheat").addHandler(logging.NullHandler())  # the commands say themselves what happened
    else:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("preheat").setLevel(level)
