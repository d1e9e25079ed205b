"""Hybrid searches on a real PostgreSQL, beside the two legs alone and their fusion in Python."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.server import Server

from preheat import ArgumentError, Chunk, CollectionError, EmbedderError, F, Hit, VectorStorage
from preheat.storage.search import sql as search_statements
from preheat.testing import FakePool

ROWS, DIMENSIONS = 1200, 6
RNG = np.random.default_rng(23)
VECTORS = RNG.standard_normal((ROWS, DIMENSIONS), dtype=np.float32)
QUERY = RNG.standard_normal(DIMENSIONS, dtype=np.float32)
VOCABULARY = ["pools", "warm", "cold", "query", "vector", "index", "kettle", "boils", "water", "liter", "minute"]
TEXTS = [" ".join(RNG.choice(VOCABULARY, size=8)) for _ in range(ROWS)]
MANY = "hybrid_many"


def numbered(n: int) -> Chunk:
    return Chunk(TEXTS[n], VECTORS[n], {"n": n, "tenth": n % 10}, "d", n, id=f"{n:04}")


@pytest.fixture(scope="module")
def many(dsn: str) -> str:
    """The DSN of a database with a collection of many texts."""

    async def store() -> None:
        async with VectorStorage(dsn, MANY, DIMENSIONS, index=False, warm="never") as storage:
            await storage.add(map(numbered, range(ROWS)))
            await storage.create_index()
            async with storage.get_connection() as connection:
                await connection.execute(f'ANALYZE "preheat_{MANY}"')

    anyio.run(store)
    return dsn


def has(text: str, word: str) -> bool:
    """Whether a text has a word of which nothing but the ending may differ."""
    return any(each.rstrip("s") == word.rstrip("s") for each in text.split())


async def by_words(storage: VectorStorage, query: str, candidates: int, condition: str = "true") -> list[str]:
    """The leg of the words alone: PostgreSQL is asked for the words that are joined by `|`, in the plain way."""
    joined = " | ".join(query.split())
    async with storage.pool.lease() as lease:
        rows = await lease.fetch(
            f"SELECT id FROM \"preheat_{MANY}\" AS t, to_tsquery('english', $1::text) AS query "
            f"WHERE words @@ query AND {condition} ORDER BY ts_rank(words, query) DESC, id LIMIT $2::bigint",
            joined,
            candidates,
        )
        ranked = await lease.fetch(
            f"SELECT id FROM \"preheat_{MANY}\" AS t, to_tsquery('english', $1::text) AS query "
            "WHERE id = ANY($2::text[]) ORDER BY ts_rank(words, query) DESC, embedding <=> $3::text::vector, id",
            joined,
            [row["id"] for row in rows],
            str(QUERY.tolist()),
        )
    return [row["id"] for row in ranked]


def fused(by_vector: list[str], by_words: list[str], distances: dict[str, float]) -> list[tuple[str, float]]:
    """Reciprocal rank fusion, as its authors have it."""
    scores: dict[str, float] = {}
    for leg in (by_vector, by_words):
        for rank, id in enumerate(leg, start=1):
            scores[id] = scores.get(id, 0) + 1 / (60 + rank)
    return sorted(scores.items(), key=lambda each: (-round(each[1], 12), distances[each[0]], each[0]))


BY_BRUTE_FORCE = "&enable_indexscan=off"
"""At the end of a DSN: the leg of the vectors is exact."""

FILTERS: dict[str, tuple[Any, str, Callable[[int], bool]]] = {
    "all": (None, "true", lambda _: True),
    "a tenth": (F("tenth") == 3, "metadata @> '{\"tenth\": 3}'", lambda n: n % 10 == 3),
    "a few": (F("n") < 7, "(metadata -> 'n')::int < 7", lambda n: n < 7),
    "none": (F("n") < 0, "false", lambda _: False),
}


@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize("filter", FILTERS.values(), ids=FILTERS)
async def test_both_legs_are_fused_by_their_reciprocal_ranks(many: str, filter: Any, k: int) -> None:
    narrowed, condition, passes = filter
    candidates = max(20, 4 * k)
    cosines = VECTORS @ QUERY / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(QUERY)
    distances = {f"{n:04}": 1 - float(cosine) for n, cosine in enumerate(cosines)}
    nearest = sorted((f"{n:04}" for n in range(ROWS) if passes(n)), key=distances.__getitem__)[:candidates]
    async with VectorStorage(many + BY_BRUTE_FORCE, MANY, size=1, warm="never") as storage:
        for query in ("kettle", "warm pools", "boiling water minutes", "nothing here"):
            worded = await by_words(storage, query, candidates, condition)
            expected = fused(nearest, worded, distances)[:k]
            hits = await storage.search(QUERY, k, text=query, filter=narrowed)
            assert [hit.id for hit in hits] == [id for id, _ in expected], query
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected])
            for hit in hits:
                assert hit.vector_rank == (nearest.index(hit.id) + 1 if hit.id in nearest else None)
                assert hit.text_rank == (worded.index(hit.id) + 1 if hit.id in worded else None)
                assert hit.distance == pytest.approx(distances[hit.id], abs=1e-6)
                assert hit.text == TEXTS[int(hit.id)]


async def test_a_chunk_with_the_word_is_found_however_far_away_it_is(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, size=1, warm="never") as storage:
        await storage.add([Chunk(f"text {n}", [1, n / 1000], id=f"{n:03}") for n in range(100)])
        await storage.add([Chunk("an asyncpg.exceptions.InterfaceError", [-1, 0], {"start": 7}, id="far")])
        plain = await storage.search([1, 0])
        hits = await storage.search([1, 0], text="what is asyncpg.exceptions.InterfaceError")
    assert "far" not in {hit.id for hit in plain}
    assert {(hit.vector_rank, hit.text_rank) for hit in plain} == {(None, None)}
    assert "vector_rank" not in plain[0].as_dict()
    assert [hit.id for hit in hits] == ["000", "far", "001", "002", "003"]
    assert (hits[0].vector_rank, hits[0].text_rank) == (1, None)
    assert (hits[1].vector_rank, hits[1].text_rank) == (None, 1)
    assert hits[1].as_dict()["text_rank"] == 1
    assert hits[1].offsets == (7, 7 + len("an asyncpg.exceptions.InterfaceError"))
    assert hits[0].offsets is None


async def test_no_hit_contains_an_excluded_word(many: str) -> None:
    async with VectorStorage(many, MANY, size=1, warm="never") as storage:
        hits = await storage.search(QUERY, 50, text="warm water", without=["pools"])
        assert len(hits) == 50
        assert not any(has(hit.text, "pool") for hit in hits)
        assert all(hit.text_rank is None or has(hit.text, "warm") or has(hit.text, "water") for hit in hits)
        without = ["warm pool", "kettle"]
        hits = await storage.search(QUERY, 50, text="cold", without=without, filter=F("n") < 600)
        assert len(hits) == 50
        for hit in hits:
            assert not has(hit.text, "kettle")
            assert not re.search("warm pools?", hit.text)
            assert hit.text_rank is None or "cold" in hit.text
            assert hit.metadata["n"] < 600
        assert any("warm" in hit.text and has(hit.text, "pool") for hit in hits)
        every: list[dict[str, Any]] = [{}, {"mmr": 0.5}, {"filter": F("n") < 600}, {"metric": "l2"}]
        for options in every:
            only = await storage.search(QUERY, 30, without=["water"], **options)
            assert len(only) == 30
            assert only.is_complete
            assert all(hit.text_rank is None and not has(hit.text, "water") for hit in only)
        like = await storage.more_like("0007", 30, without=["water"])
        assert len(like) == 30
        assert not any(has(hit.text, "water") for hit in like)


@pytest.mark.parametrize("text", ["", "  ", "the of and", "?!", "-", '""', "-the", "OR", ":*"])
async def test_a_text_without_words_leaves_it_to_the_vectors(many: str, text: str) -> None:
    async with VectorStorage(many + BY_BRUTE_FORCE, MANY, size=1, warm="never") as storage:
        plain = await storage.search(QUERY)
        hits = await storage.search(QUERY, text=text)
    assert [(hit.id, hit.distance) for hit in hits] == [(hit.id, hit.distance) for hit in plain]
    assert [(hit.vector_rank, hit.text_rank) for hit in hits] == [(n, None) for n in range(1, 6)]


async def test_ties_are_broken_by_the_distance_and_the_id(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn + "&enable_indexscan=off", collection, 1, size=1, warm="never") as storage:
        await storage.add([Chunk("all alike", [1], id=f"{n:02}") for n in reversed(range(60))])
        hits = await storage.search([1], 60, text="alike")
        by_text = [hit for hit in hits if hit.text_rank is not None]
        assert hits == await storage.search([1], 60, text="alike")
    assert [hit.id for hit in hits] == [f"{n:02}" for n in range(60)]
    assert [hit.id for hit in sorted(by_text, key=lambda hit: hit.text_rank or 0)] == [f"{n:02}" for n in range(60)]


async def test_the_language_is_the_collections_own(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, language="german", size=1, warm="never") as storage:
        await storage.add([Chunk("Die Häuser am See", [1], id="1"), Chunk("the houses", [1], id="2")])
    async with VectorStorage(dsn, collection, size=1, warm="never") as storage:
        for text, expected in (("Haus", ["1"]), ("die", [])):
            hits = await storage.search([1], text=text)
            assert [hit.id for hit in hits if hit.text_rank is not None] == expected


async def test_without_an_index_of_the_words_the_error_names_the_remedy(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, index=False, size=1, warm="never") as storage:
        assert await storage.search([1], text="water") == []
        await storage.add([Chunk("warm water", [1])])
        with pytest.raises(CollectionError, match=r"make it with `await storage.create_index\(\)`"):
            await storage.search([1], text="water")
        assert [hit.text for hit in await storage.search([1])] == ["warm water"]
        await storage.create_index()
        assert [hit.text_rank for hit in await storage.search([1], text="water")] == [1]


async def test_a_hybrid_search_learns_the_metric_and_checks_the_model(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, metric="l2", embedder="m") as storage:
        await storage.add([Chunk(f"text {n}", [n]) for n in range(10)])
    async with VectorStorage(dsn, collection) as storage:
        assert [hit.text for hit in await storage.search([4.2], 3, text="none")] == ["text 4", "text 5", "text 3"]
        assert storage.metric == "l2"
    async with VectorStorage(dsn, collection, embedder="other") as storage:
        for text in ("text", "none"):
            with pytest.raises(EmbedderError):
                await storage.search([4.2], text=text)


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize("type", ["vector", "halfvec"])
async def test_every_metric_and_type(dsn: str, collection: str, metric: Any, type: Any) -> None:
    async with VectorStorage(dsn, collection, DIMENSIONS, metric=metric, vector_type=type, size=1) as storage:
        await storage.add(map(numbered, range(100)))
        plain = await storage.search(QUERY, 20)
        hits = await storage.search(QUERY, 100, text="kettle")
        by_vector = sorted((hit for hit in hits if hit.vector_rank is not None), key=lambda hit: hit.vector_rank or 0)
        assert [(hit.id, hit.distance) for hit in by_vector][:20] == [(hit.id, hit.distance) for hit in plain]
        best = await storage.search(QUERY, 100, text="kettle", min_score=hits[3].score)
        assert best == [hit for hit in hits if hit.score >= hits[3].score]
        assert len({hit.id for hit in hits}) == len(hits) == 100


async def test_a_leg_that_gives_up_is_made_good_by_a_second_search(many: str) -> None:
    giving_up = "&enable_seqscan=off&enable_bitmapscan=off&enable_sort=off&hnsw.max_scan_tuples=1"
    async with VectorStorage(many + giving_up, MANY, size=1, warm="never") as storage:
        hits = await storage.search(QUERY, 12, text="kettle", filter=F("tenth") == 3)
    async with VectorStorage(many + BY_BRUTE_FORCE, MANY, size=1, warm="never") as storage:
        assert hits == await storage.search(QUERY, 12, text="kettle", filter=F("tenth") == 3)


# Hostile texts

TERMS = st.sampled_from(
    [
        "water",
        "-water",
        "--force",
        "-",
        '"',
        '-"',
        "'",
        "\\",
        "!",
        "&",
        "|",
        "(",
        ")",
        "<->",
        ":*",
        "or",
        "OR",
        "and",
        "-5",
    ]
)
HOSTILE = st.one_of(
    st.text(), st.lists(st.one_of(TERMS, st.text(max_size=4))).map(" ".join), st.lists(TERMS).map("".join)
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.timeout(300)
def test_property_no_text_is_an_error_of_the_server(dsn: str, backend: str) -> None:
    """Whatever somebody writes, as many hits are found as there are; only a NUL and no Unicode are refused."""
    name = f"hostile_{backend}"

    @asynccontextmanager
    async def opened() -> AsyncGenerator[VectorStorage]:
        async with VectorStorage(dsn, name, 1, size=1, warm="never") as storage:
            await storage.replace_document("d", [Chunk(f"zzzz {n}", [1], {"n": n}, "d") for n in range(5)])
            yield storage

    with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(opened()) as storage:

        async def search(text: str) -> list[Hit]:
            return await storage.search([1], text=text)

        @settings(max_examples=max(10, settings.default.max_examples))
        @given(HOSTILE)
        def look(text: str) -> None:
            refused = "\0" in text or any(0xD800 <= ord(character) < 0xE000 for character in text)
            if refused:
                with pytest.raises(ArgumentError, match="text"):
                    portal.call(search, text)
            else:
                assert len(portal.call(search, text)) == 5

        look()


HUGE = {
    "one word": "x" * 1_000_000,
    "many words": "water " * 200_000,
    "many letters": "a b c d " * 150_000,
    "a phrase": '"' + "water " * 200_000 + '"',
    "words with a minus": "-water " * 150_000,
    "Chinese": "".join(map(chr, range(0x4E00, 0x9000))) * 20,
    "dashes": "-" * 1_000_000,
    "quotes": '"' * 1_000_000,
    "paths": "a/b-c." * 200_000,
    "hyphens": "a-" * 500_000,
    "quotes of a lexeme": "'a & b' " * 100_000,
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
async def test_a_megabyte_of_text_is_no_error(dsn: str, text: str) -> None:
    async with VectorStorage(dsn, "huge", 1, size=1, warm="never") as storage:
        await storage.replace_document("d", [Chunk("water", [1], {}, "d")])
        assert len(await storage.search([1], text=text)) == 1


async def test_a_text_that_is_none_is_refused_before_anything_is_sent() -> None:
    pool = FakePool()
    async with VectorStorage(pool, "x", 1) as storage:
        for text in ("a\0b", "\ud800", 5, ["a"]):
            with pytest.raises(ArgumentError, match="the text"):
                await storage.search([1], text=text)  # type: ignore[arg-type]
    assert pool.opens == 0


async def test_a_first_hybrid_answer_on_a_cold_connection_is_six_round_trips(many: str, server: Server) -> None:
    with RoundTripMeter(server.port) as meter:
        async with VectorStorage(server.dsn("tests", port=meter.port), MANY, DIMENSIONS, size=1) as storage:
            assert (
                len(await storage.search(QUERY, text="kettle", without=["cold"], filter=F("tenth") == 0, mmr=0.5)) == 5
            )
            assert sum(meter.round_trips) == 6


async def test_tables_and_pgvector_may_be_anywhere(server: Server, database: str) -> None:
    server.sql('CREATE SCHEMA "the types"; CREATE EXTENSION vector SCHEMA "the types"', database)
    options: dict[str, Any] = {"text": "kettle", "without": ["cold"], "mmr": 0.5, "filter": F("n") < 50}
    for type in ("vector", "halfvec"):
        async with VectorStorage(
            server.dsn(database), type, DIMENSIONS, schema='my "tables', vector_type=type, size=1, warm="never"
        ) as storage:
            await storage.add(map(numbered, range(100)))
            expected = await storage.search(QUERY, **options)
            assert len(expected) == 5

        def reopened(name: str = type) -> VectorStorage:
            return VectorStorage(server.dsn(database), name, schema='my "tables', size=1, warm="never")

        async with reopened() as storage:
            assert await storage.search(QUERY, **options) == expected
        async with reopened() as storage:
            assert len(await storage.more_like("0007", mmr=0.5)) == 5
        async with reopened() as storage:
            assert (await storage.explain(QUERY, **options)).seconds > 0


# Words in many rows


@pytest.fixture
def few_are_ranked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if a table of some hundred rows were large."""
    monkeypatch.setattr(search_statements, "RANKED", 40)
    search_statements.ranked_search.cache_clear()
    yield
    search_statements.ranked_search.cache_clear()


