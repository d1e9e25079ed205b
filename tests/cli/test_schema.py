"""`preheat schema`: the script that it prints makes what the library makes."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from rich.console import Console
from tests.support.catalog import catalog, registered
from tests.support.server import Server
from typer.testing import CliRunner, Result

from preheat import HNSW, ArgumentError, Chunk, F, VectorStorage
from preheat.cli.app import app
from preheat.cli.commands import schema as command
from preheat.storage import schema_script
from preheat.storage.schema.migrations import LATEST
from preheat.storage.script import _bound


def preheat(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    return result


def psql(server: Server, database: str, script: str) -> None:
    """As somebody who manages their tables themselves would run it."""
    command = [str(server.programs / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", server.dsn(database)]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def second(server: Server, database: str) -> Iterator[str]:
    """Another empty database."""
    name = f"{database}_second"
    server.sql(f"CREATE DATABASE {name}")
    yield name
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


HOSTILE = "it\"s $1 :name \\ 'mine'"

CASES: list[tuple[list[str], dict[str, Any]]] = [
    (["--dimensions", "3"], {"dimensions": 3}),
    ([], {"dimensions": 256, "embedder": "wordllama-l2-supercat-256"}),
    (
        ["--model", "wordllama:64", "--metric", "l2", "--language", "german", "--vector-type", "halfvec"],
        {
            "dimensions": 64,
            "embedder": "wordllama-l2-supercat-64",
            "metric": "l2",
            "language": "german",
            "vector_type": "halfvec",
        },
    ),
    (["--dimensions", "3072", "--schema", HOSTILE], {"dimensions": 3072, "schema": HOSTILE}),
]


@pytest.mark.parametrize(("arguments", "opened"), CASES, ids=["dimensions", "model", "everything", "schema"])
def test_the_printed_script_makes_what_the_library_makes(
    server: Server, database: str, second: str, arguments: list[str], opened: dict[str, Any], backend: str
) -> None:
    async def make() -> None:
        async with VectorStorage(server.dsn(second), "papers", **opened) as storage:
            await storage.create()
            await storage.answer_table.create()

    result = preheat("schema", "-c", "papers", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    anyio.run(make, backend=backend)
    schema = opened.get("schema", "public")
    for _ in range(2):
        psql(server, database, result.stdout)
        assert catalog(server, database, schema) == catalog(server, second, schema)
        made, wanted = (server.sql(_registry(schema), name) for name in (database, second))
        assert [tuple(row) for row in made] == [tuple(row) for row in wanted]


def _registry(schema: str) -> str:
    quoted = schema.replace('"', '""')
    return f'SELECT name, dimensions, metric, embedder, type, language, version FROM "{quoted}".preheat_collections'


def test_a_role_that_may_only_read_and_write_works_on_what_the_script_made(
    server: Server, database: str, backend: str
) -> None:
    script = preheat("schema", "-c", "papers", "--dimensions", "2", "--schema", "mine", "--extension", "ext").stdout
    psql(server, database, script)
    dsn = server.role(
        f"{database}_role",
        database,
        "USAGE ON SCHEMA mine, ext",
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mine",
    )

    async def use() -> None:
        async with VectorStorage(dsn, "papers", 2, schema="mine", embedder="model") as storage:
            assert await storage.warm_pool()
            await storage.add([Chunk("one", [1, 0], {"n": 1}, id="a"), Chunk("two", [0, 1], {"n": 2}, id="b")])
            await storage.add([Chunk("uno", [1, 0], {"n": 1}, id="a")])
            await storage.replace_document("d", [Chunk("three", [1, 1], document="d")])
            assert [hit.text for hit in await storage.search([1, 0], k=1)] == ["uno"]
            assert [hit.text for hit in await storage.search([1, 0], filter=F("n") == 2)] == ["two"]
            await storage.create()
            await storage.answer_table.store("key", "", "model", "what?", [1, 0], '"that"', 60)
            assert await storage.answer_table.exact("key") is not None
            assert await storage.delete(document="d") == 1

    anyio.run(use, backend=backend)
    assert [row["embedder"] for row in registered(server, database, "mine")] == ["model"]


def test_without_answers_and_without_indexes(server: Server, database: str) -> None:
    psql(server, database, preheat("schema", "--no-answers", "--dimensions", "2").stdout)
    psql(server, database, schema_script("bare", 2, index=False, answers=False))
    psql(server, database, schema_script("own", 2, index=HNSW(4, 10), answers=False))
    names = [row["relname"] for row in server.sql("SELECT relname FROM pg_class WHERE relname ~ 'preheat'", database)]
    assert not [name for name in names if "answers" in name]
    assert {name for name in names if "bare" in name} == {"preheat_bare", "preheat_bare.id", "preheat_bare.document"}
    (row,) = server.sql("SELECT reloptions FROM pg_class WHERE relname = 'preheat_own.embedding'", database)
    assert row["reloptions"] == ["m=4", "ef_construction=10"]


def test_apply_makes_a_collection_and_leaves_one_that_is_up_to_date_as_it_is(
    server: Server, database: str, backend: str
) -> None:
    dsn = ("--dsn", server.dsn(database), "--backend", backend)
    result = preheat("schema", "-c", "papers", "--dimensions", "3", "--metric", "l2", "--apply", *dsn)
    assert result.exit_code == 0
    assert "collection papers is there and up to date: 3 dimensions, l2, 0 chunks" in result.stdout
    before = catalog(server, database)
    assert {name for name, *_ in before["columns"]} == {
        "preheat_collections",
        "preheat_papers",
        "preheat_papers.answers",
    }
    assert preheat("schema", "-c", "papers", "--apply", *dsn).exit_code == 0
    assert catalog(server, database) == before
    result = preheat("schema", "-c", "papers", "--dimensions", "4", "--apply", *dsn)
    assert result.exit_code == 1
    assert "3 dimensions, not 4" in " ".join(result.stderr.split())
    assert preheat("schema", "-c", "new", "--apply", "--no-answers", "--schema", "else where", *dsn).exit_code == 0
    (row,) = registered(server, database, "else where")
    assert (row["dimensions"], row["embedder"]) == (256, "wordllama-l2-supercat-256")


def test_apply_brings_an_old_collection_up_to_date(server: Server, database: str) -> None:
    server.sql(
        "CREATE EXTENSION vector; CREATE TABLE preheat_collections (name text PRIMARY KEY, "
        "dimensions integer NOT NULL, metric text NOT NULL, embedder text, created_at timestamptz NOT NULL DEFAULT "
        'now()); CREATE TABLE preheat_papers (id text CONSTRAINT "preheat_papers.id" PRIMARY KEY, document text NOT '
        "NULL, position integer NOT NULL, text text NOT NULL, metadata jsonb NOT NULL, embedding vector(3) NOT NULL);"
        "INSERT INTO preheat_collections VALUES ('papers', 3, 'cosine');",
        database,
    )
    assert preheat("schema", "-c", "papers", "--apply", "--dsn", server.dsn(database)).exit_code == 0
    (row,) = registered(server, database)
    assert row["version"] == LATEST
    indexes = {name for name, *_ in catalog(server, database)["indexes"]}
    assert {"preheat_papers.words", "preheat_papers.metadata", "preheat_papers.embedding"} <= indexes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dimensions", "0"), "dimensions is 0"),
        (("--schema", "pg_mine"), "'pg_mine' is not a name for a schema"),
        (("--extension", ""), "'' is not a name for a schema"),
        (("-c", "no/name"), "not a name for a collection"),
        (("--model", "chatter"), "--model is 'chatter'; give one of wordllama"),
        (("--model", "wordllama:100"), "dimensions is 100; WordLlama gives 64, 128, 256"),
        (("--model", "wordllama:x"), "after wordllama: comes a number"),
        (("--model", "openai:"), "--model is 'openai:'; give one of"),
        (("--dimensions", "2001", "--vector-type", "vector"), "dimensions is 2001"),
    ],
)
def test_a_mistake_is_reported_in_a_sentence(arguments: tuple[str, ...], words: str) -> None:
    result = preheat("schema", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in " ".join(result.stderr.split())


def test_values_are_written_where_they_belong_and_nowhere_else() -> None:
    written = _bound("""INSERT INTO "$1" VALUES ($1::text, $2::int, $3::text, '$1', "a""$2")""", "x'y\\", 7, None)
    assert written == """INSERT INTO "$1" VALUES (E'x''y\\\\'::text, 7::int, NULL::text, '$1', "a""$2")"""
    with pytest.raises(ArgumentError):
        schema_script("papers", 3, schema="pg_mine")


def test_a_script_is_colored_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(command, "out", Console(file=terminal, force_terminal=True, width=40, color_system="truecolor"))
    script = schema_script("papers", 3)
    command._show_script(command.Script(script))
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    assert "CREATE" in shown
    assert "\x1b" not in preheat("schema").stdout


def test_every_command_finds_the_collections_of_a_schema(server: Server, database: str, tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("Income tax is due in May.")
    where = ("--dsn", server.dsn(database), "--schema", "shelf")
    assert preheat("ingest", str(tmp_path), *where).exit_code == 0
    assert "Income tax" in preheat("search", "taxes", "--json", *where).stdout
    assert '"chunks": 1' in preheat("collections", "--json", *where).stdout
    assert preheat("collections", "--json", "--dsn", server.dsn(database)).stdout == "[]\n"
    assert preheat("warm", "--connections", "1", *where).exit_code == 0


def test_a_collection_remembers_the_model_that_was_named(server: Server, database: str, tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("Income tax is due in May.")
    where = ("--dsn", server.dsn(database))
    assert preheat("ingest", str(tmp_path), "--model", "wordllama:64", *where).exit_code == 0
    (row,) = registered(server, database)
    assert (row["dimensions"], row["embedder"]) == (64, "wordllama-l2-supercat-64")
    result = preheat("search", "taxes", *where)
    assert result.exit_code == 1
    assert "come from the model 'wordllama-l2-supercat-64'" in " ".join(result.stderr.split())
    assert preheat("search", "taxes", "--model", "wordllama:64", *where).exit_code == 0
