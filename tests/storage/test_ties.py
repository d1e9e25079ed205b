"""Chunks that are equally near come in the order of their ids, however they are searched for."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
from tests.support.plans import WAYS
from tests.support.tiers import slow_except

from preheat import Chunk, F, Hits, VectorStorage

QUERY = [9.0, *[0.0] * 7]
COPIES = 60
"""No more than the candidates of a search by the index, unless it is told otherwise."""
IDS = [f"{n:03}" for n in range(COPIES)]

SEARCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "filtered": {"filter": F("copy") == 1},
    "filtered by an order": {"filter": F("copy") > 0},
    "hybrid": {"text": "alike"},
    "hybrid without a word": {"text": "nothing"},
    "excluding": {"without": ["other"]},
    "diverse": {"mmr": 1.0},
    "all": {"text": "alike", "mmr": 1.0, "filter": F("copy") == 1, "without": ["other"]},
    "another metric": {"metric": "l2"},
    "a long scan": {"ef_search": 400},
}


@pytest.fixture(scope="module", params=slow_except(("cosine",), ("cosine", "l2", "inner_product")))
def copies(dsn: str, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A database and a collection of which many chunks have the same vector and the same words."""
    name = f"copies_{request.param}"
    chance = random.Random(5)
    chunks = [Chunk("all alike", [9.0, *QUERY[1:]], {"copy": 1}, id=id) for id in IDS]
    chance.shuffle(chunks)
    others = [
        Chunk(f"other {n}", [chance.gauss(0, 1) for _ in QUERY], {"copy": 0}, id=f"other {n}") for n in range(500)
    ]

    async def store() -> None:
        async with VectorStorage(dsn, name, len(QUERY), metric=request.param, size=1, warm="never") as storage:
            await storage.add([*others[:250], *chunks, *others[250:]])
            async with storage.get_connection() as connection:
                await connection.execute(f'ANALYZE "preheat_{name}"')

    anyio.run(store)
    return dsn, name


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
async def test_hits_with_equal_scores_are_ordered_by_id(
    copies: tuple[str, str], way: str, options: dict[str, Any]
) -> None:
    dsn, name = copies
    async with VectorStorage(dsn + way, name, size=1, warm="never") as storage:
        for k in (1, 7, 25, COPIES):
            hits = await storage.search(QUERY, k, **options)
            assert [hit.id for hit in hits] == IDS[:k]
            assert isinstance(hits, Hits)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_more_like_orders_equal_scores_by_id(copies: tuple[str, str], way: str) -> None:
    dsn, name = copies
    async with VectorStorage(dsn + way, name, size=1, warm="never") as storage:
        searches: list[dict[str, Any]] = [{}, {"mmr": 1.0}, {"filter": F("copy") == 1}]
        for options in searches:
            hits = await storage.more_like("003", 8, **options)
            assert [hit.id for hit in hits] == [id for id in IDS if id != "003"][:8]


async def test_a_search_of_the_whole_table_has_no_end_of_equals(dsn: str, collection: str) -> None:
    """Where no index takes part, any number of equals is in order."""
    async with VectorStorage(dsn, collection, 1, index=False, size=1, warm="never") as storage:
        ids = [f"{n:04}" for n in range(2000)]
        await storage.add([Chunk("alike", [1], id=id) for id in sorted(ids, key=lambda text: text[::-1])])
        assert [hit.id for hit in await storage.search([1], 5)] == ids[:5]
        assert [hit.id for hit in await storage.search([1], 1500)] == ids[:1500]
        assert [hit.id for hit in await storage.search([1], 5, filter=F("none").missing())] == ids[:5]


async def test_answers_to_equal_questions_come_in_order(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, size=1, warm="never") as storage:
        for key in ("c", "a", "d", "b"):
            await storage.answer_table.store(key, "", "model", f"question {key}", [1.0], "1", None)
        found = await storage.answer_table.nearest([1.0], "", "model", 0.5, 3)
    assert [answer.question for answer in found] == ["question a", "question b", "question c"]
