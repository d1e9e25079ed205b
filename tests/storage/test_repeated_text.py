"""A text that comes several times in a document is as many chunks, each in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import Chunk, Document, ResearchRetriever, Upserted, VectorStorage
from preheat.storage.models import derived_id
from preheat.storage.write.chunks import numbered

STEPS = ["install", "unplug the device first", "fuse", "unplug the device first", "belt", "unplug the device first"]


def parts(texts: Sequence[str], document: str = "manual.md", **values: Any) -> list[Chunk]:
    return [Chunk(text, [1.0, len(text)], {}, document, position, **values) for position, text in enumerate(texts)]


class Model:
    """Embeds a text as its length, and remembers what it was asked."""

    name = "length"
    dimensions = 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += texts
        return [[1.0, float(len(text))] for text in texts]


async def in_order(storage: VectorStorage, document: str = "manual.md") -> list[tuple[int, str]]:
    return [(chunk.position, chunk.text) async for chunk in storage.chunks(document=document)]


async def ids(storage: VectorStorage) -> dict[int, str]:
    return {chunk.position: chunk.id async for chunk in storage.chunks(document="manual.md")}


async def versions(storage: VectorStorage) -> list[tuple[str, str]]:
    async with storage.get_connection() as connection:
        rows = await connection.fetch(f'SELECT id, xmin::text AS by FROM "preheat_{storage.collection}" ORDER BY id')
        return [(row["id"], row["by"]) for row in rows]


@pytest.mark.parametrize("call", ["add", "upsert", "replace_document"])
async def test_each_is_stored_in_its_place(dsn: str, collection: str, call: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        chunks = parts(STEPS)
        await (
            storage.replace_document("manual.md", chunks)
            if call == "replace_document"
            else getattr(storage, call)(chunks)
        )
        assert await in_order(storage) == list(enumerate(STEPS))
        (belt,) = [chunk async for chunk in storage.chunks(document="manual.md") if chunk.text == "belt"]
        beside = await storage.neighbors(belt)
        assert [(chunk.position, chunk.text) for chunk in beside] == [(3, STEPS[3]), (5, STEPS[5])]
        found = await storage.search([1.0, len(STEPS[1])], k=3)
        assert sorted((hit.position, hit.text) for hit in found) == [(1, STEPS[1]), (3, STEPS[1]), (5, STEPS[1])]


async def test_storing_them_again_writes_nothing(dsn: str, collection: str) -> None:
    model = Model()
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = ResearchRetriever(storage, model)
        await storage.add(parts(STEPS))
        before = await versions(storage)
        assert await storage.upsert(parts(STEPS)) == Upserted(0, 0, 6)
        assert await storage.replace_document("manual.md", parts(STEPS), model.embed) == 6
        assert await retriever.upsert(list(reversed(parts(STEPS)))) == Upserted(0, 0, 6)
        assert await versions(storage) == before
        assert model.asked == []


async def test_the_first_one_keeps_the_id_that_it_has_always_had(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        once = [chunk for chunk in parts(STEPS) if chunk.position not in (3, 5)]  # as they were stored before
        await storage.add(once)
        before = await versions(storage)
        assert await storage.upsert(parts(STEPS)) == Upserted(2, 0, 4)
        assert [version for version in await versions(storage) if version in before] == before
        assert await in_order(storage) == list(enumerate(STEPS))


@pytest.mark.parametrize(
    ("texts", "outcome"),
    [
        pytest.param([*STEPS[:2], "wire", *STEPS[3:]], (1, 0, 5), id="another is edited"),
        pytest.param(["wire", *STEPS], (1, 6, 0), id="one is put before"),
        pytest.param([*STEPS, STEPS[1]], (1, 0, 6), id="it comes once more"),
        pytest.param([STEPS[1], *STEPS], (1, 6, 0), id="it comes once more, before the first"),
        pytest.param([STEPS[2], *STEPS[:2], *STEPS[3:]], (0, 3, 3), id="another is moved"),
        pytest.param(STEPS[:3], (0, 0, 3), id="the last ones go"),
        pytest.param(STEPS[2:], (0, 2, 2), id="the first one goes"),
    ],
)
async def test_unchanged_chunks_are_not_embedded_again(
    dsn: str, collection: str, texts: list[str], outcome: tuple[int, int, int]
) -> None:
    model = Model()
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(parts(STEPS))
        assert await storage.upsert(parts(texts), model.embed) == Upserted(*outcome)
        assert await storage.replace_document("manual.md", parts(texts), model.embed) == len(texts)
        assert await in_order(storage) == list(enumerate(texts))
        assert model.asked == []  # each chunk has brought its embedding


async def test_equal_chunks_of_one_call_are_as_many_as_were_given(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await storage.add([Chunk("same", [1, 0]) for _ in range(3)]) == 3
        assert await storage.count() == 3
        assert await storage.add([Chunk("same", [1, 0]) for _ in range(3)]) == 3
        assert await storage.count() == 3
        assert await storage.upsert(
            [Chunk("same", document=key) for key in ("", "a", "b") for _ in range(2)], Model().embed
        )
        assert await storage.count() == 7
        assert await storage.count(document="b") == 2


async def test_in_another_call_the_same_text_is_the_same_chunk(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(parts(STEPS[:2]))
        await storage.add([Chunk(STEPS[1], [0, 1], {"n": 2}, "manual.md", 3)])
        assert await in_order(storage) == [(0, STEPS[0]), (3, STEPS[1])]


async def test_chunks_that_were_read_are_stored_under_their_ids(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(parts(STEPS))
        before = await ids(storage)
        read = [chunk async for chunk in storage.chunks(document="manual.md")]
        await storage.add(reversed(read))
        await storage.add(read[3:])
        await storage.upsert(read[:2])
        assert await ids(storage) == before


async def test_a_document_that_is_cut_has_them_all(dsn: str, collection: str) -> None:
    text = "\n\n".join(
        f"# {title}\n\n{body}" for title, body in (("Install", "Run it."), *[("Warning", "Unplug.")] * 40)
    )
    document = Document("manual.md", text, format="markdown")
    chunks = document.chunks(30)
    assert len({chunk.id for chunk in chunks}) == len(chunks) > 30
    model = Model()
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = ResearchRetriever(storage, model)
        report = await retriever.ingest(
            [document, Document("other.md", text, format="markdown")], batch_size=7, chunk_size=30
        )
        assert (report.added, report.chunks) == (2 * len(chunks), 2 * len(chunks))
        assert await in_order(storage) == [(chunk.position, chunk.text) for chunk in chunks]
        again = await retriever.ingest([document], batch_size=3, chunk_size=30)
        assert (again.unchanged, again.chunks) == (len(chunks), len(chunks))
        assert await retriever.add("manual.md", text, format="markdown", chunk_size=30) == len(chunks)
        assert await ids(storage) == {chunk.position: chunk.id for chunk in chunks}
        for chunk in chunks:  # whoever stores them one by one loses none
            await storage.upsert([chunk], model.embed)
        assert await storage.count(document="manual.md") == len(chunks)


@given(
    st.lists(st.tuples(st.sampled_from(["", "a"]), st.sampled_from("xyz"), st.integers(0, 9)), max_size=12), st.data()
)
def test_property_ids_depend_on_what_is_stored_alone(values: list[tuple[str, str, int]], data: st.DataObject) -> None:
    """As many ids as chunks; the same ones in whatever order they are given; the first of each text has the old id."""
    chunks = [Chunk(text, None, {"n": number}, document, number) for number, (document, text, _) in enumerate(values)]
    one = {(chunk.document, chunk.position): chunk.id for chunk in numbered(chunks)}
    other = {(chunk.document, chunk.position): chunk.id for chunk in numbered(data.draw(st.permutations(chunks)))}
    assert one == other
    assert len(set(one.values())) == len(chunks)
    for document, text in {(chunk.document, chunk.text) for chunk in chunks}:
        assert derived_id(document, text) in one.values()
    assert numbered(numbered(chunks)) == numbered(chunks)
