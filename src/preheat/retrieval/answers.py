"""Answers that are kept: to the same question, to one that is near, or a fresh one."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .._concurrency.single_flight import Flight, SingleFlight
from ..errors import ArgumentError, describe
from ..storage import AnswerTable, StoredAnswer, answer_key, answer_text, check_text

__all__ = ("THRESHOLD", "Answer", "AnswerStatistics", "AnswerTiers")

logger: logging.Logger = logging.getLogger("preheat")

THRESHOLD = 0.95
"""How near a question must be by default. Models differ: a false answer costs more than a research that was spared."""

LOOKUP_SECONDS = 5.0
"""How long to look for an answer before the question is researched."""

STORE_SECONDS = 5.0
"""How long storing an answer may take before it is given up: its callers wait for it."""

CANDIDATES = 5
"""How many near answers `accept` is asked about at most."""

LONGEST_SCOPE = 255

Tier: TypeAlias = Literal["exact", "semantic", "fresh"]
"""Where an answer comes from: the same question, one that is near, or research."""

Research: TypeAlias = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a question."""

    value: Any
    """The answer itself: what JSON makes of that which research returned. Each caller has a copy of its own."""
    tier: Literal["exact", "semantic", "fresh"]
    """Where it comes from: it was kept for the same question, or for one that is near, or it is fresh."""
    score: float
    """How near the question that it is for is to the one that was asked: their cosine, 1.0 if they are the same."""
    age: float
    """Seconds since it was stored, by the server's clock; 0.0 for a fresh one."""
    question: str
    """The question that it is for, as it was asked then."""

    def as_dict(self) -> dict[str, Any]:
        """The answer for logs and JSON."""
        return asdict(self)


