"""`preheat search` and `preheat explain`: a question, and how it is put."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ..storage import Hits, Plan, VectorStorage
from .console import database, parse_filter
from .models import model_of

__all__ = ("HybridOption", "MmrOption", "Searching", "WithoutOption")

HybridOption: TypeAlias = Annotated[bool, typer.Option("--hybrid", help="Look for the words of the query, too.")]
WithoutOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--without", help="A word or a phrase that no hit has; may be repeated.", show_default=False),
]
MmrOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--mmr", help="Make hits differ from each other: 1 is relevance alone, 0 novelty alone.", show_default=False
    ),
]


@dataclass(frozen=True, slots=True)
class Searching:
    """A question to a collection."""

    query: str
    k: int
    filter: str | None
    hybrid: bool
    without: Sequence[str]
    mmr: float | None
    collection: str
    schema: str | None
    model: str
    dsn: str | None
    data: Path | None
    min_score: float | None = None

    async def find(self) -> Hits:
        """The hits."""
        async with self._retriever() as (retriever, options):
            hits: Hits = await retriever.retrieve(self.query, self.k, **options)
            return hits

    async def explain(self) -> Plan:
        """How PostgreSQL finds them."""
        async with self._retriever() as (retriever, options):
            plan: Plan = await retriever.explain(self.query, self.k, **options)
            return plan

    @asynccontextmanager
    async def _retriever(self) -> AsyncGenerator[tuple[Any, dict[str, Any]]]:
        from ..retrieval import ResearchRetriever

        options = {
            "filter": parse_filter(self.filter),
            "min_score": self.min_score,
            "hybrid": self.hybrid,
            "without": self.without,
            "mmr": self.mmr,
        }
        embedder = model_of(self.model)
        async with (
            database(self.dsn, self.data) as where,
            VectorStorage(where, self.collection, schema=self.schema, size=1, warm="never") as storage,
        ):
            yield ResearchRetriever(storage, embedder), options
