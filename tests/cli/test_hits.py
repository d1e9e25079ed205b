"""How a hit of `preheat search` looks."""

from __future__ import annotations

from typing import Any

import pytest

from preheat import Hit
from preheat.cli import hits
from preheat.cli.hits import lines_of

TEXT = "# Boiling water\n\nA kettle boils water in three minutes. " + "More about kettles. " * 20


def hit(**changes: Any) -> Hit:
    given = {"id": "an-id", "text": TEXT, "score": 0.5, "distance": 0.5, "document": "tea.md", "position": 0}
    return Hit(**{**given, "metadata": {}, **changes})


def plain(one: Hit, query: str = "boiling kettles", **options: Any) -> list[str]:
    return [line.plain for line in lines_of(one, query, **options)]


def test_a_hit_shows_score_document_heading_id_and_the_beginning_of_its_text() -> None:
    first, second, text = plain(hit())
    assert first == "0.500  tea.md > Boiling water"
    assert second.strip() == "id an-id"
    assert text.strip().startswith("A kettle boils water")
    assert text.endswith(" …")
    assert len(text) < 260


def test_a_hit_of_a_page_shows_its_title_and_its_heading_once() -> None:
    assert plain(hit(metadata={"title": "Tea"}))[0] == "0.500  tea.md > Tea > Boiling water"
    assert plain(hit(metadata={"title": "Boiling water"}))[0] == "0.500  tea.md > Boiling water"
    assert plain(hit(document="", text="## Only this"))[0] == "0.500  (no document) > Only this"
    assert plain(hit(text="## Only this"))[2].strip() == "## Only this"


def test_a_hit_of_a_hybrid_search_shows_both_ranks() -> None:
    first, second, *_ = plain(hit(vector_rank=2, score=1 / 62))
    assert first.startswith("0.0161  ")
    assert second.strip() == "id an-id, vector 2, words -"


def test_full_shows_the_whole_text_with_its_lines() -> None:
    shown = plain(hit(text="one\n\n  two\nthree"), is_full=True)[2:]
    assert [line.removeprefix(hits.INDENT) for line in shown] == ["one", "", "  two", "three"]


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        (
            "How long does boiling water take?",
            "Water boils. It is boiled on a boiler.",
            ["Water", "boils", "boiled", "boiler"],
        ),
        ("what is the", "what is the", []),
        ("pg_hba.conf", "See pg_hba.conf now", ["pg_hba", "conf"]),
        ("東京", "私は東京に住む", ["東京"]),
        ("a+b (c", "a+b (c", []),
    ],
)
def test_the_words_of_the_query_are_marked(query: str, text: str, marked: list[str]) -> None:
    *_, line = lines_of(hit(text=text), query)
    assert [line.plain[span.start : span.end] for span in line.spans if "magenta" in str(span.style)] == marked
