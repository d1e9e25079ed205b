"""Work that takes more than a few milliseconds leaves the event loop."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from preheat import Chunk, VectorStorage
from preheat._concurrency.offload import offloaded
from preheat.storage.search import find as module


async def test_little_work_is_done_at_once_and_much_in_a_thread() -> None:
    here = threading.get_ident()
    assert await offloaded(threading.get_ident, size=10, inline=10) == here
    assert await offloaded(threading.get_ident, size=11, inline=10) != here
    for size in (1, 11):
        with pytest.raises(KeyError, match="work"):
            await offloaded(lambda: {}["work"], size=size, inline=10)


async def test_many_hits_are_made_and_chosen_in_a_thread(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    made = module.hits

    def watched(*args: Any) -> Any:
        threads.append(threading.get_ident())
        return made(*args)

    monkeypatch.setattr(module, "hits", watched)
    here = threading.get_ident()
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([Chunk(f"text {n}", [1.0, n / 1000]) for n in range(500)])
        for k, is_here in ((5, True), (500, False)):
            assert len(await storage.search([1.0, 0.0], k=k)) == k
            assert (threads[-1] == here) == is_here
        for k, is_here in ((2, True), (60, False)):
            assert len(await storage.search([1.0, 0.0], k=k, mmr=0.5)) == k
            assert (threads[-1] == here) == is_here
