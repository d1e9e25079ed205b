"""Hits that are chosen for their maximal marginal relevance, beside an oracle with numpy; and what is like a chunk."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tiers import slow_except

from preheat import ArgumentError, Chunk, CollectionError, EmbedderError, F, Hit, VectorStorage
from preheat.storage.search.ranking import diverse, relevances
from preheat.testing import FakePool

ROWS, DIMENSIONS = 400, 5
RNG = np.random.default_rng(31)
CENTERS = RNG.standard_normal((12, DIMENSIONS))
VECTORS = (CENTERS[np.arange(ROWS) % 12] + 0.3 * RNG.standard_normal((ROWS, DIMENSIONS))).astype(np.float32)
QUERY = RNG.standard_normal(DIMENSIONS).astype(np.float32)
METRICS = ["cosine", "l2", "inner_product"]
BY_BRUTE_FORCE = "&enable_indexscan=off"


def numbered(n: int) -> Chunk:
    word = "kettle" if n % 3 else "pool"
    return Chunk(f"a {word}, number {n}", VECTORS[n], {"n": n, "third": n % 3}, "d", n, id=f"{n:03}")


@pytest.fixture(scope="module", params=slow_except(("vector",), ("vector", "halfvec")))
def stored(dsn: str, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A DSN, and the beginning of the names of three collections, one for each metric."""

    async def store() -> None:
        for metric in METRICS:
            name = f"diverse_{request.param}_{metric}"
            storage = VectorStorage(
                dsn, name, DIMENSIONS, metric=metric, vector_type=request.param, size=1, warm="never"
            )
            async with storage:
                await storage.add(map(numbered, range(ROWS)))

    anyio.run(store)
    return dsn, f"diverse_{request.param}"


def cosine(one: Any, other: Any) -> float:
    return float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))


def oracle(ids: list[int], relevance: list[float], k: int, trade: float) -> list[int]:
    """Carbonell and Goldstein's formula, word for word: all is computed anew at each step."""
    scores, chosen = dict(zip(ids, relevance, strict=True)), list[int]()

    def marginal(n: int) -> float:
        novelty = max((cosine(VECTORS[n], VECTORS[other]) for other in chosen), default=0.0)
        return trade * scores[n] - (1 - trade) * novelty

    while len(chosen) < min(k, len(ids)):
        chosen.append(max((n for n in ids if n not in chosen), key=marginal))
    return chosen


