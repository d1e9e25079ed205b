"""Ask every question in three ways, through what the library offers to everybody."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.scenarios.quality.questions import QUESTIONS, Question
from benchmarks.scenarios.quality.reference import Reference, reference
from preheat import Hit, ResearchRetriever, VectorStorage, WordLlamaEmbedder

__all__ = ("COLLECTION", "HITS", "MODES", "Answered", "Mode", "Quality", "ask", "measure", "store")

COLLECTION = "language-reference"
HITS = 5
"""How many hits are asked for: as many as `retrieve` gives if it is not told otherwise."""
FIRST = 3
ALL_WORDS = 150
"""A hybrid search for so many chunks has the first five of its text leg among them.

A chunk with text rank 5 scores 1/65 or more by that alone. Whatever scores more and is found by both legs has a rank
below 70 in one of them: fewer than 140 chunks have.
"""


@dataclass(frozen=True, slots=True)
class Mode:
    """How many questions one way of searching answers."""

    name: str
    """`vectors`, `words` or `hybrid`."""
    questions: int
    """How many were asked."""
    first: int
    """Of how many the first hit has the answer."""
    first_three: int
    """Of how many one of the first three hits has."""
    strictly: int
    """The same, without what is found in a chapter beside the topic itself."""
    reciprocal_rank: float
    """The mean of 1 / rank, where no answer among the hits counts as 0."""

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON."""
        return {
            "mode": self.name,
            "questions": self.questions,
            "first": self.first,
            "first_three": self.first_three,
            "first_three_strictly": self.strictly,
            "mean_reciprocal_rank": self.reciprocal_rank,
        }


@dataclass(frozen=True, slots=True)
class Answered:
    """One question, and at which rank each mode has its answer; None if not among the hits."""

    question: Question
    ranks: dict[str, int | None]
    """By the document of the hit."""
    strict_ranks: dict[str, int | None]
    """By its text, too."""

    def as_dict(self) -> dict[str, Any]:
        """The ranks for JSON."""
        return {
            "question": self.question.text,
            "topics": list(self.question.answers),
            "ranks": self.ranks,
            "strict_ranks": self.strict_ranks,
        }


@dataclass(frozen=True, slots=True)
class Quality:
    """What one run has found."""

    python: str
    """The version of Python whose reference was searched."""
    topics: int
    """How many topics it has."""
    chunks: int
    """How many chunks they gave."""
    answered: tuple[Answered, ...]
    """All questions, as they were asked."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The figures of each mode."""
        return tuple(self.mode(name) for name in MODES)

    def mode(self, name: str) -> Mode:
        """The figures of one mode."""
        ranks = [answered.ranks[name] for answered in self.answered]
        strict = [answered.strict_ranks[name] for answered in self.answered]
        return Mode(
            name,
            len(ranks),
            _within(ranks, 1),
            _within(ranks, FIRST),
            _within(strict, FIRST),
            sum(1 / rank for rank in ranks if rank) / len(ranks),
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything for JSON."""
        return {
            "python": self.python,
            "topics": self.topics,
            "chunks": self.chunks,
            "modes": [mode.as_dict() for mode in self.modes],
            "questions": [answered.as_dict() for answered in self.answered],
        }


async def vectors(retriever: ResearchRetriever, question: str) -> list[Hit]:
    """By the vectors alone."""
    return await retriever.retrieve(question, HITS)


async def words(retriever: ResearchRetriever, question: str) -> list[Hit]:
    """By the words alone: the text leg of a hybrid search, in its own order."""
    hits = await retriever.retrieve(question, ALL_WORDS, hybrid=True)
    ranked = sorted((hit.text_rank, place) for place, hit in enumerate(hits) if hit.text_rank is not None)
    return [hits[place] for rank, place in ranked if rank <= HITS]


async def hybrid(retriever: ResearchRetriever, question: str) -> list[Hit]:
    """By both, fused."""
    return await retriever.retrieve(question, HITS, hybrid=True)


MODES: dict[str, Callable[[ResearchRetriever, str], Awaitable[list[Hit]]]] = {
    "vectors": vectors,
    "words": words,
    "hybrid": hybrid,
}


async def measure(dsn: str) -> Quality:
    """Store the reference of this Python in a database with pgvector, and ask everything."""
    return await ask(dsn, await store(dsn))


async def store(dsn: str) -> int:
    """Store the reference of this Python; returns how many chunks it gave."""
    async with _storage(dsn) as storage:
        return await reference().store(ResearchRetriever(storage, WordLlamaEmbedder()))


async def ask(dsn: str, chunks: int) -> Quality:
    """Ask everything of a reference that is stored in so many chunks."""
    text = reference()
    async with _storage(dsn) as storage:
        answered = await ask_all(ResearchRetriever(storage, WordLlamaEmbedder()), text)
    return Quality(platform.python_version(), len(text.topics), chunks, tuple(answered))


def _storage(dsn: str) -> VectorStorage:
    return VectorStorage(dsn, COLLECTION, WordLlamaEmbedder().dimensions, warm="never")


async def ask_all(
    retriever: ResearchRetriever, text: Reference, questions: Iterable[Question] = QUESTIONS
) -> list[Answered]:
    """Ask each question in each mode."""
    answered = []
    for question in questions:
        hits = {name: await search(retriever, question.text) for name, search in MODES.items()}
        answered.append(
            Answered(
                question,
                {name: text.rank(question, found) for name, found in hits.items()},
                {name: text.strict_rank(question, found) for name, found in hits.items()},
            )
        )
    return answered


def _within(ranks: Iterable[int | None], most: int) -> int:
    return sum(rank is not None and rank <= most for rank in ranks)
