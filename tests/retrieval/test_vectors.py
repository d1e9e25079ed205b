"""The vectors of a model are checked at once, so that an invalid one fails one call and is never stored or cached."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.answers import Research
from tests.support.waiting import until

from preheat import (
    ArgumentError,
    Chunk,
    DimensionError,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    reembed,
)
from preheat.retrieval import ThreadedEmbedder
from preheat.retrieval.answers import AnswerTiers
from preheat.retrieval.embedders.local import LocalModel
from preheat.retrieval.embedders.vectors import VectorsError, checked_vectors
from preheat.testing import FakePool

NAN = math.nan
GOOD: list[Any] = [
    [[1, 2, 3]],
    ((1.0, 2.0, 3.0),),
    np.array([[1, 2, 3]], np.float16),
    np.array([[1, 2, 3]], np.float64),
    np.array([[1, 2, 3]], np.longdouble),
    np.array([[1, 2, 3]], ">f4"),
    np.array([[1, 2, 3]], np.int64),
    np.array([[1, 2, 3]], object),
    np.array([[1, 0], [2, 0], [3, 0]], np.float32).T[:1],
    [np.array([1, 2, 3], np.float32)],
    [np.array([1, 2, 3])],
    [[np.float32(1), np.int8(2), 3]],
    [[Decimal(1), Fraction(2), 3.0]],
    [iter([1, 2, 3])],
    iter([[1, 2, 3]]),
    (row for row in [[1, 2, 3]]),
]
BAD_VECTORS: list[Any] = [
    *([NAN, 1, 1], [1, math.inf, 1], [1, 1, -math.inf], [1e39, 1, 1], [10**400, 1, 1], [-(10**400), 1, 1]),
    *([1, None, 1], ["1", "2", "3"], [b"1", 1, 1], [True, 1, 1], [1j, 1, 1], [{}, 1, 1], [Decimal("sNaN"), 1, 1]),
    *([[1, 2], [3, 4], [5, 6]], [[1, 2, 3]], [(1,), (2,), (3,)], [np.ones(1), 1, 1], [np.bool_(True), 1, 1]),
    *(None, 5, 1.5, "abc", b"abc", {1: 2}, {1, 2, 3}, ...),
    *([], (), np.array([]), np.array(1.0), np.ones((1, 3)), np.ones((3, 3)), np.array([1, NAN, 1], np.float32)),
    *(np.array([1, 1e39, 1]), np.array(["1", "2", "3"]), np.array([1, None, 1], object), np.ones(3, bool)),
    np.ones(3, complex),
]
BAD_ANSWERS: list[Any] = [None, 5, "abc", b"abc", {}, {0: [1, 2, 3]}, [], [[1, 2, 3]] * 2, np.ones(3), ...]


@pytest.mark.parametrize("answer", GOOD, ids=lambda answer: type(answer).__name__)
def test_rows_of_finite_numbers_in_any_container_are_vectors(answer: Any) -> None:
    assert np.array(checked_vectors("m", answer, ["text"], 3)).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("bad", BAD_VECTORS, ids=repr)
def test_an_invalid_vector_is_an_error_that_names_its_text(bad: Any) -> None:
    for dimensions in (3, None):
        with pytest.raises(VectorsError, match=r"'m' gave no usable vector for text 2 of 3 \('bad'\): ") as caught:
            checked_vectors("m", [[1, 2, 3], bad, [4, 5, 6]], ["good", "bad", "better"], dimensions)
        assert list(caught.value.reasons) == [1]
        assert [vector is None for vector in caught.value.vectors] == [False, True, False]
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("bad", BAD_ANSWERS, ids=repr)
def test_a_result_without_a_row_for_each_text_is_refused(bad: Any) -> None:
    with pytest.raises(ArgumentError, match=r"one row (of numbers )?for each text"):
        checked_vectors("m", bad, ["text"], 3)


def test_all_vectors_have_the_dimensions_of_the_collection_or_of_each_other() -> None:
    with pytest.raises(DimensionError, match="3 dimensions, not 2"):
        checked_vectors("m", [[1, 2], [3, 4]], ["a", "b"], 3)
    with pytest.raises(VectorsError, match="it has 2 dimensions in place of 3"):
        checked_vectors("m", [[1, 2, 3], [3, 4]], ["a", "b"], 3)
    with pytest.raises(ArgumentError, match="2 and 3 dimensions in one call"):
        checked_vectors("m", [[1, 2, 3], [3, 4]], ["a", "b"])


@given(st.lists(st.lists(st.floats(), min_size=1, max_size=3), min_size=1, max_size=4), st.booleans())
def test_checked_vectors_are_finite_complete_copies(rows: list[list[float]], table: bool) -> None:
    """For any floats of a model, an accepted vector has finite numbers, and as many as the others."""
    answer: Any = rows
    if table and len({len(row) for row in rows}) == 1:
        answer = np.array(rows)
    try:
        vectors = checked_vectors("m", answer, ["text"] * len(rows))
    except ArgumentError:
        largest = max(abs(number) if number == number else math.inf for row in rows for number in row)
        assert largest > 3.4e38 or len({len(row) for row in rows}) > 1
    else:
        assert [len(vector) for vector in vectors] == [len(row) for row in rows]
        assert all(math.isfinite(number) for vector in vectors for number in vector)
        assert vectors is not answer


class Hiccups:
    """A model whose first result is invalid, and whose other results are valid."""

    name, dimensions = "hiccups", 3

    def __init__(self, bad: Callable[[int], Any]) -> None:
        self.bad = bad
        self.calls = 0

    async def embed(self, texts: Sequence[str]) -> Any:
        await anyio.lowlevel.checkpoint()
        self.calls += 1
        return self.bad(len(texts)) if self.calls == 1 else [[1.0, 2.0, float(len(text))] for text in texts]


HICCUPS: dict[str, Callable[[int], Any]] = {
    "NaN": lambda n: [[NAN, 1, 1]] * n,
    "NaN in an array": lambda n: np.full((n, 3), NAN),
    "infinity": lambda n: [(math.inf, 1, 1)] * n,
    "null": lambda n: [[None, 1, 1]] * n,
    "words": lambda n: ["abc"] * n,
    "a vector for each token": lambda n: [[[1.0, 2.0, 3.0]] * 2] * n,
    "two dimensions": lambda n: [[1.0, 2.0]] * n,
    "nothing": lambda _: None,
    "one vector too many": lambda n: [[1.0, 2.0, 3.0]] * (n + 1),
}
hiccups = pytest.mark.parametrize("bad", HICCUPS.values(), ids=HICCUPS)


@hiccups
async def test_an_invalid_vector_fails_one_retrieval_only(bad: Callable[[int], Any]) -> None:
    async with VectorStorage(FakePool(), "x", 3, warm="never") as storage:
        one, many = Hiccups(bad), Hiccups(bad)
        retriever = ResearchRetriever(storage, one)
        with pytest.raises(ArgumentError):
            await retriever.retrieve("why?")
        for _ in range(2):
            await retriever.retrieve("why?")
        retriever = ResearchRetriever(storage, many)
        with pytest.raises(ArgumentError):
            await retriever.retrieve_many(["why?", "how?"])
        for _ in range(2):
            await retriever.retrieve_many(["why?", "how?"])
    assert (one.calls, many.calls) == (2, 2)


@hiccups
async def test_an_invalid_vector_fails_one_call_for_an_answer_only(
    dsn: str, collection: str, bad: Callable[[int], Any]
) -> None:
    model, research = Hiccups(bad), Research()
    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, model)
        with pytest.raises(ArgumentError):
            await retriever.retrieve_or_research("why?", research)
        tiers = [(await retriever.retrieve_or_research("why?", research)).tier for _ in range(3)]
    assert tiers == ["fresh", "exact", "exact"]
    assert (model.calls, research.returned.total()) == (2, 1)


@hiccups
async def test_an_invalid_vector_stores_nothing(dsn: str, collection: str, bad: Callable[[int], Any]) -> None:
    model = Hiccups(bad)
    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, model)
        with pytest.raises(ArgumentError):
            await retriever.add("a.md", "text")
        assert await retriever.add("a.md", "text") == 1
        model.calls = 0
        with pytest.raises(ArgumentError):
            await retriever.upsert([Chunk("more", id="more")])
        assert await storage.count() == 1
        assert (await retriever.upsert([Chunk("more", id="more")])).added == 1


async def test_the_vectors_of_reembed_are_checked(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await ResearchRetriever(storage, Hiccups(lambda n: [[1.0, 2.0, 3.0]] * n)).add("a.md", "text")
    async with VectorStorage(dsn, collection) as storage:
        again = Hiccups(lambda n: [["a", "b", "c"]] * n)
        again.name = "again"
        with pytest.raises(ArgumentError, match="'again' gave no usable vector"):
            await reembed(storage, again)
        assert storage.embedder in (None, "hiccups")


async def test_callers_get_an_answer_that_cannot_be_stored(dsn: str, collection: str) -> None:
    class Refusing(Hiccups):
        async def embed(self, texts: Sequence[str]) -> Any:
            return [[1.0, 2.0, 3.0]] * len(texts)

    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, Refusing(lambda _: None))
        tiers: AnswerTiers = retriever._tiers
        table = tiers._table()

        async def store(*args: Any) -> None:
            raise ArgumentError("this one cannot be stored; give another")

        table.store = store  # type: ignore[method-assign]
        answers = [await retriever.retrieve_or_research("why?", Research()) for _ in range(2)]
    assert [(answer.tier, answer.value) for answer in answers] == [("fresh", {"to": "why?"})] * 2


async def test_all_callers_of_a_failed_research_get_its_error_and_the_next_call_researches(
    dsn: str, collection: str
) -> None:
    asked, go = 0, anyio.Event()

    async def research(query: str) -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            await go.wait()
            raise PreheatError("the first one fails")
        return "answer"

    errors: list[str] = []
    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, Hiccups(lambda n: [[1.0, 2.0, 3.0]] * n))

        async def ask() -> None:
            with pytest.raises(PreheatError) as caught:
                await retriever.retrieve_or_research("why?", research)
            errors.append(str(caught.value))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
            table = retriever._tiers._table()
            await until(lambda: any(flight.waiters == 5 for flight in table.flights._flights.values()))
            go.set()
        assert errors == ["the first one fails"] * 5
        assert (await retriever.retrieve_or_research("why?", research)).tier == "fresh"
        assert asked == 2


async def test_a_generator_of_vectors_runs_in_the_models_thread() -> None:
    threads: set[int] = set()

    class Lazy:
        name, dimensions = "lazy", 2

        def embed(self, texts: Sequence[str]) -> Iterator[list[float]]:
            for text in texts:
                threads.add(threading.get_ident())
                yield [float(len(text)), 1.0]

    assert await ThreadedEmbedder(Lazy()).embed(["a", "bb"]) == [[1.0, 1.0], [2.0, 1.0]]
    assert len(threads) == 1
    assert threads.isdisjoint({threading.get_ident()})


async def test_a_model_may_use_its_array_again() -> None:
    class Buffer:
        name, dimensions = "buffer", 2
        array = np.zeros((1, 2), np.float32)

        async def embed(self, texts: Sequence[str]) -> Any:
            self.array[:] = len(texts[0])
            return self.array

    retriever = ResearchRetriever(VectorStorage(FakePool(), "x", 2), Buffer())
    first = await retriever._embed(["a"])
    await retriever._embed(["bb"])
    assert first.tolist() == [[1, 1]]


async def test_a_local_model_gives_finite_vectors_or_an_error() -> None:
    class Local(LocalModel):
        library, extra, default_batch_size = "numpy", "local", 1
        answer: Any = ((NAN, 1.0),)

        def _open(self) -> Any:
            return self

        def _encode(self, texts: list[str]) -> Any:
            return self.answer

    model = Local("local")
    with pytest.raises(ArgumentError, match="'local' gave no usable vector"):
        await model.embed(["a"])
    model.answer = [[1.0, 2.0]]
    vectors = await model.embed(["a"])
    assert (vectors.tolist(), vectors.dtype) == ([[1, 2]], np.float32)
