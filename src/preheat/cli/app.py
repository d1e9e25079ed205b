"""The command line: each command is a function in its own file, and is registered here."""

from __future__ import annotations

from typing import Annotated

import typer

from .commands.clear import clear
from .commands.collections import collections
from .commands.delete import delete
from .commands.demo import demo
from .commands.doctor import doctor
from .commands.drop import drop
from .commands.explain import explain
from .commands.ingest import ingest
from .commands.measure import measure
from .commands.reembed import reembed
from .commands.schema import schema
from .commands.search import search
from .commands.warm import warm
from .console import log_to_stderr
from .options import spread

__all__ = ("app",)

app: typer.Typer = typer.Typer(
    name="preheat",
    help="Warm connection pools, and store and search texts in PostgreSQL, on asyncio and trio.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_COMMANDS = (demo, ingest, search, explain, delete, clear, drop, warm, measure, doctor, collections, schema, reembed)
for _command in _COMMANDS:
    app.command()(spread(_command))


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
    log_to_stderr()
