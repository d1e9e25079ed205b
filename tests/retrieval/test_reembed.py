"""Change the model of a collection in use, on a real PostgreSQL."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import numpy as np
import pytest
from tests.support.catalog import catalog, registered
from tests.support.models import Hashing
from tests.support.server import Server
from tests.support.tiers import slow_except

from preheat import (
    HNSW,
    ArgumentError,
    Chunk,
    CollectionError,
    ConnectError,
    DimensionError,
    EmbedderError,
    EndpointError,
    Hit,
    PreheatError,
    ReembedReport,
    ResearchRetriever,
    VectorStorage,
    open_pool,
    reembed,
)
from preheat.storage.identifiers import Identifiers
from preheat.storage.reembed.reembedding import Reembedding
from preheat.testing import cancel_everywhere

OLD, NEW = Hashing("old", 4), Hashing("new", 6)


def chunk(n: int, model: Hashing = OLD, text: str | None = None) -> Chunk:
    text = f"text {n}" if text is None else text
    return Chunk(text, model.vector(text), {"n": n, "exactly": 1.0}, f"d{n % 3}", n, id=f"{n:04}")


def opened(dsn: str, collection: str, model: Hashing | None = OLD, **options: Any) -> VectorStorage:
    if model is None:
        return VectorStorage(dsn, collection, **options)
    return VectorStorage(dsn, collection, model.dimensions, embedder=model.name, **options)


async def filled(dsn: str, collection: str, n: int = 30, **options: Any) -> None:
    async with opened(dsn, collection, **options) as storage:
        await storage.add([chunk(number) for number in range(n)])


async def check(dsn: str, collection: str, texts: dict[str, str], model: Hashing = NEW, **options: Any) -> None:
    """Each text is stored once, with its vector of the model, and a search with this vector finds it."""
    async with opened(dsn, collection, model, **options) as storage:
        await storage.create()  # learns the type
        stored = {found.id: found for found in await storage.get(sorted(texts))}
        assert {id: found.text for id, found in stored.items()} == texts
        assert await storage.count() == len(texts)
        for found in stored.values():
            wanted = model.vector(found.text)
            if storage.vector_type == "halfvec":
                wanted = wanted.astype(np.float16)
            assert list(found.embedding) == pytest.approx([float(x) for x in wanted], rel=1e-6)
        for id, text in list(texts.items())[:3]:
            assert [hit.id for hit in await storage.search(model.vector(text), k=1)] == [id]


def texts(n: int) -> dict[str, str]:
    return {f"{number:04}": f"text {number}" for number in range(n)}


@pytest.mark.parametrize("named", [True, False])
async def test_a_collection_belongs_to_the_new_model_afterwards(dsn: str, collection: str, named: bool) -> None:
    name = f"{collection}_{named}"
    await filled(dsn, name)
    model = Hashing("new", 6)
    told: list[ReembedReport] = []
    async with opened(dsn, name, OLD if named else None) as storage:
        report = await reembed(storage, model, batch_size=7, progress=told.append)
        assert (report.embedded, report.chunks, report.stage, report.dimensions) == (30, 30, "done", 6)
        assert report.as_dict() == {
            "collection": name,
            "embedder": "new",
            "dimensions": 6,
            "stage": "done",
            "chunks": 30,
            "looked_at": 30,
            "embedded": 30,
            "seconds": report.seconds,
        }
        stages = [report.stage for report in told]
        assert [stage for at, stage in enumerate(stages) if stage not in stages[:at]] == [
            "embedding",
            "indexing",
            "catching up",
            "switching",
            "done",
        ]
        assert [report.looked_at for report in told if report.stage == "embedding"] == [0, 7, 14, 21, 28, 30]
        if named:
            with pytest.raises(EmbedderError, match="preheat reembed"):
                await storage.search(OLD.vector("text 1"))
            with pytest.raises(EmbedderError):
                await storage.add([chunk(99)])
        else:
            assert storage.dimensions == 6
            assert [hit.id for hit in await storage.search(NEW.vector("text 1"), k=1)] == ["0001"]
    assert sorted(model.texts) == sorted(texts(30).values())
    await check(dsn, name, texts(30))
    async with opened(dsn, name, NEW) as storage:
        again = await reembed(storage, NEW)
        assert (again.embedded, again.stage) == (0, "done")
        (found,) = await storage.get(["0007"])
        assert (found.metadata, found.document, found.position) == ({"n": 7, "exactly": 1.0}, "d1", 7)


async def test_the_new_table_is_like_that_of_a_new_collection(server: Server, database: str) -> None:
    dsn = server.dsn(database)
    for schema, model in (("old", OLD), ("new", NEW)):
        async with opened(dsn, "same", model, schema=schema, metric="l2", language="german") as storage:
            await storage.add([chunk(n, model) for n in range(5)])
            await storage.answer_table.store("key", "", "old", "what?", [1, 0], '"that"', None)
            if schema == "old":
                await reembed(storage, NEW)
                assert await storage.answer_table.exact("key") is None
    made, wanted = catalog(server, database, "old"), catalog(server, database, "new")
    assert json.loads(json.dumps(made).replace("old.", "new.").replace("old", "new")) == json.loads(json.dumps(wanted))
    assert registered(server, database, "old") == registered(server, database, "new")


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ({}, {"vector_type": "halfvec"}, "halfvec"),
        ({"vector_type": "halfvec"}, {}, "halfvec"),
        ({"vector_type": "halfvec"}, {"vector_type": "vector"}, "vector"),
    ],
)
async def test_the_vector_type_is_kept_or_changed_as_given(
    dsn: str, collection: str, before: dict[str, Any], after: dict[str, Any], kind: str
) -> None:
    name = f"{collection}_{len(before)}{len(after)}"
    await filled(dsn, name, 12, **before)
    async with opened(dsn, name, None) as storage:
        await reembed(storage, NEW, **after)
        assert storage.vector_type == kind
    await check(dsn, name, texts(12))


async def test_above_2000_dimensions_and_back_the_type_follows(dsn: str, collection: str) -> None:
    await filled(dsn, collection, 4)
    large = Hashing("large", 2500)
    async with opened(dsn, collection, None) as storage:
        await reembed(storage, large)
        assert storage.vector_type == "halfvec"
    await check(dsn, collection, texts(4), large)
    async with opened(dsn, collection, None) as storage:
        with pytest.raises(ArgumentError, match="4001 dimensions; a halfvec that pgvector can index has 1 to 4000"):
            await reembed(storage, Hashing("too large", 4001))
        with pytest.raises(ArgumentError, match="a vector that pgvector can index has 1 to 2000"):
            await reembed(storage, large, vector_type="vector")
        await reembed(storage, NEW)
        assert storage.vector_type == "vector"
    await check(dsn, collection, texts(4))


async def test_the_new_table_has_the_indexes_of_the_old_one(server: Server, database: str) -> None:
    dsn = server.dsn(database)
    await filled(dsn, "own", 5, index=HNSW(5, 40))
    await filled(dsn, "bare", 5, index=False)
    for name in ("own", "bare"):
        async with opened(dsn, name) as storage:
            await reembed(storage, NEW)
    indexes = {name: options for name, _, options, _ in catalog(server, database)["indexes"]}
    assert indexes["preheat_own.embedding"] == ["m=5", "ef_construction=40"]
    assert [name for name in indexes if "bare" in name] == ["preheat_bare.document", "preheat_bare.id"]


async def test_indexes_that_are_created_meanwhile_are_carried_over(server: Server, database: str) -> None:
    dsn = server.dsn(database)
    await filled(dsn, "x", 5, index=False)
    model = Hashing("new", 6, hold="text 1")
    async with opened(dsn, "x", index=HNSW(7, 30)) as storage, anyio.create_task_group() as tasks:
        tasks.start_soon(reembed, storage, model)
        await model.held.wait()
        await storage.create_index()
        model.go.set()
    indexes = {name: options for name, _, options, _ in catalog(server, database)["indexes"]}
    assert indexes["preheat_x.embedding"] == ["m=7", "ef_construction=30"]
    assert len([name for name in indexes if "preheat_x." in name]) == 5
    await check(dsn, "x", texts(5))


async def test_rights_owner_and_comment_are_carried_over(server: Server, vector_database: str) -> None:
    owner = server.role(f"{vector_database}_owner", vector_database, "CREATE ON SCHEMA public")
    reader, everybody = (server.role(f"{vector_database}_{what}", vector_database) for what in ("reader", "everybody"))
    await filled(owner, "x", 5)
    server.sql(
        f"GRANT SELECT, INSERT ON preheat_x TO {vector_database}_reader WITH GRANT OPTION; GRANT SELECT ON preheat_x "
        f"TO PUBLIC; GRANT SELECT ON preheat_collections TO PUBLIC; COMMENT ON TABLE preheat_x IS 'it''s mine';",
        vector_database,
    )
    facts = "SELECT relacl::text, relowner::regrole::text, obj_description(oid) FROM pg_class WHERE relname='preheat_x'"
    before = [tuple(row) for row in server.sql(facts, vector_database)]
    async with opened(reader, "x", None) as storage:
        with pytest.raises(CollectionError, match=f"belongs to the role '{vector_database}_owner'"):
            await reembed(storage, NEW)
    for dsn, model in ((owner, NEW), (server.dsn(vector_database), OLD)):
        async with opened(dsn, "x", None) as storage:
            await reembed(storage, model)
        after = [tuple(row) for row in server.sql(facts, vector_database)]
        assert [sorted(str(acl).strip("{}").split(",")) for acl, *_ in after] == [
            sorted(str(acl).strip("{}").split(",")) for acl, *_ in before
        ]
        assert [rest for _, *rest in after] == [rest for _, *rest in before]
        await check(everybody, "x", texts(5), model)


async def test_a_view_that_depends_on_the_table_is_named_and_the_collection_stays(
    server: Server, database: str
) -> None:
    dsn = server.dsn(database)
    await filled(dsn, "x", 5)
    server.sql("CREATE VIEW titles AS SELECT text FROM preheat_x;", database)
    model = Hashing("new", 6)
    async with opened(dsn, "x", None) as storage:
        with pytest.raises(CollectionError, match=r"something depends on it .*view titles"):
            await reembed(storage, model)
        await check(dsn, "x", texts(5), OLD)
        server.sql("DROP VIEW titles;", database)
        assert (await reembed(storage, model)).embedded == 0
    assert len(model.texts) == 5
    await check(dsn, "x", texts(5))


async def test_in_a_schema_with_pgvector_elsewhere(server: Server, database: str) -> None:
    server.sql("CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext;", database)
    where = {"schema": 'my "schema"'}
    await filled(server.dsn(database), "x", 8, **where)
    async with opened(server.dsn(database), "x", None, **where) as storage:
        assert (await reembed(storage, NEW)).embedded == 8
    await check(server.dsn(database), "x", texts(8), **where)


async def test_an_empty_collection_and_one_that_is_missing(dsn: str, collection: str) -> None:
    async with opened(dsn, collection) as storage:
        with pytest.raises(CollectionError, match="there is no collection"):
            await reembed(storage, NEW)
        await storage.create()
        assert (await reembed(storage, NEW)).chunks == 0
    await check(dsn, collection, {})


# While it is in use


async def test_chunks_that_are_written_meanwhile_are_embedded(dsn: str, collection: str) -> None:
    await filled(dsn, collection, 30)
    model = Hashing("new", 6, hold="text 20")
    async with opened(dsn, collection) as storage, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(reembed, storage, model, batch_size=5))
        await model.held.wait()
        await storage.add([chunk(3, text="changed 3"), chunk(25, text="changed 25"), chunk(40, text="new 40")])
        await storage.delete(["0004", "0026"])
        moved = chunk(5)
        await storage.add([Chunk(moved.text, moved.embedding, {"n": 1.0}, "elsewhere", 77, id="0005")])
        await storage.replace_document("d0", [Chunk("whole", OLD.vector("whole"), document="d0", id="whole")])
        model.hold = None
        model.go.set()
    wanted = {id: text for id, text in texts(30).items() if int(id) % 3} | {"0025": "changed 25"}
    wanted |= {"0040": "new 40", "whole": "whole"}
    for gone in ("0004", "0026"):
        del wanted[gone]
    await check(dsn, collection, wanted)
    async with opened(dsn, collection, NEW) as storage:
        (found,) = await storage.get(["0005"])
        assert (found.metadata, found.document, found.position) == ({"n": 1.0}, "elsewhere", 77)
        assert isinstance(found.metadata["n"], float)


async def until_somebody_waits(dsn: str, collection: str) -> None:
    """Wait until a session waits for a lock of the collection's table."""
    waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = to_regclass($1::text)"
    async with open_pool(dsn, size=1) as pool:
        with anyio.fail_after(20):
            while not await pool.fetch(waits, Identifiers(collection).table):
                pass


