"""Emptying a collection, and dropping it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from tests.support.server import Server

import preheat
from preheat import AccessError, Chunk, CollectionError, VectorStorage


def chunks(number: int, **values: Any) -> list[Chunk]:
    return [Chunk(f"text {n}", [1.0, float(n)], document=f"{n % 3}.md", **values) for n in range(number)]


async def tables(storage: VectorStorage) -> list[str]:
    async with storage.get_connection() as connection:
        rows = await connection.fetch(
            "SELECT relname::text AS name FROM pg_class WHERE starts_with(relname, $1) AND relkind = 'r' ORDER BY 1",
            f"preheat_{storage.collection}",
        )
        return [row["name"] for row in rows]


async def keep_an_answer(storage: VectorStorage) -> None:
    await storage.answer_table.store("key", "", "model", "a question?", [1, 0], '"an answer"', None)


@pytest.fixture
def role(server: Server, vector_database: str) -> Iterator[str]:
    """The DSN of a role that may read and write the tables of an empty database, and owns none of them."""
    server.sql(f"CREATE ROLE {vector_database}_role LOGIN PASSWORD 's3cret/p@ss';")
    server.sql(
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {vector_database}_role;",
        vector_database,
    )
    yield server.dsn(vector_database, user=f"{vector_database}_role")
    server.sql(f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {vector_database}_role;", vector_database)


async def test_clearing_deletes_all_chunks_and_keeps_the_collection(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, embedder="a model") as storage:
        await storage.add(chunks(7))
        await keep_an_answer(storage)

        assert await storage.clear() == 7
        assert await storage.clear() == 0

        assert await storage.search([1, 0]) == []
        assert await storage.count() == 0
        assert await storage.answer_table.exact("key") is not None
        (info,) = (info for info in await preheat.collections(dsn) if info.name == collection)
        assert (info.chunks, info.embedder) == (0, "a model")
        assert await storage.add(chunks(2)) == 2
        assert [hit.text for hit in await storage.search([1, 0])] == ["text 0", "text 1"]


async def test_clearing_asks_for_no_more_than_the_right_to_delete(
    role: str, server: Server, vector_database: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 2) as owner, VectorStorage(role, "x", 2) as storage:
        await owner.add(chunks(5))
        assert await storage.clear() == 5
        assert await owner.count() == 0
        server.sql(f'REVOKE DELETE ON "preheat_x" FROM {vector_database}_role;', vector_database)
        with pytest.raises(AccessError, match="GRANT DELETE"):
            await storage.clear()


@pytest.mark.parametrize("watch", ["REFERENCES", "TRIGGER", "POLICY"])
async def test_clearing_goes_by_rules_of_the_applications_own(dsn: str, collection: str, watch: str) -> None:
    """A truncated table would break a reference, run no trigger for a row, and look at no policy."""
    table = f'"preheat_{collection}"'
    watching = {
        "REFERENCES": f'CREATE TABLE "{collection}_seen" (id text REFERENCES {table} ON DELETE CASCADE)',
        "TRIGGER": (
            f"CREATE FUNCTION {collection}_keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
            f"CREATE TRIGGER kept BEFORE DELETE ON {table} FOR EACH ROW WHEN (old.text = 'text 0') "
            f"EXECUTE FUNCTION {collection}_keep()"
        ),
        "POLICY": (
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; "
            f"CREATE POLICY own ON {table} USING (text <> 'text 0'); "
            f"GRANT ALL ON {table} TO pg_monitor"
        ),
    }
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(chunks(4))
        async with storage.get_connection() as connection:
            await connection.execute(watching[watch])
            if watch == "REFERENCES":
                await connection.execute(f'INSERT INTO "{collection}_seen" SELECT id FROM {table}')
        await storage.clear()
        async with storage.get_connection() as connection:
            (row,) = await connection.fetch(f"SELECT count(*) AS left FROM {table}")
            assert row["left"] == (1 if watch == "TRIGGER" else 0)
            if watch == "REFERENCES":
                assert await connection.fetch(f'SELECT FROM "{collection}_seen"') == []


@pytest.mark.parametrize("call", ["clear", "drop"])
async def test_a_missing_collection_is_neither_cleared_nor_dropped(server: Server, database: str, call: str) -> None:
    for options in ({}, {"schema": "elsewhere"}):
        async with VectorStorage(server.dsn(database), "x", 2, **options) as storage:  # type: ignore[arg-type]
            assert not await getattr(storage, call)()


async def test_clearing_a_collection_that_must_exist_names_those_that_do(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection) as storage:
        with pytest.raises(CollectionError, match=f"no collection '{collection}'"):
            await storage.clear()


async def test_dropping_takes_everything_and_adding_makes_it_again(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, metric="l2", embedder="a model") as storage:
        await storage.add(chunks(7))
        await keep_an_answer(storage)
        async with storage.get_connection() as connection:  # what an embedding anew has left behind
            await connection.execute(f'CREATE TABLE "preheat_{collection}.new" (id text)')

        assert await storage.drop() is True
        assert await storage.drop() is False

        assert await tables(storage) == []
        assert collection not in {info.name for info in await preheat.collections(dsn)}
        assert await storage.search([1, 0]) == []
        assert await storage.count() == 0
        assert await storage.answer_table.exact("key") is None
        await keep_an_answer(storage)
        assert await storage.add(chunks(2)) == 2
        assert await storage.answer_table.exact("key") is not None
        (info,) = (info for info in await preheat.collections(dsn) if info.name == collection)
        assert (info.metric, info.dimensions, info.embedder, info.chunks) == ("l2", 2, "a model", 2)


async def test_another_storage_makes_what_was_dropped_again(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage, VectorStorage(dsn, collection, 2) as other:
        await storage.add(chunks(3))
        assert await other.upsert(chunks(3)) == preheat.Upserted(0, 0, 3)
        await storage.drop()
        assert await other.upsert(chunks(3)) == preheat.Upserted(3, 0, 0)


async def test_a_collection_that_was_opened_by_its_name_is_made_again_as_it_was(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, metric="l2", vector_type="halfvec") as storage:
        await storage.add(chunks(3))
    async with VectorStorage(dsn, collection) as storage:
        await storage.drop()
    async with VectorStorage(dsn, collection, 3) as storage:  # nothing of it binds the next one of that name
        await storage.add([Chunk("a", [1, 2, 3])])
    async with VectorStorage(dsn, collection) as storage:
        await storage.create()
        await storage.drop()
        await storage.add([Chunk("a", [1, 2, 3])])
        assert storage.dimensions == 3


async def test_the_error_for_a_role_that_may_not_drop_says_who_can(
    role: str, server: Server, vector_database: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 2, schema="it's") as owner:
        await owner.add(chunks(5))
        server.sql(f'GRANT USAGE ON SCHEMA "it\'s" TO {vector_database}_role;', vector_database)
        async with VectorStorage(role, "x", 2, schema="it's") as storage:
            with pytest.raises(AccessError, match="preheat drop --collection x --schema"):
                await storage.drop()
        assert await owner.count() == 5


async def test_a_collection_that_other_objects_depend_on_is_not_dropped(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(chunks(3))
        await keep_an_answer(storage)
        async with storage.get_connection() as connection:
            await connection.execute(f'CREATE VIEW "{collection}_view" AS SELECT id FROM "preheat_{collection}"')
        with pytest.raises(CollectionError, match=f"{collection}_view"):
            await storage.drop()
        assert await storage.count() == 3
        assert await storage.answer_table.exact("key") is not None
        assert collection in {info.name for info in await preheat.collections(dsn)}


async def test_writers_beside_a_drop_store_whole_batches_in_what_they_make_again(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, size=4, index=False) as storage:

        async def write(number: int) -> None:
            for _ in range(3):
                await storage.add([Chunk(f"{number} {n}", [1, n]) for n in range(50)])

        async def drop() -> None:
            for _ in range(5):
                await storage.drop()
                await storage.clear()

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(write, number)
            tasks.start_soon(drop)

        assert await storage.count() % 50 == 0
