"""`preheat schema`: the SQL that creates a collection, printed or run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from rich.syntax import Syntax

from ...errors import CollectionNotFoundError
from ...pools import open_pool
from ...storage import CollectionInfo, Metric, VectorStorage, check_collection, schema_script
from ...storage import collections as find_collections
from ..console import counted, escape, out, run, show
from ..database import database
from ..models import dimensions_of, model_of
from ..options import DEFAULT_MODEL, Collection, ModelOption, VectorTypeOption

__all__ = ("schema",)


@dataclass(frozen=True, slots=True)
class Definition:
    """The properties of a collection, as far as they are given."""

    dimensions: Annotated[int | None, typer.Option(help="Of the vectors; by default those of the model.")] = None
    metric: Annotated[Metric | None, typer.Option(help="By default cosine.")] = None
    vector_type: VectorTypeOption = None
    language: Annotated[str | None, typer.Option(help="Of the texts; by default english.")] = None
    model: ModelOption = DEFAULT_MODEL
    extension: Annotated[str | None, typer.Option(help="The schema of pgvector, if it is not on the search path.")] = (
        None
    )
    answers: Annotated[bool, typer.Option(help="Create the table of stored answers, too.")] = True


@dataclass(frozen=True, slots=True)
class Script:
    """The SQL that creates a collection."""

    sql: str

    def as_dict(self) -> dict[str, str]:
        """The script for JSON."""
        return {"sql": self.sql}


def schema(
    where: Collection,
    wanted: Definition,
    apply: Annotated[bool, typer.Option("--apply", help="Create the tables, or bring old ones up to date.")] = False,
) -> None:
    """Print the SQL that creates a collection, for databases in which you manage the tables yourself."""

    async def write() -> Script:
        model = None if wanted.dimensions is not None else model_of(wanted.model)
        return Script(
            schema_script(
                where.collection,
                wanted.dimensions or 0 if model is None else await dimensions_of(model),
                metric=wanted.metric or "cosine",
                embedder=None if model is None else model.name,
                schema=where.schema,
                vector_type=wanted.vector_type,
                language=wanted.language or "english",
                extension=wanted.extension,
                answers=wanted.answers,
            )
        )

    if apply:
        show(run(where.backend, lambda: _apply(where, wanted)), _show_applied, json=where.json)
    else:
        show(run(where.backend, write), _show_script, json=where.json)


async def _apply(where: Collection, wanted: Definition) -> CollectionInfo:
    """Create the collection, or bring it up to date as it is, with all indexes."""
    async with database(where) as dsn:
        dimensions, model = wanted.dimensions, None
        if dimensions is None and not await _exists(where, dsn):
            model = model_of(wanted.model)
            dimensions = await dimensions_of(model)
        storage = VectorStorage(
            dsn,
            where.collection,
            dimensions,
            metric=wanted.metric,
            embedder=None if model is None else model.name,
            schema=where.schema,
            vector_type=wanted.vector_type,
            language=wanted.language,
            size=1,
            warm="never",
            **where.pool_options,
        )
        async with storage:
            await storage.create()
            await storage.create_index()
            if wanted.answers:
                await storage.answer_table.create()
        async with open_pool(dsn, size=1, **where.pool_options) as pool:
            infos = await find_collections(pool, where.schema)
    return next(info for info in infos if info.name == where.collection)


async def _exists(where: Collection, dsn: str) -> bool:
    async with open_pool(dsn, size=1, **where.pool_options) as pool:
        try:
            await check_collection(pool, where.collection, where.schema)
        except CollectionNotFoundError:
            return False
        return True


def _show_script(script: Script) -> None:
    """The script, in color on a terminal, and as it is for a pipe or a file."""
    if out.file.isatty():
        out.print(Syntax("", "sql", background_color="default").highlight(script.sql), soft_wrap=True, end="")
    else:
        typer.echo(script.sql, nl=False)


def _show_applied(info: CollectionInfo) -> None:
    out.print(
        f"collection [bold]{escape(info.name)}[/] is there and up to date: {info.dimensions} dimensions, "
        f"{info.metric}, {counted(info.chunks)}"
    )
