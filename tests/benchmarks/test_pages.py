from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from benchmarks.pages import fragments, rewrite, write


def test_a_run_becomes_fragments_and_plots(results, tmp_path):
    names = {path.name for path in write(results, tmp_path)}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert {"contest-20.md", "limits.md", "machine.md", "summary.md", "first-answer.svg"} <= names


def test_a_later_run_leaves_nothing_of_an_earlier_one_but_what_others_wrote(results, nothing, tmp_path):
    write(results, tmp_path)
    (tmp_path / "notes.md").write_text("mine", encoding="utf-8")
    (tmp_path / "drawing.svg").write_text("mine", encoding="utf-8")
    write(nothing, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"machine.md", "notes.md", "drawing.svg"}


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
def test_a_wrong_marker_is_told(results, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        rewrite(text, fragments(results))
