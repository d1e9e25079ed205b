from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from preheat.cli.app import app

COMMAND = get_command(app)
"""Made once, not for every call: it takes as long as a search."""


@pytest.fixture
def preheat(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("typer.testing._get_command", lambda _: COMMAND)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PREHEAT_DSN", dsn)

    def call(*arguments: str, env: dict[str, str] | None = None, input: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, arguments, env=env, input=input)
        assert "Traceback" not in result.stderr, result.stderr
        assert "s3cret" not in result.output
        if result.exception is not None:
            assert isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "cats.md").write_text("# Cats\n\nA cat sleeps for most of the day.\n")
    (folder / "deep" / "tax.txt").write_text("Income tax is due in May.\n")
    (folder / "empty.txt").write_text("")
    (folder / "photo.png").write_bytes(b"\x89PNG")
    (folder / ".hidden" / "secret.txt").write_text("not for you")
    return folder
