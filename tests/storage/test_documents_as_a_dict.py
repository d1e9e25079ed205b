"""Whatever is done to a collection, it holds what a dict would, and tells the same of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preheat import Chunk, Upserted, VectorStorage

IDS = ["a", "B", "ä", "'; DROP TABLE x; --", "\\"]
TEXTS = ["one", "two", "ein Käfer", "\u202e", "x" * 3000]
DOCUMENTS = ["", "a.md", "ä/b.md", '"quoted"']
METADATA: list[dict[str, Any]] = [{}, {"n": 1}, {"n": 1.0}, {"n": 2, "tags": ["a"]}, {"n": None}]

_numbers = itertools.count()

chunks = st.builds(
    Chunk,
    text=st.sampled_from(TEXTS),
    metadata=st.sampled_from(METADATA),
    document=st.sampled_from(DOCUMENTS),
    position=st.integers(0, 3),
    id=st.sampled_from(IDS),
)
batches = st.lists(chunks, max_size=6)
operations = st.one_of(
    st.tuples(st.sampled_from(["upsert", "add"]), batches),
    st.tuples(st.sampled_from(["replace", "replace all"]), st.sampled_from(DOCUMENTS), batches),
    st.tuples(st.just("delete"), st.lists(st.sampled_from(IDS), max_size=2)),
    st.tuples(st.just("delete document"), st.sampled_from(DOCUMENTS)),
    st.tuples(st.just("delete by filter"), st.sampled_from([1, 2])),
)


def vector(text: str) -> list[float]:
    return [1.0, float(sum(text.encode()) % 97)]


async def embed(texts: Sequence[str]) -> list[list[float]]:
    return [vector(text) for text in texts]


def with_vector(chunk: Chunk) -> Chunk:
    return Chunk(chunk.text, vector(chunk.text), chunk.metadata, chunk.document, chunk.position, chunk.id)


def of(document: str, given: list[Chunk]) -> list[Chunk]:
    return [Chunk(one.text, None, one.metadata, document, one.position, one.id) for one in given]


async def do(storage: VectorStorage, model: dict[str, Chunk], operation: tuple[Any, ...]) -> None:
    """Do something to the collection and to the dict; what is said of it is the same."""
    match operation:
        case ("upsert", given):
            new = {one.id: one for one in given}
            unchanged = sum(model.get(id) == one for id, one in new.items())
            added = sum(id not in model for id in new)
            counts = Upserted(added, len(new) - added - unchanged, unchanged)
            assert await storage.upsert(given, embed) == counts
            model |= new
        case ("add", given):
            assert await storage.add(map(with_vector, given)) == len({one.id for one in given})
            model |= {one.id: one for one in given}
        case (("replace" | "replace all") as how, document, given):
            given = of(document, given)
            if how == "replace":
                await storage.replace_document(document, given, embed)
            else:
                await storage.replace_document(document, list(map(with_vector, given)))
            for id in [id for id, one in model.items() if one.document == document]:
                del model[id]
            model |= {one.id: one for one in given}
        case ("delete", ids):
            assert await storage.delete(ids) == len([model.pop(id) for id in set(ids) if id in model])
        case ("delete document", document):
            gone = [id for id, one in model.items() if one.document == document]
            assert await storage.delete(document=document) == len([model.pop(id) for id in gone])
        case ("delete by filter", number):
            gone = [id for id, one in model.items() if one.metadata.get("n") == number]
            assert await storage.delete(filter={"n": number}) == len([model.pop(id) for id in gone])


async def agree(storage: VectorStorage, model: dict[str, Chunk]) -> None:
    found = [one async for one in storage.chunks(batch_size=2)]
    assert len(found) == len(model) == await storage.count()
    assert {one.id: one for one in found} == model
    assert all(one.embedding == vector(one.text) for one in found)
    documents = Counter(one.document for one in model.values())
    assert {one.key: one.chunks async for one in storage.documents()} == documents
    for document, count in documents.items():
        assert await storage.count(document=document) == count
        own = [one async for one in storage.chunks(document=document, batch_size=1)]
        expected = [one for one in model.values() if one.document == document]
        assert [one.position for one in own] == sorted(one.position for one in expected)
        assert {one.id for one in own} == {one.id for one in expected}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=st.lists(operations, max_size=8))
def test_a_collection_is_a_dict(dsn: str, backend: str, done: list[tuple[Any, ...]]) -> None:
    async def main() -> None:
        async with VectorStorage(dsn, f"dict_{next(_numbers)}", 2, size=1, index=False, warm="never") as storage:
            model: dict[str, Chunk] = {}
            for operation in done:
                await do(storage, model, operation)
            await agree(storage, model)

    anyio.run(main, backend=backend)
