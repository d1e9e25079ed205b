"""`preheat measure` on a network of 20 ms, at each width, and its page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from preheat.cli.commands import measure as command
from preheat.measure import PHASES
from preheat.testing.network import FaultyNetwork

VOID = {"meta", "line", "rect", "br"}


class Page(HTMLParser):
    """The elements of a page, of which each has to be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def far(dsn: str) -> Iterator[str]:
    """The DSN of the database at the end of a network of 20 ms."""
    with FaultyNetwork(dsn) as network:
        network.latency = 0.01
        yield network.dsn


def test_the_parts_sum_to_the_whole(preheat: Any, far: str, backend: str, tmp_path: Path) -> None:
    page = tmp_path / "cold.html"
    measure = ("measure", "--dsn", far, "--rounds", "1", "--backend", backend)
    result = preheat(*measure, "--json", "--html", str(page), "--query", "SELECT '<script>' AS \"&\"")
    assert result.exit_code == 0
    measured = json.loads(result.stdout)
    assert [answer["after"] for answer in measured["answers"]] == ["nothing", "SELECT 1", "warm-up"]
    assert measured["backend"] == backend
    assert measured["rtt_seconds"] >= 0.02
    for answer in measured["answers"]:
        assert list(answer["phases"]) == list(PHASES)
        parts = answer["phases"].values()
        assert sum(part["seconds"] for part in parts) == pytest.approx(answer["seconds"], rel=0.05)
        assert sum(part["round_trips"] for part in parts) == answer["round_trips"]
        assert answer["seconds"] >= 0.02 * answer["round_trips"]

    text = page.read_text(encoding="utf-8")
    read = Page(text)
    assert not read.open
    assert {"svg", "rect", "table"} <= {tag for tag, _ in read.seen}
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in read.seen}
    assert not any(name in ("src", "href") for _, attributes in read.seen for name in attributes)
    assert "prefers-color-scheme: dark" in text
    assert "&lt;script&gt;" in text
    assert "s3cret" not in text


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("color", [True, False])
def test_the_waterfall_fits_the_terminal(
    preheat: Any, far: str, width: int, color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A console finds out where it writes to when it is made.
    terminal = Console(force_terminal=True, width=width, highlight=False, no_color=not color)
    monkeypatch.setattr(command, "out", terminal)
    with terminal.capture() as captured:
        result = preheat("measure", "--dsn", far, "--rounds", "1")
    assert result.exit_code == 0
    shown = captured.get()
    assert ("\x1b[32m" in shown) == color
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).splitlines()
    assert all(cell_len(line.rstrip()) <= width for line in plain)
    assert sum(line.startswith("second run") for line in plain) == 3
    assert sum(line.startswith("log-in") for line in plain) == 1
    (login,) = [line for line in plain if line.startswith("log-in")]
    assert "█" in login
    assert login.rstrip().endswith("3 RT")


def test_a_pipe_gets_whole_sentences(preheat: Any, dsn: str) -> None:
    result = preheat("measure", "--rounds", "1", env={"COLUMNS": "60"})
    assert result.exit_code == 0
    (advice,) = [line for line in result.stdout.splitlines() if "first answer of a cold pool takes" in line]
    assert advice.startswith("- ")
    assert "after preheat's warm-up" in advice


def test_mistakes_are_sentences(preheat: Any, dsn: str, tmp_path: Path) -> None:
    assert preheat("measure", "--via", "nothing").exit_code == 2
    assert preheat("measure", "--connections", "0").exit_code == 2
    result = preheat("measure", "--via", "asyncpg", "--backend", "trio")
    assert result.exit_code == 2
    assert "runs on asyncio only" in result.stderr
    result = preheat("measure", "--query", "SELECT nonsense", "--rounds", "1")
    assert result.exit_code == 1
    assert "nonsense" in result.stderr
    result = preheat("measure", "--query", "SELECT 1", "--rounds", "1", "--html", str(tmp_path / "no" / "file.html"))
    assert result.exit_code == 2
    assert "name a file in a folder that exists" in result.stderr
