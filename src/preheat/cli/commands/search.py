"""`preheat search`: the chunks that answer a question."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias

import typer

from ...retrieval import ResearchRetriever
from ...storage import Hit, Hits
from ..console import escape, out, run, show
from ..database import open_storage
from ..models import model_of
from ..options import DEFAULT_MODEL, Collection, ModelOption, Reads, json_object

__all__ = ("QueryArgument", "SearchOptions", "search", "show_hits")

QueryArgument: TypeAlias = Annotated[str, typer.Argument(metavar="QUERY", help="A question, or some words.")]


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


def search(
    query: QueryArgument,
    options: SearchOptions,
    where: Collection,
    full: Annotated[bool, typer.Option("--full", help="Show the whole text of each hit.")] = False,
) -> None:
    """Find the chunks that answer a question."""

    async def find() -> Hits:
        async with options.retriever(where) as (retriever, arguments):
            return await retriever.retrieve(query, **arguments)

    is_narrowed = options.filter is not None or options.min_score is not None or bool(options.without)
    as_text = partial(show_hits, query, is_narrowed=is_narrowed, is_full=full)
    show(run(where.backend, find), as_text, json=where.json)


def show_hits(query: str, hits: Sequence[Hit], *, is_narrowed: bool = False, is_full: bool = False) -> None:
    """The hits, best first: score, document and heading; the id, and the ranks of a hybrid search; the text."""
    if not hits:
        reason = (
            "no chunk passes; try fewer of --filter, --min-score and --without"
            if is_narrowed
            else "the collection is empty; fill it with `preheat ingest`"
        )
        out.print(f"nothing found: {reason}")
        return
    from ..hits import lines_of

    out.print(f"[bold]{escape(query)}[/]")
    for hit in hits:
        out.print()
        for line in lines_of(hit, query, is_full=is_full):
            out.print(line, soft_wrap=True)
