"""What is done to a collection while a storage uses it: its extension, tables and columns go, or a later release has
been at it. Each call names what is gone, and does not take it for an empty collection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.models import Words
from tests.support.server import Server

from preheat import (
    AccessError,
    Chunk,
    CollectionError,
    CollectionMismatchError,
    CollectionNotFoundError,
    Document,
    ExtensionError,
    F,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    collections,
    reembed,
)
from preheat.storage.schema.migrations import LATEST

VECTOR = [1.0, 0.0, 0.0]


@pytest.fixture
def own(server: Server, vector_database: str) -> Callable[[str], None]:
    """Run statements in a database of the test's own, which has pgvector."""
    return lambda script: server.sql(f"{script};", vector_database) and None


def chunks() -> list[Chunk]:
    return [Chunk("a red fox", VECTOR, {"n": 1}, id="a"), Chunk("a brown dog", [0, 1, 0], document="d", id="b")]


async def all_of(pages: Any) -> list[Any]:
    return [one async for one in pages]


async def embed(texts: list[str]) -> list[list[float]]:
    return [VECTOR] * len(texts)


READS: dict[str, Callable[[VectorStorage], Awaitable[Any]]] = {
    "search": lambda storage: storage.search(VECTOR),
    "search by words": lambda storage: storage.search(VECTOR, text="fox"),
    "search with a filter": lambda storage: storage.search(VECTOR, filter=F("n") == 1),
    "search for novelty": lambda storage: storage.search(VECTOR, mmr=0.5),
    "more like": lambda storage: storage.more_like("a"),
    "get": lambda storage: storage.get(["a"]),
    "count": lambda storage: storage.count(),
    "count of a document": lambda storage: storage.count(document="d"),
    "documents": lambda storage: all_of(storage.documents()),
    "chunks": lambda storage: all_of(storage.chunks()),
    "neighbors": lambda storage: storage.neighbors(Chunk("x", document="d", position=1)),
}
CHANGES: dict[str, Callable[[VectorStorage], Awaitable[Any]]] = {
    "add": lambda storage: storage.add([Chunk("c", VECTOR)]),
    "add again": lambda storage: storage.add(chunks()),
    "upsert": lambda storage: storage.upsert([Chunk("c", VECTOR)]),
    "upsert what is there": lambda storage: storage.upsert(chunks()),
    "replace a document": lambda storage: storage.replace_document("d", [Chunk("c", VECTOR, document="d")]),
    "replace and embed": lambda storage: storage.replace_document("d", [Chunk("c", document="d")], embed),
    "delete": lambda storage: storage.delete(["a"]),
    "delete by filter": lambda storage: storage.delete(filter=F("n") == 1),
    "clear": lambda storage: storage.clear(),
    "index": lambda storage: storage.create_index(),
    "table of answers": lambda storage: storage.answer_table.create(),
    "answer": lambda storage: storage.answer_table.store("key", "", "m", "why?", VECTOR, '"a"', None),
    "ingest": lambda storage: ResearchRetriever(storage, Words()).ingest([Document("d", "some text")]),
    "reembed": lambda storage: reembed(storage, Words()),
}
EXTENSION = "DROP EXTENSION vector CASCADE"
EMBEDDINGS = "DROP EXTENSION vector CASCADE; CREATE EXTENSION vector"
COLUMN = "ALTER TABLE preheat_x DROP COLUMN metadata"
TABLE = "DROP TABLE preheat_x"
TABLE_AND_ENTRY = "DROP TABLE preheat_x; DELETE FROM preheat_collections"
BOTH_TABLES = "DROP TABLE preheat_x, preheat_collections"
RENAMED = "ALTER TABLE preheat_x RENAME TO elsewhere"
MOVED = "CREATE SCHEMA attic; ALTER TABLE preheat_x SET SCHEMA attic"
LIST = "DROP TABLE preheat_collections"

WITHOUT_VECTORS = ("count", "count of a document", "documents", "neighbors")
"""What needs neither the extension nor the columns that may go."""

