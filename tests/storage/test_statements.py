from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import preheat.storage
from preheat import ArgumentError
from preheat.storage.answers.sql import create_answers, nearest, store
from preheat.storage.identifiers import Identifiers, check_collection, check_metric, check_schema, literal
from preheat.storage.identifiers import quoted as quote
from preheat.storage.schema.sql import HNSW, create_collection, create_indexes
from preheat.storage.search.find import score
from preheat.storage.search.sql import Shape, filtered_search, ranked_search, search

STORAGE = Path(preheat.storage.__file__).parent


@pytest.mark.parametrize("name", ["papers", "a", "_x", "Python-3", "a" * 40])
def test_a_name_for_a_collection(name: str) -> None:
    assert check_collection(name) == name


@pytest.mark.parametrize("name", ["", "3d", "a b", 'x"; DROP TABLE y; --', "a" * 41, "ä", "a\n", "a.b"])
def test_not_a_name_for_a_collection(name: str) -> None:
    with pytest.raises(ArgumentError, match="not a name for a collection"):
        check_collection(name)


@given(st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_-]{0,39}\Z"))
def test_the_names_made_of_a_collections_fit_postgresql(name: str) -> None:
    names = Identifiers(check_collection(name))
    for statement in (
        *create_collection(names, 3, "vector"),
        *create_indexes(names, "l2", "vector", "english", HNSW()),
        *create_answers(names),
    ):
        for quoted in statement.split('"')[1::2]:
            assert len(quoted.encode()) <= 63


@given(st.text())
def test_quoting_never_lets_an_identifier_end_early(text: str) -> None:
    quoted = quote(text)

    assert quoted.startswith('"')
    assert quoted.endswith('"')
    assert quoted[1:-1].replace('""', "").count('"') == 0


@pytest.mark.parametrize("name", ["public", "a", 'x"; DROP TABLE y; --', "ä" * 31, "a.b", "'", " "])
def test_a_name_for_a_schema(name: str) -> None:
    assert check_schema(name) == name


@pytest.mark.parametrize("name", ["", "pg_x", "information_schema", "a" * 64, "ä" * 32, "a\0"])
def test_not_a_name_for_a_schema(name: str) -> None:
    with pytest.raises(ArgumentError, match="schema"):
        check_schema(name)


@given(st.text(alphabet=st.sampled_from("ab'\\\"")))
def test_quoting_never_lets_a_text_end_early(text: str) -> None:
    quoted = literal(text)
    escapes = quoted.startswith(" E'")
    assert escapes == ("\\" in text)
    inside = quoted.removeprefix(" E")[1:-1]
    assert inside.replace("\\\\", "").count("\\") == 0
    assert inside.replace("''", "").count("'") == 0


def test_only_known_metrics() -> None:
    with pytest.raises(ArgumentError, match="cosine, l2, inner_product"):
        check_metric("manhattan")


@given(st.floats(0, 2), st.floats(0, 2))
def test_a_higher_score_is_a_smaller_distance(one: float, other: float) -> None:
    for metric in ("cosine", "l2", "inner_product"):
        if one < other:
            assert score(metric, one) >= score(metric, other)


def statements_with_a_vector() -> dict[str, str]:
    """Every statement that is given one vector, in every shape."""
    names, found = Identifiers("papers"), {}
    for exact in (False, True):
        found[f"search {exact}"] = search(names, "cosine", exact=exact)
        found[f"filtered {exact}"] = filtered_search(names, "cosine", "metadata ? 'a'", exact=exact)
        for flags in product((False, True), repeat=3):
            for condition in ("", "metadata ? 'a'"):
                hybrid, excluding, diverse = flags
                shape = Shape("l2", hybrid=hybrid, excluding=excluding, diverse=diverse, filter=condition, exact=exact)
                found[f"ranked {shape}"] = ranked_search(names, shape)
    return {**found, "answers": nearest(names, 3), "store": store(names, 3)}


CAST = re.compile(r"\$\d+::text::vector")


def test_a_statement_parses_its_vector_once() -> None:
    """A generic plan evaluates a cast of a parameter for each row, unless the cast is materialized or inserted."""
    for name, statement in statements_with_a_vector().items():
        (cast,) = CAST.findall(statement)
        if name == "store":
            assert cast in statement[statement.index("VALUES (") : statement.index("ON CONFLICT")]
        else:
            begin = " ".join(statement.split())
            assert begin.startswith(f"WITH query AS MATERIALIZED ( SELECT {cast} AS vector"), name


def test_no_other_module_casts_a_parameter_to_a_vector() -> None:
    casts = {
        str(path.relative_to(STORAGE)): len(
            re.findall(r"\$\d+::text::\{(?:identifiers\.of_pgvector|vector)", path.read_text("utf-8"))
        )
        for path in STORAGE.rglob("*.py")
    }
    assert {name: count for name, count in casts.items() if count} == {"search/sql.py": 1, "answers/sql.py": 2}
