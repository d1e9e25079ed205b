"""`preheat demo`: a real corpus, the time of first answers on a cold and on a warm pool, and a few questions."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ...retrieval import ResearchRetriever, WordLlamaEmbedder
from ...storage import Hit, VectorStorage
from ...testing.network import FaultyNetwork
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
    "How do I catch several exceptions at once?",
)
NEXT_QUESTION = "What does the global statement do?"
HITS = 2
BESIDE_BARS = 47
"""Columns of the table without its bars."""
ROUNDS = 5
STEADY_ANSWERS = 4
ROUND_TRIP_SECONDS = 0.02
"""As to a server in another region."""


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
    round_trip_seconds: float | None
    """The round-trip time of the network that was simulated; None for a real one."""
    questions: tuple[tuple[str, tuple[Hit, ...]], ...]
    """Questions with their hits."""

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
            "simulated_round_trip_seconds": self.round_trip_seconds,
            "times_steady": {
                "cold": self.cold / self.steady,
                "after_select_1": self.after_ping / self.steady,
                "after_warm_up": self.after_warm_up / self.steady,
            },
            "questions": [
                {"question": question, "hits": [hit.as_dict() for hit in hits]} for question, hits in self.questions
            ],
        }


def demo(where: Database) -> None:
    """Store the Python language reference, time first answers cold and warmed, and ask it questions.

    Without --dsn, a network of 20 ms to the embedded server is simulated.
    """
    answers = run(where.backend, lambda: _demo(where))
    show(answers, lambda shown: _show_first_answers(shown, next_command(where)), json=where.json)


async def _demo(where: Database) -> FirstAnswers:
    embedder = WordLlamaEmbedder()
    async with database(where) as dsn:
        given: dict[str, Any] = {field.name: getattr(where, field.name) for field in fields(where)}
        given["dsn"] = dsn
        corpus = Collection(**given, collection=COLLECTION)
        documents, chunks, seconds = await _store(corpus, embedder)
        with _network(where, dsn) as way:
            times = await _measure(replace(corpus, dsn=way), embedder)
        questions = await _ask(corpus, embedder)
    return FirstAnswers(
        backend=where.backend.value,
        documents=documents,
        chunks=chunks,
        store_seconds=seconds,
        rounds=ROUNDS,
        round_trip_seconds=None if where.dsn else ROUND_TRIP_SECONDS,
        questions=questions,
        **{name: median(seconds) for name, seconds in times.items()},
    )


@contextmanager
def _network(where: Database, dsn: str) -> Generator[str]:
    """The DSN by which first answers are measured: a given database is reached as it is."""
    if where.dsn:
        yield dsn
        return
    with FaultyNetwork(dsn) as network:
        network.latency = ROUND_TRIP_SECONDS / 2
        yield network.dsn


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


async def _ask(corpus: Collection, embedder: WordLlamaEmbedder) -> tuple[tuple[str, tuple[Hit, ...]], ...]:
    async with open_storage(corpus, embedder.dimensions, size=3) as storage:
        retriever = ResearchRetriever(storage, embedder)
        return tuple([(question, distinct(await retriever.retrieve(question, 4 * HITS))) for question in QUESTIONS])


def distinct(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """The best hits whose paragraphs differ: the reference has some of them in two topics, with other headings."""
    found: dict[str, Hit] = {}
    for hit in hits:
        found.setdefault(re.sub(r"[\W_]+", "", hit.text)[:100], hit)
    return tuple(found.values())[:HITS]


def next_command(where: Database) -> str:
    """The search that works next in the same shell."""
    if "UV_RUN_RECURSION_DEPTH" in os.environ:
        program = "uv run preheat"
    else:
        program = "python -m preheat" if Path(sys.argv[0]).name == "__main__.py" else "preheat"
    same = ""
    if where.dsn and where.dsn != os.environ.get("PREHEAT_DSN"):
        same = " --dsn ..."  # the one that was given, which may have a password
    elif not where.dsn and where.data is not None and str(where.data) != os.environ.get("PREHEAT_DATA"):
        same = f" --data {shlex.quote(str(where.data))}"
    return f"{program} search {shlex.quote(NEXT_QUESTION)} -c {COLLECTION}{same}"


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


def _show_first_answers(report: FirstAnswers, command: str) -> None:
    """The time of each kind of first answer, with bars to scale, the hits, and the command that goes on."""
    out.print(f"stored {report.documents:,} documents as {report.chunks:,} chunks in {report.store_seconds:.1f} s")
    trip = report.round_trip_seconds
    network = "your database" if trip is None else f"a simulated network of {1000 * trip:.0f} ms"
    out.print(f"[bold]first answers over {network}[/] (median of {report.rounds} pools)")
    rows = (
        ("no warm-up", report.cold, "red"),
        ("SELECT 1 on each", report.after_ping, "yellow"),
        ("a full warm-up", report.after_warm_up, "green"),
        ("steady", report.steady, "blue"),
    )
    longest = max(seconds for _, seconds, _ in rows)
    width = max(6, min(32, out.width - BESIDE_BARS))
    table = Table()
    table.add_column("after", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("x steady", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name, seconds, color in rows:
        bar = Text("█" * max(1, round(width * seconds / longest)), style=color)
        table.add_row(name, milliseconds(seconds), f"{seconds / report.steady:.1f}", bar)
    out.print(table)
    out.print(f"The warm-up of 3 connections takes {milliseconds(report.warm_up)}, ahead of the first user.")
    for question, hits in report.questions:
        out.print()
        show_hits(question, hits)
    out.print()
    out.print(f"Go on with: [bold]{escape(command)}[/]", soft_wrap=True)
