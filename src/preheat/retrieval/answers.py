"""Stored answers: to the same question, to a similar one, or fresh from research."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .._concurrency.single_flight import Flight, SingleFlight
from ..errors import ArgumentError, describe
from ..storage import AnswerTable, StoredAnswer, answer_key, answer_text, check_text

__all__ = ("THRESHOLD", "Answer", "AnswerStatistics", "AnswerTiers", "Question")

logger: logging.Logger = logging.getLogger("preheat")

THRESHOLD = 0.95
"""How similar a question must be by default. Models differ: a false answer costs more than research that was saved."""

LOOKUP_SECONDS = 5.0
"""How long to look for a stored answer before the question is researched."""

STORE_SECONDS = 5.0
"""How long storing an answer may take: its callers wait for it."""

CANDIDATES = 5
"""The most similar answers that `accept` is called for."""

LONGEST_SCOPE = 255

Tier: TypeAlias = Literal["exact", "semantic", "fresh"]
"""The source of an answer: the same question, a similar one, or research."""

Research: TypeAlias = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a question."""

    value: Any
    """The result of the research, after a round trip through JSON. Each caller has a copy of its own."""
    tier: Literal["exact", "semantic", "fresh"]
    """The source of the answer: it was stored for the same question, or for a similar one, or it is fresh."""
    score: float
    """The cosine similarity of the question that was answered to the one that was asked: 1.0 for the same question."""
    age: float
    """Seconds since the answer was stored, by the server's clock; 0.0 for a fresh one."""
    question: str
    """The question that was answered, as it was asked then."""

    def as_dict(self) -> dict[str, Any]:
        """The answer for logs and JSON."""
        return asdict(self)


