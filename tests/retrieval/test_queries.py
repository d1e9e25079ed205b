from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import numpy as np
import pytest

from preheat import ArgumentError, Chunk, Hit, ResearchRetriever, VectorStorage
from preheat.retrieval.queries import QueryVectors
from preheat.testing import FakePool


class Counting:
    """A model that records its texts."""

    name, dimensions = "counting", 2

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.works = anyio.Event()
        self.works.set()

    async def embed(self, texts: Sequence[str]) -> Any:
        self.asked += texts
        await self.works.wait()
        return np.array([[float(len(text)), 1.0] for text in texts], dtype=np.float32)


class RecordingStorage:
    """A storage that records the vectors of its searches."""

    def __init__(self) -> None:
        self.vectors: list[list[float]] = []

    async def warm_pool(self) -> bool:
        return True

    async def search(self, vector: Any, k: int = 5, **more: Any) -> list[Hit]:
        await anyio.lowlevel.checkpoint()
        self.vectors.append(list(vector))
        return []

    async def replace_document(self, document: str, chunks: Sequence[Chunk]) -> int:
        return len(chunks)


async def test_a_repeated_question_is_not_embedded_again() -> None:
    model, storage = Counting(), RecordingStorage()
    retriever = ResearchRetriever(storage, model)
    for query in ("why?", "how?", "why?", "why? ", "how?"):
        await retriever.retrieve(query)
    assert model.asked == ["why?", "how?", "why? "]
    assert storage.vectors == [[4.0, 1.0], [4.0, 1.0], [4.0, 1.0], [5.0, 1.0], [4.0, 1.0]]


async def test_the_least_recently_used_question_is_forgotten_first() -> None:
    model = Counting()
    retriever = ResearchRetriever(RecordingStorage(), model, query_cache=2)
    for query in ("a", "b", "a", "c", "a", "b"):
        await retriever.retrieve(query)
    assert model.asked == ["a", "b", "c", "b"]


async def test_with_a_cache_of_0_every_question_is_embedded() -> None:
    model = Counting()
    retriever = ResearchRetriever(RecordingStorage(), model, query_cache=0)
    await retriever.retrieve("a")
    await retriever.retrieve("a")
    assert model.asked == ["a", "a"]


def test_a_negative_cache_size_is_refused() -> None:
    with pytest.raises(ArgumentError, match="query_cache is -1"):
        ResearchRetriever(RecordingStorage(), Counting(), query_cache=-1)


async def test_texts_that_are_stored_are_embedded_each_time() -> None:
    model = Counting()
    retriever = ResearchRetriever(RecordingStorage(), model)
    await retriever.retrieve("words")
    await retriever.add("a.md", "words")
    await retriever.add("a.md", "words")
    assert model.asked == ["words"] * 3
    await retriever.retrieve("words")
    assert len(model.asked) == 3


async def test_a_cancelled_question_is_not_remembered() -> None:
    model = Counting()
    model.works = anyio.Event()
    retriever = ResearchRetriever(RecordingStorage(), model)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(retriever.retrieve, "a")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    model.works.set()
    await retriever.retrieve("a")
    assert model.asked == ["a", "a"]


async def test_a_question_that_failed_is_not_remembered() -> None:
    class Flaky(Counting):
        async def embed(self, texts: Sequence[str]) -> Any:
            vectors = await super().embed(texts)
            if len(self.asked) == 1:
                raise KeyError("model")
            return vectors[:0] if len(self.asked) == 2 else vectors

    model = Flaky()
    retriever = ResearchRetriever(RecordingStorage(), model)
    with pytest.raises(KeyError):
        await retriever.retrieve("a")
    with pytest.raises(ArgumentError, match="0 vectors"):
        await retriever.retrieve("a")
    for _ in range(2):
        await retriever.retrieve("a")
    assert model.asked == ["a", "a", "a"]


