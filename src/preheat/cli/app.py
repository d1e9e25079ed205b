"""The command line: each command is a function in its own file, which is imported when the command is used."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ("COMMANDS", "app")

COMMANDS = {
    "demo": "Time first answers, cold and warmed.",
    "ingest": "Store the texts of files and folders.",
    "search": "Find the chunks that answer a question.",
    "explain": "Show how PostgreSQL runs a search.",
    "delete": "Delete chunks.",
    "clear": "Delete all chunks of a collection.",
    "drop": "Drop a collection.",
    "warm": "Warm a pool, and report.",
    "measure": "Show what takes time in a first answer.",
    "doctor": "Check a database, and say what to do.",
    "collections": "List the collections of a database.",
    "serve": "Keep an embedded PostgreSQL running.",
    "info": "Show the database, and versions.",
    "schema": "Print the SQL that creates a collection.",
    "reembed": "Embed a collection with another model.",
}
"""The commands, in the order of the help text, each in a few words."""

SETTINGS = {"help_option_names": ["-h", "--help"]}


class _Command(TyperCommand):
    """Stands for a command until it is used."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return _loaded(str(self.name)).make_context(info_name, args, parent, **extra)


class _Commands(TyperGroup):
    """All commands. Listing and completing their names imports none of them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, sentence in COMMANDS.items():
            self.add_command(_Command(name, callback=None, help=sentence))


@cache
def _loaded(name: str) -> Any:
    """The command itself, made of the function of this name."""
    from .options import spread

    function = getattr(import_module(f".commands.{name}", __package__), name)
    alone = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=SETTINGS
    )
    alone.command(name)(spread(function))
    return typer.main.get_command(alone)


app: typer.Typer = typer.Typer(
    name="preheat",
    cls=_Commands,
    help="Warm connection pools, and store and search texts in PostgreSQL, on asyncio and trio.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from .. import __version__

        typer.echo(f"preheat {__version__}")
        raise typer.Exit


@app.callback()
def _before_every_command(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    from .console import log_to_stderr

    log_to_stderr()