Accept: TypeAlias = Callable[[str, Answer], bool | Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class AnswerStatistics:
    """How calls were answered. Those that were cancelled, or asked in a way that cannot be right, are not counted."""

    exact: int = 0
    """Calls that got an answer to the same question."""
    semantic: int = 0
    """Calls that got an answer to a question that is near."""
    fresh: int = 0
    """Calls that got a fresh answer. Several that waited for one research count each."""
    errors: int = 0
    """Calls that raised."""
    seconds: float = 0.0
    """How long all of these took together."""

    def as_dict(self) -> dict[str, Any]:
        """The statistics for logs and JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked, and how."""

    query: str
    research: Research
    scope: str
    ttl: float | None
    threshold: float
    accept: Accept | None
    key: str


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer before it is read from its JSON, which each who gets it does by itself."""

    tier: Tier
    stored: StoredAnswer

    def answer(self) -> Answer:
        stored = self.stored
        return Answer(json.loads(stored.text), self.tier, stored.score, stored.age, stored.question)


class AnswerTiers:
    """The tiers behind :meth:`preheat.ResearchRetriever.retrieve_or_research`.

    Args:
        storage: where the answers are.
        model: the name of the model that the vectors come from.
        must_warm: whether the pool is yet to be warmed.
        vector_of: the vector of a question; warms the pool if it must be.
    """

    def __init__(
        self,
        storage: Any,
        model: str,
        must_warm: Callable[[], bool],
        vector_of: Callable[[str], Awaitable[Any]],
    ) -> None:
        self._storage = storage
        self._model = model
        self._must_warm = must_warm
        self._vector_of = vector_of
        self.statistics: AnswerStatistics = AnswerStatistics()
        """How the calls were answered so far; replaced each time."""

    async def answer(
        self, query: str, research: Research, *, scope: str, ttl: float | None, threshold: float, accept: Accept | None
    ) -> Answer:
        """The answer; see :meth:`preheat.ResearchRetriever.retrieve_or_research`."""
        question = self._check(query, research, scope, ttl, threshold, accept)
        table = self._table()
        flights = table.flights
        started = anyio.current_time()
        try:
            answer = await self._answer(question, table, flights)
        except Exception:
            self._count("errors", started)
            raise
        self._count(answer.tier, started)
        return answer

    def _check(
        self,
        query: str,
        research: Research,
        scope: str,
        ttl: float | None,
        threshold: float,
        accept: Accept | None,
    ) -> _Question:
        check_text("query", query)
        check_text("scope", scope)
        if not query.strip():
            raise ArgumentError("the query is empty; ask for something")
        if len(scope) > LONGEST_SCOPE:
            raise ArgumentError(f"the scope has {len(scope)} characters; use a name of up to {LONGEST_SCOPE}")
        if ttl is not None and not ttl > 0:
            raise ArgumentError(f"ttl is {ttl}; give a positive number of seconds, or None to keep the answer for ever")
        if not 0 < threshold <= 1:
            raise ArgumentError(f"threshold is {threshold}; give a cosine above 0 and up to 1, such as {THRESHOLD}")
        if not callable(research):
            raise ArgumentError(f"research is {research!r}; give an async function that finds the answer to a question")
        if accept is not None and not callable(accept):
            raise ArgumentError(f"accept is {accept!r}; give a function of the query and an answer, or None")
        key = answer_key(scope, self._model, query)
        return _Question(query, research, scope, ttl, threshold, accept, key)

    def _table(self) -> AnswerTable:
        table = getattr(self._storage, "answer_table", None)
        if not isinstance(table, AnswerTable):
            raise ArgumentError(
                f"a {type(self._storage).__name__} keeps no answers; give the retriever a preheat.VectorStorage"
            )
        return table

    def _count(self, what: str, started: float) -> None:
        counted: dict[str, Any] = {what: getattr(self.statistics, what) + 1}
        seconds = self.statistics.seconds + anyio.current_time() - started
        self.statistics = replace(self.statistics, seconds=seconds, **counted)

    async def _answer(self, question: _Question, table: AnswerTable, flights: SingleFlight) -> Answer:
        """Tier after tier; but whoever finds the question being researched has nothing else to look for."""
        key = question.key
        flight: Flight[_Found] | None
        if (flight := flights.under_way(key)) is not None:
            return (await flights.follow(flight)).answer()

        vector = await self._vector_of(question.query) if self._must_warm() else None
        with _passed_over("looking for an answer", LOOKUP_SECONDS) as trouble:
            if (kept := await table.exact(key)) is not None:
                return _Found("exact", kept).answer()

        if (flight := flights.under_way(key)) is not None:
            return (await flights.follow(flight)).answer()
        found: _Found
        if trouble.met:
            found = await flights.run(key, partial(self._research, question))
            return found.answer()

        if vector is None:
            vector = await self._vector_of(question.query)
        near: list[StoredAnswer] = []
        if question.threshold < 1:
            most = 1 if question.accept is None else CANDIDATES
            with _passed_over("looking for a near answer", LOOKUP_SECONDS):
                near = await table.nearest(vector, question.scope, self._model, question.threshold, most)
        for stored in near:
            answer = _Found("semantic", stored).answer()
            if await _accepts(question, answer):
                return answer

        work = partial(self._research_and_store, question, vector, table)
        found = await flights.run(key, work)
        return found.answer()

    async def _research(self, question: _Question, _flight: Flight[_Found]) -> _Found:
        """Research without a database: what a flight does when it is down."""
        value: Any = question.research(question.query)
        if not inspect.isawaitable(value):
            raise ArgumentError(f"research returned a {type(value).__name__} at once; make it an async function")
        text = answer_text(await value)
        return _Found("fresh", StoredAnswer(question.query, text, 1.0, 0.0))

    async def _research_and_store(
        self, question: _Question, vector: Any, table: AnswerTable, flight: Flight[_Found]
    ) -> _Found:
        """What a flight does: research, unless somebody else has stored the answer since it was looked for."""
        async with table.locked(question.key):
            with _passed_over("looking for an answer", LOOKUP_SECONDS):
                if (kept := await table.exact(question.key)) is not None:
                    return _Found("exact", kept)
            found = await self._research(question, flight)
            await checkpoint_if_cancelled()  # what everybody has given up is not stored: somebody may be at it anew
            flight.keep()
            with _passed_over("storing an answer", STORE_SECONDS, whatever=True):
                await table.store(
                    question.key,
                    question.scope,
                    self._model,
                    question.query,
                    vector,
                    found.stored.text,
                    question.ttl,
                )
        return found


class _Trouble:
    """Whether something went wrong with the database."""

    met = False


@contextmanager
def _passed_over(what: str, seconds: float, *, whatever: bool = False) -> Generator[_Trouble]:
    """Log what goes wrong with the database, or takes too long, and go on: an answer is worth more than keeping it.

    Args:
        whatever: whether to go on even if it was asked for in a way that cannot be right.
    """
    trouble = _Trouble()
    try:
        with anyio.move_on_after(seconds) as scope:
            yield trouble
        if scope.cancelled_caught:
            raise TimeoutError(f"it took more than {seconds} s")
    except Exception as error:
        if isinstance(error, ArgumentError) and not whatever:
            raise
        trouble.met = True
        logger.warning("going on without the database: %s failed: %s", what, describe(error))


async def _accepts(question: _Question, answer: Answer) -> bool:
    if question.accept is None:
        return True
    verdict: Any = question.accept(question.query, answer)
    return bool(await verdict if inspect.isawaitable(verdict) else verdict)