GONE: list[tuple[str, type[PreheatError], str]] = [
    (EXTENSION, ExtensionError, "has no pgvector any more.*run: CREATE EXTENSION vector$"),
    (EMBEDDINGS, CollectionMismatchError, "has no column embedding.*restore it .*or drop the collection"),
    (COLUMN, CollectionMismatchError, "has no column metadata"),
    (TABLE, CollectionNotFoundError, "'x' is gone: the list of collections has it, but .*store its chunks again"),
    (TABLE_AND_ENTRY, CollectionNotFoundError, "'x' is gone: the table .*store its chunks again"),
    (BOTH_TABLES, CollectionNotFoundError, "'x' is gone: the table"),
    (RENAMED, CollectionNotFoundError, 'run: ALTER TABLE elsewhere RENAME TO "preheat_x"$'),
    (MOVED, CollectionNotFoundError, "'x' is gone: .*there is one in the schema attic"),
    (LIST, CollectionNotFoundError, r"the list of collections, .*is not in the database.*storage.create\(\)"),
]


@pytest.mark.parametrize(("script", "kind", "words"), GONE, ids=[script for script, _, _ in GONE])
async def test_every_reader_names_the_table_or_extension_that_is_gone(
    server: Server, vector_database: str, own: Callable[[str], None], script: str, kind: type[PreheatError], words: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
        assert len(await storage.search(VECTOR)) == 2
        own(script)

        for name, read in READS.items():
            if script in (EXTENSION, EMBEDDINGS, COLUMN) and name in WITHOUT_VECTORS:
                continue
            with pytest.raises(kind, match=words) as caught:
                await read(storage)
            assert caught.value.sqlstate is not None, name

        assert not await storage.warm_pool()
        assert storage.warm_report is not None
        errors = [connection.error for connection in storage.warm_report.connections]
        assert {type(error) for error in errors} == {kind}


@pytest.mark.parametrize("script", [TABLE, TABLE_AND_ENTRY, BOTH_TABLES, RENAMED, MOVED])
async def test_a_table_that_is_gone_is_not_an_empty_collection_for_a_storage_that_only_searches(
    server: Server, vector_database: str, own: Callable[[str], None], script: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
    async with VectorStorage(server.dsn(vector_database), "x", 3, warm="never") as storage:
        assert await storage.count() == 2
        own(script)

        with pytest.raises(CollectionNotFoundError):
            await storage.count()
        with pytest.raises(CollectionNotFoundError):
            await storage.delete(["a"])


@pytest.mark.parametrize("script", [EXTENSION, EMBEDDINGS, TABLE, RENAMED, LIST])
async def test_a_new_storage_also_reports_what_is_missing(
    server: Server, vector_database: str, own: Callable[[str], None], script: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
    own(script)

    kind = next(kind for one, kind, _ in GONE if one == script)
    for dimensions in (3, None):
        async with VectorStorage(server.dsn(vector_database), "x", dimensions) as storage:
            with pytest.raises(kind):
                await storage.search(VECTOR)
            if dimensions is not None or script == EXTENSION:
                continue
            assert not await storage.warm_pool()


@pytest.mark.parametrize("script", [EXTENSION, EMBEDDINGS])
async def test_writers_name_what_is_gone(
    server: Server, vector_database: str, own: Callable[[str], None], script: str
) -> None:
    kind, words = next((kind, words) for one, kind, words in GONE if one == script)
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
        own(script)

        for name in ("add", "add again", "upsert", "replace a document", "index"):
            with pytest.raises(kind, match=words):
                pytest.fail(f"{name} gave {await CHANGES[name](storage)!r}")


@pytest.mark.parametrize("script", [EMBEDDINGS, TABLE, TABLE_AND_ENTRY, BOTH_TABLES, MOVED])
async def test_the_remedy_for_a_table_that_is_gone_works(
    server: Server, vector_database: str, own: Callable[[str], None], script: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
        own(script)
        if script == EMBEDDINGS:
            assert await storage.drop()

        await storage.upsert(chunks())

        assert await storage.count() == 2
        assert len(await storage.search(VECTOR, text="fox")) >= 1


@pytest.mark.parametrize("model", [None, Words().name])
async def test_embeddings_that_went_with_the_extension_are_made_again(
    server: Server, vector_database: str, own: Callable[[str], None], model: str | None
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3, embedder=model) as storage:
        await storage.add(chunks())
        own(EXTENSION)
        with pytest.raises(ExtensionError, match=r"run: CREATE EXTENSION vector$") as caught:
            await reembed(storage, Words())
        own(str(caught.value).rpartition("run: ")[2])

        await reembed(storage, Words())

        assert {hit.id for hit in await storage.search(VECTOR)} == {"a", "b"}


async def test_the_remedy_for_a_table_that_was_renamed_works(
    server: Server, vector_database: str, own: Callable[[str], None]
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
        own(RENAMED)
        for call in (READS["search"], CHANGES["add"], CHANGES["upsert"], CHANGES["replace a document"]):
            with pytest.raises(CollectionNotFoundError) as caught:
                await call(storage)
            assert storage.collection in str(caught.value)

        own(str(caught.value).partition("run: ")[2])

        assert await storage.count() == 2


async def test_the_remedy_for_a_list_that_is_gone_works(
    server: Server, vector_database: str, own: Callable[[str], None]
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
        own(LIST)
        with pytest.raises(CollectionNotFoundError):
            await storage.search(VECTOR)

        await storage.create()

        assert len(await storage.search(VECTOR)) == 2
        assert [(info.name, info.chunks) for info in await collections(server.dsn(vector_database))] == [("x", 2)]


async def test_a_schema_that_is_gone_is_named(server: Server, vector_database: str, own: Callable[[str], None]) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3, schema="hers") as storage:
        await storage.add(chunks())
        own("DROP SCHEMA hers CASCADE")

        for read in READS.values():
            with pytest.raises(CollectionNotFoundError, match="'x' is gone: the schema 'hers' is not in the database"):
                await read(storage)


async def test_the_error_for_a_revoked_schema_has_the_grant(
    server: Server, vector_database: str, own: Callable[[str], None], role: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
    own(f"GRANT SELECT ON preheat_x, preheat_collections TO {role}")
    async with VectorStorage(server.dsn(vector_database, user=role), "x", 3, warm="never") as storage:
        assert await storage.count() == 2
        own("REVOKE ALL ON SCHEMA public FROM public")

        with pytest.raises(AccessError) as caught:
            await storage.count()
        assert caught.value.remedy.endswith(f'run: GRANT USAGE ON SCHEMA "public" TO "{role}"')
        own(caught.value.remedy.partition("run: ")[2])
        assert await storage.count() == 2


async def test_a_collection_that_does_not_exist_is_empty(
    server: Server, vector_database: str, own: Callable[[str], None]
) -> None:
    own("CREATE TABLE unrelated (id text)")
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        assert await storage.search(VECTOR) == []
        assert await storage.search(VECTOR, text="fox") == []
        assert (await storage.count(), await storage.get(["a"]), await storage.delete(["a"])) == (0, [], 0)
        assert await storage.warm_pool()
        await storage.add(chunks())
        assert await storage.drop()
        assert await storage.search(VECTOR) == []
    async with VectorStorage(server.dsn(vector_database), "y", 3) as storage:  # beside the list of the others
        assert await storage.search(VECTOR) == []


# A later release


@pytest.mark.parametrize("is_open", [False, True], ids=["opened since", "open all the time"])
async def test_a_collection_of_a_later_release_is_neither_read_nor_changed(
    server: Server, vector_database: str, own: Callable[[str], None], is_open: bool
) -> None:
    def everything() -> list[Any]:
        return [
            [tuple(row) for row in server.sql(f"SELECT * FROM {table} ORDER BY 1", vector_database)]
            for table in ("preheat_x", "preheat_collections", "(SELECT relname FROM pg_class) AS all_tables")
        ]

    async with VectorStorage(server.dsn(vector_database), "x", 3, index=False) as storage:
        await storage.add(chunks())
        await storage.search(VECTOR)
        if is_open:
            own(f"UPDATE preheat_collections SET version = {LATEST + 1}")
            await refuses(storage, everything)
    if not is_open:
        own(f"UPDATE preheat_collections SET version = {LATEST + 1}")
        async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
            await refuses(storage, everything)
        async with VectorStorage(server.dsn(vector_database), "x") as storage:
            await refuses(storage, everything)


async def refuses(storage: VectorStorage, everything: Callable[[], list[Any]]) -> None:
    before = everything()
    drop: dict[str, Callable[[VectorStorage], Awaitable[Any]]] = {"drop": lambda storage: storage.drop()}
    for name, call in {**READS, **CHANGES, **drop}.items():
        if "words" in name:
            continue  # there is no index of them
        with pytest.raises(CollectionMismatchError, match=r"later release of preheat.* update preheat"):
            pytest.fail(f"{name} gave {await call(storage)!r}")
    assert not await storage.warm_pool()
    assert everything() == before


async def test_a_script_does_not_take_a_collection_back_to_an_earlier_release(
    server: Server, vector_database: str, own: Callable[[str], None]
) -> None:
    from preheat import schema_script

    script = schema_script("x", 3)
    own(script)
    own(f"UPDATE preheat_collections SET version = {LATEST + 1}")
    own(script)

    assert server.sql("SELECT version FROM preheat_collections", vector_database)[0]["version"] == LATEST + 1


async def test_answers_are_kept_only_if_the_table_for_them_is_whole(
    server: Server, vector_database: str, own: Callable[[str], None]
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        table = storage.answer_table
        values = ("key", "", "m", "question", VECTOR, '"answer"', None)
        await table.store(*values)
        own('DROP TABLE "preheat_x.answers"')
        assert await table.exact("key") is None  # it is a cache: what is not there is asked for again
        await table.store(*values)
        assert await table.exact("key") is not None
        own("DROP EXTENSION vector CASCADE")
        with pytest.raises(ExtensionError, match=r"run: CREATE EXTENSION vector$"):
            await table.nearest(VECTOR, "", "m", 0.9, 5)
        with pytest.raises(ExtensionError, match=r"run: CREATE EXTENSION vector$"):
            await table.store(*values)
        own("CREATE EXTENSION vector")
        with pytest.raises(
            CollectionMismatchError, match=r'has no column embedding.*DROP TABLE "preheat_x.answers"$'
        ) as caught:
            await table.store(*values)
        own(str(caught.value).rpartition(": ")[2])
        await table.store(*values)
        assert len(await table.nearest(VECTOR, "", "m", 0.9, 5)) == 1


async def test_a_role_that_may_use_the_table_of_answers_finds_it_made(
    server: Server, vector_database: str, own: Callable[[str], None], role: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
        await storage.answer_table.create()
    own(f'GRANT SELECT, INSERT, UPDATE, DELETE ON "preheat_x.answers" TO {role}')
    async with VectorStorage(server.dsn(vector_database, user=role), "x", 3, warm="never") as storage:
        await storage.answer_table.create()
        assert await storage.answer_table.nearest(VECTOR, "", "m", 0.9, 5) == []


async def test_a_retriever_tells_what_its_storage_tells(
    server: Server, vector_database: str, own: Callable[[str], None]
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
        retriever = ResearchRetriever(storage, Words())
        own(TABLE)

        with pytest.raises(CollectionError):
            await retriever.retrieve("why?")


@pytest.mark.parametrize("call", READS.values(), ids=READS)
async def test_a_collection_created_during_the_lookup_is_found(
    server: Server, vector_database: str, own: Any, call: Callable[[VectorStorage], Awaitable[Any]]
) -> None:
    """A reader whose statement comes before the tables are made is not told that they are gone."""
    async with (
        VectorStorage(server.dsn(vector_database), "c", 3, warm="never") as writer,
        VectorStorage(server.dsn(vector_database), "c", 3, warm="never") as reader,
    ):
        run = reader.pool.run

        async def make_then_run(operation: Any) -> Any:
            await writer.add([*chunks(), Chunk("next", [0, 0, 1], document="d", position=1, id="n")])
            reader.pool.run = run
            return await run(operation)

        reader.pool.run = make_then_run
        assert await call(reader)