Accept: TypeAlias = Callable[[str, Answer], bool | Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class AnswerStatistics:
    """How many calls each tier answered. Calls that were cancelled, or had an invalid argument, are not counted."""

    exact: int = 0
    """Calls that got the stored answer to the same question."""
    semantic: int = 0
    """Calls that got the stored answer to a similar question."""
    fresh: int = 0
    """Calls that got a fresh answer. Callers that share one research count each."""
    errors: int = 0
    """Calls that raised an exception."""
    seconds: float = 0.0
    """How long all of these calls took together."""

    def as_dict(self) -> dict[str, Any]:
        """The statistics for logs and JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Question:
    """The arguments of one call, checked."""

    query: str
    research: Research
    scope: str
    ttl: float | None
    threshold: float
    accept: Accept | None

    def __post_init__(self) -> None:
        check_text("query", self.query)
        check_text("scope", self.scope)
        if not self.query.strip():
            raise ArgumentError("the query is empty; ask for something")
        if len(self.scope) > LONGEST_SCOPE:
            raise ArgumentError(f"the scope has {len(self.scope)} characters; use a name of up to {LONGEST_SCOPE}")
        if self.ttl is not None and not self.ttl > 0:
            raise ArgumentError(
                f"ttl is {self.ttl}; give a positive number of seconds, or None to keep the answer without a limit"
            )
        if not 0 < self.threshold <= 1:
            raise ArgumentError(
                f"threshold is {self.threshold}; give a cosine above 0 and up to 1, such as {THRESHOLD}"
            )
        if not callable(self.research):
            raise ArgumentError(
                f"research is {self.research!r}; give an async function that finds the answer to a question"
            )
        if self.accept is not None and not callable(self.accept):
            raise ArgumentError(f"accept is {self.accept!r}; give a function of the query and an answer, or None")

    @property
    def candidates(self) -> int:
        """How many answers to similar questions are looked at."""
        return 1 if self.accept is None else CANDIDATES

    async def accepts(self, answer: Answer) -> bool:
        """Whether the caller takes an answer to a similar question."""
        if self.accept is None:
            return True
        verdict: Any = self.accept(self.query, answer)
        return bool(await verdict if inspect.isawaitable(verdict) else verdict)


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer that several callers share. Each of them reads the JSON, and so has a value of its own."""

    tier: Tier
    stored: StoredAnswer

    def read(self) -> Answer:
        stored = self.stored
        return Answer(json.loads(stored.text), self.tier, stored.score, stored.age, stored.question)


@dataclass(frozen=True, slots=True)
class _LookedUp:
    """What is stored for a question. Several callers share it."""

    exact: StoredAnswer | None = None
    similar: Sequence[StoredAnswer] = ()
    vector: Any = None
    """The vector of the question, unless there is an answer to it."""
    is_down: bool = False
    """Whether the database could not be asked."""


class AnswerTiers:
    """The tiers behind :meth:`preheat.ResearchRetriever.retrieve_or_research`.

    Args:
        storage: the storage with the answers.
        model: the name of the model that the vectors come from.
        must_warm: whether the pool is still to be warmed.
        vector_of: gives the vector of a question; warms the pool if it must be.
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
        """How the calls so far were answered; replaced by each call."""

    async def answer(self, question: Question) -> Answer:
        """Answer one call; see :meth:`preheat.ResearchRetriever.retrieve_or_research`."""
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

    def _table(self) -> AnswerTable:
        table = getattr(self._storage, "answer_table", None)
        if not isinstance(table, AnswerTable):
            raise ArgumentError(
                f"a {type(self._storage).__name__} keeps no answers; give the retriever a preheat.VectorStorage"
            )
        return table

    def _count(self, counter: str, started: float) -> None:
        counted: dict[str, Any] = {counter: getattr(self.statistics, counter) + 1}
        seconds = self.statistics.seconds + anyio.current_time() - started
        self.statistics = replace(self.statistics, seconds=seconds, **counted)

    async def _answer(self, question: Question, table: AnswerTable, flights: SingleFlight) -> Answer:
        """Try the tiers in turn. A caller whose question is being researched only waits for that.

        The look-up runs once for all callers that need it at the same time, and so does the research. `accept` is
        called by each caller.

        A caller that joins a look-up must not miss what changed before the caller came, such as an answer that was
        stored. So the key of a look-up has the number of changes that this storage has made so far.

        Other tasks run during each `await`, so they may begin or end research for the same question in between. The
        last call, `flights.run`, needs no check before it: it joins research that has begun meanwhile. If research has
        ended meanwhile, its answer is in the table, and `_research_and_store` finds it there.
        """
        key = answer_key(question.scope, self._model, question.query)
        flight: Flight[_Found] | None
        if (flight := flights.under_way(key)) is not None:
            return (await flights.follow(flight)).read()

        same = (question.query, question.threshold, question.candidates)
        looked = await flights.run((key, table.changes, *same), partial(self._look_up, question, key, table))
        if looked.exact is not None:
            return _Found("exact", looked.exact).read()
        for stored in looked.similar:
            answer = _Found("semantic", stored).read()
            if await question.accepts(answer):
                return answer

        research = self._research if looked.is_down else partial(self._research_and_store, looked.vector, table)
        found: _Found = await flights.run(key, partial(research, question))
        return found.read()

    async def _look_up(self, question: Question, key: str, table: AnswerTable, _flight: Flight[_LookedUp]) -> _LookedUp:
        """What is stored for a question. The first call warms the pool while the question is embedded."""
        vector = await self._vector_of(question.query) if self._must_warm() else None
        is_down = True
        with _tolerated("looking for an answer", LOOKUP_SECONDS):
            exact = await table.exact(key)
            is_down = False
            if exact is not None:
                return _LookedUp(exact=exact)
        if is_down:
            return _LookedUp(is_down=True)

        if vector is None:
            vector = await self._vector_of(question.query)
        similar: list[StoredAnswer] = []
        if question.threshold < 1:
            with _tolerated("looking for a similar answer", LOOKUP_SECONDS):
                similar = await table.nearest(
                    vector, question.scope, self._model, question.threshold, question.candidates
                )
        return _LookedUp(vector=vector, similar=similar)

    async def _research(self, question: Question, _flight: Flight[_Found]) -> _Found:
        """Research without the database."""
        value: Any = question.research(question.query)
        if not inspect.isawaitable(value):
            raise ArgumentError(f"research returned a {type(value).__name__} at once; make it an async function")
        text = answer_text(await value)
        return _Found("fresh", StoredAnswer(question.query, text, 1.0, 0.0))

    async def _research_and_store(
        self, vector: Any, table: AnswerTable, question: Question, flight: Flight[_Found]
    ) -> _Found:
        """Research under the lock of the question, unless another process has stored the answer before this one had
        the lock.

        The flight can be cancelled until `keep()`: when its last caller has left. A new caller may then research the
        same question anew, so research that ignores its cancellation does not store its answer any more. If the
        cancellation came too late to stop the research, the answer is stored all the same, and serves the new caller.
        There is no `await` between the end of the research and `keep()`, so it is one of the two.
        """
        key = answer_key(question.scope, self._model, question.query)
        async with table.locked(key):
            with _tolerated("looking for an answer", LOOKUP_SECONDS):
                if (stored := await table.exact(key)) is not None:
                    return _Found("exact", stored)
            found = await self._research(question, flight)
            if not flight.keep():
                await checkpoint_if_cancelled()
            with (
                anyio.CancelScope(shield=flight.is_cancelled),
                _tolerated("storing an answer", STORE_SECONDS, invalid_too=True),
            ):
                await table.store(
                    key, question.scope, self._model, question.query, vector, found.stored.text, question.ttl
                )
        return found


@contextmanager
def _tolerated(action: str, seconds: float, *, invalid_too: bool = False) -> Generator[None]:
    """Log an error of the database, or a timeout, and go on: callers need the answer more than the database.

    Args:
        invalid_too: whether an :class:`ArgumentError` is tolerated as well.
    """
    try:
        with anyio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise TimeoutError(f"it took more than {seconds} s")
    except Exception as error:
        if isinstance(error, ArgumentError) and not invalid_too:
            raise
        logger.warning("going on without the database: %s failed: %s", action, describe(error))