OPTIONS: dict[str, dict[str, Any]] = {
    "alone": {},
    "a filter": {"filter": F("third") != 1},
    "a filter that few pass": {"filter": F("n") < 12},
    "words": {"text": "pools", "filter": F("n") < 20},  # so few that ranks do not depend on how many are looked at
    "words and exclusions": {"text": "number", "without": ["kettle"], "filter": F("n") < 50},
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_hits_are_chosen_as_the_oracle_chooses(
    stored: tuple[str, str], metric: Any, options: dict[str, Any]
) -> None:
    dsn, name = stored
    async with VectorStorage(dsn + BY_BRUTE_FORCE, f"{name}_{metric}", size=1, warm="never") as storage:
        for k, trade in ((5, 0.5), (3, 0.2), (8, 0.85)):
            candidates = max(20, 4 * k)
            found = await storage.search(QUERY, candidates, **options)
            best = 1 if metric == "cosine" and "text" not in options else max(abs(hit.score) for hit in found)
            relevance = [hit.score / best for hit in found]
            expected = oracle([int(hit.id) for hit in found], relevance, k, trade)
            hits = await storage.search(QUERY, k, mmr=trade, **options)
            assert [int(hit.id) for hit in hits] == expected
            assert {hit.id: hit for hit in found}.items() >= {hit.id: hit for hit in hits}.items()


@pytest.mark.parametrize("metric", METRICS)
async def test_with_words_the_candidates_are_the_best_of_both_legs(stored: tuple[str, str], metric: Any) -> None:
    dsn, name = stored
    async with VectorStorage(dsn + BY_BRUTE_FORCE, f"{name}_{metric}", size=1, warm="never") as storage:
        k, text = 5, "pools"
        found = await storage.search(QUERY, 20, text=text, mmr=1)  # of 80 candidates
        same = await storage.search(QUERY, k, text=text, mmr=1)  # of 20
        assert [hit.id for hit in same] == [hit.id for hit in await storage.search(QUERY, k, text=text)]
        assert len(found) == 20
        for trade in (0.3, 0.7):
            hits = await storage.search(QUERY, k, text=text, mmr=trade)
            assert len({hit.id for hit in hits}) == k
            assert hits[0] == same[0]
            assert all((hit.vector_rank or 1) <= 20 and (hit.text_rank or 1) <= 20 for hit in hits)


@pytest.mark.parametrize("metric", METRICS)
async def test_relevance_alone_is_the_plain_search(stored: tuple[str, str], metric: Any) -> None:
    dsn, name = stored
    async with VectorStorage(dsn + BY_BRUTE_FORCE, f"{name}_{metric}", size=1, warm="never") as storage:
        assert await storage.search(QUERY, 7, mmr=1) == await storage.search(QUERY, 7)
        filter = F("third") == 1
        assert await storage.search(QUERY, 7, mmr=1.0, filter=filter) == await storage.search(QUERY, 7, filter=filter)


async def test_a_least_score_is_asked_of_the_candidates(stored: tuple[str, str]) -> None:
    dsn, name = stored
    async with VectorStorage(dsn + BY_BRUTE_FORCE, f"{name}_cosine", size=1, warm="never") as storage:
        found = await storage.search(QUERY, 20)
        least = found[7].score
        expected = oracle([int(hit.id) for hit in found[:8]], [hit.score for hit in found[:8]], 5, 0.1)
        hits = await storage.search(QUERY, 5, mmr=0.1, min_score=least)
        assert [int(hit.id) for hit in hits] == expected
        assert await storage.search(QUERY, 5, mmr=0.1, min_score=2) == []


async def test_copies_of_one_text_do_not_crowd_out_others(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn + BY_BRUTE_FORCE, collection, 2, size=1, warm="never") as storage:
        await storage.add([Chunk("copy", [1, 0.01 * n], id=f"copy {n}") for n in range(8)])
        await storage.add([Chunk("other", [1, 1], id="other")])
        plain = await storage.search([1, 0], 3)
        hits = await storage.search([1, 0], 3, mmr=0.3)
    assert [hit.text for hit in plain] == ["copy"] * 3
    assert [hit.id for hit in hits] == ["copy 0", "other", "copy 7"]


async def test_large_vectors_that_lie_apart_from_their_rows(dsn: str, collection: str) -> None:
    vectors = RNG.standard_normal((60, 1500)).astype(np.float32)
    async with VectorStorage(dsn, collection, 1500, size=1, warm="never") as storage:
        await storage.add(Chunk(f"{n}", vector, id=f"{n:02}") for n, vector in enumerate(vectors))
        hits = await storage.search(vectors[0], 10, mmr=0.5)
        assert len({hit.id for hit in hits}) == 10
        assert hits[0].id == "00"
        alike = await storage.more_like("00", 10)
        assert [hit.id for hit in alike] == [hit.id for hit in (await storage.search(vectors[0], 11))[1:]]


async def test_invalid_arguments_are_refused_before_anything_is_sent() -> None:
    pool = FakePool()
    async with VectorStorage(pool, "x", 1) as storage:
        for wrong in (-0.1, 1.1, float("nan"), "0.5", None.__class__):
            with pytest.raises(ArgumentError, match="mmr is"):
                await storage.search([1], mmr=wrong)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="at most 1000"):
            await storage.search([1], 1001, mmr=0.5)
        for id in ("a\0", 5):
            with pytest.raises(ArgumentError, match="id"):
                await storage.more_like(id)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="k is 0"):
            await storage.more_like("a", 0)
    assert pool.opens == 0


# The choice itself


@st.composite
def choices(draw: st.DrawFn) -> tuple[list[float], list[list[float]], int, float]:
    eighths = st.integers(-8, 8).map(lambda n: n / 8)  # exact, so that both ways of computing agree on equals
    relevance = sorted(draw(st.lists(eighths, max_size=9)), reverse=True)
    similarities = [[draw(eighths) for _ in range(n)] for n in range(len(relevance))]
    return relevance, similarities, draw(st.integers(1, 12)), draw(st.integers(0, 8)) / 8