async def test_the_rest_is_embedded_under_a_lock_and_a_writer_that_waits_gets_an_error(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(dsn, collection, 3)
    model = Hashing("new", 6, hold="late")
    refused: list[EmbedderError] = []
    async with opened(dsn, collection) as storage, opened(dsn, collection) as other:
        await other.create()
        last_look = Reembedding.last_look

        @asynccontextmanager
        async def slip_in(self: Reembedding) -> Any:
            await other.add([chunk(9, text="late 9"), chunk(2, text="late 2")])
            await other.delete(["0000"])
            async with last_look(self):
                yield

        monkeypatch.setattr(Reembedding, "last_look", slip_in)

        async def write() -> None:
            try:
                await other.add([chunk(50, text="too late")])
            except EmbedderError as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reembed, storage, model)
            await model.held.wait()
            assert [hit.id for hit in await other.search(OLD.vector("text 1"), k=1)] == ["0001"]  # searches go on
            assert await other.count() == 3
            tasks.start_soon(write)
            await until_somebody_waits(dsn, collection)
            model.go.set()
    assert len(refused) == 1
    await check(dsn, collection, {"0001": "text 1", "0002": "late 2", "0009": "late 9"})


@pytest.mark.parametrize(
    "kind", ["other dimensions", "same dimensions", pytest.param("another type", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("way", ["add", "again", "replace"])
async def test_vectors_of_the_former_model_never_get_into_the_new_table(
    dsn: str, collection: str, kind: str, way: str
) -> None:
    """For every way to store a batch, with and without the name of the writer's model."""
    name = f"{collection}_{kind.replace(' ', '_')}_{way}"
    new = Hashing("new", 6 if kind == "other dimensions" else 4)
    kinds = ("halfvec", "vector") if kind == "another type" else (None,)
    for turn, vector_type in enumerate(kinds):
        await filled(dsn, f"{name}{turn}", 5, vector_type=kinds[turn - 1])
        async with (
            opened(dsn, f"{name}{turn}") as named,
            VectorStorage(dsn, f"{name}{turn}") as nameless,
            opened(dsn, f"{name}{turn}") as storage,
        ):
            for writer in (named, nameless):
                await writer.add([chunk(0)])
            await reembed(storage, new, vector_type=vector_type)  # type: ignore[arg-type]
            for writer in (named, nameless):
                for _ in range(2):
                    with pytest.raises(EmbedderError, match=r"'new'.*'old'"):
                        if way == "add":
                            await writer.add([chunk(77)])
                        elif way == "again":
                            await writer.add([chunk(1), chunk(77)])
                        else:
                            await writer.replace_document("d1", [Chunk("x", OLD.vector("x"), document="d1")])
        await check(dsn, f"{name}{turn}", texts(5), new)


@pytest.mark.parametrize("dimensions", [4, pytest.param(6, marks=pytest.mark.slow)])
async def test_a_search_meanwhile_uses_its_model_or_reports_the_new_one(
    dsn: str, collection: str, dimensions: int
) -> None:
    """Change the model back and forth: at each moment all searches and writes see one model."""
    name = f"{collection}_{dimensions}"
    new = Hashing("new", dimensions)
    await filled(dsn, name, 20)
    outcomes: dict[tuple[str, str], int] = {}
    over = anyio.Event()

    async def search(model: Hashing, number: int) -> None:
        async with opened(dsn, name, model, size=1) as storage:
            if number % 2:
                await storage.warm_pool()
            while not over.is_set():
                text = f"text {number % 20}"
                filter = {"n": number % 20} if number % 3 == 0 else None
                number += 1
                try:
                    (hit,) = await storage.search(model.vector(text), k=1, filter=filter)
                except EmbedderError:
                    outcome = "told"
                else:
                    assert (hit.text, hit.distance < 1e-4) == (text, True)
                    outcome = "found"
                outcomes[model.name, outcome] = outcomes.get((model.name, outcome), 0) + 1

    async def write(model: Hashing) -> None:
        async with opened(dsn, name, model, size=1) as storage:
            while not over.is_set():
                try:
                    await storage.add([chunk(n, model) for n in (3, 4)])
                    await storage.replace_document("d0", [chunk(n, model) for n in range(0, 20, 3)])
                except EmbedderError:
                    await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for model in (OLD, new):
            tasks.start_soon(write, model)
            for number in range(2):
                tasks.start_soon(search, model, number)
        for model in (new, OLD, new):
            async with opened(dsn, name, None, size=1) as storage:
                await reembed(storage, model, batch_size=3)
        over.set()
    assert set(outcomes) == {(model, outcome) for model in ("old", "new") for outcome in ("found", "told")}
    async with opened(dsn, name, new) as storage:
        # replaced documents have the chunks of their last version
        assert await storage.count() == 20
    await check(dsn, name, texts(20), new)


async def test_one_of_two_concurrent_reembeddings_is_refused(dsn: str, collection: str) -> None:
    await filled(dsn, collection, 5)
    model = Hashing("new", 6, hold="text")
    async with opened(dsn, collection) as first, opened(dsn, collection) as second, anyio.create_task_group() as tasks:
        tasks.start_soon(reembed, first, model)
        await model.held.wait()
        with pytest.raises(CollectionError, match="is being embedded again by another session"):
            await reembed(second, NEW)
        model.go.set()
    await check(dsn, collection, texts(5))


async def test_a_deadlock_at_the_end_is_tried_again(dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that has read the table and then writes to it waits for the switch, and the switch waits for the
    transaction. The server ends one of the two."""
    await filled(dsn, collection, 5)
    name = Identifiers(collection).table
    switching = anyio.Event()
    switch = Reembedding.switch
    ended: list[BaseException] = []

    async def announced(self: Reembedding) -> Any:
        switching.set()
        return await switch(self)

    monkeypatch.setattr(Reembedding, "switch", announced)
    async with opened(dsn, collection) as storage, open_pool(dsn + "&deadlock_timeout=10ms", size=1) as pool:

        async def write() -> None:
            async with pool.lease() as lease:
                connection = lease.connection
                try:
                    async with connection.transaction():
                        await connection.fetch(f"SELECT count(*) FROM {name}")
                        tasks.start_soon(reembed, storage, NEW)
                        await switching.wait()
                        await connection.execute(f"DELETE FROM {name} WHERE id = '0001'")
                except Exception as error:
                    ended.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
    left = texts(5)
    if not ended:
        del left["0001"]
    await check(dsn, collection, left)


# What ends before its time


async def test_an_interrupted_run_is_continued(dsn: str, collection: str) -> None:
    await filled(dsn, collection, 30)
    broken = Hashing("new", 6)
    embed = broken.embed

    async def until_it_breaks(given: Any) -> Any:
        if len(broken.texts) >= 20:
            raise OSError("the model has gone")
        return await embed(given)

    broken.embed = until_it_breaks  # type: ignore[method-assign]
    async with opened(dsn, collection) as storage:
        with pytest.raises(OSError, match="the model has gone"):
            await reembed(storage, broken, batch_size=5)
        assert [hit.id for hit in await storage.search(OLD.vector("text 1"), k=1)] == ["0001"]
        await storage.add([chunk(2, text="changed 2")])
        model = Hashing("new", 6)
        report = await reembed(storage, model, batch_size=5)
    assert set(model.texts) >= {"changed 2", *(f"text {n}" for n in range(20, 30))}
    assert report.embedded == len(model.texts) <= 16  # the last batch may not have been written
    await check(dsn, collection, {**texts(30), "0002": "changed 2"})


async def test_the_unfinished_table_of_another_model_is_dropped(dsn: str, collection: str) -> None:
    await filled(dsn, collection, 10)
    other = Hashing("other", 6)
    async with opened(dsn, collection) as storage:

        def stop(report: ReembedReport) -> None:
            if report.stage == "indexing":
                raise KeyError("stop")

        with pytest.raises(KeyError, match="stop"):
            await reembed(storage, other, progress=stop)
        model = Hashing("new", 6)
        assert (await reembed(storage, model)).embedded == 10
    await check(dsn, collection, texts(10))


@pytest.mark.parametrize(
    ("vectors", "error", "words"),
    [
        (lambda n: np.zeros((n, 5)), DimensionError, "6 dimensions, not 5"),
        (lambda n: np.full((n, 6), np.nan), ArgumentError, "dimension 0 of the embedding is nan"),
        (lambda n: np.full((n, 6), 70000.0), ArgumentError, "float16 cannot hold"),
        (lambda n: np.zeros((n - 1, 6)), ArgumentError, "2 vectors for 3 texts"),
    ],
)
async def test_vectors_that_cannot_be_stored_raise_an_error_and_change_nothing(
    dsn: str, collection: str, vectors: Callable[[int], Any], error: type[Exception], words: str
) -> None:
    name = f"{collection}_{words[:1]}_{len(words)}"
    await filled(dsn, name, 3)
    model = Hashing("new", 6)

    async def embed(given: Any) -> Any:
        return vectors(len(given))

    model.embed = embed  # type: ignore[method-assign]
    async with opened(dsn, name) as storage:
        with pytest.raises(error, match=words):
            await reembed(storage, model, vector_type="halfvec")
        with pytest.raises(ArgumentError, match="batch_size is 0"):
            await reembed(storage, model, batch_size=0)
    await check(dsn, name, texts(3), OLD)


@pytest.mark.parametrize("odd", [[math.nan] * 4, [0.0] * 4, [1.0] * 5, None], ids=["nan", "zero", "long", "refused"])
async def test_a_chunk_whose_text_has_no_vector_is_named(dsn: str, collection: str, odd: list[float] | None) -> None:
    class Odd:
        name, dimensions = "odd", 4

        async def embed(self, given: Sequence[str]) -> Any:
            if odd is None and "odd" in given:
                raise EndpointError("http://x.test", "too long", "cut it", status=400)
            return [odd if text == "odd" else [1.0, 2.0, 3.0, 4.0] for text in given]

    name = f"{collection}_{0 if odd is None else len(odd)}{odd and int(odd[0] == 0)}"
    async with opened(dsn, name) as storage:
        chunks = [Chunk(f"text {n}", [1.0] * storage.dimensions) for n in range(5)]
        await storage.add([*chunks, Chunk("odd", [1.0] * storage.dimensions, document="bad.md", position=7)])
        with pytest.raises(PreheatError, match=r"of document 'bad\.md'") as told:
            await reembed(storage, Odd())
        assert (told.value.document, told.value.position) == ("bad.md", 7)  # type: ignore[attr-defined]
        assert await storage.count() == 6


async def test_a_model_with_unknown_dimensions_is_called_once_to_learn_them(dsn: str, collection: str) -> None:
    class Unsure(Hashing):
        known_dimensions = None

    await filled(dsn, collection, 3)
    async with opened(dsn, collection) as storage:
        assert (await reembed(storage, Unsure("new", 6))).dimensions == 6
    await check(dsn, collection, texts(3))


async def test_a_lost_connection_is_reported_and_the_next_run_continues(
    server: Server, dsn: str, collection: str
) -> None:
    await filled(dsn, collection, 6)
    model = Hashing("new", 6, hold="text 4")
    lost: list[ConnectError] = []
    async with opened(dsn + f"&application_name={collection}", collection) as storage:

        async def run() -> None:
            try:
                await reembed(storage, model, batch_size=2)
            except ConnectError as error:
                lost.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await model.held.wait()
            server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='{collection}'")
            model.go.set()
        assert "goes on from here" in str(lost[0])
        assert (await reembed(storage, NEW)).stage == "done"
    await check(dsn, collection, texts(6))


PROCESS = """
import sys
import anyio
import preheat
from tests.support.models import Hashing

async def main(dsn, collection):
    def tell(report):
        print(report.stage, report.looked_at, flush=True)
        if f"{report.stage} {report.looked_at}" == sys.argv[3]:
            sys.stdin.readline()

    async with preheat.VectorStorage(dsn, collection) as storage:
        await preheat.reembed(storage, Hashing("new", 6), batch_size=5, progress=tell)

anyio.run(main, sys.argv[1], sys.argv[2], backend=sys.argv[4])
"""


@pytest.mark.parametrize(
    "moment",
    slow_except(("embedding 15", "switching 30"), ("embedding 15", "indexing 30", "catching up 30", "switching 30")),
)
def test_a_killed_process_leaves_the_collection_unchanged(dsn: str, collection: str, moment: str, backend: str) -> None:
    name = f"{collection}_{len(moment)}"
    anyio.run(filled, dsn, name)
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, dsn, name, moment, backend],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert moment in iter(lambda: process.stdout.readline().strip(), "done")  # type: ignore[union-attr]
    finally:
        process.kill()
        process.communicate()

    async def look() -> None:
        await check(dsn, name, texts(30), OLD)
        model = Hashing("new", 6)
        async with opened(dsn, name) as storage:
            with anyio.fail_after(20):
                while True:
                    try:
                        await reembed(storage, model, batch_size=5)
                        break
                    except CollectionError:  # the server has not noticed yet
                        await anyio.lowlevel.checkpoint()
        assert len(model.texts) <= (20 if moment.startswith("embedding") else 0)
        await check(dsn, name, texts(30))

    anyio.run(look, backend=backend)


class Cut:
    """Re-embeds a collection for one of two models, and checks that all its vectors come from one model."""

    def __init__(self, server: Server, collection: str, storage: VectorStorage) -> None:
        names = Identifiers(collection)
        self._server = server
        self._storage = storage
        self._clear = f"DROP TABLE IF EXISTS {names.replacement.table};"
        self._look = (
            "SELECT embedder, dimensions, "
            f"(SELECT array_agg(DISTINCT vector_dims(embedding)) FROM {names.table}) AS dims, "
            f"(SELECT count(*) FROM {names.table}) AS chunks, "
            f"(SELECT count(*) FROM pg_indexes WHERE tablename = '{names.table_name}') AS indexes "
            f"FROM preheat_collections WHERE name = '{collection}'"
        )

    async def attempt(self) -> None:
        self._server.sql(self._clear, "tests")  # it would wait if somebody still held a lock
        (before,) = self._server.sql(self._look, "tests")
        try:
            await reembed(self._storage, OLD if before["embedder"] == "new" else NEW, batch_size=2)
        finally:
            (row,) = self._server.sql(self._look, "tests")
            dimensions = 4 if row["embedder"] == "old" else 6
            assert (row["dimensions"], row["dims"], row["chunks"], row["indexes"]) == (dimensions, [dimensions], 3, 5)


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_after_a_cancellation_at_any_statement_the_collection_belongs_to_one_model(
    server: Server, dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(dsn, collection, 3)
    scope, statements, cancelled_at = anyio.CancelScope(), 0, 0

    class Watched:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            nonlocal statements
            if name in ("fetch", "execute", "transaction"):
                statements += 1
                if statements == cancelled_at:
                    scope.cancel()
            return getattr(self._connection, name)

    init = Reembedding.__init__
    monkeypatch.setattr(Reembedding, "__init__", lambda self, of, *rest: init(self, Watched(of), *rest))
    async with opened(dsn, collection, None, size=1) as storage:
        cut = Cut(server, collection, storage)
        while cancelled_at <= statements:
            statements, cancelled_at = 0, cancelled_at + 1
            with anyio.CancelScope() as scope:
                await cut.attempt()
    assert cancelled_at > 30


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_after_a_cancellation_anywhere_the_collection_belongs_to_one_model(
    server: Server, dsn: str, collection: str
) -> None:
    """On trio there are several hundred points, and the test takes a minute."""
    await filled(dsn, collection, 3)
    async with opened(dsn, collection, None, size=1) as storage:
        swept = await cancel_everywhere(Cut(server, collection, storage).attempt)
    assert swept.points > 60
    assert swept.slowest < 5


async def test_a_retriever_for_the_new_model_finds_what_the_former_stored(dsn: str, collection: str) -> None:
    async with opened(dsn, collection) as storage:
        await ResearchRetriever(storage, OLD).add("doc", "A cat sleeps for most of the day.")
        await reembed(storage, NEW)
    async with VectorStorage(dsn, collection) as storage:
        hits: list[Hit] = await ResearchRetriever(storage, NEW).retrieve("A cat sleeps for most of the day.")
        assert hits[0].score == pytest.approx(1)
