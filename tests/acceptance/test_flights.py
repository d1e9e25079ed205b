from __future__ import annotations

import pytest
from benchmarks.meter import RoundTripMeter
from tests.acceptance.kit import Watched, Words

from preheat import ResearchRetriever, VectorStorage

VECTOR = [1.0, 2.0, 3.0]


async def test_a_steady_search_is_one_round_trip(watched: Watched) -> None:
    await watched.fill("papers")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", 3, size=1, warm="never") as storage:
            for _ in range(3):
                await storage.search(VECTOR)
            before = sum(proxy.flights)
            for _ in range(10):
                assert len(await storage.search(VECTOR)) == 3
            flights = sum(proxy.flights) - before
    assert flights == 10


@pytest.mark.parametrize("dimensions", [3, None])
async def test_a_first_answer_on_a_cold_connection_is_at_most_six_round_trips(
    watched: Watched, dimensions: int | None
) -> None:
    await watched.fill("papers")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", dimensions, warm="never") as storage:
            assert len(await storage.search(VECTOR)) == 3
            flights = list(proxy.flights)
    assert len(flights) == 1
    assert sum(flights) <= 6, flights


async def test_a_first_retrieval_on_a_cold_connection_is_at_most_six_round_trips(watched: Watched) -> None:
    await watched.fill("papers", embedder="words")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", 3, warm="never") as storage:
            assert len(await ResearchRetriever(storage, Words()).retrieve("why?")) == 3
            flights = list(proxy.flights)
    assert len(flights) == 1
    assert sum(flights) <= 6, flights


async def test_a_second_retrieval_after_warming_on_first_use_is_one_round_trip(watched: Watched) -> None:
    await watched.fill("papers", embedder="words")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", 3, warm_timeout=20.0) as storage:
            retriever = ResearchRetriever(storage, Words())
            assert len(await retriever.retrieve("why?")) == 3
            before = list(proxy.flights)
            assert len(before) == 3
            assert len(await retriever.retrieve("why?")) == 3
            flights = sum(proxy.flights) - sum(before)
    assert flights == 1


async def test_the_first_search_after_a_warm_up_is_one_round_trip(watched: Watched) -> None:
    await watched.fill("papers")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", 3, warm_timeout=20.0) as storage:
            assert await storage.warm_pool()
            before = sum(proxy.flights)
            assert len(await storage.search(VECTOR)) == 3
            flights = sum(proxy.flights) - before
    assert flights == 1


async def test_the_first_retrieval_after_a_startup_warm_up_is_one_round_trip(watched: Watched) -> None:
    await watched.fill("papers", embedder="words")
    with RoundTripMeter(watched.server.port) as proxy:
        dsn = watched.dsn_at(proxy.port)
        async with VectorStorage(dsn, "papers", 3, warm="startup", warm_timeout=20.0) as storage:
            before = sum(proxy.flights)
            assert len(await ResearchRetriever(storage, Words()).retrieve("why?")) == 3
            flights = sum(proxy.flights) - before
    assert flights == 1


async def test_each_of_three_connections_is_warmed_with_the_round_trips_of_one(watched: Watched) -> None:
    await watched.fill("papers")
    flights: dict[int, list[int]] = {}
    for connections in (1, 3):
        with RoundTripMeter(watched.server.port) as proxy:
            dsn = watched.dsn_at(proxy.port)
            async with VectorStorage(dsn, "papers", 3, warm_connections=connections, warm_timeout=20.0) as storage:
                assert await storage.warm_pool()
                flights[connections] = list(proxy.flights)
    assert len(flights[1]) == 1
    assert flights[3] == flights[1] * 3
