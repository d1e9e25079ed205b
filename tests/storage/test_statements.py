from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import ArgumentError
from preheat.storage import statements
from preheat.storage.records import score


@pytest.mark.parametrize("name", ["papers", "a", "_x", "Python-3", "a" * 40])
def test_a_name_for_a_collection(name: str) -> None:
    assert statements.check_collection(name) == name


@pytest.mark.parametrize("name", ["", "3d", "a b", 'x"; DROP TABLE y; --', "a" * 41, "ä", "a\n", "a.b"])
def test_not_a_name_for_a_collection(name: str) -> None:
    with pytest.raises(ArgumentError, match="not a name for a collection"):
        statements.check_collection(name)


@given(st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_-]{0,39}\Z"))
def test_the_names_made_of_a_collections_fit_postgresql(name: str) -> None:
    for statement in (
        *statements.create_collection(statements.check_collection(name), 3),
        statements.create_indexes(name, "l2"),
    ):
        for quoted in statement.split('"')[1::2]:
            assert len(quoted.encode()) <= 63


@given(st.text())
def test_quoting_never_lets_an_identifier_end_early(text: str) -> None:
    quoted = statements.quoted(text)

    assert quoted.startswith('"')
    assert quoted.endswith('"')
    assert quoted[1:-1].replace('""', "").count('"') == 0


def test_only_known_metrics() -> None:
    with pytest.raises(ArgumentError, match="cosine, l2, inner_product"):
        statements.check_metric("manhattan")


@given(st.floats(0, 2), st.floats(0, 2))
def test_a_higher_score_is_a_smaller_distance(one: float, other: float) -> None:
    for metric in ("cosine", "l2", "inner_product"):
        if one < other:
            assert score(metric, one) >= score(metric, other)
