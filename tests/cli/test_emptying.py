"""`preheat clear` and `drop`, and what is said about a collection that is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from preheat.cli import delete


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delete, "_is_asked", lambda: True)


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


@pytest.mark.parametrize("command", ["clear", "drop"])
def test_without_a_terminal_a_collection_is_emptied_only_if_one_is_sure(
    preheat: Any, library: Path, collection: str, backend: str, command: str
) -> None:
    preheat("ingest", str(library), "-c", collection)
    empty = (command, "-c", collection, "--backend", backend)

    refused = preheat(*empty, input=b"y\n")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "nobody is there to answer; add --yes if you are sure" in refused.stderr
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

    monkeypatch.setattr(delete.typer, "confirm", interrupt)
    result = preheat("drop", "-c", collection, "--backend", backend)
    assert result.exit_code == 130
    assert result.stderr.startswith("interrupted")
    monkeypatch.setattr(delete.typer, "confirm", lambda *_, **__: (_ for _ in ()).throw(typer.Abort()))
    assert preheat("drop", "-c", collection, "--backend", backend).exit_code == 1
    assert count(preheat, collection) == 2


@pytest.mark.parametrize(
    "command",
    [
        ("warm",),
        ("search", "x"),
        ("explain", "x"),
        ("delete", "an-id", "--yes"),
        ("delete", "--document", "a.md", "--yes"),
        ("delete", "--filter", '{"a": 1}', "--yes"),
        ("clear", "--yes"),
        ("drop", "--yes"),
        ("reembed",),
    ],
)
def test_a_collection_that_is_misspelled_is_an_error_that_names_the_right_one(
    preheat: Any, library: Path, collection: str, backend: str, command: tuple[str, ...]
) -> None:
    preheat("ingest", str(library), "-c", collection)
    result = preheat(*command, "-c", f"{collection}s", "--backend", backend)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"there is no collection '{collection}s' in this database; do you mean " in " ".join(result.stderr.split())
    assert collection in result.stderr.split("do you mean")[1]
    assert preheat("warm", "-c", collection, "--backend", backend).exit_code == 0


def test_a_document_is_deleted_however_its_path_is_typed(
    preheat: Any, library: Path, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(library)
    for typed in ("cats.md", "./cats.md", "deep/../cats.md", str(library / "cats.md")):
        preheat("ingest", ".", "-c", collection)
        assert "deleted 1 chunk " in preheat("delete", "--document", typed, "--yes", "-c", collection).stdout
