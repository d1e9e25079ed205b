"""`preheat demo`: a real corpus, a few questions, and what the first answer costs cold and warmed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from ..retrieval import ResearchRetriever, WordLlamaEmbedder
from ..storage import Hit, VectorStorage
from ..warming import warm
from . import views
from .console import database
from .ingest import progress_bar

__all__ = ("COLLECTION", "QUESTIONS", "Demo", "FirstAnswers")

COLLECTION = "python-reference"
QUESTIONS = (
    "What does a decorator do to a function?",
    "When is an object garbage collected?",
    "What happens when an exception is not caught?",
)
ROUNDS = 7
STEADY_ANSWERS = 20


@dataclass(frozen=True, slots=True)
class FirstAnswers:
    """Seconds to the first answer of a fresh pool, the median of several pools each."""

    documents: int
    """How many documents were stored."""
    chunks: int
    """How many chunks they gave."""
    store_seconds: float
    """Seconds that storing them took."""
    rounds: int
    """How many fresh pools each figure is the median of."""
    cold: float
    """Without a warm-up."""
    after_ping: float
    """After `SELECT 1` on each connection."""
    after_warm_up: float
    """After the real search on each connection."""
    steady: float
    """Each further answer."""
    warm_up: float
    """What a full warm-up itself takes, ahead of the first user."""

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON, in seconds, and how many times steady each first answer takes."""
        return {
            "documents": self.documents,
            "chunks": self.chunks,
            "store_seconds": self.store_seconds,
            "rounds": self.rounds,
            "first_answer_seconds": {
                "cold": self.cold,
                "after_select_1": self.after_ping,
                "after_warm_up": self.after_warm_up,
            },
            "steady_seconds": self.steady,
            "warm_up_seconds": self.warm_up,
            "times_steady": {
                "cold": self.cold / self.steady,
                "after_select_1": self.after_ping / self.steady,
                "after_warm_up": self.after_warm_up / self.steady,
            },
        }


class Demo:
    """One run of the command."""

    def __init__(self, dsn: str | None, data: Path | None, *, quiet: bool) -> None:
        self._dsn = dsn
        self._data = data
        self._quiet = quiet
        self._embedder = WordLlamaEmbedder()

    async def run(self) -> FirstAnswers:
        """Store, ask, measure."""
        async with database(self._dsn, self._data) as dsn:
            documents, chunks, seconds = await self._store(dsn)
            await self._ask(dsn)
            return await self._measure(dsn, documents, chunks, seconds)

    async def _store(self, dsn: str) -> tuple[int, int, float]:
        from pydoc_data.topics import topics

        started = perf_counter()
        chunks = 0
        async with VectorStorage(dsn, COLLECTION, self._embedder.dimensions, size=2, warm="never") as storage:
            retriever = ResearchRetriever(storage, self._embedder)
            with progress_bar() as progress:
                task = progress.add_task("storing the Python language reference", total=len(topics))
                for topic, text in topics.items():
                    chunks += await retriever.add(topic, text)
                    progress.advance(task)
        return len(topics), chunks, perf_counter() - started

    async def _ask(self, dsn: str) -> None:
        async with self._storage(dsn) as storage:
            retriever = ResearchRetriever(storage, self._embedder)
            for question in QUESTIONS:
                hits = await retriever.retrieve(question, 3)
                if not self._quiet:
                    views.show_hits(question, hits)

    async def _measure(self, dsn: str, documents: int, chunks: int, store_seconds: float) -> FirstAnswers:
        cold: list[float] = []
        after_ping: list[float] = []
        after_warm_up: list[float] = []
        steady: list[float] = []
        warm_up: list[float] = []
        with progress_bar() as progress:
            task = progress.add_task("timing first answers of fresh pools", total=ROUNDS)
            for _ in range(ROUNDS):
                async with self._storage(dsn) as storage:
                    cold.append(await self._first_answer(storage))
                async with self._storage(dsn) as storage:
                    await warm(storage.pool)
                    after_ping.append(await self._first_answer(storage))
                async with self._storage(dsn) as storage:
                    warm_up.append(await _timed(storage.warm_pool))
                    after_warm_up.append(await self._first_answer(storage))
                    steady += [await self._first_answer(storage) for _ in range(STEADY_ANSWERS)]
                progress.advance(task)
        return FirstAnswers(
            documents=documents,
            chunks=chunks,
            store_seconds=store_seconds,
            rounds=ROUNDS,
            cold=median(cold),
            after_ping=median(after_ping),
            after_warm_up=median(after_warm_up),
            steady=median(steady),
            warm_up=median(warm_up),
        )

    def _storage(self, dsn: str) -> VectorStorage:
        return VectorStorage(dsn, COLLECTION, self._embedder.dimensions, size=3, warm="never")

    async def _first_answer(self, storage: VectorStorage) -> float:
        retriever = ResearchRetriever(storage, self._embedder)

        async def ask() -> list[Hit]:
            return await retriever.retrieve(QUESTIONS[0])

        return await _timed(ask)


async def _timed(function: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await function()
    return perf_counter() - started
