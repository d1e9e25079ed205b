"""Filtered searches on a real PostgreSQL, beside an oracle and beside brute force."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from tests.support.filters import as_dict, as_expression, cases, matches
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.server import Server

from preheat import ArgumentError, Chunk, EmbedderError, F, VectorStorage
from preheat.storage.filters.sql import condition
from preheat.storage.filters.tree import as_filter
from preheat.storage.identifiers import Identifiers
from preheat.storage.search import sql as search_statements
from preheat.storage.search.plan import PlanNode
from preheat.testing import FakePool

ANY_WAY = ""
BY_THE_METADATA = "&enable_seqscan=off&enable_indexscan=off"
BY_THE_VECTORS = "&enable_seqscan=off&enable_bitmapscan=off&enable_sort=off"
GIVING_UP = f"{BY_THE_VECTORS}&hnsw.max_scan_tuples=1"
"""Settings of a session, at the end of a DSN: the ways that PostgreSQL may take."""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.timeout(300)
def test_property_a_filter_finds_what_its_meaning_says(dsn: str, backend: str) -> None:
    """Whatever lies in the metadata, whatever is asked, however it is written and whichever index is used."""
    name = f"oracle_{backend}"

    @asynccontextmanager
    async def opened() -> AsyncGenerator[list[VectorStorage]]:
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(VectorStorage(dsn + way, name, 2, size=1, warm="never"))
                for way in (ANY_WAY, BY_THE_METADATA, BY_THE_VECTORS)
            ]

    with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(opened()) as storages:

        async def compare(stored: list[dict[str, Any]], asked: list[Any]) -> None:
            chunks = [Chunk("", [1.0, n], metadata, "d", id=str(n)) for n, metadata in enumerate(stored)]
            await storages[0].replace_document("d", chunks)
            for filter in asked:
                expected = [str(n) for n, metadata in enumerate(stored) if matches(filter, metadata)]
                for storage in storages:
                    for written in (as_expression(filter), as_dict(filter)):
                        hits = await storage.search([1.0, 0.0], len(stored) + 1, filter=written)
                        assert [hit.id for hit in hits] == expected, written

        @settings(max_examples=max(10, settings.default.max_examples // 2))
        @given(cases())
        def look(case: tuple[list[dict[str, Any]], list[Any]]) -> None:
            portal.call(compare, *case)

        look()


# Many rows

ROWS, DIMENSIONS = 3000, 8
RNG = np.random.default_rng(11)
VECTORS = RNG.standard_normal((ROWS, DIMENSIONS), dtype=np.float32)
QUERY = RNG.standard_normal(DIMENSIONS, dtype=np.float32)
COSINES = VECTORS @ QUERY / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(QUERY)
MANY = "filtered_many"

KEPT: dict[str, tuple[Any, Callable[[int], bool]]] = {
    "10 %": (F("tenth") == 0, lambda n: n % 10 == 0),
    "1 %": (F("hundredth") == 0, lambda n: n % 100 == 0),
    "0.1 %": (F("thousandth") == 0, lambda n: n % 1000 == 0),
    "10 % by order": (F("n") < 300, lambda n: n < 300),
    "1 % by order": (F("n") < 30, lambda n: n < 30),
    "0.1 % by order": ({"n": {"$gte": 10, "$lt": 13}}, lambda n: 10 <= n < 13),
    "1 % by a list": (F("n").in_(range(30)), lambda n: n < 30),
    "1 % by an element": (F("digits").contains(99), lambda n: n % 100 == 99),
    "90 %": (F("tenth") != 0, lambda n: n % 10 != 0),
    "all": ({}, lambda _: True),
    "none": (F("tenth") == 10, lambda _: False),
}


def numbered(n: int) -> Chunk:
    metadata = {"n": n, "tenth": n % 10, "hundredth": n % 100, "thousandth": n % 1000, "digits": [n % 10, n % 100]}
    return Chunk(f"text {n}", VECTORS[n], metadata, "d", n, id=str(n))


@pytest.fixture(scope="module")
def many(dsn: str) -> str:
    """The DSN of a database with a collection of many rows."""

    async def store() -> None:
        async with VectorStorage(dsn, MANY, DIMENSIONS, index=False, warm="never") as storage:
            await storage.add(map(numbered, range(ROWS)))
            await storage.create_index()
            async with storage.get_connection() as connection:
                await connection.execute(f'ANALYZE "preheat_{MANY}"')

    anyio.run(store)
    return dsn


def nearest(passes: Callable[[int], bool], k: int) -> list[str]:
    """By brute force."""
    numbers = sorted(filter(passes, range(ROWS)), key=lambda n: -COSINES[n])
    return [str(n) for n in numbers[:k]]


@contextmanager
def limit(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> Iterator[None]:
    """Another number of rows in the statement of a filtered search."""
    with monkeypatch.context() as patch:
        patch.setattr(search_statements, name, value)
        search_statements.filtered_search.cache_clear()
        try:
            yield
        finally:
            search_statements.filtered_search.cache_clear()


WAYS = {"any": ANY_WAY, "by the metadata": BY_THE_METADATA, "by the vectors": BY_THE_VECTORS, "giving up": GIVING_UP}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_as_many_hits_are_found_as_there_are(many: str, way: str) -> None:
    async with VectorStorage(many + way, MANY, size=1, warm="never") as storage:
        for kept, passes in KEPT.values():
            for k in (5, 30, 60):
                hits = await storage.search(QUERY, k, filter=kept)
                expected = nearest(passes, k)
                assert len(hits) == len(expected), (kept, k)
                assert all(passes(hit.metadata["n"]) for hit in hits), (kept, k)
                assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
                recall = 1.0 if way == BY_THE_METADATA else 0.8  # what goes by the vectors is approximate
                assert len({hit.id for hit in hits} & set(expected)) >= recall * len(expected), (kept, k)


async def test_in_a_large_table_the_scan_of_the_index_goes_on(many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with limit(monkeypatch, "FEW", 0):  # it has to
        async with VectorStorage(many + BY_THE_VECTORS, MANY, size=1, warm="never") as storage:
            for tenth in range(10):
                hits = await storage.search(QUERY, 10, filter=F("tenth") == tenth)
                assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
                expected = nearest(lambda n, tenth=tenth: n % 10 == tenth, 10)
                assert len({hit.id for hit in hits} & set(expected)) >= 8
            async with storage.pool.lease() as lease:
                (row,) = await lease.fetch("SELECT current_setting('hnsw.iterative_scan', true) AS now")
                assert row["now"] in ("off", None)  # None before pgvector 0.8, which has no such setting


async def test_the_statement_is_planned_for_the_values_of_each_filter(many: str) -> None:
    async with VectorStorage(many, MANY, size=1, warm="never") as storage:
        for tenth in range(20):
            await storage.search(QUERY, filter=F("tenth") == tenth)
        async with storage.pool.lease() as lease:
            counts = (
                "SELECT sum(generic_plans) AS generic FROM pg_prepared_statements WHERE statement LIKE 'WITH query%'"
            )
            assert list((await lease.fetch(counts))[0].values()) == [0]


@pytest.mark.parametrize("iterative", ["off", "strict_order", "relaxed_order", None])
async def test_whatever_scan_is_asked_for_as_many_hits_are_found(many: str, iterative: Any) -> None:
    async with VectorStorage(many + BY_THE_VECTORS, MANY, size=1, warm="never") as storage:
        hits = await storage.search(QUERY, 20, filter=F("hundredth") == 7, iterative_scan=iterative, ef_search=10)
        assert len(hits) == 20
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        hits = await storage.search(QUERY, 2000, filter=F("tenth") == 7, iterative_scan=iterative)
        assert len(hits) == 300
        hits = await storage.search(QUERY, 20, filter=F("hundredth") == 7, metric="l2")
        assert len(hits) == 20


async def test_a_result_that_is_short_says_so(many: str) -> None:
    async with VectorStorage(many + BY_THE_VECTORS, MANY, size=1, warm="never") as storage:
        short = await storage.search(QUERY, 20, ef_search=5)
        assert (len(short), short.is_complete) == (5, False)
        assert not (await storage.search(QUERY, 20, ef_search=5, min_score=0.0)).is_complete
        assert not (await storage.more_like("7", 20, ef_search=5)).is_complete
        assert not (await storage.search(QUERY, 20, ef_search=5, mmr=0.5)).is_complete
        for whole in (
            await storage.search(QUERY, 20),
            await storage.search(QUERY, 5, ef_search=5),
            await storage.search(QUERY, 20, ef_search=5, iterative_scan="strict_order"),
            await storage.search(QUERY, 20, min_score=2.0),
            await storage.search(QUERY, ROWS + 1, ef_search=5, filter=F("n") < 3),
            await storage.search(QUERY, ROWS + 1),
        ):
            assert whole.is_complete


async def plan(storage: VectorStorage, filter: Any, k: int = 5) -> str:
    written = condition(as_filter(filter), search_statements.FIRST_OF_CONDITION)
    assert written is not None
    text = "[" + ",".join(map(str, QUERY.tolist())) + "]"
    explain = "EXPLAIN " + search_statements.filtered_search(Identifiers(MANY), "cosine", written.sql)
    async with storage.pool.lease() as lease:
        rows = await lease.fetch(explain, text, k, MANY, None, None, *written.parameters)
    return "\n".join(row["QUERY PLAN"] for row in rows)


async def test_equality_lists_and_elements_are_served_by_the_index_of_the_metadata(many: str) -> None:
    index = f'Index Scan on "preheat_{MANY}.metadata"'
    async with VectorStorage(many + BY_THE_METADATA, MANY, size=1, warm="never") as storage:
        for filter in (
            F("thousandth") == 7,
            F("thousandth").in_([7, 8]),
            F("digits").contains(99),
            (F("thousandth") == 7) & (F("tenth") > 5),
            (F("thousandth") == 7) | (F("thousandth") == 8),
        ):
            assert index in await plan(storage, filter), filter
        for filter in (F("n") > 5, F("tenth") != 0, F("n").exists(), (F("tenth") == 0) | (F("n") > 5)):
            assert index not in await plan(storage, filter), filter


async def test_a_collection_without_an_index_of_its_metadata_is_filtered_too(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, size=1) as storage:
        await storage.add([Chunk("one", [1, 0], {"lang": "en"}), Chunk("two", [0, 1], {"lang": "de"})])
        async with storage.get_connection() as connection:
            await connection.execute(f'DROP INDEX "preheat_{collection}.metadata"')
        assert [hit.text for hit in await storage.search([1, 0], filter={"lang": "de"})] == ["two"]

        await storage.create_index()
        async with storage.pool.lease() as lease:
            rows = await lease.fetch(
                "SELECT indexdef FROM pg_indexes WHERE indexname = $1", f"preheat_{collection}.metadata"
            )
        assert "USING gin (metadata jsonb_path_ops)" in rows[0]["indexdef"]


async def test_a_bulk_load_has_neither_index_until_they_are_made(dsn: str, collection: str) -> None:
    async def kinds() -> set[str]:
        async with storage.pool.lease() as lease:
            rows = await lease.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = $1", f"preheat_{collection}")
        return {kind for kind in ("hnsw", "gin") if any(f"USING {kind} " in row["indexdef"] for row in rows)}

    async with VectorStorage(dsn, collection, 2, index=False, size=1) as storage:
        await storage.add([Chunk("one", [1, 0], {"lang": "en"})])
        assert await kinds() == set()
        await storage.create_index()
        assert await kinds() == {"hnsw", "gin"}


# Round trips


async def test_a_filtered_search_is_one_round_trip_and_two_if_the_index_gives_up_and_many_pass(
    many: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def round_trips(way: str, *searches: dict[str, Any]) -> list[int]:
        found = []
        async with VectorStorage(server.dsn("tests", port=meter.port) + way, MANY, size=1, warm="never") as storage:
            for options in searches:
                await storage.search(QUERY, **options)
                before = sum(meter.round_trips)
                await storage.search(QUERY, **options)
                found.append(sum(meter.round_trips) - before)
        return found

    three = F("thousandth") == 0
    with RoundTripMeter(server.port) as meter:
        for way in (ANY_WAY, BY_THE_METADATA, BY_THE_VECTORS):
            searches = [{"filter": kept, "min_score": 0.5} for kept, _ in KEPT.values()]
            assert await round_trips(way, *searches) == [1] * len(KEPT), way
            searches = [{"filter": three, "iterative_scan": "off"}, {"filter": three, "k": 2000}]
            assert await round_trips(way, *searches) == [1, 1], way
        with limit(monkeypatch, "FEW", 100):
            assert await round_trips(
                BY_THE_VECTORS,
                {
                    "filter": F("tenth") == 0,
                    "k": 60,
                    "ef_search": 200,
                    "iterative_scan": "off",
                },  # 300 pass, too few found
                {"filter": F("tenth") == 0, "k": 60},  # the scan goes on
                {"filter": F("hundredth") == 0, "k": 30},  # all are compared
                {"filter": F("tenth") == 10, "k": 60},  # none is missing
            ) == [2, 1, 1, 1]


async def test_filters_of_one_shape_are_prepared_once_on_a_connection(many: str, server: Server) -> None:
    with RoundTripMeter(server.port) as meter:
        async with VectorStorage(server.dsn("tests", port=meter.port), MANY, size=1) as storage:
            await storage.warm_pool()
            round_trips = [sum(meter.round_trips)]
            for filter in ({"tenth": 1}, {"n": "x"}, F("a", "b") != 1, F("n").not_in([1]), {"n": {"$nin": [2, None]}}):
                await storage.search(QUERY, filter=filter)
                round_trips.append(sum(meter.round_trips))
    assert np.diff(round_trips).tolist() == [2, 1, 2, 2, 1]


async def test_a_first_filtered_answer_on_a_cold_connection_is_six_round_trips(many: str, server: Server) -> None:
    filter = (F("tenth") == 0) & F("n").in_([1, 20, 300]) & ~(F("digits") == [1]) & (F("n") > 0) & F("n").exists()
    with RoundTripMeter(server.port) as meter:
        async with VectorStorage(server.dsn("tests", port=meter.port), MANY, DIMENSIONS, size=1) as storage:
            assert len(await storage.search(QUERY, filter=filter, min_score=-1)) == 2
            assert sum(meter.round_trips) == 6


# What rides along


async def test_a_filtered_search_learns_the_metric_and_checks_the_model(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, metric="l2", embedder="m") as storage:
        await storage.add([Chunk(f"{n}", [n], {"odd": n % 2 == 1}) for n in range(10)])
    async with VectorStorage(dsn, collection) as storage:
        hits = await storage.search([4.2], 3, filter={"odd": True})
        assert [hit.text for hit in hits] == ["5", "3", "7"]
        assert storage.metric == "l2"
    async with VectorStorage(dsn, collection, embedder="other") as storage:
        for filter in ({"odd": True}, {"odd": "neither"}):
            with pytest.raises(EmbedderError):
                await storage.search([4.2], filter=filter)


async def test_nothing_stored_yet_means_no_hits_with_a_filter_either(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1) as storage:
        assert await storage.search([1], filter={"a": 1}, min_score=0.5) == []


async def test_a_filter_that_is_none_is_refused_before_anything_is_sent() -> None:
    pool = FakePool()
    async with VectorStorage(pool, "x", 1) as storage:
        for filter in ("a = 1", {"a": {"$regex": "x"}}, {"$or": [{"a": n} for n in range(2000)]}):
            with pytest.raises(ArgumentError):
                await storage.search([1], filter=filter)  # type: ignore[arg-type]
        for least in (float("nan"), "0.5", [1]):
            with pytest.raises(ArgumentError, match=r"min_score is .*; give a number"):
                await storage.search([1], min_score=least)  # type: ignore[arg-type]
    assert pool.opens == 0


# Scores


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
async def test_a_least_score_leaves_out_what_is_worse(dsn: str, collection: str, metric: Any) -> None:
    async with VectorStorage(dsn, collection, DIMENSIONS, metric=metric) as storage:
        await storage.add(map(numbered, range(50)))
        everything = await storage.search(QUERY, 50)
        for least in (everything[0].score, everything[20].score, everything[49].score):
            hits = await storage.search(QUERY, 50, min_score=least)
            assert hits == [hit for hit in everything if hit.score >= least]
        assert await storage.search(QUERY, 50, min_score=everything[0].score + 1e-6) == []
        assert await storage.search(QUERY, 3, min_score=-1e9) == everything[:3]
        odd = [hit for hit in everything if hit.metadata["n"] % 2]
        least = odd[2].score
        hits = await storage.search(QUERY, filter=F("tenth").in_([1, 3, 5, 7, 9]), min_score=least)
        assert [hit.id for hit in hits] == [hit.id for hit in odd[:3]]


# Hostile texts

HOSTILE = [
    "'; DROP TABLE preheat_collections; --",
    '"; DELETE FROM preheat_collections; --',
    "$1",
    "$6::text",
    "') OR true --",
    "{a,b}",
    "a}'::text[] OR '1'='1",
    "\\",
    "\\'; --",
    "%s",
    "{}",
    "\u202e",
    "null",
    "*",
    "x" * 10_000,
]


async def test_hostile_texts_are_texts(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, size=1) as storage:
        await storage.add([Chunk(f"{n}", [1], {text: text, "list": [text]}) for n, text in enumerate(HOSTILE)])
        async with storage.pool.lease() as lease:
            before = await lease.fetch("SELECT relname FROM pg_class ORDER BY relname")
        for n, text in enumerate(HOSTILE):
            for filter in (
                F(text) == text,
                F(text).exists(),
                F(text).in_([text, "other"]),
                (F(text) >= text) & (F(text) <= text),
                F("list").contains(text),
                F("list") == [text],
                {text: {"$in": [text]}} if not text.startswith("$") else F(text) == text,
                {"$or": [{"list": {"$contains": text}}]},
            ):
                assert [hit.text for hit in await storage.search([1], 20, filter=filter)] == [str(n)], filter
            assert await storage.search([1], 20, filter=F(text, text) == text) == []
            assert await storage.search([1], 20, filter=F(text) == {text: text}) == []
        async with storage.pool.lease() as lease:
            assert await lease.fetch("SELECT relname FROM pg_class ORDER BY relname") == before
        assert await storage.count() == len(HOSTILE)


# How the rows that pass are found


SPREAD, APART = "filtered_spread", 8000


@pytest.fixture(scope="module")
def clusters(dsn: str) -> str:
    """A collection of 40 clusters of 200 rows. `third` has nothing to do with them; `far` is true of the eight clusters
    farthest from the first one."""
    random = np.random.default_rng(7)
    centers = random.standard_normal((40, DIMENSIONS), dtype=np.float32)
    far = set(np.argsort(centers @ centers[0] / np.linalg.norm(centers, axis=1))[:8].tolist())

    async def store() -> None:
        async with VectorStorage(dsn, SPREAD, DIMENSIONS, index=False, warm="never") as storage:
            await storage.add(
                Chunk(
                    f"text {n}",
                    centers[n % 40] + 0.1 * random.standard_normal(DIMENSIONS, dtype=np.float32),
                    {"third": int(random.integers(3)), "far": n % 40 in far, "few": n % 800},
                    id=str(n),
                )
                for n in range(APART)
            )
            await storage.create_index()

    anyio.run(store)
    return dsn


async def steps_of(storage: VectorStorage, kept: Any, k: int = 5) -> dict[str, PlanNode]:
    """The parts of the statement that searches from the center of cluster 0, by their names."""
    (chunk,) = await storage.get(["0"])
    assert chunk.embedding is not None
    plan = await storage.explain(chunk.embedding, k, filter=kept)
    return {node.label.removeprefix("CTE "): node for node in plan.tree.walk() if node.label.startswith("CTE ")}


async def test_what_is_spread_evenly_is_found_by_the_vectors_alone(clusters: str) -> None:
    async with VectorStorage(clusters, SPREAD, size=1, warm="never") as storage:
        for third in range(3):
            steps = await steps_of(storage, F("third") == third, k=20)
            assert 20 <= steps["scanned"].rows < 4 * 20, "as many as are wanted, and not many more"
            assert steps["few"].rows == 0, "the rows that pass are not compared"


async def test_where_whole_clusters_pass_all_that_pass_are_compared(clusters: str) -> None:
    async with VectorStorage(clusters, SPREAD, size=1, warm="never") as storage:
        others = F("far") == True  # noqa: E712
        steps = await steps_of(storage, others)
        assert steps["few"].rows == 1600
        hits = await storage.search((await storage.get(["0"]))[0].embedding, 5, filter=others)  # type: ignore[arg-type]
        exact = await storage.search((await storage.get(["0"]))[0].embedding, 8000, filter=others)  # type: ignore[arg-type]
        assert [hit.id for hit in hits] == [hit.id for hit in exact[:5]]


async def test_if_few_rows_pass_the_index_of_the_vectors_is_left_out(clusters: str) -> None:
    async with VectorStorage(clusters, SPREAD, size=1, warm="never") as storage:
        steps = await steps_of(storage, F("few") == 0)
        assert (steps["scanned"].rows, steps["few"].rows) == (0, 10)


async def test_a_sample_tells_how_many_rows_pass(clusters: str) -> None:
    """It reads a part of the table. That tells the number of rows, too, in most searches of a table that was never
    analyzed."""
    async with VectorStorage(clusters, SPREAD, size=1, warm="never") as storage:
        async with storage.get_connection() as connection:
            await connection.execute(f"UPDATE pg_class SET reltuples = -1 WHERE oid = 'preheat_{SPREAD}'::regclass")
        try:
            searches = [await steps_of(storage, F("third") == 1, k=20) for _ in range(5)]
            sampled = [node for steps in searches for node in steps["sampled"].walk() if node.kind == "Sample Scan"]
            assert len(sampled) == 5
            assert all(node.rows <= 1000 for node in sampled)
            assert sum(steps["scanned"].rows >= 20 and not steps["few"].rows for steps in searches) >= 3
        finally:
            async with storage.get_connection() as connection:
                await connection.execute(f'ANALYZE "preheat_{SPREAD}"')
