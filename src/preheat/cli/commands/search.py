"""`preheat search`: the chunks that answer a question."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias

import typer
from rich.markup import escape
from rich.table import Table

from ...retrieval import ResearchRetriever
from ...storage import Hit, Hits
from ..console import out, run, show
from ..database import open_storage
from ..models import model_of
from ..options import DEFAULT_MODEL, Collection, ModelOption, Reads, json_object

__all__ = ("QueryArgument", "SearchOptions", "search", "show_hits")

QueryArgument: TypeAlias = Annotated[str, typer.Argument(help="A question, or some words.")]


@dataclass(frozen=True, slots=True)
class SearchOptions(Reads):
    """How a question is put to a collection."""

    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 5
    filter: Annotated[
        str | None,
        typer.Option(
            help="""Search only chunks whose metadata pass, as JSON: '{"year": {"$gte": 2020}}'.""", show_default=False
        ),
    ] = None
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Look for the words of the query, too.")] = False
    without: Annotated[
        list[str] | None,
        typer.Option(help="A word or a phrase that no hit may have; may be repeated."),
    ] = None
    mmr: Annotated[
        float | None,
        typer.Option(help="Make hits differ from each other: 1 is relevance alone, 0 novelty alone."),
    ] = None
    min_score: Annotated[float | None, typer.Option(help="The minimum score of a hit.")] = None
    model: ModelOption = DEFAULT_MODEL

    @asynccontextmanager
    async def retriever(self, where: Collection) -> AsyncGenerator[tuple[ResearchRetriever, dict[str, Any]]]:
        """The retriever to ask, and the arguments of its methods after the query."""
        arguments = {
            "k": self.k,
            "filter": None if self.filter is None else json_object("--filter", self.filter),
            "min_score": self.min_score,
            "hybrid": self.hybrid,
            "without": self.without or (),
            "mmr": self.mmr,
        }
        embedder = model_of(self.model)
        async with open_storage(where, **self.read_options) as storage:
            yield ResearchRetriever(storage, embedder), arguments


def search(query: QueryArgument, options: SearchOptions, where: Collection) -> None:
    """Find the chunks that answer a question."""

    async def find() -> Hits:
        async with options.retriever(where) as (retriever, arguments):
            return await retriever.retrieve(query, **arguments)

    is_narrowed = options.filter is not None or options.min_score is not None or bool(options.without)
    as_table = partial(show_hits, query, is_narrowed=is_narrowed, is_hybrid=options.hybrid)
    show(run(where.backend, find), as_table, json=where.json)


def show_hits(query: str, hits: Sequence[Hit], *, is_narrowed: bool = False, is_hybrid: bool = False) -> None:
    """One row for each hit, best first; a hybrid search shows both ranks."""
    if not hits:
        reason = (
            "no chunk passes; try fewer of --filter, --min-score and --without"
            if is_narrowed
            else "the collection is empty; fill it with `preheat ingest`"
        )
        out.print(f"nothing found: {reason}")
        return
    table = Table(title=escape(query), title_justify="left", title_style="bold", expand=True)
    for column in ("score", "vector", "words") if is_hybrid else ("score",):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("document", overflow="fold", max_width=out.width // 3)
    table.add_column("text", ratio=1)
    for hit in hits:
        ranks = [str(rank or "") for rank in (hit.vector_rank, hit.text_rank)] if is_hybrid else []
        score = f"{hit.score:.{4 if is_hybrid else 3}f}"
        table.add_row(score, *ranks, escape(hit.document), escape(_snippet(hit.text)))
    out.print(table)


def _snippet(text: str, characters: int = 240) -> str:
    text = " ".join(text.split())
    return text if len(text) <= characters else text[: characters - 1].rsplit(" ", 1)[0] + " …"
