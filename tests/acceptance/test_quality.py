"""What must be shown of retrieval: on a real text, words and vectors together find more than either alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from benchmarks.scenarios.quality.measure import ask, store


@pytest.fixture(scope="module")
def chunks(dsn: str) -> int:
    """The language reference is stored once for all event loops."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(anyio.run, store, dsn).result()


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_hybrid_finds_four_of_five_and_more_than_each_leg_alone(
    anyio_backend: str, dsn: str, chunks: int
) -> None:
    quality = await ask(dsn, chunks)
    found = {mode.name: mode.first_three for mode in quality.modes}
    assert len(quality.answered) == 40
    assert found["hybrid"] >= 0.8 * 40
    assert found["hybrid"] > max(found["vectors"], found["words"])
