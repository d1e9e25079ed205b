"""With defaults, a search of 50,000 clustered vectors finds at least 95 of 100 that brute force does, and `k` rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from benchmarks.data.mixture import PARTS, Mixture, mixture
from tests.support.server import Server

from preheat import VectorStorage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS, DIMENSIONS, QUESTIONS, K = 50_000, 64, 50, 10
COLLECTION = "recall"
BUILDING_FAST = "&maintenance_work_mem=512MB&max_parallel_maintenance_workers=2"

Asked = Callable[[Mixture, int], tuple[Any, Any]]
"""A filter for a question, and which rows pass it."""


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What is found is up to the server: two backends will do."""
    return request.param


@pytest.fixture(scope="module")
def stored(dsn: str, server: Server) -> Iterator[Mixture]:
    """Stored once for all backends, as a first bulk load is."""
    data = mixture(ROWS, DIMENSIONS, QUESTIONS)

    async def store() -> None:
        async with VectorStorage(dsn + BUILDING_FAST, COLLECTION, DIMENSIONS, index=False, warm="never") as storage:
            for chunks in data.chunks():
                await storage.add(chunks)
            await storage.create_index()

    anyio.run(store)
    yield data
    server.sql(
        f"DROP TABLE \"preheat_{COLLECTION}\"; DELETE FROM preheat_collections WHERE name = '{COLLECTION}'", "tests"
    )


async def recall(dsn: str, data: Mixture, asked: Asked | None = None, questions: int = QUESTIONS) -> float:
    """How many of the `k` nearest are found, from 0 to 1; `k` rows must be every time."""
    found = 0
    async with VectorStorage(dsn, COLLECTION, DIMENSIONS, size=1, warm="never") as storage:
        for number, question in enumerate(data.questions[:questions]):
            kept, passes = (None, None) if asked is None else asked(data, number)
            hits = await storage.search(question, K, filter=kept)
            assert len(hits) == K
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            found += len({hit.id for hit in hits} & data.nearest(number, K, passes))
    return found / (K * questions)


async def test_the_ten_nearest_are_found(dsn: str, stored: Mixture) -> None:
    assert await recall(dsn, stored) >= 0.95


@pytest.mark.parametrize("name", ["spread", "apart"])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
async def test_the_ten_nearest_that_pass_a_filter_are_found(dsn: str, stored: Mixture, parts: int, name: str) -> None:
    def asked(data: Mixture, number: int) -> tuple[Any, Any]:
        return data.equal(name, parts, 7 * number % parts)

    assert await recall(dsn, stored, asked) >= 0.95


@pytest.mark.parametrize("name", ["spread", "apart"])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
async def test_the_ten_nearest_that_pass_a_filter_without_an_index_are_found(
    dsn: str, stored: Mixture, parts: int, name: str
) -> None:
    assert await recall(dsn, stored, lambda data, _: data.below(name, parts), 20) >= 0.95
