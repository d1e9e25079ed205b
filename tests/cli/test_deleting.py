"""`preheat delete`, `clear` and `drop`: the question before they delete, and a collection that does not exist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.support.server import Server

from preheat.cli import confirming


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "_has_terminal", lambda: True)


def count(preheat: Any, collection: str) -> int | None:
    infos = {info["name"]: info for info in json.loads(preheat("collections", "--json").stdout)}
    return infos[collection]["chunks"] if collection in infos else None


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("command", ["clear", "drop"])
def test_a_collection_is_emptied_after_a_question(
    preheat: Any, library: Path, collection: str, backend: str, command: str
) -> None:
    preheat("ingest", str(library), "-c", collection)
    empty = (command, "-c", collection, "--backend", backend)

    declined = preheat(*empty, input=b"n\n")
    assert declined.exit_code == 1
    asked = "delete all 2 chunks of collection" if command == "clear" else "drop collection"
    assert asked in declined.stderr
    assert "2 chunks" in declined.stderr
    assert "nothing was deleted" in declined.stderr
    unanswered = preheat(*empty, input=b"")
    assert (unanswered.exit_code, "nothing was deleted" in unanswered.stderr) == (1, True)
    assert count(preheat, collection) == 2

    agreed = preheat(*empty, input=b"y\n")
    assert agreed.exit_code == 0
    assert ("deleted 2 chunks from" if command == "clear" else "dropped collection") in agreed.stdout
    assert count(preheat, collection) == (0 if command == "clear" else None)


@pytest.mark.parametrize("command", ["delete", "clear", "drop"])
def test_without_a_terminal_nothing_is_deleted_unless_yes_is_given(
    preheat: Any, library: Path, collection: str, backend: str, command: str
) -> None:
    preheat("ingest", str(library), "-c", collection)
    chosen = ("--filter", '{"start": 0}') if command == "delete" else ()
    empty = (command, *chosen, "-c", collection, "--backend", backend)

    refused = preheat(*empty, input=b"y\n")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"preheat {command} asks on a terminal before it deletes, and there is none; add --yes" in refused.stderr
    assert count(preheat, collection) == 2

    report = json.loads(preheat(*empty, "--yes", "--json").stdout)
    assert report == {"collection": collection, "deleted": 2} | ({"dropped": True} if command == "drop" else {})
    assert preheat("ingest", str(library), "-c", collection).exit_code == 0


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_at_the_question_changes_nothing(
    preheat: Any, library: Path, collection: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    preheat("ingest", str(library), "-c", collection)

    def interrupt(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(confirming.typer, "confirm", interrupt)
    result = preheat("drop", "-c", collection, "--backend", backend)
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted")
    monkeypatch.setattr(confirming.typer, "confirm", lambda *_, **__: (_ for _ in ()).throw(typer.Abort()))
    assert preheat("drop", "-c", collection, "--backend", backend).exit_code == 1
    assert count(preheat, collection) == 2


COMMANDS = (
    ("warm",),
    ("search", "x"),
    ("explain", "x"),
    ("delete", "an-id", "--yes"),
    ("delete", "--document", "a.md", "--yes"),
    ("delete", "--filter", '{"a": 1}', "--yes"),
    ("clear", "--yes"),
    ("drop", "--yes"),
    ("reembed",),
)


def test_a_collection_that_is_misspelled_is_an_error_that_names_the_right_one(
    preheat: Any, library: Path, collection: str, backend: str
) -> None:
    preheat("ingest", str(library), "-c", collection)
    for command in COMMANDS:
        result = preheat(*command, "-c", f"{collection}s", "--backend", backend)

        assert (result.exit_code, result.stdout) == (1, ""), command
        told = " ".join(result.stderr.split())
        assert f"there is no collection '{collection}s' in this database; do you mean " in told
        assert collection in told.split("do you mean")[1]
    assert preheat("warm", "-c", collection, "--backend", backend).exit_code == 0


def test_a_document_is_deleted_however_its_path_is_typed(
    preheat: Any, library: Path, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(library)
    for typed in ("cats.md", "./cats.md", "deep/../cats.md", str(library / "cats.md")):
        preheat("ingest", ".", "-c", collection)
        assert "deleted 1 chunk " in preheat("delete", "--document", typed, "--yes", "-c", collection).stdout


@pytest.mark.usefixtures("terminal")
def test_chunks_are_deleted_after_a_question(preheat: Any, library: Path, collection: str, backend: str) -> None:
    preheat("ingest", str(library), "-c", collection)
    delete = ("delete", "-c", collection, "--backend", backend)
    tax = str(library / "deep" / "tax.txt")

    declined = preheat(*delete, "--document", tax, input=b"n\n")
    assert (declined.exit_code, declined.stdout.strip()) == (1, "n")  # the runner shows what is typed
    assert f"delete 1 chunk from collection {collection}?" in declined.stderr
    assert preheat(*delete, "--document", tax, input=b"").exit_code == 1

    agreed = preheat(*delete, "--document", tax, "--json", input=b"y\n")
    assert json.loads(agreed.stdout.removeprefix(" y\n")) == {"collection": collection, "deleted": 1}
    (hit,) = json.loads(preheat("search", "cats", "-c", collection, "--json").stdout)
    missing = preheat(*delete, "no-such-id")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "has no such chunk" in " ".join(missing.stderr.split())
    missing = preheat(*delete, "--document", "no-such.txt", "--yes", "--json")
    assert (missing.exit_code, json.loads(missing.stdout)["deleted"]) == (1, 0)
    assert "deleted 1 chunk from" in preheat(*delete, hit["id"], "no-such-id", "--yes").stdout


def test_delete_without_a_selection_is_refused(preheat: Any, collection: str) -> None:
    for arguments, words in (
        ((), "give one of them"),
        (("an-id", "--document", "a.md"), "give one of them"),
        (("--filter", "{}"), "an empty filter passes every chunk"),
        (("--filter", "{"), "--filter is not JSON"),
    ):
        result = preheat("delete", "-c", collection, *arguments, "--yes")
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in " ".join(result.stderr.split())


def test_a_collection_whose_table_is_gone_is_listed_as_missing_and_can_be_dropped(
    preheat: Any, server: Server, library: Path, collection: str, backend: str
) -> None:
    preheat("ingest", str(library), "-c", collection)
    server.sql(f'DROP TABLE "preheat_{collection}"', "tests")

    listed = preheat("collections", "--backend", backend)
    assert "missing" in next(line for line in listed.stdout.splitlines() if collection in line)
    assert f"missing: collection '{collection}' is gone: " in listed.stderr
    assert preheat("clear", "-c", collection, "--yes").exit_code == 1

    assert preheat("drop", "-c", collection, "--yes", "--backend", backend).exit_code == 0
    assert count(preheat, collection) is None


def test_a_lost_list_of_collections_is_explained_and_restored(
    preheat: Any, server: Server, database: str, library: Path
) -> None:
    where = ("--dsn", server.dsn(database))
    preheat("ingest", str(library), "-c", "papers", "--model", "wordllama:64", *where)
    server.sql("DROP TABLE preheat_collections", database)

    result = preheat("collections", *where)
    assert (result.exit_code, result.stdout) == (1, "")
    remedy = "preheat schema --apply --collection papers --dimensions 64"
    assert result.stderr.strip().endswith(remedy)
    assert preheat(*remedy.split()[1:], *where).exit_code == 0
    (info,) = json.loads(preheat("collections", "--json", *where).stdout)
    assert (info["chunks"], info["dimensions"]) == (2, 64)
