"""Chunks without an embedding: stored now, found by their words, passed over by vectors, embedded later."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from tests.support.catalog import catalog
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.server import Server

from preheat import (
    AccessError,
    ArgumentError,
    Chunk,
    CollectionError,
    EmbedderError,
    F,
    Upserted,
    VectorStorage,
    reembed,
)

LATER = Chunk("kettle without a vector", id="later", document="b.md")
BOTH = [Chunk("warm kettle", [1.0, 0.0], id="a", document="a.md"), LATER]


class Model:
    """An embedder that gives one vector to all texts, and remembers the texts."""

    dimensions = 2

    def __init__(self, name: str = "model", vector: Sequence[float] = (0.6, 0.8)) -> None:
        self.name = name
        self.vector = list(vector)
        self.texts: list[str] = []
        self.meanwhile: Any = None

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.texts += texts
        if self.meanwhile is not None:
            await self.meanwhile()
        return [self.vector for _ in texts]


async def test_vector_searches_pass_over_a_chunk_that_has_no_embedding(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await storage.add(BOTH) == 2
        for options in ({}, {"filter": F("lang").missing()}, {"mmr": 0.5}, {"k": 2000}, {"metric": "l2"}):
            hits = await storage.search([1.0, 0.1], **options)
            assert [hit.id for hit in hits] == ["a"], options
            assert hits.is_complete
        assert await storage.more_like("a") == []
        assert await storage.warm_pool()
        with pytest.raises(
            CollectionError, match=r"no chunk with the id 'later'; .* that is stored and has an embedding"
        ):
            await storage.more_like("later")
        assert [(one.id, one.embedding is None) for one in await storage.get(["a", "later"])] == [
            ("a", False),
            ("later", True),
        ]
        assert await storage.count() == 2


async def test_a_hybrid_search_finds_a_chunk_by_its_words_alone(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([*BOTH, Chunk("unrelated", [0.0, 1.0], id="c")])
        hits = await storage.search([1.0, 0.1], text="kettle vector")
        assert [(hit.id, hit.vector_rank, hit.text_rank) for hit in hits] == [
            ("a", 1, 2),
            ("later", None, 1),
            ("c", 2, None),
        ]
        assert [hit.id for hit in hits if math.isnan(hit.distance)] == ["later"]
        assert hits[1].as_dict()["distance"] is None
        assert {hit.id for hit in await storage.search([1.0, 0.1], text="kettle", mmr=0.3)} == {"a", "later", "c"}


async def test_missing_embeddings_are_made_later_and_once(dsn: str, collection: str) -> None:
    model = Model()
    async with VectorStorage(dsn, collection, 2, embedder="model") as storage:
        await storage.add([*BOTH, *(Chunk(f"text {number}") for number in range(4))])

        async def change() -> None:
            model.meanwhile = None
            await storage.add([Chunk("changed meanwhile", id="later")])

        model.meanwhile = change
        assert await storage.embed_missing(model.embed) == 4
        assert len(model.texts) == 5
        assert [hit.id for hit in await storage.search([0.6, 0.8], 1)] != ["later"]
        assert await storage.embed_missing(model.embed, batch_size=1) == 1
        assert model.texts[5:] == ["changed meanwhile"]
        assert await storage.embed_missing(model.embed) == 0
        assert len(await storage.search([0.6, 0.8], 10)) == 6
        with pytest.raises(EmbedderError):
            async with VectorStorage(dsn, collection, embedder="other") as other:
                await other.embed_missing(model.embed)


async def test_a_vector_that_cannot_be_stored_names_its_chunk(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([LATER])
        with pytest.raises(ArgumentError, match="look at what the model returned") as refused:
            await storage.embed_missing(Model(vector=[1.0, math.nan]).embed)
        assert (refused.value.document, refused.value.chunk) == ("b.md", "later")
        with pytest.raises(ArgumentError, match="batch_size is 0"):
            await storage.embed_missing(Model().embed, batch_size=0)
        assert await storage.search([1.0, 0.0]) == []


async def test_an_upsert_without_a_model_leaves_embeddings_for_later(dsn: str, collection: str) -> None:
    model = Model()
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await storage.upsert([LATER]) == Upserted(1, 0, 0)
        assert await storage.upsert([LATER]) == Upserted(0, 0, 1)
        assert await storage.upsert([LATER], model.embed) == Upserted(0, 1, 0)
        assert await storage.upsert([LATER], model.embed) == Upserted(0, 0, 1)
        assert await storage.upsert([LATER]) == Upserted(0, 0, 1)
        assert model.texts == [LATER.text]
        assert [hit.id for hit in await storage.search([0.6, 0.8])] == ["later"]


async def test_embedding_again_embeds_what_was_left_for_later(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, embedder="model") as storage:
        await storage.add(BOTH)
        report = await reembed(storage.bound_to("model"), Model("another"))
        assert report.embedded == 2
    async with VectorStorage(dsn, collection, embedder="another") as storage:
        await storage.add([Chunk("stored after that")])
        assert len(await storage.search([0.6, 0.8])) == 2


async def test_a_table_of_an_earlier_version_is_brought_up_to_date_by_its_owner_alone(
    server: Server, dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(BOTH[:1])
    table = f"preheat_{collection}"
    server.sql(
        f'ALTER TABLE "{table}" ALTER COLUMN embedding SET NOT NULL;'
        f"UPDATE preheat_collections SET version = 3 WHERE name = '{collection}'",
        "tests",
    )
    before = catalog(server, "tests")
    rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    writer = server.role(f"{collection}_writer", "tests", rights)
    async with VectorStorage(writer, collection, 2) as storage:
        assert [hit.id for hit in await storage.search([1.0, 0.1])] == ["a"]
        await storage.add([Chunk("with a vector", [0.0, 1.0], id="b")])
        for store in (storage.add, storage.upsert):
            with pytest.raises(AccessError, match=f"an earlier version .* preheat schema --collection {collection}"):
                await store([LATER])  # type: ignore[operator]
    assert catalog(server, "tests") == before
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await storage.add([LATER]) == 1


async def test_a_search_by_words_alone_ranks_as_the_words_of_a_hybrid_search(dsn: str, collection: str) -> None:
    texts = ["kettle", "a kettle and a pan", "kettle kettle pan", "a pan of pans", "nothing of that"]
    chunks = [Chunk(text, [1.0, float(n)] if n % 2 else None, {"n": n}, id=str(n)) for n, text in enumerate(texts)]
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([*chunks, Chunk("a kettle at zero", metadata={"n": 9}, id="9")])
        alone = await storage.search(text="kettle or pan", k=10)
        both = await storage.search([1.0, 0.5], text="kettle or pan", k=10)
        ranks = {hit.id: hit.text_rank for hit in both if hit.text_rank}
        assert {hit.id: hit.text_rank for hit in alone} == ranks
        assert [hit.text_rank for hit in alone] == [1, 2, 3, 4, 5]
        assert [hit.score for hit in alone] == sorted((hit.score for hit in alone), reverse=True)
        assert all(math.isnan(hit.distance) and hit.vector_rank is None for hit in alone)
        assert [hit.id for hit in await storage.search(text="kettle", filter=F("n") > 1, without=["pan"])] == ["9"]
        assert len(await storage.search(text="kettle", mmr=0.5, k=2)) == 2
        assert await storage.search(text="the") == []
        assert await storage.search(text="kettle", min_score=2.0) == []
        assert (await storage.explain(text="kettle")).statement.count("near") == 0


async def test_a_search_by_words_alone_needs_neither_the_model_nor_a_second_round_trip(
    server: Server, dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 2, metric="l2", embedder="model") as storage:
        await storage.add(BOTH)
    with RoundTripMeter(server.port) as meter:
        through = server.dsn("tests", port=meter.port)
        async with VectorStorage(through, collection, size=1, warm="never", embedder="other") as other:
            round_trips = []
            for _ in range(3):
                assert [hit.id for hit in await other.search(text="kettle")] == ["a", "later"]
                round_trips.append(sum(meter.round_trips))
    assert [after - before for before, after in itertools.pairwise(round_trips)] == [1, 1]


async def test_a_search_for_nothing_is_refused(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        with pytest.raises(ArgumentError, match=r"needs a vector, a text or both; .* chunks\(\)"):
            await storage.search()
