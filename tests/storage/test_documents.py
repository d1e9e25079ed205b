"""Documents in and out: what has changed is written, the rest is left alone; and everything can be gone through."""

from __future__ import annotations

import math
import pickle
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from tests.support.server import Server

from preheat import (
    ArgumentError,
    Chunk,
    CollectionError,
    DimensionError,
    DocumentInfo,
    EmbedderError,
    F,
    Upserted,
    VectorStorage,
)
from preheat.storage.write import sql as statements


class Embedding:
    """Gives each text its length for a vector, and remembers what it was asked; `meanwhile` happens while it works."""

    def __init__(self, dimensions: int = 2) -> None:
        self.calls: list[list[str]] = []
        self.dimensions = dimensions
        self.meanwhile: list[Any] = []

    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.calls.append(list(texts))
        await anyio.lowlevel.checkpoint()
        if self.meanwhile:
            await self.meanwhile.pop(0)()
        return [[1.0] * (self.dimensions - 1) + [float(len(text))] for text in texts]


def chunk(number: int, text: str = "", **changes: Any) -> Chunk:
    values = {"text": text or f"text {number}", "document": "a.md", "position": number, "id": f"{number:04}"}
    return Chunk(**{**values, **changes})


async def rows(storage: VectorStorage) -> dict[str, tuple[Any, ...]]:
    """Where each row lies and which transaction wrote it."""
    async with storage.pool.lease() as lease:
        table = f'"preheat_{storage.collection}"'
        found = await lease.fetch(f"SELECT id, ctid::text, xmin::text FROM {table} ORDER BY id")
        return {row["id"]: (row["ctid"], row["xmin"]) for row in found}


async def stored(storage: VectorStorage) -> dict[str, str]:
    return {one.id: one.text async for one in storage.chunks()}


async def all_of(iterator: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in iterator]


# Where they have changed


async def test_stored_chunks_are_neither_embedded_nor_written_again(dsn: str, collection: str) -> None:
    embed = Embedding()
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await storage.upsert([chunk(n, metadata={"n": n}) for n in range(5)], embed) == Upserted(5, 0, 0)
        before = await rows(storage)

        again = [chunk(n, metadata={"n": float(n)}) for n in range(5)]  # the same number, as JSON has it
        again[1] = chunk(1, "another text", metadata={"n": 1})
        again.append(chunk(5))
        assert await storage.upsert(again, embed) == Upserted(added=1, changed=1, unchanged=4)

        after = await rows(storage)
        assert [id for id in before if before[id] != after[id]] == ["0001"]
        assert embed.calls == [[f"text {n}" for n in range(5)], ["another text", "text 5"]]
        (changed,) = await storage.get(["0001"])
        assert (changed.text, list(changed.embedding or [])) == ("another text", [1.0, 12.0])


