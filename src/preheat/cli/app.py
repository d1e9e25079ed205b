"""The commands."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ..retrieval import FileFormat
from ..storage import Metric, VectorStorage, VectorType, collections
from ..storage.schema.catalog import check_collection
from . import views
from .console import (
    FAILED,
    Backend,
    BackendOption,
    CollectionOption,
    DataOption,
    DsnOption,
    FilterOption,
    JsonOption,
    SchemaOption,
    database,
    logging_to_stderr,
    parse_filter,
    print_json,
    run,
)
from .delete import Delete, Deleted, Empty, YesOption
from .demo import Demo
from .ingest import Ingest, Ingested
from .models import DEFAULT_MODEL, ModelOption
from .reembed import Reembed
from .schema import Schema
from .searching import HybridOption, MmrOption, Searching, WithoutOption
from .sources import parse_metadata
from .sync import DryRunOption, SyncOption

NOT_DELETED = "interrupted: nothing was deleted, unless the answer was yes"

app: typer.Typer = typer.Typer(
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
        list[str],
        typer.Argument(
            help="Files, folders to look through, globs such as 'docs/**/*.md', or - for standard input.",
            show_default=False,
        ),
    ],
    collection: CollectionOption = "documents",
    schema: SchemaOption = None,
    model: ModelOption = DEFAULT_MODEL,
    name: Annotated[
        str | None, typer.Option(help="The key of what comes on standard input; by default stdin.", show_default=False)
    ] = None,
    format: Annotated[
        FileFormat | None,
        typer.Option(help="What standard input is, and files whose name does not tell.", show_default=False),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            help="""What each chunk is given to be filtered by, as JSON: '{"lang": "en"}'.""", show_default=False
        ),
    ] = None,
    sync: SyncOption = False,
    dry_run: DryRunOption = False,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Store texts, HTML, PDF, Office documents, books and notebooks: cut into chunks, embedded, in a collection.

    A file that cannot be stored is named, with the reason, and all others are stored; the exit code is then 1. Of a
    file that was stored before only what has changed is embedded and written, so that the same again completes what
    broke off.
    """

    async def command() -> Ingested:
        return await Ingest(
            paths,
            collection,
            dsn,
            data,
            schema=schema,
            model=model,
            name=name,
            format=format,
            metadata=parse_metadata(metadata),
            sync=sync,
            dry_run=dry_run,
        ).run()

    report = run(backend, command, interrupted="interrupted: what is stored stays; run the same command again to go on")
    if json:
        print_json(report.as_dict())
    else:
        views.show_ingest(report)
    if not report.is_complete:
        raise typer.Exit(FAILED)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A question, or some words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 5,
    filter: FilterOption = None,
    hybrid: HybridOption = False,
    without: WithoutOption = None,
    mmr: MmrOption = None,
    min_score: Annotated[float | None, typer.Option(help="The least score of a hit.", show_default=False)] = None,
    collection: CollectionOption = "documents",
    schema: SchemaOption = None,
    model: ModelOption = DEFAULT_MODEL,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Find the chunks that answer a question."""
    asked = Searching(query, k, filter, hybrid, without or (), mmr, collection, schema, model, dsn, data, min_score)
    hits = run(backend, asked.find)
    if json:
        print_json([hit.as_dict() for hit in hits])
    else:
        narrowed = filter is not None or min_score is not None or bool(without)
        views.show_hits(query, hits, narrowed=narrowed, hybrid=hybrid)


@app.command()
def explain(
    query: Annotated[str, typer.Argument(help="A question, or some words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 5,
    filter: FilterOption = None,
    hybrid: HybridOption = False,
    without: WithoutOption = None,
    mmr: MmrOption = None,
    collection: CollectionOption = "documents",
    schema: SchemaOption = None,
    model: ModelOption = DEFAULT_MODEL,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Show how PostgreSQL runs a search: which index serves it, and what each step takes."""
    asked = Searching(query, k, filter, hybrid, without or (), mmr, collection, schema, model, dsn, data)
    plan = run(backend, asked.explain)
    if json:
        print_json(plan.as_dict())
    else:
        views.show_plan(plan)


