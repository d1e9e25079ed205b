"""`preheat ingest --sync`: what is deleted with its file, and what never is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two folders of texts."""
    for name in ("docs/a.md", "docs/b.md", "docs/deep/c.md", "docs-old/d.md", "e.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"The text of {name}.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stored(preheat: Any, collection: str) -> Any:
    """The keys of the documents that are stored."""

    def keys() -> set[str]:
        result = preheat("search", "text", "-k", "100", "-c", collection, "--json")
        return {hit["document"] for hit in json.loads(result.stdout)}

    return keys


def test_sync_deletes_the_documents_of_deleted_files_and_nothing_else(
    preheat: Any, here: Path, collection: str, stored: Any, backend: str
) -> None:
    options = ("-c", collection, "--backend", backend)
    preheat("ingest", "docs", "docs-old", "e.md", "-", *options, input=b"The text of standard input.")
    (here / "docs" / "a.md").unlink()
    (here / "docs" / "deep" / "c.md").unlink()
    (here / "docs-old" / "d.md").unlink()
    (here / "e.md").unlink()

    assert preheat("ingest", "docs", *options).exit_code == 0
    assert len(stored()) == 6

    result = preheat("ingest", "docs", "--sync", "--dry-run", *options)
    assert (result.exit_code, result.stdout) == (
        0,
        f"would delete 2 documents that are no longer there from collection {collection}\n",
    )
    assert "would delete: docs/a.md, which is no longer there (1 chunk)" in result.stderr
    assert len(stored()) == 6

    result = preheat("ingest", f"{here}/docs/", "--sync", "--json", *options)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["gone"] == ["docs/a.md", "docs/deep/c.md"]
    assert "deleted: docs/a.md, which is no longer there (1 chunk)" in result.stderr
    assert stored() == {"docs/b.md", "docs-old/d.md", "e.md", "stdin"}


def test_the_current_folder_can_be_compared(preheat: Any, here: Path, collection: str, stored: Any) -> None:
    preheat("ingest", ".", "-", "-c", collection, input=b"The text of standard input.")
    preheat("ingest", str(here.parent / here.name / "docs-old"), "-c", collection)
    (here / "docs" / "a.md").unlink()

    result = preheat("ingest", ".", "--sync", "-c", collection)
    assert result.exit_code == 0
    assert "deleted 1 document that is no longer there" in result.stdout
    assert stored() == {"docs/b.md", "docs/deep/c.md", "docs-old/d.md", "e.md", "stdin"}


def test_a_file_that_cannot_be_read_is_not_gone(preheat: Any, here: Path, collection: str, stored: Any) -> None:
    preheat("ingest", "docs", "-c", collection)
    (here / "docs" / "a.md").write_bytes(b"\xff\xff")
    (here / "docs" / "b.md").rename(here / "docs" / "b.unknown")

    result = preheat("ingest", "docs", "--sync", "-c", collection)
    assert result.exit_code == 1
    assert "skipped: docs/a.md is not UTF-8 text" in result.stderr
    assert stored() == {"docs/a.md", "docs/deep/c.md"}


def test_a_file_that_is_there_but_not_looked_for_is_not_gone(
    preheat: Any, here: Path, collection: str, stored: Any
) -> None:
    (here / "docs" / "README").write_text("The text of README.")
    preheat("ingest", "docs", "docs/README", "-c", collection)

    preheat("ingest", "docs", "--sync", "-c", collection)
    assert "docs/README" in stored()
    (here / "docs" / "README").unlink()
    preheat("ingest", "docs", "--sync", "-c", collection)
    assert "docs/README" not in stored()


@pytest.mark.parametrize("how", ["empty", "missing", "no folder"])
def test_a_folder_in_which_nothing_is_found_deletes_nothing(
    preheat: Any, here: Path, collection: str, stored: Any, how: str
) -> None:
    preheat("ingest", "docs", "e.md", "-c", collection)
    if how == "no folder":
        result = preheat("ingest", "docs/*.md", "--sync", "-c", collection)
        assert "--sync compares folders with what is stored, and none was given" in result.stderr
    else:
        (here / "docs").rename(here / "elsewhere")
        if how == "empty":
            (here / "docs").mkdir()
        result = preheat("ingest", "docs", "e.md", "--sync", "-c", collection)
        words = {"empty": "there is no file to read in docs, and --sync would delete", "missing": "docs does not exist"}
        assert words[how] in result.stderr
    assert result.exit_code == 2
    assert stored() == {"docs/a.md", "docs/b.md", "docs/deep/c.md", "e.md"}


def test_a_folder_that_cannot_be_looked_into_deletes_nothing(
    preheat: Any, here: Path, collection: str, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    preheat("ingest", "docs", "docs-old", "-c", collection)
    (here / "docs" / "a.md").unlink()
    (here / "docs-old" / "d.md").rename(here / "docs-old" / "f.md")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = preheat("ingest", "docs", "docs-old", "--sync", "-c", collection)
    assert result.exit_code == 1
    assert "not compared: docs: nothing was deleted, because a part could not be looked into" in result.stderr
    assert stored() == {"docs/a.md", "docs/b.md", "docs/deep/c.md", "docs-old/f.md"}


def test_a_run_that_fails_deletes_nothing(preheat: Any, here: Path, collection: str, stored: Any) -> None:
    preheat("ingest", "docs", "-c", collection)
    (here / "docs" / "a.md").unlink()

    assert preheat("ingest", "docs", "--sync", "--model", "wordllama:64", "-c", collection).exit_code == 1
    assert "docs/a.md" in stored()
    assert preheat("ingest", "docs", "--dry-run", "-c", collection).exit_code == 2