async def ranked(storage: VectorStorage, text: str) -> int:
    """How many rows a search ranks by their words."""
    plan = await storage.explain([1.0, 0.0], 5, text=text)
    (worded,) = [node for node in plan.tree.walk() if node.label == "CTE worded"]
    return max((node.rows for node in worded.walk() if node.relation == f"preheat_{storage.collection}"), default=0)


@pytest.mark.usefixtures("few_are_ranked")
async def test_words_in_many_rows_are_left_to_the_vectors(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, size=1, warm="never") as storage:
        words = {"kettle": 1, "water": 3, "steam": 30, "whistle": 293}  # each is in every so many texts
        texts = [" ".join(word for word, every in words.items() if (n - 7) % every == 0) for n in range(300)]
        await storage.add(Chunk(text, [1.0, n], id=f"{n:03}") for n, text in enumerate(texts))
        async with storage.get_connection() as connection:
            await connection.execute(f'ANALYZE "preheat_{collection}"')
        counts = {text: await ranked(storage, text) for text in ("kettle", "kettle water steam", "whistle of a kettle")}
        assert counts == {"kettle": 0, "kettle water steam": 10, "whistle of a kettle": 1}

        hits = await storage.search([1.0, 0.0], 5, text="whistle of a kettle")
        assert [hit.id for hit in hits if hit.text_rank is not None] == ["007"]
        hits = await storage.search([1.0, 0.0], 5, text="kettle")
        assert [(hit.id, hit.text_rank) for hit in hits] == [(f"{n:03}", None) for n in range(5)]
        hits = await storage.search(None, 5, text="kettle")
        assert len(hits) == 5, "a search by words alone keeps the rarest"


async def test_in_a_small_table_every_word_counts(many: str) -> None:
    async with VectorStorage(many, MANY, size=1, warm="never") as storage:
        hits = await storage.search(QUERY, 5, text=" ".join(VOCABULARY))
        assert all(hit.text_rank is not None or hit.vector_rank is not None for hit in hits)
        plan = await storage.explain(QUERY, 5, text="kettle")
        assert not any(node.relation == "pg_statistic" and node.loops for node in plan.tree.walk())
