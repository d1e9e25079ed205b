"""The commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..storage import VectorStorage, collections
from . import views
from .console import (
    FAILED,
    SKIPPED,
    Backend,
    BackendOption,
    CollectionOption,
    DataOption,
    DsnOption,
    FilterOption,
    JsonOption,
    database,
    logging_to_stderr,
    print_json,
    run,
)
from .demo import Demo
from .ingest import Ingest
from .searching import HybridOption, MmrOption, Searching

app = typer.Typer(
    name="preheat",
    help="Warm connection pools, and store and search texts in PostgreSQL, on asyncio and trio.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"preheat {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    logging_to_stderr()


@app.command()
def demo(
    dsn: DsnOption = None, data: DataOption = None, backend: BackendOption = Backend.asyncio, json: JsonOption = False
) -> None:
    """Store the Python language reference, ask it questions, and time first answers cold and warmed."""
    report = run(backend, Demo(dsn, data, quiet=json).run)
    if json:
        print_json({"backend": backend.value, **report.as_dict()})
    else:
        views.show_first_answers(report)


@app.command()
def ingest(
    paths: Annotated[
        list[Path], typer.Argument(help="Files, and folders to look through for text and Markdown.", show_default=False)
    ],
    collection: CollectionOption = "documents",
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Store texts: cut them into chunks, embed them and put them into a collection.

    A file that cannot be read as text is named and skipped; the exit code is then 3. A file that was stored before is
    replaced.
    """
    report = run(backend, Ingest(paths, collection, dsn, data).run)
    if json:
        print_json(report.as_dict())
    else:
        views.show_ingest(report)
    if report.skipped:
        raise typer.Exit(SKIPPED)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A question, or some words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 5,
    filter: FilterOption = None,
    hybrid: HybridOption = False,
    mmr: MmrOption = None,
    min_score: Annotated[float | None, typer.Option(help="The least score of a hit.", show_default=False)] = None,
    collection: CollectionOption = "documents",
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Find the chunks that answer a question."""
    asked = Searching(query, k, filter, hybrid, mmr, collection, dsn, data, min_score)
    hits = run(backend, asked.find)
    if json:
        print_json([hit.as_dict() for hit in hits])
    else:
        excluding = hybrid and " -" in f" {query}"
        narrowed = filter is not None or min_score is not None or excluding
        views.show_hits(query, hits, narrowed=narrowed, hybrid=hybrid)


@app.command()
def explain(
    query: Annotated[str, typer.Argument(help="A question, or some words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 5,
    filter: FilterOption = None,
    hybrid: HybridOption = False,
    mmr: MmrOption = None,
    collection: CollectionOption = "documents",
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Show how PostgreSQL runs a search: which index serves it, and what each step takes."""
    plan = run(backend, Searching(query, k, filter, hybrid, mmr, collection, dsn, data).explain)
    if json:
        print_json(plan.as_dict())
    else:
        views.show_plan(plan)


@app.command()
def warm(
    connections: Annotated[int | None, typer.Option(help="How many connections; by default at most 3.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for the whole warm-up.")] = 5.0,
    size: Annotated[int, typer.Option(help="The size of the pool.")] = 10,
    collection: CollectionOption = "documents",
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Warm a pool once and report on each connection; exit code 1 unless all are hot."""

    async def command() -> views.WarmReport | None:
        async with database(dsn, data) as where:
            storage = VectorStorage(
                where, collection, size=size, warm="never", warm_connections=connections, warm_timeout=timeout
            )
            async with storage:
                await storage.warm_pool()
                return storage.warm_report

    report = run(backend, command)
    if report is not None:
        if json:
            print_json(report.as_dict())
        else:
            views.show_warm_report(report)
    if report is None or not report.ok:
        raise typer.Exit(FAILED)


@app.command(name="collections")
def list_collections(
    dsn: DsnOption = None, data: DataOption = None, backend: BackendOption = Backend.asyncio, json: JsonOption = False
) -> None:
    """List the collections of a database."""

    async def command() -> list[views.CollectionInfo]:
        async with database(dsn, data) as where:
            return await collections(where)

    infos = run(backend, command)
    if json:
        print_json([info.as_dict() for info in infos])
    else:
        views.show_collections(infos)


__all__ = ("app",)
