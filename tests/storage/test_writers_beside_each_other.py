"""Writers of the same chunks at the same time: each of them succeeds, whatever the others do."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from preheat import Chunk, CollectionBusyError, EmbedderError, VectorStorage, reembed
from preheat.storage import executor
from preheat.storage.executor import rerun

DOCUMENTS = ("a.md", "b.md", "c.md")
SOON = "&deadlock_timeout=20ms"
"""How long the server waits before it looks for a deadlock."""


class Model:
    dimensions = 2

    def __init__(self, name: str = "model") -> None:
        self.name = name

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0, float(len(text))] for text in texts]


def chunks(who: object, ids: Sequence[str], rng: random.Random, **values: Any) -> list[Chunk]:
    return [
        Chunk(**{"text": f"{id} by {who}", "embedding": [1, 1], "document": rng.choice(DOCUMENTS), "id": id, **values})
        for id in ids
    ]


async def write(storage: VectorStorage, kind: str, who: object, rng: random.Random) -> None:
    ids = [str(number) for number in range(60)]
    rng.shuffle(ids)
    document = rng.choice(DOCUMENTS)
    match kind:
        case "add" | "upsert":
            await getattr(storage, kind)(chunks(who, ids, rng, metadata={"n": rng.randrange(3)}))
        case "replace_document":
            await storage.replace_document(document, chunks(who, ids[:30], rng, document=document))
        case "replace_document with a model":
            given = chunks(who, ids[:30], rng, document=document, embedding=None)
            await storage.replace_document(document, given, Model().embed)
        case "delete ids":
            await storage.delete(ids[:30])
        case "delete a document":
            await storage.delete(document=document)
        case "delete by a filter":
            await storage.delete(filter={"n": rng.randrange(3)})
        case "clear":
            await storage.clear()


KINDS = [
    *("add", "upsert", "replace_document", "replace_document with a model"),
    *("delete ids", "delete a document", "delete by a filter", "clear"),
]


ISOLATIONS = [
    f"&default_transaction_isolation={level.replace(' ', '%20')}"
    for level in ("read committed", "repeatable read", "serializable")
]


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_writers_of_every_kind_succeed_beside_each_other(dsn: str, collection: str, isolation: str) -> None:
    dsn += SOON + isolation
    async with VectorStorage(dsn, collection, 2, size=6) as one, VectorStorage(dsn, collection, 2, size=6) as other:

        async def work(who: int) -> None:
            rng = random.Random(who)
            for turn in range(6):
                await write((one, other)[who % 2], rng.choice(KINDS), (who, turn), rng)

        await one.add(chunks("first", [str(number) for number in range(60)], random.Random(0)))
        async with anyio.create_task_group() as tasks:
            for who in range(8):
                tasks.start_soon(work, who)
            tasks.start_soon(one.create_index)
        await one.add(chunks("last", [str(number) for number in range(60)], random.Random(0)))
        assert await one.count() >= 60


@pytest.mark.parametrize("kinds", [("add", "add"), ("upsert", "delete ids"), ("add", "upsert"), ("add", "delete ids")])
async def test_writers_of_the_same_ids_wait_in_one_order(dsn: str, collection: str, kinds: tuple[str, str]) -> None:
    async with VectorStorage(dsn + SOON, collection, 2, size=6, index=False) as storage:

        async def work(who: int) -> None:
            for turn in range(5):
                await write(storage, kinds[who % 2], (who, turn), random.Random(100 * who + turn))

        await storage.create()
        async with anyio.create_task_group() as tasks:
            for who in range(6):
                tasks.start_soon(work, who)


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_collection_is_embedded_again_while_others_write(dsn: str, collection: str, isolation: str) -> None:
    dsn += SOON + isolation
    async with VectorStorage(dsn, collection, 2, size=6) as storage:
        await storage.add(chunks("first", [str(number) for number in range(60)], random.Random(0)))
        over = anyio.Event()

        async def work(who: int) -> None:
            rng = random.Random(who)
            while not over.is_set():
                try:
                    await write(storage, rng.choice(KINDS[:-1]), who, rng)
                except EmbedderError:
                    return

        async with anyio.create_task_group() as tasks:
            for who in range(4):
                tasks.start_soon(work, who)
            async with VectorStorage(dsn, collection) as other:
                assert (await reembed(other, Model())).stage == "done"
            over.set()


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_chunks_written_before_the_tables_are_switched_are_in_the_new_table(
    dsn: str, collection: str, isolation: str
) -> None:
    async with VectorStorage(dsn + isolation, collection, 2, index=False, warm="never") as storage:
        await storage.add(chunks("first", ["0", "1"], random.Random(0)))
        async with another(dsn) as connection, anyio.create_task_group() as tasks:
            async with connection.transaction():
                await connection.execute(
                    f'INSERT INTO "preheat_{collection}" (id, document, position, text, metadata, embedding) '
                    "VALUES ('late', 'd', 0, 'late', '{}', '[1, 1]')"
                )
                tasks.start_soon(reembed, storage, Model())
                await is_waiting(connection)
        assert {chunk.id async for chunk in storage.chunks()} == {"0", "1", "late"}


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_two_callers_give_a_collection_its_model_at_once(dsn: str, collection: str, isolation: str) -> None:
    async def take() -> None:
        async with VectorStorage(dsn + isolation, collection, 2, embedder="model", warm="never") as storage:
            await storage.create()

    async with VectorStorage(dsn, collection, 2, index=False, warm="never") as storage:
        await storage.create()
        async with anyio.create_task_group() as tasks, another(dsn) as connection:
            async with connection.transaction():
                await connection.execute(
                    f"UPDATE preheat_collections SET embedder = 'model' WHERE name = '{collection}'"
                )
                tasks.start_soon(take)
                await is_waiting(connection)
        (found,) = await storage.pool.fetch(
            "SELECT embedder FROM preheat_collections WHERE name = $1::text", collection
        )
        assert found["embedder"] == "model"


@asynccontextmanager
async def another(dsn: str) -> AsyncIterator[Any]:
    """A connection of an application's own, which never is the one that the server ends in a deadlock."""
    async with (
        VectorStorage(dsn + "&deadlock_timeout=1min", "another", 1, size=1, warm="never") as storage,
        storage.get_connection() as connection,
    ):
        yield connection