@app.command()
def delete(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[IDS]...", help="The ids of chunks.", show_default=False)
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", "-d", help="Delete all chunks of this document.", show_default=False)
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(help="""Delete what passes, by its metadata, as JSON: '{"lang": "en"}'.""", show_default=False),
    ] = None,
    yes: YesOption = False,
    collection: CollectionOption = "documents",
    schema: SchemaOption = None,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Delete chunks by their ids, their document or their metadata. It says how many there are, and asks.

    The exit code is 1 if the answer is no, or nobody is there to give one.
    """

    async def command() -> Deleted:
        return await Delete(ids, document, parse_filter(filter), collection, dsn, data, schema=schema, sure=yes).run()

    _show_deleted(run(backend, command, interrupted=NOT_DELETED), json=json)


@app.command()
def clear(
    yes: YesOption = False,
    collection: CollectionOption = "documents",
    schema: SchemaOption = None,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Delete all chunks of a collection; the collection stays. It says how many there are, and asks.

    The exit code is 1 if the answer is no, and 2 if there is no terminal to ask on and no --yes.
    """
    _show_deleted(
        run(backend, Empty("clear", collection, dsn, data, schema, yes).run, interrupted=NOT_DELETED), json=json
    )


@app.command()
def drop(
    yes: YesOption = False,
    collection: CollectionOption = "documents",
    schema: SchemaOption = None,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Drop a collection: its chunks, its tables and the answers that it keeps. It says how much there is, and asks.

    The exit code is 1 if the answer is no, and 2 if there is no terminal to ask on and no --yes.
    """
    _show_deleted(
        run(backend, Empty("drop", collection, dsn, data, schema, yes).run, interrupted=NOT_DELETED), json=json
    )


def _show_deleted(done: Deleted, *, json: bool) -> None:
    if json:
        print_json(done.as_dict())
    else:
        views.show_delete(done)
    if done.declined:
        raise typer.Exit(FAILED)


@app.command()
def warm(
    context: typer.Context,
    connections: Annotated[int | None, typer.Option(help="How many connections; by default at most 3.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for the whole warm-up.")] = 5.0,
    size: Annotated[int, typer.Option(help="The size of the pool.")] = 10,
    collection: CollectionOption = "documents",
    schema: SchemaOption = None,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Warm a pool once and report on each connection; exit code 1 unless all are hot, and the collection is there."""
    source = context.get_parameter_source("collection")
    is_named = source is not None and source.name != "DEFAULT"

    async def command() -> views.WarmReport | None:
        async with database(dsn, data) as where:
            storage = VectorStorage(
                where,
                collection,
                schema=schema,
                size=size,
                warm="never",
                warm_connections=connections,
                warm_timeout=timeout,
            )
            async with storage:
                await storage.warm_pool()
                if storage.warm_report is not None and storage.warm_report.ok and is_named:
                    await check_collection(storage.pool, collection, schema)
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
    schema: SchemaOption = None,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """List the collections of a database."""

    async def command() -> list[views.CollectionInfo]:
        async with database(dsn, data) as where:
            return await collections(where, schema)

    infos = run(backend, command)
    if json:
        print_json([info.as_dict() for info in infos])
    else:
        views.show_collections(infos)


@app.command()
def schema(
    collection: CollectionOption = "documents",
    dimensions: Annotated[
        int | None,
        typer.Option(help="Of the vectors; by default those of the model.", show_default=False),
    ] = None,
    metric: Annotated[Metric | None, typer.Option(help="By default cosine.", show_default=False)] = None,
    vector_type: Annotated[
        VectorType | None, typer.Option(help="By default vector up to 2,000 dimensions.", show_default=False)
    ] = None,
    language: Annotated[str | None, typer.Option(help="Of the texts; by default english.", show_default=False)] = None,
    model: ModelOption = DEFAULT_MODEL,
    schema: SchemaOption = None,
    extension: Annotated[
        str | None,
        typer.Option(help="The schema of pgvector, if it is off the search path.", show_default=False),
    ] = None,
    answers: Annotated[bool, typer.Option(help="With the table of answers that are kept.")] = True,
    apply: Annotated[bool, typer.Option("--apply", help="Make the tables, or bring old ones up to date.")] = False,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
) -> None:
    """Print the SQL that makes a collection, for those who manage their tables themselves."""
    wanted = Schema(collection, schema, model, dimensions, metric, vector_type, language, extension, answers=answers)
    if apply:
        views.show_applied(run(backend, partial(wanted.apply, dsn, data)))
    else:
        views.show_sql(run(backend, wanted.script))


@app.command()
def reembed(
    collection: CollectionOption = "documents",
    model: ModelOption = DEFAULT_MODEL,
    vector_type: Annotated[
        VectorType | None, typer.Option(help="How vectors are stored; by default as before.", show_default=False)
    ] = None,
    schema: SchemaOption = None,
    dsn: DsnOption = None,
    data: DataOption = None,
    backend: BackendOption = Backend.asyncio,
    json: JsonOption = False,
) -> None:
    """Embed a collection with another model, while it is searched and written to; an interrupted run is taken up."""
    report = run(backend, Reembed(collection, schema, model, vector_type, dsn, data).run)
    if json:
        print_json(report.as_dict())
    else:
        views.show_reembed(report)


__all__ = ("app",)
