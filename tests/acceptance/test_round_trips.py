from __future__ import annotations

from typing import Any

import pytest
from tests.support.models import Words
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.watched import Watched, chunk

from preheat import ArgumentError, F, ResearchRetriever, VectorStorage

VECTOR = [1.0, 2.0, 3.0]


async def test_a_steady_search_is_one_round_trip(watched: Watched) -> None:
    await watched.fill("papers")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", 3, size=1, warm="never") as storage:
            for _ in range(3):
                await storage.search(VECTOR)
            before = sum(proxy.round_trips)
            for _ in range(10):
                assert len(await storage.search(VECTOR)) == 3
            round_trips = sum(proxy.round_trips) - before
    assert round_trips == 10


@pytest.mark.parametrize("dimensions", [3, None])
async def test_a_first_answer_on_a_cold_connection_is_at_most_six_round_trips(
    watched: Watched, dimensions: int | None
) -> None:
    await watched.fill("papers")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", dimensions, warm="never") as storage:
            assert len(await storage.search(VECTOR)) == 3
            round_trips = list(proxy.round_trips)
    assert len(round_trips) == 1
    assert sum(round_trips) <= 6, round_trips


async def test_a_first_retrieval_on_a_cold_connection_is_at_most_six_round_trips(watched: Watched) -> None:
    await watched.fill("papers", embedder="words")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", 3, warm="never") as storage:
            assert len(await ResearchRetriever(storage, Words()).retrieve("why?")) == 3
            round_trips = list(proxy.round_trips)
    assert len(round_trips) == 1
    assert sum(round_trips) <= 6, round_trips


async def test_a_second_retrieval_after_warming_on_first_use_is_one_round_trip(watched: Watched) -> None:
    await watched.fill("papers", embedder="words")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", 3, warm_timeout=20.0) as storage:
            retriever = ResearchRetriever(storage, Words())
            assert len(await retriever.retrieve("why?")) == 3
            before = list(proxy.round_trips)
            assert len(before) == 3
            assert len(await retriever.retrieve("why?")) == 3
            round_trips = sum(proxy.round_trips) - sum(before)
    assert round_trips == 1


async def test_the_first_search_after_a_warm_up_is_one_round_trip(watched: Watched) -> None:
    await watched.fill("papers")
    with RoundTripMeter(watched.server.port) as proxy:
        async with VectorStorage(watched.dsn_at(proxy.port), "papers", 3, warm_timeout=20.0) as storage:
            assert await storage.warm_pool()
            before = sum(proxy.round_trips)
            assert len(await storage.search(VECTOR)) == 3
            round_trips = sum(proxy.round_trips) - before
    assert round_trips == 1


async def test_the_first_retrieval_after_a_startup_warm_up_is_one_round_trip(watched: Watched) -> None:
    await watched.fill("papers", embedder="words")
    with RoundTripMeter(watched.server.port) as proxy:
        dsn = watched.dsn_at(proxy.port)
        async with VectorStorage(dsn, "papers", 3, warm="startup", warm_timeout=20.0) as storage:
            before = sum(proxy.round_trips)
            assert len(await ResearchRetriever(storage, Words()).retrieve("why?")) == 3
            round_trips = sum(proxy.round_trips) - before
    assert round_trips == 1


async def test_each_of_three_connections_is_warmed_with_the_round_trips_of_one(watched: Watched) -> None:
    await watched.fill("papers")
    round_trips: dict[int, list[int]] = {}
    for connections in (1, 3):
        with RoundTripMeter(watched.server.port) as proxy:
            dsn = watched.dsn_at(proxy.port)
            async with VectorStorage(dsn, "papers", 3, warm_connections=connections, warm_timeout=20.0) as storage:
                assert await storage.warm_pool()
                round_trips[connections] = list(proxy.round_trips)
    assert len(round_trips[1]) == 1
    assert round_trips[3] == round_trips[1] * 3


