"""Databases of earlier times, and many who come at once, against a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import pytest
from tests.support.catalog import catalog, registered
from tests.support.server import Server

import preheat
from preheat import Chunk, CollectionError, F, VectorStorage
from preheat.storage.schema.migrations import LATEST, MIGRATIONS

AS_IT_WAS = """
CREATE EXTENSION vector;
CREATE TABLE preheat_collections (
  name text PRIMARY KEY,
  dimensions integer NOT NULL,
  metric text NOT NULL,
  embedder text,
  created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE "preheat_papers" (
  id text CONSTRAINT "preheat_papers.id" PRIMARY KEY,
  document text NOT NULL,
  position integer NOT NULL,
  text text NOT NULL,
  metadata jsonb NOT NULL,
  embedding vector(3) NOT NULL);
CREATE INDEX "preheat_papers.document" ON "preheat_papers" (document, position);
CREATE INDEX "preheat_papers.embedding" ON "preheat_papers" USING hnsw (embedding vector_l2_ops);
CREATE INDEX "preheat_papers.metadata" ON "preheat_papers" USING gin (metadata jsonb_path_ops);
INSERT INTO preheat_collections (name, dimensions, metric, embedder) VALUES ('papers', 3, 'l2', 'model');
INSERT INTO preheat_papers VALUES
  ('a', 'd', 0, 'warm pools', '{"n": 1}', '[1, 0, 0]'), ('b', 'd', 1, 'cold starts', '{"n": 2}', '[0, 1, 0]');
CREATE TABLE "preheat_papers.answers" (
  key text CONSTRAINT "preheat_papers.answers.key" PRIMARY KEY,
  scope text NOT NULL,
  embedder text NOT NULL,
  question text NOT NULL,
  embedding vector NOT NULL,
  answer json NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz);
CREATE INDEX "preheat_papers.answers.scope" ON "preheat_papers.answers" (scope, embedder);
CREATE INDEX "preheat_papers.answers.until" ON "preheat_papers.answers" (expires_at) WHERE expires_at IS NOT NULL;
INSERT INTO "preheat_papers.answers" VALUES ('key', '', 'model', 'what?', '[1, 0, 0]', '"that"', now(), NULL);
"""
"""What the release before made, word for word."""


@pytest.fixture
def old(server: Server, database: str) -> str:
    """A database of the release before, by name."""
    server.sql(AS_IT_WAS, database)
    return database


async def test_an_old_collection_is_searched_without_being_changed(server: Server, old: str) -> None:
    before = catalog(server, old)
    reader = server.role(f"{old}_role", old, "SELECT ON ALL TABLES IN SCHEMA public")
    for dsn in (server.dsn(old), reader):
        async with VectorStorage(dsn, "papers", embedder="model") as storage:
            assert await storage.warm_pool()
            assert [hit.id for hit in await storage.search([1, 0, 0])] == ["a", "b"]
            assert [hit.id for hit in await storage.search([1, 0, 0], filter=F("n") == 2)] == ["b"]
            assert [chunk.text for chunk in await storage.get(["b"])] == ["cold starts"]
            assert await storage.count() == 2
            answer = await storage.answer_table.exact("key")
            assert answer is not None
            assert answer.text == '"that"'
            assert len(await storage.answer_table.nearest([1, 0, 0], "", "model", 0.9, 5)) == 1
        (info,) = await preheat.collections(dsn)
        assert (info.name, info.chunks, info.embedder) == ("papers", 2, "model")
    assert catalog(server, old) == before


async def add(storage: VectorStorage) -> None:
    await storage.add([Chunk("new", [0, 0, 1], id="c")])


async def create(storage: VectorStorage) -> None:
    await storage.create()


async def create_index(storage: VectorStorage) -> None:
    await storage.create_index()


@pytest.mark.parametrize("first", [add, create, create_index])
async def test_an_old_collection_is_brought_up_to_date_and_then_like_a_new_one(
    server: Server, old: str, first: Any
) -> None:
    fresh = f"{old}_fresh"
    server.sql(f"CREATE DATABASE {fresh}")
    try:
        async with VectorStorage(server.dsn(fresh), "papers", 3, metric="l2", embedder="model") as storage:
            await storage.create()
            await storage.answer_table.store("key", "", "model", "what?", [1, 0, 0], '"that"', None)
        async with VectorStorage(server.dsn(old), "papers") as storage:
            await first(storage)
            assert registered(server, old) == registered(server, fresh)
            assert (storage.vector_type, storage.metric) == ("vector", "l2")
            await storage.create_index()
            assert [hit.id for hit in await storage.search([1, 0, 0], k=2)] == ["a", "b"]
            assert (await storage.answer_table.exact("key")) is not None
        made, wanted = catalog(server, old), catalog(server, fresh)
        wanted["indexes"] = [
            # an index that is there is left as it is: its parameters are the same, but nobody has written them down
            (name, definition.replace(" WITH (m='16', ef_construction='64')", ""), None, valid)
            for name, definition, _, valid in wanted["indexes"]
        ]
        # The keys of its documents have kept their order, in which no index serves a prefix.
        prefix = [one for one in made["indexes"] if one[0] == "preheat_papers.prefix"]
        assert [definition.partition(" USING ")[2] for _, definition, *_ in prefix] == ['btree (document COLLATE "C")']
        made["indexes"].remove(prefix[0])
        assert made == wanted
    finally:
        server.sql(f"DROP DATABASE {fresh} WITH (FORCE)")


async def test_each_collection_of_an_old_database_is_brought_up_to_date_for_itself(server: Server, old: str) -> None:
    server.sql(
        "CREATE TABLE preheat_other (LIKE preheat_papers INCLUDING ALL);"
        "INSERT INTO preheat_collections (name, dimensions, metric) VALUES ('other', 3, 'cosine');",
        old,
    )
    async with VectorStorage(server.dsn(old), "papers") as storage:
        await storage.create()
    assert [(row["name"], row["version"]) for row in registered(server, old)] == [("other", 1), ("papers", LATEST)]
    async with VectorStorage(server.dsn(old), "other", 3, embedder="mine") as storage:
        await storage.add([Chunk("x", [1, 0, 0])])
    assert [(row["name"], row["version"], row["embedder"]) for row in registered(server, old)] == [
        ("other", LATEST, "mine"),
        ("papers", LATEST, "model"),
    ]


async def test_a_new_collection_in_an_old_database_leaves_the_old_one_alone(server: Server, old: str) -> None:
    async with VectorStorage(server.dsn(old), "new", 2, vector_type="halfvec", language="simple") as storage:
        await storage.add([Chunk("x", [1, 0])])
    new, papers = registered(server, old)
    assert (new["type"], new["language"], new["version"]) == ("halfvec", "simple", LATEST)
    assert (papers["type"], papers["language"], papers["version"]) == ("vector", "english", 1)


async def test_a_role_makes_a_collection_in_a_database_with_those_of_others(server: Server, database: str) -> None:
    async with VectorStorage(server.dsn(database), "theirs", 1) as storage:
        await storage.create()
    dsn = server.role(
        f"{database}_role",
        database,
        "CREATE ON SCHEMA public",
        "SELECT, INSERT, UPDATE, DELETE ON preheat_collections",
    )
    async with VectorStorage(dsn, "mine", 1) as storage:
        await storage.add([Chunk("x", [1])])
        assert len(await storage.search([1])) == 1
    assert {row["name"]: row["version"] for row in registered(server, database)} == {"mine": LATEST, "theirs": LATEST}


async def test_many_bring_an_old_collection_up_to_date_at_once(server: Server, old: str) -> None:
    async def store(number: int) -> None:
        async with VectorStorage(server.dsn(old), "papers", size=1) as storage:
            if number % 2:
                await storage.create_index()
            await storage.add([Chunk(f"text {number}", [1, 0, 0])])
            assert len(await storage.search([1, 0, 0], k=3)) == 3

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(store, number)
    (papers,) = registered(server, old)
    assert papers["version"] == LATEST
    assert [info.chunks for info in await preheat.collections(server.dsn(old))] == [12]


async def test_the_error_for_a_role_that_may_not_migrate_says_who_can(server: Server, old: str) -> None:
    dsn = server.role(f"{old}_role", old, "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public")
    async with VectorStorage(dsn, "papers") as storage:
        for call in (add, create, create_index):
            with pytest.raises(
                CollectionError, match="let their owner run: preheat schema --collection papers --apply"
            ):
                await call(storage)
    async with VectorStorage(server.dsn(old), "papers") as storage:
        await storage.create()
    async with VectorStorage(dsn, "papers") as storage:
        await add(storage)


AS_WORDS_WERE = """
ALTER TABLE "preheat_papers" DROP COLUMN words;
ALTER TABLE "preheat_papers" ADD COLUMN words tsvector
  GENERATED ALWAYS AS (to_tsvector('german'::regconfig, left(text, 100000))) STORED;
CREATE INDEX "preheat_papers.words" ON "preheat_papers" USING gin (words);
UPDATE preheat_collections SET version = 2;
"""
"""What the release before made of a collection's words."""

TEXTS = {"path": "ein Pfad: /etc/postgresql/pg_hba.conf", "zh": "保修期为两年", "de": "Die Häuser am See"}


@pytest.fixture
def old_words(server: Server, database: str) -> str:
    """A database in which a collection has the words of the release before, by name."""

    async def store() -> None:
        async with VectorStorage(server.dsn(database), "papers", 1, language="german", warm="never") as storage:
            await storage.add([Chunk(text, [1], id=id) for id, text in TEXTS.items()])

    anyio.run(store)
    server.sql(AS_WORDS_WERE, database)
    return database


async def found_by(storage: VectorStorage, *texts: str) -> list[list[str]]:
    """What is found by the words of each text."""
    found = []
    for text in texts:
        hits = await storage.search([1], text=text)
        found.append(sorted(hit.id for hit in hits if hit.text_rank is not None))
    return found


AS_BEFORE = ("Haus", "/etc/postgresql/pg_hba.conf", "保修期为两年")
ANY_FORM = ("Haus", "pg_hba.conf", "两年")


async def test_words_of_an_earlier_version_are_found_as_they_were(server: Server, old_words: str) -> None:
    before = catalog(server, old_words)
    async with VectorStorage(server.dsn(old_words), "papers", warm="never") as storage:
        assert await found_by(storage, *AS_BEFORE) == [["de"], ["path"], ["zh"]]
        assert [hit.id for hit in await storage.search([1], without=["Häuser", "保修期为两年"])] == ["path"]
    assert catalog(server, old_words) == before


@pytest.mark.parametrize("first", [add, create, create_index])
async def test_words_of_an_earlier_version_are_written_anew(server: Server, old_words: str, first: Any) -> None:
    async with VectorStorage(server.dsn(old_words), "papers", warm="never") as storage:
        await (storage.add([Chunk("new", [1], id="c")]) if first is add else first(storage))
        assert await found_by(storage, *ANY_FORM) == [["de"], ["path"], ["zh"]]
        assert "preheat_papers.words" in {name for name, *_ in catalog(server, old_words)["indexes"]}
        assert [row["version"] for row in registered(server, old_words)] == [LATEST]
        renewed = catalog(server, old_words)
        await storage.create_index()
    assert catalog(server, old_words) == renewed


async def test_a_large_table_is_written_anew_by_who_asks_for_it(
    server: Server, old_words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preheat.storage.schema.sql.RENEWED_AT_ONCE", 0)
    told: list[str] = []
    async with VectorStorage(server.dsn(old_words), "papers", size=1, warm="never") as storage:
        await storage.add([Chunk("new", [1], id="c")])
        assert await found_by(storage, *AS_BEFORE) == [["de"], ["path"], ["zh"]]
        assert await found_by(storage, *ANY_FORM) == [["de"], [], []]
        await storage.create_index(progress=lambda progress: told.append(progress.step))
        assert await found_by(storage, *ANY_FORM) == [["de"], ["path"], ["zh"]]
    assert list(dict.fromkeys(told)) == ["the words of the texts", "the index of the words"]


async def test_a_role_that_may_not_change_a_table_goes_on_with_its_words(server: Server, old_words: str) -> None:
    dsn = server.role(f"{old_words}_role", old_words, "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public")
    before = catalog(server, old_words)
    async with VectorStorage(dsn, "papers", warm="never") as storage:
        await storage.add([Chunk("ein Haus", [1], id="new")])
        assert await found_by(storage, "Haus") == [["de", "new"]]
    assert catalog(server, old_words) == before
    async with VectorStorage(server.dsn(old_words), "papers", warm="never") as storage:
        await storage.create()
    async with VectorStorage(dsn, "papers", warm="never") as storage:
        await storage.add([Chunk("auch ein Haus", [1], id="newer")])
        assert await found_by(storage, *ANY_FORM) == [["de", "new", "newer"], ["path"], ["zh"]]


async def test_a_collection_without_words_is_given_none(server: Server, old_words: str) -> None:
    server.sql("ALTER TABLE preheat_papers DROP COLUMN words;", old_words)
    async with VectorStorage(server.dsn(old_words), "papers", index=False, warm="never") as storage:
        await storage.create()
        assert [row["version"] for row in registered(server, old_words)] == [LATEST]
        for options in ({"text": "Haus"}, {"without": ["Haus"]}):
            with pytest.raises(CollectionError, match="create_index"):
                await storage.search([1], **options)  # type: ignore[arg-type]


async def test_many_write_words_anew_at_once(server: Server, old_words: str) -> None:
    async def use(number: int) -> None:
        async with VectorStorage(server.dsn(old_words), "papers", size=1, warm="never") as storage:
            if number % 3 == 0:
                await storage.create_index()
            elif number % 3 == 1:
                await storage.add([Chunk(f"text {number}", [1])])
            for found in await found_by(storage, *AS_BEFORE):
                assert len(found) == 1

    async with anyio.create_task_group() as tasks:
        for number in range(9):
            tasks.start_soon(use, number)
    async with VectorStorage(server.dsn(old_words), "papers", warm="never") as storage:
        assert await found_by(storage, *ANY_FORM) == [["de"], ["path"], ["zh"]]


def test_the_script_writes_words_anew_once(server: Server, old_words: str) -> None:
    script = preheat.schema_script("papers", 1, language="german")
    server.sql(script, old_words)
    renewed = catalog(server, old_words)
    assert "regexp_replace" in str(renewed)
    server.sql(script, old_words)
    assert catalog(server, old_words) == renewed


def test_steps_are_numbered_in_order_and_say_what_they_do() -> None:
    assert [step.number for step in MIGRATIONS] == list(range(1, LATEST + 1))
    assert all(step.title for step in MIGRATIONS)


PROCESS = """
import sys
import anyio
from preheat import Chunk, VectorStorage

async def main(dsn, number):
    async with VectorStorage(dsn, "x", 2, schema="new", size=1) as storage:
        await storage.add([Chunk(f"text {number}", [1, 0])])
        assert await storage.search([1, 0])

print("ready", flush=True)
sys.stdin.readline()
anyio.run(main, sys.argv[1], sys.argv[2], backend=sys.argv[3])
"""


@pytest.mark.slow
def test_ten_processes_that_start_at_once_on_an_empty_database_make_one_collection(
    server: Server, database: str
) -> None:
    dsn = server.dsn(database)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, dsn, str(number), ("asyncio", "trio")[number % 2]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(10)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            _, errors = process.communicate(timeout=50)
            assert (process.returncode, errors) == (0, "")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [row["name"] for row in registered(server, database, "new")] == ["x"]
    assert server.sql("SELECT count(*) AS n FROM new.preheat_x", database)[0]["n"] == 10
