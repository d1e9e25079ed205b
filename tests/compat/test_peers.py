"""Two libraries that pin an early pgvector, installed beside preheat."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from preheat import Chunk, VectorStorage

pytest.importorskip("langchain_postgres")
pytest.importorskip("llama_index.vector_stores.postgres")


async def test_preheat_works_with_the_pgvector_that_its_peers_pin(dsn: str, collection: str) -> None:
    assert tuple(map(int, version("pgvector").split(".")[:2])) < (0, 4)
    async with VectorStorage(dsn, f"{collection}_peers", 3) as storage:
        await storage.add([Chunk("warm pools", [1, 0.1, 0], id="a"), Chunk("cold starts", (0.0, 1.0, 0.0), id="b")])
        assert [hit.id for hit in await storage.search([1.0, 0.0, 0.0])] == ["a", "b"]
        (stored,) = await storage.get(["a"])
        assert stored.embedding == pytest.approx([1.0, 0.1, 0.0])
