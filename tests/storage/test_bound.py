"""A storage that is bound to a model, for callers such as a retriever."""

from __future__ import annotations

import pytest

from preheat import Chunk, EmbedderError, VectorStorage
from preheat.storage import collections
from preheat.testing import FakePool


async def test_chunks_stored_through_a_bound_storage_belong_to_its_model(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        bound = storage.bound_to("letters")

        await bound.add([Chunk("a", [1.0, 0.0])])

        (info,) = [info for info in await collections(dsn) if info.name == collection]
        assert (info.embedder, bound.embedder, storage.embedder) == ("letters", "letters", None)
        assert [hit.text for hit in await storage.search([1.0, 0.0])] == ["a"]
        assert [hit.text for hit in await bound.search([1.0, 0.0])] == ["a"]


async def test_another_model_is_bound_to_the_same_storage_and_refused_when_it_is_used(
    dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.bound_to("letters").add([Chunk("a", [1.0, 0.0])])
        other = storage.bound_to("numbers")

        for call in (
            lambda: other.search([1.0, 0.0]),
            lambda: other.add([Chunk("b", [0.0, 1.0])]),
            lambda: other.upsert([Chunk("b", [0.0, 1.0])]),
        ):
            with pytest.raises(EmbedderError, match="'letters'"):
                await call()

        assert await storage.count() == 1
        await storage.add([Chunk("b", [0.0, 1.0])])  # whoever names no model is not refused
        assert len(await storage.bound_to("letters").search([1.0, 0.0])) == 2


async def test_a_model_is_refused_in_each_search_and_not_only_in_the_first(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.bound_to("letters").add([Chunk("a", [1.0, 0.0])])
        other = storage.bound_to("numbers")
        await storage.search([1.0, 0.0])
        for _ in range(3):
            with pytest.raises(EmbedderError):
                await other.search([1.0, 0.0])


async def test_a_bound_storage_shares_the_pool_and_the_warm_ups() -> None:
    storage = VectorStorage(FakePool(), "x", 2)
    bound = storage.bound_to("letters")
    async with storage:
        assert bound.pool is storage.pool
        assert bound.warm_once is storage.warm_once
        assert bound.answer_table is storage.answer_table
        assert await bound.warm_pool()
        assert storage.warm_report is bound.warm_report is not None


def test_a_storage_that_was_opened_for_a_model_is_bound_to_no_other() -> None:
    storage = VectorStorage(FakePool(), "x", 2, embedder="letters")

    assert storage.bound_to("letters").embedder == "letters"
    with pytest.raises(EmbedderError, match="'letters'"):
        storage.bound_to("numbers")