async def test_a_vector_that_the_storage_refuses_is_not_remembered() -> None:
    class Mends(Counting):
        async def embed(self, texts: Sequence[str]) -> Any:
            vectors = await super().embed(texts)
            return vectors * float("nan") if len(self.asked) == 1 else vectors

    model = Mends()
    async with VectorStorage(FakePool(), "x", 2) as storage:
        retriever = ResearchRetriever(storage, model)
        with pytest.raises(ArgumentError, match="finite"):
            await retriever.retrieve("a")
        for _ in range(2):
            assert await retriever.retrieve("a") == []
    assert model.asked == ["a", "a"]


@pytest.mark.parametrize("way", ["retrieve", "retrieve_many", "explain", "retrieve_or_research"])
async def test_a_question_whose_vector_had_no_direction_is_embedded_again(dsn: str, collection: str, way: str) -> None:
    class Mends(Counting):
        async def embed(self, texts: Sequence[str]) -> Any:
            vectors = await super().embed(texts)
            return vectors * 0 if len(self.asked) == 1 else vectors

    async def research(query: str) -> str:
        return query

    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "retrieve": lambda: retriever.retrieve("a"),
        "retrieve_many": lambda: retriever.retrieve_many(["a"]),
        "explain": lambda: retriever.explain("a"),
        "retrieve_or_research": lambda: retriever.retrieve_or_research("a", research),
    }
    model = Mends()
    async with VectorStorage(dsn, f"{collection}_{way}", 2) as storage:
        await storage.add([Chunk("text", [1.0, 1.0])])
        retriever = ResearchRetriever(storage, model)
        with suppress(ArgumentError):
            await calls[way]()
        for _ in range(2):
            assert len(await retriever.retrieve("a")) == 1
    assert model.asked == ["a", "a"]


async def test_a_vector_that_only_explain_refuses_is_not_remembered(dsn: str, collection: str) -> None:
    class Mends(Counting):
        async def embed(self, texts: Sequence[str]) -> Any:
            vectors = await super().embed(texts)
            return vectors * 100_000 if len(self.asked) == 1 else vectors

    model = Mends()
    async with VectorStorage(dsn, collection, 2, vector_type="halfvec") as storage:
        await storage.add([Chunk("text", [1.0, 1.0])])
        retriever = ResearchRetriever(storage, model)
        with pytest.raises(ArgumentError, match="float16"):
            await retriever.explain("a")
        await retriever.explain("a")
    assert model.asked == ["a", "a"]


async def test_concurrent_questions_are_all_answered() -> None:
    model, storage = Counting(), RecordingStorage()
    retriever = ResearchRetriever(storage, model)
    async with anyio.create_task_group() as tasks:
        for query in ("a", "a", "bb", "a", "bb"):
            tasks.start_soon(retriever.retrieve, query)
    assert sorted(storage.vectors) == [[1.0, 1.0]] * 3 + [[2.0, 1.0]] * 2


async def test_a_remembered_question_still_warms_the_pool() -> None:
    model = Counting()
    async with VectorStorage(FakePool(), "x", 2) as storage:
        retriever = ResearchRetriever(storage, model)
        await retriever.retrieve("a")
        storage.warm_once.reset()
        assert not retriever.pool_warmed
        await retriever.retrieve("a")
        assert retriever.pool_warmed
    assert model.asked == ["a"]


async def test_the_cache_holds_a_copy_of_a_vector() -> None:
    vectors = np.ones((3, 2), dtype=np.float32)

    async def embed(texts: Sequence[str]) -> Any:
        return vectors

    queries = QueryVectors(embed, 2)
    await queries.vector_of("a")
    vectors[:] = 7
    remembered = await queries.vector_of("a")
    assert list(remembered) == [1.0, 1.0]
    assert remembered.base is None
    with pytest.raises(ArgumentError, match="refused"), queries.forgotten_if_refused("a"):
        raise ArgumentError("refused")
    assert list(await queries.vector_of("a")) == [7.0, 7.0]
