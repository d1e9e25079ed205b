"""`preheat demo`: a real corpus, a few questions, and the time of first answers on a cold and on a warm pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from statistics import median
from time import perf_counter
from typing import Any

from rich.table import Table
from rich.text import Text

from ...retrieval import ResearchRetriever, WordLlamaEmbedder
from ...storage import VectorStorage
from ...warming import warm
from ..console import milliseconds, out, progress_bar, run, show
from ..database import database, open_storage
from ..options import Collection, Database
from .search import show_hits

__all__ = ("demo",)

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
    """The seconds to the first answer of a fresh pool; each is the median of several pools."""

    backend: str
    """The event loop."""
    documents: int
    """The number of documents that were stored."""
    chunks: int
    """The number of their chunks."""
    store_seconds: float
    """The seconds that storing them took."""
    rounds: int
    """The number of fresh pools of which each figure is the median."""
    cold: float
    """Without a warm-up."""
    after_ping: float
    """After `SELECT 1` on each connection."""
    after_warm_up: float
    """After the real search on each connection."""
    steady: float
    """Each further answer."""
    warm_up: float
    """The full warm-up itself, before the first answer."""

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON, in seconds, and each first answer as a multiple of a steady one."""
        return {
            "backend": self.backend,
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


def demo(where: Database) -> None:
    """Store the Python language reference, ask it questions, and time first answers cold and warmed."""
    show(run(where.backend, lambda: _demo(where)), _show_first_answers, json=where.json)


async def _demo(where: Database) -> FirstAnswers:
    embedder = WordLlamaEmbedder()
    async with database(where) as dsn:
        given = {field.name: getattr(where, field.name) for field in fields(where)}
        corpus = Collection(**{**given, "dsn": dsn}, collection=COLLECTION)
        documents, chunks, seconds = await _store(corpus, embedder)
        if not where.json:
            await _ask(corpus, embedder)
        times = await _measure(corpus, embedder)
    return FirstAnswers(
        backend=where.backend.value,
        documents=documents,
        chunks=chunks,
        store_seconds=seconds,
        rounds=ROUNDS,
        **{name: median(seconds) for name, seconds in times.items()},
    )


async def _store(corpus: Collection, embedder: WordLlamaEmbedder) -> tuple[int, int, float]:
    """Store the topics of Python's own help.

    Returns:
        The number of documents, the number of chunks, and the seconds that it took.
    """
    from pydoc_data.topics import topics

    started = perf_counter()
    chunks = 0
    async with open_storage(corpus, embedder.dimensions, size=2) as storage:
        retriever = ResearchRetriever(storage, embedder)
        with progress_bar() as progress:
            task = progress.add_task("storing the Python language reference", total=len(topics))
            for topic, text in topics.items():
                chunks += await retriever.add(topic, text)
                progress.advance(task)
    return len(topics), chunks, perf_counter() - started


async def _ask(corpus: Collection, embedder: WordLlamaEmbedder) -> None:
    async with open_storage(corpus, embedder.dimensions, size=3) as storage:
        retriever = ResearchRetriever(storage, embedder)
        for question in QUESTIONS:
            show_hits(question, await retriever.retrieve(question, 3))


async def _measure(corpus: Collection, embedder: WordLlamaEmbedder) -> dict[str, list[float]]:
    """The seconds of each first answer, by the name of the field of :class:`FirstAnswers`."""
    times: dict[str, list[float]] = {name: [] for name in ("cold", "after_ping", "after_warm_up", "steady", "warm_up")}

    async def first_answer(storage: VectorStorage) -> float:
        retriever = ResearchRetriever(storage, embedder)
        return await _timed(lambda: retriever.retrieve(QUESTIONS[0]))

    with progress_bar() as progress:
        task = progress.add_task("timing first answers of fresh pools", total=ROUNDS)
        for _ in range(ROUNDS):
            async with open_storage(corpus, embedder.dimensions, size=3) as storage:
                times["cold"].append(await first_answer(storage))
            async with open_storage(corpus, embedder.dimensions, size=3) as storage:
                await warm(storage.pool)
                times["after_ping"].append(await first_answer(storage))
            async with open_storage(corpus, embedder.dimensions, size=3) as storage:
                times["warm_up"].append(await _timed(storage.warm_pool))
                times["after_warm_up"].append(await first_answer(storage))
                times["steady"] += [await first_answer(storage) for _ in range(STEADY_ANSWERS)]
            progress.advance(task)
    return times


async def _timed(function: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await function()
    return perf_counter() - started


def _show_first_answers(report: FirstAnswers) -> None:
    """The time of each kind of first answer, compared with a steady answer, with bars to scale."""
    out.print(f"stored {report.documents:,} documents as {report.chunks:,} chunks in {report.store_seconds:.1f} s")
    table = Table(
        title=f"the first answer of a fresh pool (median of {report.rounds})", title_justify="left", title_style="bold"
    )
    table.add_column("after", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("x steady", justify="right", no_wrap=True)
    table.add_column("")
    rows = (
        ("no warm-up", report.cold, "red"),
        ("SELECT 1 on each", report.after_ping, "yellow"),
        ("a full warm-up", report.after_warm_up, "green"),
        ("steady", report.steady, "blue"),
    )
    for name, seconds, color in rows:
        bar = Text("█" * max(1, round(24 * seconds / report.cold)), style=color)
        table.add_row(name, milliseconds(seconds), f"{seconds / report.steady:.1f}", bar)
    out.print(table)
    out.print(
        f"The warm-up of 3 connections itself takes {milliseconds(report.warm_up)}, ahead of the first user.\n"
        f"Go on with: [bold]preheat search 'what is a closure' --collection {COLLECTION}[/]"
    )
