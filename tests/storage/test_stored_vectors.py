"""Vectors without a direction, and vectors that float16 cannot hold: what becomes of them where they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from preheat import ArgumentError, Chunk, Document, ResearchRetriever, VectorStorage, reembed
from preheat.storage.encoding.vectors import check_vector

ARRAYS = [list, tuple, lambda values: np.array(values, "f4"), lambda values: np.array(values, "f8")]


class Model:
    """Gives each text a vector of its length, which is zero for the text `nothing`."""

    name = "lengths"
    dimensions = 3

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[0.0, 0.0, float(len(text)) if text != "nothing" else 0.0] for text in texts]


def bad(vector: Any, **values: Any) -> Chunk:
    return Chunk(**{"text": "nothing", "embedding": vector, "document": "bad.md", "id": "zero", **values})


async def write(storage: VectorStorage, call: str, chunk: Chunk) -> None:
    good = Chunk("good", [1, 2, 3], document=chunk.document)
    match call:
        case "add" | "upsert":
            await getattr(storage, call)([good, chunk])
        case "replace_document":
            await storage.replace_document("bad.md", [good, chunk])
        case "replace_document with a model":
            await storage.replace_document(
                "bad.md", [good, Chunk("nothing", document="bad.md", id="zero")], Model().embed
            )


CALLS = ["add", "upsert", "replace_document", "replace_document with a model"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("type", ["vector", "halfvec"])
async def test_by_cosine_a_zero_vector_is_refused_wherever_it_is_stored(
    dsn: str, collection: str, call: str, type: Any
) -> None:
    async with VectorStorage(dsn, collection, 3, vector_type=type) as storage:
        for _ in ("before the collection is made", "and afterwards"):
            with pytest.raises(
                ArgumentError, match=r"'zero' of document 'bad\.md'.*no direction.*metric='l2'"
            ) as refused:
                await write(storage, call, bad([0, 0, 0]))
            assert (refused.value.document, refused.value.chunk, refused.value.index) == ("bad.md", "zero", 1)
            assert await storage.count() == 0
            await storage.create()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("metric", "type"), [("l2", "vector"), ("inner_product", "halfvec")])
async def test_by_another_metric_a_zero_vector_is_stored_and_found(
    dsn: str, collection: str, call: str, metric: Any, type: Any
) -> None:
    async with VectorStorage(dsn, collection, 3, metric=metric, vector_type=type) as storage:
        await write(storage, call, bad([0, 0, 0]))
        for options in ({}, {"filter": {"x": {"$exists": False}}}):
            assert "zero" in {hit.id for hit in await storage.search([0, 0, 1], k=10, **options)}


@pytest.mark.parametrize("call", CALLS)
async def test_the_metric_of_a_collection_is_looked_up_before_a_zero_vector_is_refused(
    dsn: str, collection: str, call: str
) -> None:
    async with VectorStorage(dsn, collection, 3, metric="l2") as storage:
        await storage.add([Chunk("one", [1, 0, 0])])
    async with VectorStorage(dsn, collection, 3) as storage:  # nobody says the metric
        await write(storage, call, bad([0, 0, 0]))
        assert await storage.count(document="bad.md") == 2
    async with VectorStorage(dsn, collection) as storage:
        await write(storage, call, bad([0, 0, 0]))


@pytest.mark.parametrize("form", ARRAYS)
async def test_a_vector_without_a_cosine_in_pgvector_is_refused(dsn: str, collection: str, form: Any) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        for vector in ([-0.0, 0, 0], [1e-60, 0, 0], [1e-30, 1e-30, 0], [2e19, 0, 0]):
            with pytest.raises(ArgumentError, match=r"'zero' .* (no direction|scale the embeddings)"):
                await storage.add([bad(form(vector))])
        await storage.add(
            [bad(form([1e-18, 1e-18, 0]), text="short"), bad(form([1e18, 1e18, 0]), text="long", id="long")]
        )
        assert [round(hit.score, 3) for hit in await storage.search([1, 1, 0], k=5)] == [1, 1]


async def test_an_ingest_names_the_document_of_a_zero_vector(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, Model())
        with pytest.raises(ArgumentError, match=r"no direction") as refused:
            await retriever.add("bad.md", "nothing")
        assert refused.value.document == "bad.md"


async def test_a_model_that_gives_a_zero_vector_does_not_take_a_collection_over(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, embedder="before") as storage:
        await storage.add([Chunk("something", [1, 1], id="good"), Chunk("nothing", [1, 2], id="zero")])
        with pytest.raises(ArgumentError, match=r"'zero'.*no direction"):
            await reembed(storage, Model())
        assert len(await storage.search([1, 1])) == 2


# float16


@pytest.mark.parametrize("form", ARRAYS)
@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize(
    "vector", [[1e-8, 0, 0], [2e-8, -3e-8, 1e-8], [5e-7, 5e-7, 5e-7], [1e-17, 1e-17, 0], [0, 0, 1.49e-7]]
)
def test_a_vector_that_float16_would_change_is_refused(form: Any, metric: Any, vector: list[float]) -> None:
    with pytest.raises(ArgumentError, match=r"float16 would change it by \d+%.*vector_type='vector'"):
        check_vector(form(vector), 3, "halfvec", metric)
    check_vector(form(vector), 3, "vector", metric)


@pytest.mark.parametrize("form", ARRAYS)
@pytest.mark.parametrize(
    "vector", [[1, 1e-9, 1e-9], [1e-4, 1e-5, 0], [6e-5, 6e-5, 6e-5], [2.0**-24, 0, 0], [65504, 0, 1]]
)
def test_a_vector_that_float16_represents_well_is_stored(form: Any, vector: list[float]) -> None:
    check_vector(form(vector), 3, "halfvec", "cosine")


@given(
    arrays.arrays(
        "f4",
        st.integers(1, 40),
        elements=st.floats(-60000, 60000, width=32) | st.floats(-(2.0**-12), 2.0**-12, width=32),
    )
)
def test_property_rounding_to_float16_changes_a_vector_by_a_hundredth_at_most(vector: Any) -> None:
    """A vector is refused if and only if float16 changes it by more than a hundredth of its length."""
    exact = vector.astype("f8")
    changed = np.linalg.norm(exact.astype("f2").astype("f8") - exact) / (np.linalg.norm(exact) or 1)
    for given_as in (vector, vector.tolist()):
        if changed > 0.0101:
            with pytest.raises(ArgumentError, match="float16"):
                check_vector(given_as, len(vector), "halfvec", "l2")
        elif changed < 0.0099:
            check_vector(given_as, len(vector), "halfvec", "l2")


async def test_a_chunk_that_float16_would_change_is_named(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, vector_type="halfvec", metric="l2") as storage:
        with pytest.raises(ArgumentError, match=r"'zero' of document 'bad\.md'.*float16 would change it by 100%"):
            await storage.upsert([Chunk("good", [1, 2, 3]), bad([1e-9, 0, 0])])


async def test_zero_vectors_of_documents(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, metric="l2") as storage:
        report = await ResearchRetriever(storage, Model()).ingest(
            [Document("a", "nothing"), Document("b", "something")]
        )
        assert report.added == 2
