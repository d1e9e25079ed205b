"""A zero vector has no direction: by cosine nothing is near to it, whichever way one asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.plans import WAYS
from tests.support.server import Server

from preheat import ArgumentError, Chunk, F, VectorStorage
from preheat.storage.encoding.vectors import check_query_direction, may_lose_direction
from preheat.testing import FakePool

SEARCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "filtered": {"filter": F("x").missing()},
    "filtered by an equality": {"filter": F("lang") == "en"},
    "hybrid": {"text": "pump"},
    "hybrid without a word": {"text": "nothing"},
    "excluding": {"without": ["nothing"]},
    "diverse": {"mmr": 0.5},
    "all": {"text": "pump", "mmr": 0.5, "filter": F("lang") == "en", "without": ["nothing"]},
    "a short scan": {"ef_search": 20},
}


async def store(storage: VectorStorage) -> None:
    """Three chunks, and two with zero vectors, as an earlier version or another program has stored them."""
    texts = {
        "o": [1.0, 0.0, 0.0],
        "p": [0.0, 1.0, 0.0],
        "q": [0.0, 0.0, 1.0],
        "y": [1.0, 1.0, 1.0],
        "z": [1.0, 1.0, 1.0],
    }
    await storage.add([Chunk(f"pump {id}", vector, {"lang": "en"}, id=id) for id, vector in texts.items()])
    async with storage.get_connection() as connection:
        await connection.execute(
            f"UPDATE \"preheat_{storage.collection}\" SET embedding = '[0,0,0]' WHERE id IN ('y', 'z')"
        )


@pytest.mark.parametrize("type", ["vector", "halfvec"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_stored_ones_are_passed_over_by_every_search_alike(
    dsn: str, collection: str, way: str, type: Any
) -> None:
    async with VectorStorage(dsn + way, collection, 3, vector_type=type, size=1, warm="never") as storage:
        await store(storage)
        for name, options in SEARCHES.items():
            hits = await storage.search([1, 0, 0], 10, **options)
            assert sorted(hit.id for hit in hits) == ["o", "p", "q"], name
            assert all(hit.distance == hit.distance for hit in hits), name
            assert hits.is_complete, name
        for options in ({}, {"mmr": 0.5}, {"filter": F("x").missing()}):
            assert sorted(hit.id for hit in await storage.more_like("o", 10, **options)) == ["p", "q"]
        for metric in ("l2", "inner_product"):
            hits = await storage.search([1, 0, 0], 10, metric=metric)
            assert sorted(hit.id for hit in hits) == ["o", "p", "q", "y", "z"]


async def test_a_search_by_cosine_of_another_collection_passes_them_over(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, metric="l2", size=1, warm="never") as storage:
        await store(storage)
        for name, options in SEARCHES.items():
            hits = await storage.search([1, 0, 0], 10, metric="cosine", **options)
            assert sorted(hit.id for hit in hits) == ["o", "p", "q"], name
            assert len(await storage.search([1, 0, 0], 10, **options)) == 5


async def test_the_metric_is_learned_of_zero_vectors_alone(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, metric="l2", size=1, warm="never") as storage:
        await storage.add([Chunk("zero", [0, 0], id="z")])
    for vector in ([1, 0], [0, 0]):
        async with VectorStorage(dsn, collection, size=1, warm="never") as storage:
            assert [hit.id for hit in await storage.search(vector)] == ["z"]
            assert storage.metric == "l2"


NOTHING: dict[str, Any] = {
    "a list": [0.0, 0.0, 0.0],
    "an array": np.zeros(3, np.float32),
    "minus zero": np.array([-0.0, 0.0, -0.0]),
    "less than float32 holds": [1e-60, 0.0, -1e-60],
}


@pytest.mark.parametrize("vector", NOTHING.values(), ids=NOTHING)
async def test_one_to_search_for_is_refused_by_cosine_alone(dsn: str, collection: str, vector: Any) -> None:
    async with VectorStorage(dsn, collection, 3, size=1, warm="never") as storage:
        await store(storage)
        for options in SEARCHES.values():
            for call in (storage.search(vector, 10, **options), storage.explain(vector, 10, **options)):
                with pytest.raises(ArgumentError, match="the vector to search for is zero"):
                    await call
            hits = await storage.search(vector, 10, **options, metric="l2")
            assert len(hits) == 5
            assert len(await storage.search(vector, 10, **options, metric="inner_product")) == 5
        with pytest.raises(ArgumentError, match="the vector of chunk 'z' is zero, so that no other is like it"):
            await storage.more_like("z")
        assert len(await storage.more_like("z", 10, metric="l2")) == 4


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("metric", ["cosine", "inner_product"])
@pytest.mark.parametrize("small", [[1e-9, -2e-8, 0.0], [4e-8, 1e-8, 2e-8]], ids=["to nothing", "to another direction"])
async def test_one_that_float16_would_change_is_refused_there_alone(
    dsn: str, collection: str, said: bool, metric: Any, small: list[float]
) -> None:
    for type, name in (("halfvec", collection), ("vector", f"{collection}_v")):
        async with VectorStorage(dsn, name, 3, metric=metric, vector_type=type, size=1, warm="never") as storage:  # type: ignore[arg-type]
            await store(storage)
    options: dict[str, Any] = {"metric": metric, "dimensions": 3} if said else {}
    async with VectorStorage(dsn, collection, **options, size=1, warm="never") as storage:
        for search in SEARCHES.values():
            for call in (storage.search(small, **search), storage.explain(small, **search)):
                with pytest.raises(ArgumentError, match=r"the vector to search for .* float16 would change it by"):
                    await call
        assert len(await storage.search(small, 10, metric="l2")) == 5
    async with VectorStorage(dsn, f"{collection}_v", **options, size=1, warm="never") as storage:
        for search in SEARCHES.values():
            hits = await storage.search(small, 10, **search)
            assert {"o", "p", "q"} <= {hit.id for hit in hits}


async def test_it_is_refused_before_anything_is_sent_if_all_is_known() -> None:
    pool = FakePool()
    async with VectorStorage(pool, "x", 2, metric="cosine", vector_type="vector") as storage:
        with pytest.raises(ArgumentError, match="search with metric='l2'"):
            await storage.search([0, 0])
    assert pool.opens == 0


async def test_a_search_is_one_round_trip_whatever_it_begins_with(server: Server, dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, size=1, warm="never") as storage:
        await store(storage)
    with RoundTripMeter(server.port) as meter:
        async with VectorStorage(server.dsn("tests", port=meter.port), collection, size=1, warm="never") as storage:
            await storage.search([0, 0, 1])
            before = sum(meter.round_trips)
            assert len(await storage.search([0, 1e-9, 1])) == 3
            assert sum(meter.round_trips) - before == 1


def test_vectors_that_float16_may_turn_to_zero_are_detected() -> None:
    for vector in ("[0.0]", "[-0.0,0.0]", "[0.0,1e-30]", "[0.5,1e25]", "[1e-9]", "[0.0001,-0.0001]"):
        assert may_lose_direction(vector)
    for vector in ("[0.0,0.0,1.0]", "[1.5]", "[0.25,1e-9]", "[-0.1,0.0]", "[0.0,0.0003]"):
        assert not may_lose_direction(vector)
        for metric in ("cosine", "inner_product", "l2"):
            check_query_direction(vector, "vector", metric)  # type: ignore[arg-type]
            check_query_direction(vector, "halfvec", metric)  # type: ignore[arg-type]
    check_query_direction("[0.0,1e-9]", "vector", "cosine")
    check_query_direction("[0.0001,-0.0001]", "halfvec", "cosine")
    check_query_direction("[0.0]", "halfvec", "inner_product")
    check_query_direction("[1e-9]", "halfvec", "l2")
    for vector, told in (("[0.0,1e-9]", "float16 would change it by 100%"), ("[0.0]", "is zero")):
        with pytest.raises(ArgumentError, match=told):
            check_query_direction(vector, "halfvec", "cosine")
    for vector in ("[0.5,1e25]", "[1e-19]"):
        with pytest.raises(ArgumentError, match="scale it to a length of 1"):
            check_query_direction(vector, "vector", "cosine")


def test_the_most_numbers_that_are_surely_kept_are_kept() -> None:
    worst = [2.0**-25] * 3999
    text = ",".join(map(str, [2.001e-4, *worst]))
    assert not may_lose_direction(f"[{text}]")
    check_query_direction(f"[{text}]", "halfvec", "cosine")


@pytest.mark.parametrize("length", [1e-19, 1e20])
async def test_one_of_a_length_without_a_cosine_is_refused(dsn: str, collection: str, length: float) -> None:
    async with VectorStorage(dsn, collection, 3, size=1, warm="never") as storage:
        await store(storage)
        for options in SEARCHES.values():
            with pytest.raises(ArgumentError, match="the length of the vector to search for is"):
                await storage.search([0.0, length, 0.0], **options)
