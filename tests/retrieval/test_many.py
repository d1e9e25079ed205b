"""Several queries in one call, hybrid retrievals, and their plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from tests.support.models import AsyncLetters

from preheat import ArgumentError, CollectionError, F, Hit, ResearchRetriever, VectorStorage
from preheat._concurrency.gather import gather_bounded
from preheat.testing import FakePool


class Sized:
    size = 3


class Slow:
    """A storage with a pool of three, whose searches last until the test ends them."""

    pool = Sized()
    warm_policy = "never"

    def __init__(self, holds: bool = True) -> None:
        self.under_way = self.most = 0
        self.full, self.release = anyio.Event(), anyio.Event()
        self.options: list[dict[str, Any]] = []
        if not holds:
            self.release.set()

    async def warm_pool(self) -> bool:
        return True

    async def search(self, vector: Any, k: int = 5, **options: Any) -> list[Hit]:
        self.options.append(options)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way == self.pool.size:
            self.full.set()
        await self.release.wait()
        await anyio.lowlevel.checkpoint()
        self.under_way -= 1
        return [Hit(str(float(vector.sum())), "", 0, 0, "", 0, {})]

    async def replace_document(self, document: str, chunks: Any) -> int:
        return len(chunks)


async def test_each_query_gets_the_hits_of_a_single_retrieval(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 26, size=2) as storage:
        retriever = ResearchRetriever(storage, AsyncLetters())
        for letter in "abcdefgh":
            await retriever.add(f"{letter}.md", f"{letter * 5} {letter * 3}")
        queries = ["aaaa", "bbbb", "hh gg", "aaaa", "ccc"]
        options: list[dict[str, Any]] = [
            {},
            {"filter": F("start") == 0, "min_score": 0.5},
            {"hybrid": True},
            {"mmr": 0.5},
            {"without": ["bbb"]},
            {"hybrid": True, "mmr": 0.5, "filter": F("start") == 0, "without": ["ccc"]},
        ]
        for chosen in options:
            found = await retriever.retrieve_many(queries, 3, **chosen)
            assert found == [await retriever.retrieve(query, 3, **chosen) for query in queries]
            assert found[0] is not found[3]
        assert retriever.pool_warmed


async def test_the_model_is_called_once_for_all_queries_that_are_not_remembered(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 26, warm="never") as storage:
        for size, again in ((256, 0), (2, 1), (0, 1)):
            embedder = AsyncLetters()
            retriever = ResearchRetriever(storage, embedder, query_cache=size)
            await retriever.retrieve("one")
            await retriever.retrieve_many(["two", "one", "two", "three", "four"])
            missing = ["two", "three", "four"] if size else ["two", "one", "three", "four"]
            assert embedder.batches == [["one"], missing]
            await retriever.retrieve_many(["four", "one"])
            assert len(embedder.batches) == 2 + again


async def test_as_many_searches_run_at_a_time_as_the_pool_has_connections() -> None:
    storage = Slow()
    retriever = ResearchRetriever(storage, AsyncLetters())
    queries = ["a" * n for n in range(1, 11)]
    found: list[list[Hit]] = []

    async def ask() -> None:
        found.extend(await retriever.retrieve_many(queries))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await storage.full.wait()
        await anyio.wait_all_tasks_blocked()
        assert storage.most == 3
        storage.release.set()
    assert storage.most == 3
    assert [hits[0].id for hits in found] == [str(26.0 + n) for n in range(1, 11)]


async def test_a_first_call_warms_while_the_model_works_and_later_ones_do_not(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 26, warm_timeout=20.0) as storage:
        retriever = ResearchRetriever(storage, AsyncLetters())
        assert await retriever.retrieve_many([]) == []
        assert not retriever.pool_warmed
        assert await retriever.retrieve_many(["a", "b"]) == [[], []]
        assert retriever.pool_warmed
        report = storage.warm_report
        await retriever.retrieve_many(["c"])
        assert storage.warm_report is report


async def test_an_error_is_raised_ungrouped_and_cancels_the_other_searches() -> None:
    class Failing(Slow):
        async def search(self, vector: Any, k: int = 5, **options: Any) -> list[Hit]:
            self.under_way += 1
            if self.under_way == 2:
                raise CollectionError("it is gone")
            await anyio.sleep_forever()
            raise AssertionError

    storage = Failing()
    with pytest.raises(CollectionError, match="it is gone"):
        await ResearchRetriever(storage, AsyncLetters()).retrieve_many(["a", "b", "c", "d", "e"])
    assert storage.under_way == 3  # the others were never begun


async def test_the_first_of_two_errors_is_raised() -> None:
    async def work(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        raise CollectionError(str(number))

    with pytest.raises(CollectionError):
        await gather_bounded(work, range(5), 5)


async def test_a_cancelled_call_ends_its_searches() -> None:
    storage = Slow()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await storage.full.wait()
                scope.cancel()

            group.start_soon(cancel)
            await ResearchRetriever(storage, AsyncLetters()).retrieve_many(["a", "b", "c", "d"])
    assert scope.cancelled_caught


async def test_a_storage_is_passed_only_the_options_of_the_caller() -> None:
    storage = Slow(holds=False)
    retriever = ResearchRetriever(storage, AsyncLetters())
    await retriever.retrieve("a")
    await retriever.retrieve("a", hybrid=True, mmr=0.25)
    await retriever.retrieve_many(["a"])
    await retriever.retrieve_many(["a b", "-c"], hybrid=True)
    await retriever.retrieve("a", without=["b"])
    asked = [{}, {"text": "a", "mmr": 0.25}, {}, {"text": "a b"}, {"text": "-c"}, {"without": ["b"]}]
    assert storage.options == asked


async def test_invalid_options_are_refused_before_anything_is_embedded() -> None:
    embedder = AsyncLetters()
    async with VectorStorage(FakePool(), "x", 26) as storage:
        retriever = ResearchRetriever(storage, embedder)
        for wrong in ("a string", ["a", ""], ["a", "b\0"], ["a", "\ud800"]):
            with pytest.raises(ArgumentError, match=r"quer(y|ies) "):
                await retriever.retrieve_many(wrong)
        wrongs = ({"k": 0}, {"mmr": 2}, {"min_score": "x"}, {"filter": 5}, {"mmr": 0.5, "k": 2000}, {"without": "word"})
        for options in wrongs:
            for ask in (retriever.retrieve, retriever.explain):
                with pytest.raises(ArgumentError):
                    await ask("a", **options)  # type: ignore[operator]
            with pytest.raises(ArgumentError):
                await retriever.retrieve_many(["a"], **options)  # type: ignore[arg-type]
    assert embedder.batches == []


async def test_a_wrong_vector_is_forgotten() -> None:
    class Wrong(AsyncLetters):
        async def embed(self, texts: Sequence[str]) -> Any:
            return await super().embed(texts) * np.nan

    embedder = Wrong()
    async with VectorStorage(FakePool(), "x", 26, warm="never") as storage:
        retriever = ResearchRetriever(storage, embedder)
        for _ in range(2):
            with pytest.raises(ArgumentError, match="cannot be stored"):
                await retriever.retrieve_many(["a"])
    assert embedder.batches == [["a"], ["a"]]


async def test_a_retrieval_is_explained(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 26, size=1, warm="never") as storage:
        retriever = ResearchRetriever(storage, AsyncLetters())
        await retriever.add("a.md", "aaaa aaaa")
        plan = await retriever.explain("aaaa")
        assert plan.statement == (await storage.explain([1.0] * 26)).statement
        assert "websearch_to_tsquery" in (await retriever.explain("aaaa", hybrid=True, mmr=0.5)).statement


async def test_a_storage_without_explain_is_reported() -> None:
    embedder = AsyncLetters()
    with pytest.raises(ArgumentError, match="a Slow explains nothing; give the retriever a"):
        await ResearchRetriever(Slow(), embedder).explain("a")
    assert embedder.batches == []
