"""Changes of metadata, and what values they have, on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.server import Server

from preheat import AccessError, ArgumentError, Chunk, F, ValueCount, VectorStorage

CHUNKS = [
    Chunk("one", [1, 0], {"lang": "en", "year": 2020, "author": {"name": "Ada"}}, "a.md", id="1"),
    Chunk("two", [0, 1], {"lang": "en", "year": 2021}, "a.md", id="2"),
    Chunk("three", [1, 1], {"lang": "de", "year": 2021, "tags": ["x"]}, "b.md", id="3"),
    Chunk("four", [2, 1], {"lang": None}, "b.md", id="4"),
]


async def metadata(storage: VectorStorage) -> dict[str, Any]:
    return {chunk.id: dict(chunk.metadata) async for chunk in storage.chunks(embeddings=False)}


async def test_metadata_are_merged_or_replaced_where_a_filter_passes(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(CHUNKS)
        assert await storage.update_metadata({"read": True, "year": 1}, filter=F("lang") == "en") == 2
        assert await storage.update_metadata({"lang": "fr"}, ids=["3"], document="b.md", filter=F.text == "three") == 1
        assert await storage.update_metadata({"only": [1]}, ids=["4", "no-such-id"], replace=True) == 1
        assert await storage.update_metadata({"x": 1}, ids=["1"], document="b.md") == 0
        assert await storage.update_metadata({"x": 1}, ids=[]) == 0
        assert await metadata(storage) == {
            "1": {"lang": "en", "year": 1, "author": {"name": "Ada"}, "read": True},
            "2": {"lang": "en", "year": 1, "read": True},
            "3": {"lang": "fr", "year": 2021, "tags": ["x"]},
            "4": {"only": [1]},
        }
        assert await storage.update_metadata({"all": 1}, filter={}) == 4
        assert await storage.count(filter=F("all") == 1) == 4
        assert len(await storage.search([1.0, 0.0], 10)) == 4


async def test_an_update_of_metadata_is_one_round_trip(server: Server, dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(CHUNKS)
    with RoundTripMeter(server.port) as meter:
        async with VectorStorage(server.dsn("tests", port=meter.port), collection, 2, size=1) as storage:
            round_trips = []
            for number in range(3):
                await storage.update_metadata({"n": number}, filter=F("lang") == "en")
                round_trips.append(sum(meter.round_trips))
    assert round_trips[2] - round_trips[1] == 1


async def test_many_updates_at_once_all_take_effect(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, size=4) as storage:
        await storage.add(CHUNKS)
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(lambda number=number: storage.update_metadata({f"n{number}": number}, filter={}))
        for found in (await metadata(storage)).values():
            assert {key for key in found if key.startswith("n")} == {f"n{number}" for number in range(12)}


async def test_the_values_of_a_key_are_counted(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await storage.metadata_values("lang") == []
        await storage.add(CHUNKS)
        assert await storage.metadata_values("lang") == [ValueCount("en", 2), ValueCount("de", 1), ValueCount(None, 1)]
        assert await storage.metadata_values("year") == [ValueCount(2021, 2), ValueCount(2020, 1)]
        assert await storage.metadata_values("year", limit=1) == [ValueCount(2021, 2)]
        assert await storage.metadata_values("author", "name") == [ValueCount("Ada", 1)]
        assert await storage.metadata_values("tags") == [ValueCount(["x"], 1)]
        assert await storage.metadata_values("lang", document="b.md", filter=F("year").exists()) == [
            ValueCount("de", 1)
        ]
        assert await storage.metadata_values("no-such-key") == []
        assert await storage.metadata_keys() == {
            "author": {"object"},
            "lang": {"string", "null"},
            "tags": {"array"},
            "year": {"number"},
        }
        assert ValueCount("en", 2).as_dict() == {"value": "en", "chunks": 2}


async def test_an_invalid_update_or_question_is_refused(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        with pytest.raises(ArgumentError, match=r"give filter=\{\} for all chunks"):
            await storage.update_metadata({"a": 1})
        with pytest.raises(ArgumentError, match="give a dict"):
            await storage.update_metadata([1], filter={})  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="not JSON"):
            await storage.update_metadata({"a": object()}, filter={})
        with pytest.raises(ArgumentError, match="limit is 0"):
            await storage.metadata_values("a", limit=0)
        with pytest.raises(ArgumentError, match="0 keys"):
            await storage.metadata_values()


async def test_a_role_that_may_not_update_is_told_the_grant(server: Server, dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(CHUNKS)
    reader = server.role(f"{collection}_reader", "tests", "SELECT ON ALL TABLES IN SCHEMA public")
    async with VectorStorage(reader, collection, 2) as storage:
        with pytest.raises(AccessError, match="GRANT UPDATE ON"):
            await storage.update_metadata({"a": 1}, filter={})