async def test_nothing_but_a_look_up_is_asked_of_the_server_when_nothing_has_changed(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with VectorStorage(dsn, collection, 2, size=1) as storage:
        await storage.upsert([chunk(1)], Embedding())
        asked: list[Any] = []
        fetch = storage.executor.fetch

        async def watched(statement: Any, *args: Any, **options: Any) -> Any:
            asked.append(statement)
            return await fetch(statement, *args, **options)

        async def never(_operation: Any) -> None:
            raise AssertionError("a transaction")

        monkeypatch.setattr(storage.executor, "fetch", watched)
        monkeypatch.setattr(storage.executor, "run", never)
        assert await storage.upsert([chunk(1)]) == Upserted(0, 0, 1)
        assert len(asked) == 1


@pytest.mark.parametrize("change", [{"metadata": {"v": 2}}, {"position": 9}, {"document": "b.md"}])
async def test_the_embedding_stays_while_the_text_does(dsn: str, collection: str, change: dict[str, Any]) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([chunk(1, embedding=[3.0, 4.0]), chunk(2, embedding=[5.0, 6.0])])

        assert await storage.upsert([chunk(1, **change), chunk(2)]) == Upserted(0, 1, 1)

        one, two = sorted(await storage.get(["0001", "0002"]), key=lambda chunk: chunk.id)
        assert (one, two) == (chunk(1, **change), chunk(2))
        assert [list(chunk.embedding or []) for chunk in (one, two)] == [[3.0, 4.0], [5.0, 6.0]]


async def test_a_chunk_that_brings_its_embedding_is_not_embedded(dsn: str, collection: str) -> None:
    embed = Embedding()
    async with VectorStorage(dsn, collection, 2) as storage:
        batch = [chunk(1, embedding=[3.0, 4.0]), chunk(2), chunk(3, "text 2")]
        assert await storage.upsert(batch, embed) == Upserted(3, 0, 0)
        assert embed.calls == [["text 2"]]  # each text once
        assert await storage.upsert([chunk(4, embedding=[1.0, 1.0])]) == Upserted(1, 0, 0)
        assert [list(chunk.embedding or []) for chunk in await storage.get(["0001", "0003"])] == [[3, 4], [1, 6]]


async def test_of_two_with_one_id_the_later_counts_and_none_is_nothing(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await storage.upsert([]) == Upserted(0, 0, 0)
        assert await storage.upsert([chunk(1), chunk(1, "later")], Embedding()) == Upserted(1, 0, 0)
        assert await stored(storage) == {"0001": "later"}


async def test_invalid_chunks_are_refused_before_the_collection_is_created(dsn: str, collection: str) -> None:
    embed = Embedding()
    async with VectorStorage(dsn, collection, 2) as storage:
        for wrong, words in (
            (chunk(1, "a\0b"), "NUL"),
            (chunk(1, metadata={"a": object()}), "not JSON"),
            (chunk(1, position=2**40), "position"),
            (chunk(1, id=5), "the id is 5"),
        ):
            with pytest.raises(ArgumentError, match=words):
                await storage.upsert([chunk(2), wrong], embed)
        assert embed.calls == []
        with pytest.raises(DimensionError):
            await storage.upsert([chunk(1)], Embedding(3))
    async with VectorStorage(dsn, collection) as storage:
        with pytest.raises(CollectionError, match="there is no collection"):
            await storage.upsert([chunk(1)], embed)
    assert embed.calls == []


async def test_too_few_vectors_are_told(dsn: str, collection: str) -> None:
    async def short(texts: Sequence[str]) -> list[list[float]]:
        return [[1.0, 1.0]]

    async with VectorStorage(dsn, collection, 2) as storage:
        with pytest.raises(ArgumentError, match="gave 1 vectors for 2 texts"):
            await storage.upsert([chunk(1), chunk(2)], short)


async def test_a_batch_is_changed_whole_or_not_at_all(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.upsert([chunk(1), chunk(2)], Embedding())
        async with storage.get_connection() as connection:
            await connection.execute(f"ALTER TABLE \"preheat_{collection}\" ADD CHECK (text <> 'poison')")
        with pytest.raises(Exception, match="check constraint"):
            await storage.upsert([chunk(1, "changed"), chunk(2, metadata={"v": 2}), chunk(3, "poison")], Embedding())
        assert await stored(storage) == {"0001": "text 1", "0002": "text 2"}
        assert await storage.count(filter=F("v").exists()) == 0


async def test_a_model_that_does_not_match_the_collection_is_reported_before_anything_is_embedded(
    dsn: str, collection: str
) -> None:
    embed = Embedding()
    async with VectorStorage(dsn, collection, 2, embedder="first") as storage:
        await storage.upsert([chunk(1)], embed)
    async with VectorStorage(dsn, collection, 2, embedder="second") as storage:
        with pytest.raises(EmbedderError):
            await storage.upsert([chunk(1), chunk(2)], embed)
    assert embed.calls == [["text 1"]]


@pytest.mark.parametrize("schema", [None, "Odd schema"])
@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
async def test_every_kind_of_collection_takes_them(
    dsn: str, collection: str, vector_type: Any, schema: str | None
) -> None:
    async with VectorStorage(dsn, collection, 2, vector_type=vector_type, schema=schema) as storage:
        assert await storage.upsert([chunk(1), chunk(2)], Embedding()) == Upserted(2, 0, 0)
        assert await storage.upsert([chunk(1, "other"), chunk(2, position=7)], Embedding()) == Upserted(0, 2, 0)
        assert await stored(storage) == {"0001": "other", "0002": "text 2"}
        assert await all_of(storage.documents()) == [DocumentInfo("a.md", 2)]
        assert [one.id for one in await storage.neighbors(chunk(1))] == ["0002"]


async def test_a_table_that_another_client_drops_meanwhile_is_made_again(dsn: str, collection: str) -> None:
    embed = Embedding()
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.upsert([chunk(1)], embed)

        async def drop() -> None:
            async with storage.get_connection() as connection:
                await connection.execute(f'DROP TABLE "preheat_{collection}"')

        embed.meanwhile.append(drop)
        assert await storage.upsert([chunk(1, "other")], embed) == Upserted(1, 0, 0)


# Writers who meet


async def test_a_chunk_deleted_after_the_comparison_is_written_after_all(dsn: str, collection: str) -> None:
    """While the one new text is embedded, somebody deletes a chunk, changes another and moves a third."""
    embed = Embedding()
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.upsert([chunk(n) for n in range(4)], embed)

        async def meanwhile() -> None:
            await storage.delete(["0000"])
            await storage.upsert([chunk(1, "theirs"), chunk(2, position=99)], Embedding())

        embed.meanwhile.append(meanwhile)
        assert await storage.upsert([chunk(n) for n in range(5)], embed) == Upserted(2, 2, 1)

        assert await storage.get([f"{n:04}" for n in range(5)]) == [chunk(n) for n in range(5)]
        assert embed.calls[1:] == [["text 4"], ["text 0", "text 1"]]


async def test_a_chunk_that_another_client_has_stored_meanwhile_is_not_stored_again(dsn: str, collection: str) -> None:
    embed = Embedding()
    async with VectorStorage(dsn, collection, 2) as storage:

        async def meanwhile() -> None:
            await storage.upsert([chunk(1)], Embedding())

        embed.meanwhile.append(meanwhile)
        assert await storage.upsert([chunk(1)], embed) == Upserted(0, 0, 1)


async def test_writers_of_the_same_chunks_all_succeed_and_one_of_them_wins(dsn: str, collection: str) -> None:
    """Some take locks of documents, some none; some begin at the other end."""
    async with VectorStorage(dsn, collection, 2, size=6) as storage:
        await storage.upsert([chunk(n) for n in range(0, 40, 3)], Embedding())
        async with anyio.create_task_group() as tasks:
            for writer in range(6):
                batch = [
                    chunk(n, f"writer{writer}", document=f"{(n + writer) % 4}.md", embedding=[1.0, 2.0])
                    for n in range(40)
                ]
                if writer % 2:
                    tasks.start_soon(storage.upsert, batch[::-1])
                else:
                    tasks.start_soon(storage.add, batch)

        found = await stored(storage)
        assert len(found) == 40
        assert len(set(found.values())) == 1


async def test_more_documents_than_can_be_locked_one_by_one(dsn: str, collection: str) -> None:
    """Beside writers of single documents, which must not get in between."""
    async with VectorStorage(dsn, collection, 2, size=4) as storage:
        await storage.create()
        many = [chunk(n, document=f"{n}.md") for n in range(600)]
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(storage.upsert, many, Embedding())
            for n in range(5):
                tasks.start_soon(storage.replace_document, f"{n}.md", [many[n]], Embedding())
        assert await storage.count() == 600


# A document


async def test_a_document_is_replaced_without_embedding_again_what_it_had(dsn: str, collection: str) -> None:
    embed = Embedding()
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.upsert([chunk(9, document="b.md")], Embedding())
        assert await storage.replace_document("a.md", [chunk(n) for n in range(4)], embed) == 4
        before = await rows(storage)
        assert await storage.replace_document("a.md", [chunk(0), chunk(2), chunk(5)], embed) == 3
        after = await rows(storage)

        assert list(after) == ["0000", "0002", "0005", "0009"]
        assert [id for id in after if id in before and before[id] != after[id]] == []
        assert embed.calls[1:] == [["text 5"]]
        assert await storage.replace_document("a.md", [], embed) == 0
        assert list(await rows(storage)) == ["0009"]


async def test_an_id_is_a_uuid_if_one_likes(dsn: str, collection: str) -> None:
    one, other = uuid4(), uuid4()
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([chunk(1, id=one, embedding=[1, 1]), chunk(2, id=str(other), embedding=[1, 1])])

        assert [UUID(found.id) for found in await storage.get([one, str(other)])] == [one, other]
        assert await storage.delete([other, uuid4()]) == 1
        assert await storage.count() == 1
        with pytest.raises(ArgumentError, match="list"):
            await storage.get(one)  # type: ignore[arg-type]


# Out again


async def library(storage: VectorStorage) -> None:
    await storage.add(
        Chunk(f"text {n}", [1.0, float(n)], {"even": n % 2 == 0}, document, n)
        for document in ("", "a.md", "b/c.md", "b/d.md")
        for n in range(5)
    )


async def test_chunks_are_deleted_by_a_filter_but_never_all_by_mistake(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await library(storage)
        for empty in ({}, {"$and": [{}]}, {"$or": [{}, {"even": True}]}, F("even").exists() | F("even").missing()):
            with pytest.raises(ArgumentError, match=r"empty.* passes every chunk.* clear\(\)"):
                await storage.delete(filter=empty)
        with pytest.raises(ArgumentError, match="one of them"):
            await storage.delete(["a"], filter=F("even") == True)  # noqa: E712
        assert await storage.delete(filter={"even": True}) == 12
        assert await storage.delete(filter=F("even").missing()) == 0
        assert await storage.delete(document="") == 2
        assert await storage.count() == 6


async def test_to_delete_nothing_asks_nothing_of_the_server(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await library(storage)
        nothing: list[Any] = [
            {"filter": {"$or": []}},
            {"filter": F("even").in_([])},
            {"filter": {"$not": {}}},
            {"ids": []},
        ]
        async with anyio.create_task_group() as tasks:
            for _ in range(storage.pool.size):  # with no connection left, a statement would wait
                await tasks.start(hold, storage)
            with anyio.fail_after(30):
                assert [await storage.delete(**arguments) for arguments in nothing] == [0, 0, 0, 0]
            tasks.cancel_scope.cancel()
        assert await storage.count() == 20


async def hold(storage: VectorStorage, *, task_status: Any) -> None:
    async with storage.pool.lease():
        task_status.started()
        await anyio.sleep_forever()


async def test_chunks_are_counted(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await library(storage)
        assert await storage.count() == 20
        assert await storage.count(document="a.md") == 5
        assert await storage.count(filter=F("even") == False) == 8  # noqa: E712
        assert await storage.count(document="a.md", filter={"even": True}) == 3
        assert await storage.count(document="", filter={}) == 5
        assert await storage.count(document="nobody") == 0


async def test_documents_are_listed_page_by_page(dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preheat.storage.search.read.DOCUMENTS", 2)
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await all_of(storage.documents()) == []
        await library(storage)
        assert {one.key: one.chunks async for one in storage.documents()} == {
            "": 5,
            "a.md": 5,
            "b/c.md": 5,
            "b/d.md": 5,
        }
        assert await all_of(storage.documents("b/")) == [DocumentInfo("b/c.md", 5), DocumentInfo("b/d.md", 5)]
        assert [one.as_dict() async for one in storage.documents("b/%")] == []


@pytest.mark.parametrize("batch", [1, 3, 20, 1000])
async def test_everything_comes_exactly_once_in_pages_of_any_size(dsn: str, collection: str, batch: int) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        assert await all_of(storage.chunks(batch_size=batch)) == []
        await library(storage)

        found = await all_of(storage.chunks(batch_size=batch))
        assert len({one.id for one in found}) == len(found) == 20
        assert sorted(found, key=lambda one: one.id) == sorted(
            await storage.get([one.id for one in found]), key=lambda one: one.id
        )
        assert all(one.embedding == [1.0, float(one.position)] for one in found)

        of_one = await all_of(storage.chunks(document="b/c.md", filter={"even": True}, batch_size=batch))
        assert [(one.document, one.position) for one in of_one] == [("b/c.md", n) for n in (0, 2, 4)]
        light = await all_of(storage.chunks(filter=F("even") == False, batch_size=batch, embeddings=False))  # noqa: E712
        assert [one.embedding for one in light] == [None] * 8
        with pytest.raises(ArgumentError, match="batch_size is 0"):
            await anext(storage.chunks(batch_size=0))


async def test_chunks_of_a_document_at_one_position_all_come(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([chunk(n, position=n // 3, embedding=[1.0, 1.0]) for n in range(9)])
        found = await all_of(storage.chunks(document="a.md", batch_size=2))
        assert [one.id for one in found] == [f"{n:04}" for n in range(9)]


async def test_one_who_stops_half_way_or_writes_meanwhile_holds_no_connection(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, size=1) as storage:
        await library(storage)
        iterator = storage.chunks(batch_size=2)
        await anext(iterator)
        with anyio.fail_after(30):
            assert await storage.count() == 20  # on the only connection that there is
            async for one in iterator:
                await storage.delete([one.id])
            assert await storage.count() == 1
        abandoned = storage.documents()
        await anext(abandoned)
        await abandoned.aclose()


async def test_the_neighbors_of_a_hit(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await library(storage)
        await storage.delete(filter=(F("even") == True) & (F("even") == False))  # noqa: E712
        (hit,) = await storage.search([1.0, 2.0], k=1)

        beside = await storage.neighbors(hit)
        assert [(one.document, one.position, one.embedding) for one in beside] == [
            (hit.document, 1, None),
            (hit.document, 3, None),
        ]
        assert [one.position for one in await storage.neighbors(hit, 5, 0)] == [0, 1]
        assert [one.position for one in await storage.neighbors(beside[1], 0, 9)] == [4]
        await storage.delete([one.id for one in beside])
        assert [one.position for one in await storage.neighbors(hit, 2, 2)] == [0, 4]  # the nearest that there are
        with pytest.raises(ArgumentError, match="after is -1"):
            await storage.neighbors(hit, 1, -1)


async def test_nothing_stored_yet_is_nothing_found(server: Server, database: str) -> None:
    async with VectorStorage(server.dsn(database), "x", 2) as storage:
        assert await all_of(storage.documents()) == []
        assert await all_of(storage.chunks()) == []
        assert await storage.neighbors(chunk(1)) == []
        assert await storage.delete(filter={"a": 1}) == 0


# One of many that cannot be stored


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


BAD = {
    "a NUL in the text": ({"text": "a\0b"}, "NUL"),
    "a text that is not Unicode": ({"text": "\ud800"}, "Unicode"),
    "a text that is not a string": ({"text": 5}, "give a string"),
    "a NUL in the document": ({"document": "a\0.md"}, "NUL"),
    "a NUL in the id": ({"id": "i\0d"}, "NUL"),
    "an id that is not a string": ({"id": 5}, "the id is 5"),
    "metadata that JSON cannot hold": ({"metadata": {"k": {1, 2}}}, "metadata is not JSON"),
    "metadata that are not a dict": ({"metadata": ["k"]}, "give a dict"),
    "metadata that are too deep": ({"metadata": nested(100_000)}, "metadata is not JSON"),
    "an id that is too long for an index": ({"id": secrets.token_hex(3000)}, "the id has 6,000 bytes"),
    "a NUL in the metadata": ({"metadata": {"k": ["\0"]}}, "NUL"),
    "metadata without an end": ({"metadata": {"k": math.inf}}, "metadata is not JSON"),
    "a position that is too large": ({"position": 2**31}, "position"),
    "a NaN": ({"embedding": [1.0, math.nan]}, "dimension 1 of the embedding is nan"),
    "too large a number": ({"embedding": [1e39, 0.0]}, "dimension 0"),
    "another number of dimensions": ({"embedding": [1.0, 2.0, 3.0]}, "2 dimensions, not 3"),
    "what is not a vector": ({"embedding": "abc"}, "one row of numbers"),
    "an empty vector": ({"embedding": []}, "2 dimensions, not 0"),
}
FEW = ("a NUL in the text", "a NUL in the document", "an id that is not a string", "a NaN")
NAMED = [
    *(pytest.param("add", *case, id=f"add-{name}") for name, case in BAD.items()),
    *(
        pytest.param(call, *BAD[name], id=f"{call}-{name}")
        for call in ("upsert", "replace_document", "replace_document with a model")
        for name in FEW
    ),
]


@pytest.mark.parametrize(("call", "values", "words"), NAMED)
async def test_of_many_chunks_the_one_that_cannot_be_stored_is_named(
    dsn: str, collection: str, call: str, values: dict[str, Any], words: str
) -> None:
    bad = Chunk(**{"text": "bad", "embedding": [1, 1], "document": "a.md", "position": 7, "id": "broken", **values})
    batch = [chunk(n, embedding=[1, n]) for n in (9, 5)] + [bad, chunk(1, embedding=[1, 1])]
    if call.startswith("replace") and bad.document != "a.md":
        words = "belongs to document"
    async with VectorStorage(dsn, collection, 2) as storage:
        with pytest.raises(ArgumentError, match=words) as refused:
            if call == "add":
                await storage.add(batch)
            elif call == "upsert":
                await storage.upsert(batch)
            else:
                await storage.replace_document("a.md", batch, Embedding() if call.endswith("model") else None)
        assert await storage.count() == 0
    error = refused.value
    assert (error.document, error.chunk, error.position, error.index) == (bad.document, bad.id, bad.position, 2)
    assert repr(bad.id)[:90] in str(error)
    assert repr(bad.document) in str(error)
    assert "index 2 of the batch" in str(error)


async def test_a_vector_of_the_models_that_cannot_be_stored_names_its_chunk(dsn: str, collection: str) -> None:
    async def embed(texts: Sequence[str]) -> list[list[float]]:
        return [[1.0, math.nan if "bad" in text else 1.0] for text in texts]

    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.upsert([chunk(1)], embed)
        with pytest.raises(ArgumentError, match="look at what the model returned") as refused:
            await storage.upsert([chunk(1), chunk(2), chunk(3, "a bad text", document="b.md")], embed)
        assert (refused.value.document, refused.value.chunk, refused.value.index) == ("b.md", "0003", 2)


@pytest.mark.parametrize("call", ["add", "upsert"])
async def test_a_value_that_is_not_a_chunk_is_named(dsn: str, collection: str, call: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        with pytest.raises(ArgumentError, match="item 1 of the batch is 'a text'"):
            await getattr(storage, call)([chunk(1, embedding=[1, 1]), "a text"])
        with pytest.raises(ArgumentError, match="give a list"):
            await getattr(storage, call)(chunk(1, embedding=[1, 1]))


def test_an_error_about_a_chunk_can_be_pickled() -> None:
    error = DimensionError(2, 3)
    error.chunk, error.document, error.index = "id", "a.md", 4

    again = pickle.loads(pickle.dumps(error))

    assert str(again) == str(error)
    assert (again.chunk, again.expected) == ("id", 2)


# Prefixes

MANY_DOCUMENTS = 5000


async def prefix_plan(storage: VectorStorage, prefix: str) -> str:
    """The plan of a page of documents on a connection that has run the statement often."""
    statement = statements.documents_page(storage.executor.collection.identifiers, first=True)
    async with storage.get_connection() as connection:
        for _ in range(8):
            await connection.fetch(statement, 1000, prefix)
        generic = "SELECT sum(generic_plans)::int FROM pg_prepared_statements WHERE statement LIKE 'SELECT document%'"
        assert not await connection.fetchval(generic), "an index serves a prefix only in a plan for its value"
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}", 1000, prefix)
    return "\n".join(row["QUERY PLAN"] for row in rows)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
async def test_an_index_serves_a_prefix_whatever_the_order_of_the_database(
    server: Server, collection: str, locale: str
) -> None:
    name = f"prefix_{collection}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE '{locale}'")
    try:
        server.sql("CREATE EXTENSION vector;", name)
        async with VectorStorage(server.dsn(name), "d", 2, index=False, size=1, warm="never") as storage:
            await storage.add(
                Chunk("", [1, 0], {}, f"{n:05}/{at}", id=f"{n} {at}") for n in range(MANY_DOCUMENTS // 2) for at in "ab"
            )
            async with storage.get_connection() as connection:
                await connection.execute("VACUUM ANALYZE preheat_d")
            plan = await prefix_plan(storage, "0012")
            assert "Index Cond: ((document >= '0012'" in plan
            assert "Seq Scan on preheat_d" not in plan
            found = [one.key async for one in storage.documents(prefix="0012")]
        assert found == [f"0012{n}/{at}" for n in range(10) for at in "ab"]
    finally:
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")


async def test_an_old_collection_gets_an_index_of_prefixes(server: Server, database: str) -> None:
    """If its keys are in an order that serves none."""
    async with VectorStorage(server.dsn(database), "d", 2, index=False, size=1, warm="never") as storage:
        await storage.create()
        async with storage.get_connection() as connection:
            await connection.execute(
                'ALTER TABLE preheat_d ALTER COLUMN document TYPE text COLLATE "C.utf8";'
                "UPDATE preheat_collections SET version = 4"
            )
    async with VectorStorage(server.dsn(database), "d", 2, index=False, size=1, warm="never") as storage:
        await storage.add(Chunk("", [1, 0], {}, f"{n:05}", id=f"{n}") for n in range(MANY_DOCUMENTS))
        async with storage.get_connection() as connection:
            await connection.execute("VACUUM ANALYZE preheat_d")
        assert '"preheat_d.prefix"' in await prefix_plan(storage, "0012")
        assert [one.key async for one in storage.documents(prefix="0012")] == [f"0012{n}" for n in range(10)]
