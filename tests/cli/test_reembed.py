"""`preheat reembed`, on a database."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.catalog import registered
from tests.support.server import Server
from typer.testing import CliRunner, Result

from preheat.cli.app import app


def preheat(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    if result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_collection_is_embedded_by_another_model(server: Server, database: str, tmp_path: Path, backend: str) -> None:
    (tmp_path / "a.txt").write_text("Income tax is due in May.")
    (tmp_path / "b.txt").write_text("A cat sleeps for most of the day.")
    where = ("--dsn", server.dsn(database), "--schema", "shelf", "--backend", backend)
    assert preheat("ingest", str(tmp_path), *where).exit_code == 0

    result = preheat("reembed", "--model", "wordllama:64", *where)
    assert result.exit_code == 0
    assert "is of wordllama-l2-supercat-64 now, 64 dimensions: embedded 2 of 2 chunks" in " ".join(
        result.stdout.split()
    )
    (row,) = registered(server, database, "shelf")
    assert (row["dimensions"], row["embedder"]) == (64, "wordllama-l2-supercat-64")

    result = preheat("search", "taxes", *where)
    assert result.exit_code == 1
    assert "preheat reembed --collection documents" in " ".join(result.stderr.split())
    found = preheat("search", "taxes", "-k", "1", "--model", "wordllama:64", "--json", *where)
    assert "Income tax" in found.stdout

    report = json.loads(preheat("reembed", "--vector-type", "halfvec", "--json", *where).stdout)
    assert (report["stage"], report["embedded"], report["dimensions"]) == ("done", 2, 256)
    (row,) = registered(server, database, "shelf")
    assert row["type"] == "halfvec"
    assert json.loads(preheat("reembed", "--vector-type", "halfvec", "--json", *where).stdout)["embedded"] == 0


def test_mistakes_are_told_in_sentences(server: Server, database: str) -> None:
    for arguments, code, words in (
        (("-c", "nothing"), 1, "there is no collection 'nothing'"),
        (("--model", "chatter"), 2, "--model is 'chatter'"),
        (("--schema", "pg_x"), 2, "is not a name for a schema"),
    ):
        result = preheat("reembed", "--dsn", server.dsn(database), *arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert words in " ".join(result.stderr.split())