async def is_waiting(connection: Any) -> None:
    """Return when some session waits for a row that this one has locked."""
    blocked = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    with anyio.fail_after(20):
        while not await connection.fetch(blocked):
            await anyio.lowlevel.checkpoint()


DEADLOCKED = ["add", "upsert", "replace_document", "delete ids", "delete by a filter"]


@asynccontextmanager
async def deadlocked(dsn: str, collection: str, kind: str) -> AsyncIterator[tuple[VectorStorage, Any]]:
    """A writer that has the chunk `a` and wants `b`, which an application has locked that then wants `a`: the storage,
    and the writer's call. The server ends the writer, as that has the shorter patience."""
    old, new = ([Chunk(f"{what} {id}", [1, 1], {"n": 1}, "x", 0, id) for id in "ab"] for what in ("old", "new"))
    async with VectorStorage(dsn + "&deadlock_timeout=700ms", collection, 2, index=False) as storage:
        await storage.add(old)
        calls = {
            "add": lambda: storage.add(new),
            "upsert": lambda: storage.upsert(new),
            "replace_document": lambda: storage.replace_document("x", new),
            "delete ids": lambda: storage.delete(["a", "b"]),
            "delete by a filter": lambda: storage.delete(filter={"n": 1}),
        }
        yield storage, calls[kind]


async def stand_in_the_way(dsn: str, collection: str, tasks: Any, work: Any) -> None:
    async with another(dsn) as connection, connection.transaction():
        await connection.execute(f"SELECT FROM \"preheat_{collection}\" WHERE id = 'b' FOR UPDATE")
        tasks.start_soon(work)
        await is_waiting(connection)
        await connection.execute(f"UPDATE \"preheat_{collection}\" SET position = 7 WHERE id = 'a'")


@pytest.mark.parametrize("kind", DEADLOCKED)
async def test_a_writer_that_the_server_ends_in_a_deadlock_is_run_again(dsn: str, collection: str, kind: str) -> None:
    async with deadlocked(dsn, collection, kind) as (storage, call):
        async with anyio.create_task_group() as tasks:
            await stand_in_the_way(dsn, collection, tasks, call)
        stored = {chunk.text async for chunk in storage.chunks()}
        assert stored == (set() if "delete" in kind else {"new a", "new b"})


@pytest.mark.parametrize("kind", DEADLOCKED)
async def test_an_operation_that_is_not_run_again_reports_that_the_collection_is_busy(
    dsn: str, collection: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "TRIES", 1)
    async with deadlocked(dsn, collection, kind) as (storage, call):

        async def refused() -> None:
            with pytest.raises(CollectionBusyError, match="deadlock"):
                await call()

        async with anyio.create_task_group() as tasks:
            await stand_in_the_way(dsn, collection, tasks, refused)
        assert {chunk.text async for chunk in storage.chunks()} == {"old a", "old b"}


# What is run again


class ServerError(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


@pytest.fixture
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "FIRST_WAIT_SECONDS", 0)


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "23505"])
async def test_a_transaction_that_met_another_one_is_run_again_alone(sqlstate: str) -> None:
    runs: list[bool] = []

    async def run(alone: bool) -> str:
        runs.append(alone)
        if not alone:
            raise ServerError(sqlstate)
        return "done"

    assert await rerun(run) == "done"
    assert runs == [False, True]


@pytest.mark.usefixtures("_without_pauses")
@pytest.mark.parametrize(("sqlstate", "runs"), [("40P01", 8), ("40001", 8), ("23505", 2), ("57014", 1), ("42P01", 1)])
async def test_it_is_run_a_bounded_number_of_times(sqlstate: str, runs: int) -> None:
    count = 0

    async def run(alone: bool) -> None:
        nonlocal count
        count += 1
        raise ServerError(sqlstate)

    with pytest.raises(ServerError):
        await rerun(run)
    assert count == runs


@pytest.mark.usefixtures("_without_pauses")
async def test_a_dropped_collection_is_created_before_a_retry() -> None:
    steps: list[str] = []

    async def run(alone: bool) -> str:
        steps.append("run")
        if steps.count("run") < 3:
            raise ServerError("42P01")
        return "done"

    async def make() -> None:
        steps.append("make")

    assert await rerun(run, make) == "done"
    assert steps == ["run", "make", "run", "make", "run"]