@given(choices())
def test_property_each_choice_has_the_greatest_marginal_relevance(
    case: tuple[list[float], list[list[float]], int, float],
) -> None:
    """Of those that are left none would have been better, and none before it as good."""
    relevance, similarities, k, trade = case
    chosen = diverse(relevance, similarities, k, trade)
    assert len(chosen) == len(set(chosen)) == min(k, len(relevance))
    for step, choice in enumerate(chosen):
        before = chosen[:step]

        def marginal(at: int, before: list[int] = before) -> float:
            like = max((similarities[max(at, other)][min(at, other)] for other in before), default=0.0)
            return trade * relevance[at] - (1 - trade) * like

        left = [at for at in range(len(relevance)) if at not in before]
        assert choice == max(left, key=marginal)
    if trade == 1:
        assert chosen == list(range(len(chosen)))


def test_scores_that_are_no_cosines_count_as_shares_of_the_best() -> None:
    hits = [Hit(str(n), "", score, 0.0, "", 0, {}) for n, score in enumerate((4.0, 2.0, -8.0))]
    assert relevances(hits, are_cosines=True) == [4.0, 2.0, -8.0]
    assert relevances(hits, are_cosines=False) == [0.5, 0.25, -1.0]
    assert relevances([Hit("a", "", 0.0, 0.0, "", 0, {})], are_cosines=False) == [0.0]
    assert relevances([], are_cosines=False) == []


# More like this


@pytest.mark.parametrize("metric", METRICS)
async def test_more_like_a_chunk_is_a_search_for_its_vector_without_it(stored: tuple[str, str], metric: Any) -> None:
    dsn, name = stored
    async with VectorStorage(dsn + BY_BRUTE_FORCE, f"{name}_{metric}", size=1, warm="never") as storage:
        for n in (0, 17, 399):
            vector = (await storage.get([f"{n:03}"]))[0].embedding
            assert vector is not None
            for options in ({}, {"filter": F("third") == 0}, {"min_score": 0.9}):
                every = await storage.search(vector, ROWS, **options)
                hits = await storage.more_like(f"{n:03}", 9, **options)
                assert hits == [hit for hit in every if hit.id != f"{n:03}"][:9]
            assert len(await storage.more_like(f"{n:03}", ROWS)) == ROWS - 1
            varied = await storage.more_like(f"{n:03}", 4, mmr=0.3)
            assert len({hit.id for hit in varied} - {f"{n:03}"}) == 4


async def test_a_missing_id_is_reported(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, size=1, warm="never") as storage:
        with pytest.raises(CollectionError, match="has no chunk with the id 'a'; give the id of a hit"):
            await storage.more_like("a")
        await storage.add([Chunk("one", [1], id="b"), Chunk("two", [1], id=str(UUID(int=7)))])
        for id in ("a", "'; DROP TABLE preheat_collections; --", "", "$1"):
            with pytest.raises(CollectionError, match="has no chunk with the id"):
                await storage.more_like(id)
        assert [hit.text for hit in await storage.more_like(UUID(int=7))] == ["one"]
        assert await storage.more_like("b", filter={"x": 1}) == []


async def test_more_like_by_the_index_finds_as_many_as_there_are(dsn: str, collection: str) -> None:
    forced = "&enable_seqscan=off&enable_bitmapscan=off&enable_sort=off"
    async with VectorStorage(dsn + forced, collection, DIMENSIONS, size=1, warm="never") as storage:
        await storage.add(map(numbered, range(ROWS)))
        for k in (5, 40, 60):
            assert len(await storage.more_like("007", k)) == k
    async with VectorStorage(f"{dsn}{forced}&hnsw.max_scan_tuples=1", collection, size=1, warm="never") as storage:
        hits = await storage.more_like("007", 20, filter=F("n") > 350)
        assert len(hits) == 20


async def test_it_learns_the_metric_and_checks_the_model(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, metric="l2", embedder="m") as storage:
        await storage.add([Chunk(f"{n}", [n], id=str(n)) for n in range(10)])
    async with VectorStorage(dsn, collection) as storage:
        assert {hit.text for hit in await storage.more_like("4", 2)} == {"3", "5"}
        assert storage.metric == "l2"
    async with VectorStorage(dsn, collection, embedder="other") as storage:
        with pytest.raises(EmbedderError):
            await storage.more_like("4")
        with pytest.raises(EmbedderError):
            await storage.search([4], mmr=0.5)
