from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from benchmarks.report.pages import fragments, rewrite, write


@pytest.fixture
def readme(tmp_path) -> Path:
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- bench: summary -->\nold\n<!-- /bench -->\nafter\n", encoding="utf-8")
    return path


def test_a_run_becomes_fragments_plots_and_a_readme(results, tmp_path, readme):
    folder = tmp_path / "new" / "folder"
    written = write(results, folder, readme)
    assert set(written) == {*folder.iterdir(), readme}
    names = {path.name for path in folder.iterdir()}
    assert {"contest-20.md", "limits.md", "machine.md", "summary.md", "first-answer.svg"} <= names
    assert "| triopg |" in readme.read_text(encoding="utf-8")


def test_a_later_run_leaves_nothing_of_an_earlier_one_but_what_others_wrote(results, nothing, tmp_path, readme):
    folder = tmp_path / "folder"
    write(results, folder, readme)
    (folder / "notes.md").write_text("mine", encoding="utf-8")
    (folder / "drawing.svg").write_text("mine", encoding="utf-8")
    readme.write_text("no markers", encoding="utf-8")
    write(nothing, folder, readme)
    assert {path.name for path in folder.iterdir()} == {"machine.md", "notes.md", "drawing.svg"}


def test_a_readme_that_cannot_be_filled_leaves_everything_as_it_was(nothing, tmp_path, readme):
    with pytest.raises(ValueError, match="no table 'summary'"):
        write(nothing, tmp_path / "folder", readme)
    assert not (tmp_path / "folder").exists()
    assert "old" in readme.read_text(encoding="utf-8")


def test_the_readme_is_rewritten_between_its_markers(results):
    text = "before\n\n<!-- bench: summary -->\nold\n<!-- /bench -->\n\nafter\n"
    new = fragments(results)
    once = rewrite(text, new)
    assert once == f"before\n\n<!-- bench: summary -->\n\n{new['summary']}\n<!-- /bench -->\n\nafter\n"
    assert rewrite(once, new) == once


def test_two_places_are_two_places(results):
    text = "<!-- bench: a -->\n<!-- /bench -->\nkept\n<!-- bench: b -->\n1\n2\n<!-- /bench -->\n"
    rewritten = rewrite(text, {"a": "A\n", "b": "B\n"})
    assert [line for line in rewritten.splitlines() if line and "bench" not in line] == ["A", "kept", "B"]


def test_without_markers_nothing_changes(results):
    assert rewrite("nothing here\n", {}) == "nothing here\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<!-- bench: other -->\n<!-- /bench -->\n", "no table 'other'"),
        ("<!-- bench: summary -->\n", "closes it"),
        ("<!-- bench: summary --> <!-- /bench -->\n", "closes it"),
        ("<!-- bench: summary -->\n<!-- bench: summary -->\n<!-- /bench -->\n", "closes it"),
    ],
)
def test_a_wrong_marker_is_reported(results, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        rewrite(text, fragments(results))