OPTIONS: dict[str, dict[str, Any]] = {
    "many hits": {"k": 60},
    "more hits than an index yields": {"k": 1500},
    "ef_search": {"ef_search": 100},
    "iterative scan": {"iterative_scan": "strict_order", "ef_search": 10},
    "another metric": {"metric": "l2"},
    "a filter": {"filter": F("n").missing() & ~F("tags").contains("x")},
    "a filter in a dict": {"filter": {"$or": [{"n": {"$exists": False}}, {"n": {"$gte": 1}}]}, "k": 20},
    "a least score": {"min_score": -1.0},
    "words": {"text": "text 7"},
    "words and exclusions": {"text": "text", "without": ["text 7"]},
    "exclusions alone": {"without": ["text 7"]},
    "no words": {"text": "the"},
    "differing hits": {"mmr": 0.5},
    "all together": {
        "text": "text 7",
        "without": ["8"],
        "mmr": 0.5,
        "ef_search": 100,
        "iterative_scan": "strict_order",
        "k": 10,
        "filter": F("n").missing() & (F("x") != 1),
        "min_score": -1.0,
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_a_steady_search_is_one_round_trip_whatever_is_asked_for(
    watched: Watched, options: dict[str, Any]
) -> None:
    await watched.fill("papers", 50)
    with RoundTripMeter(watched.server.port) as meter:
        async with VectorStorage(watched.dsn_at(meter.port), "papers", 3, size=1, warm="never") as storage:
            await storage.search(VECTOR, **options)
            before = sum(meter.round_trips)
            hits = await storage.search(VECTOR, **options)
            assert len(hits) == min(options.get("k", 5), 50)
            round_trips = sum(meter.round_trips) - before
    assert round_trips == 1


LIKE: dict[str, dict[str, Any]] = {
    "alone": {},
    "ef_search": {"ef_search": 100},
    "another metric": {"metric": "l2"},
    "differing hits": {"mmr": 0.5},
    "all together": {"mmr": 0.5, "ef_search": 100, "filter": F("n").missing(), "min_score": -1.0, "k": 10},
}


@pytest.mark.parametrize("options", LIKE.values(), ids=LIKE)
async def test_more_like_a_chunk_is_one_round_trip_whatever_is_asked_for(
    watched: Watched, options: dict[str, Any]
) -> None:
    await watched.fill("papers", 50)
    with RoundTripMeter(watched.server.port) as meter:
        async with VectorStorage(watched.dsn_at(meter.port), "papers", 3, size=1, warm="never") as storage:
            id = (await storage.search(VECTOR))[0].id
            await storage.more_like(id, **options)
            before = sum(meter.round_trips)
            hits = await storage.more_like(id, **options)
            assert len(hits) == options.get("k", 5)
            round_trips = sum(meter.round_trips) - before
    assert round_trips == 1


@pytest.mark.parametrize("options", [{}, OPTIONS["all together"]], ids=["alone", "all together"])
async def test_a_plan_is_one_round_trip(watched: Watched, options: dict[str, Any]) -> None:
    await watched.fill("papers", 50)
    with RoundTripMeter(watched.server.port) as meter:
        dsn = watched.dsn_at(meter.port)
        async with VectorStorage(dsn, "papers", 3, metric="cosine", size=1, warm="never") as storage:
            await storage.explain(VECTOR, **options)
            before = sum(meter.round_trips)
            await storage.explain(VECTOR, **options)
            assert sum(meter.round_trips) - before == 1
        async with VectorStorage(dsn, "papers", 3, size=1, warm="startup", warm_timeout=20.0) as storage:
            before = sum(meter.round_trips)
            await storage.explain(VECTOR, **options)
            await storage.explain(VECTOR, **options)
            assert sum(meter.round_trips) - before == 5  # two that are prepared: what the metric is, and the plan


@pytest.mark.parametrize("options", [{}, {"hybrid": True, "mmr": 0.5, "filter": F("n").missing(), "without": ["none"]}])
async def test_many_retrievals_are_one_round_trip_each(watched: Watched, options: dict[str, Any]) -> None:
    await watched.fill("papers", 50, embedder="words")
    with RoundTripMeter(watched.server.port) as meter:
        async with VectorStorage(watched.dsn_at(meter.port), "papers", 3, size=1, warm_timeout=20.0) as storage:
            retriever = ResearchRetriever(storage, Words())
            await retriever.retrieve("why?", **options)
            before = sum(meter.round_trips)
            found = await retriever.retrieve_many(["what?", "when?", "what?", "who?"], **options)
            assert [len(hits) for hits in found] == [5, 5, 5, 5]
            assert sum(meter.round_trips) - before == 3


@pytest.mark.parametrize("options", [{"k": 60}, {"ef_search": 100}, {"iterative_scan": "relaxed_order"}])
async def test_settings_of_a_search_are_hot_after_the_warm_up_and_are_not_left_behind(
    watched: Watched, options: dict[str, Any]
) -> None:
    await watched.fill("papers", 50)
    with RoundTripMeter(watched.server.port) as meter:
        dsn = watched.dsn_at(meter.port)
        async with VectorStorage(dsn, "papers", 3, size=1, warm="startup", warm_timeout=20.0) as storage:
            before = sum(meter.round_trips)
            await storage.search(VECTOR, **options)
            assert sum(meter.round_trips) - before == 1
            async with storage.pool.lease() as lease:
                names = ("ef_search", "iterative_scan")
                settings = [list((await lease.fetch(f"SHOW hnsw.{name}"))[0].values()) for name in names]
    assert settings == [["40"], ["off"]]


async def test_putting_a_connection_back_is_no_round_trip_and_what_a_user_did_to_it_is_undone(
    watched: Watched,
) -> None:
    with RoundTripMeter(watched.server.port) as meter:
        async with VectorStorage(watched.dsn_at(meter.port), "papers", 3, size=1, warm="never") as storage:
            async with storage.pool.lease() as lease:
                await lease.ping()
            before = sum(meter.round_trips)
            async with storage.pool.lease() as lease:
                await lease.ping()
            assert sum(meter.round_trips) - before == 1
            async with storage.get_connection() as connection:
                await connection.execute("SET statement_timeout = '7s'")
            async with storage.pool.lease() as lease:
                assert list((await lease.fetch("SHOW statement_timeout"))[0].values()) == ["0"]


async def test_a_batch_of_new_rows_is_stored_in_at_most_two_round_trips(watched: Watched) -> None:
    await watched.fill("papers")
    # As far away as servers are: the rows do not wait for the server to say that it takes them. From next door it says
    # so while they are being sent, and what is sent after that looks like another round trip.
    with RoundTripMeter(watched.server.port, round_trip=0.1) as meter:
        async with VectorStorage(watched.dsn_at(meter.port), "papers", 3, size=1, warm="never") as storage:
            await storage.add([chunk(100)])
            before = sum(meter.round_trips)
            await storage.add([chunk(number) for number in range(200, 300)])
            round_trips = sum(meter.round_trips) - before
    assert round_trips == 2  # the check of the version; the statement and its rows


async def test_a_setting_that_pgvector_does_not_have_is_refused(watched: Watched) -> None:
    await watched.fill("papers")
    async with VectorStorage(watched.dsn, "papers", 3, warm="never") as storage:
        for wrong in ({"ef_search": 0}, {"ef_search": 1001}, {"iterative_scan": "sometimes"}):
            with pytest.raises(ArgumentError, match=r"(ef_search|iterative_scan) is"):
                await storage.search(VECTOR, **wrong)
