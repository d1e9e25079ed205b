"""Filters without a database: the two ways to write them, what is refused, and the SQL that comes out."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.filters import MISSING, as_dict, as_expression, cases, equal, filters, matches

from preheat import ArgumentError, F, Filter
from preheat.storage.filters.everything import passes_everything
from preheat.storage.filters.folding import ALWAYS, NEVER, folded
from preheat.storage.filters.sql import Condition, condition
from preheat.storage.filters.tree import MAX_DEPTH, Every, Some, as_filter
from preheat.storage.identifiers import Identifiers
from preheat.storage.search import sql as statements


def sql(filter: Any) -> Condition:
    written = condition(as_filter(filter), 6)
    assert written is not None
    return written


PAIRS = [
    ({"lang": "en"}, F("lang") == "en"),
    ({"lang": {"$eq": "en"}}, F("lang") == "en"),
    ({"lang": {"$ne": "en"}}, F("lang") != "en"),
    ({"lang": None}, F("lang") == None),  # noqa: E711
    ({"author": {"name": "Ada"}}, F("author") == {"name": "Ada"}),
    ({"author": {}}, F("author") == {}),
    ({"year": {"$gte": 2020, "$lt": 2023}}, (F("year") >= 2020) & (F("year") < 2023)),
    ({"year": {"$gt": 2020}, "lang": "en"}, (F("year") > 2020) & (F("lang") == "en")),
    ({"$or": [{"year": {"$lte": 1}}, {"lang": {"$in": ["en"]}}]}, (F("year") <= 1) | F("lang").in_(["en"])),
    ({"$and": [F("a", "b") == 1, {"c": {"$nin": [2]}}]}, (F("a", "b") == 1) & F("c").not_in([2])),
    ({"$not": {"tags": {"$contains": "x"}}}, ~F("tags").contains("x")),
    ({"year": {"$not": {"$gte": 2020}}}, ~(F("year") >= 2020)),
    ({"year": {"$not": 2020}}, F("year") != 2020),
    ({"a": {"$exists": True}}, F("a").exists()),
    ({"a": {"$exists": False}}, F("a").missing()),
    ({"a": {"$eq": {"$gt": 1}}}, F("a") == {"$gt": 1}),
]


@pytest.mark.parametrize(("words", "expression"), PAIRS, ids=[str(words) for words, _ in PAIRS])
def test_a_dict_says_what_an_expression_says(words: Any, expression: Filter) -> None:
    assert as_filter(words) == expression
    assert as_filter(expression) is expression


def test_filters_are_joined_flat_and_negated_twice_they_are_themselves() -> None:
    a, b, c = (F(key) == 1 for key in "abc")
    assert (a & b) & c == a & (b & c) == as_filter({"$and": [a, b, c]})
    assert (a | b) | c == a | (b | c) == as_filter({"$or": [a, b, c]})
    assert ~~a is a
    assert hash(a & b) == hash((F("a") == 1) & (F("b") == 1))
    assert repr(F("a", "b")) == "F('a', 'b')"


def test_a_filter_does_not_change_with_the_list_that_it_was_made_of() -> None:
    langs = ["en"]
    filter = F("lang").in_(langs)
    langs.append("de")
    assert filter == F("lang").in_(["en"])


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: bool(F("a") == 1),
        lambda: F("a") == 1 and F("b") == 2,
        lambda: not F("a").exists(),
        lambda: 1 < F("a") < 2,
        lambda: ["b"].index(F("a")),
    ],
)
def test_an_expression_used_as_a_truth_value_is_refused(mistake: Any) -> None:
    with pytest.raises(ArgumentError, match="join filters with &"):
        mistake()


def test_only_filters_are_joined() -> None:
    for mistake in (lambda: (F("a") == 1) & {"b": 2}, lambda: (F("a") == 1) | True, lambda: hash(F("a"))):
        with pytest.raises(TypeError):
            mistake()


def nested(levels: int, make: Any, value: Any) -> Any:
    for _ in range(levels):
        value = make(value)
    return value


CIRCULAR: dict[str, Any] = {}
CIRCULAR["$and"] = [CIRCULAR]
CIRCULAR_VALUE: list[Any] = []
CIRCULAR_VALUE.append(CIRCULAR_VALUE)

REFUSED = [
    ("lang = 'en'", "give an expression such as F"),
    (["lang"], "give an expression"),
    (F("lang"), r"F\('lang'\); give an expression"),
    ({"$and": [5]}, "a filter is 5"),
    ({"a": {"$regex": "x"}}, r"'\$regex' is no operator of a filter; use \$eq, "),
    ({"a": {"$gte": 1, "lte": 2}}, "'lte' is no operator"),
    ({"a": {"$gte": 1, 5: 2}}, "5 is no operator"),
    ({"a": {"$and": [1]}}, r"'\$and' is no operator of a filter"),
    ({"$nor": []}, r"'\$nor' is no operator that joins filters"),
    ({"$gt": 5}, r"F\('\$gt'\) for a key of that name"),
    ({"$and": {"a": 1}}, "give a list"),
    ({"$or": 5}, "give a list"),
    ({"$not": [{"a": 1}]}, "a filter is"),
    ({"a": {"$in": "en"}}, "give a list"),
    ({"a": {"$nin": 5}}, "give a list"),
    ({"a": {"$in": {"en": 1}}}, "give a list"),
    ({"a": {"$exists": 1}}, "true or false"),
    ({"a": {"$gt": True}}, "True has no order"),
    ({"a": {"$gt": None}}, "None has no order"),
    ({"a": {"$lte": [1]}}, "no order"),
    ({"a": {"$contains": ["x"]}}, "an element"),
    ({"a": {"$contains": {}}}, "an element"),
    ({"a": float("nan")}, "not JSON"),
    ({"a": {"$lt": float("inf")}}, "not JSON"),
    ({"a": [1, float("nan")]}, "not JSON"),
    ({"a": b"x"}, "not JSON"),
    ({"a": {1, 2}}, "not JSON"),
    ({"a": object()}, "not JSON"),
    ({"a": F("b")}, "not JSON"),
    ({"a": "x\0y"}, "NUL"),
    ({"a": {"b\0": 1}}, "NUL"),
    ({"a\0": 1}, "NUL"),
    ({"a": "\ud800"}, "not JSON"),
    ({"\ud800": 1}, "not valid Unicode"),
    ({5: 1}, "give a string"),
    ({None: 1}, "give a string"),
    (nested(60, lambda inner: {"$and": [inner]}, {"a": 1}), "more than 50 levels; write it flatter"),
    (nested(60, lambda inner: {"$not": inner}, {"a": 1}), "more than 50 levels"),
    ({"a": nested(60, lambda inner: {"$not": inner}, {"$gt": 1})}, "more than 50 levels"),
    ({"a": nested(60, lambda inner: [inner], 1)}, "the value of a filter has more than 50 levels"),
    ({"a": nested(100_000, lambda inner: {"b": inner}, 1)}, "the value of a filter has more than 50 levels"),
    ({"a": CIRCULAR_VALUE}, "more than 50 levels"),
    (CIRCULAR, "more than 50 levels"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=range(len(REFUSED)))
def test_an_invalid_filter_is_refused_in_a_sentence(words: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as refused:
        as_filter(words)
    assert "\n" not in str(refused.value)


def test_keys_lead_into_each_other_as_far_as_one_can_write_them() -> None:
    with pytest.raises(ArgumentError, match=r"F\(\) has 0 keys; give one"):
        F()
    with pytest.raises(ArgumentError, match=r"F\(\) has 51 keys"):
        F(*"a" * (MAX_DEPTH + 1))
    with pytest.raises(ArgumentError, match="the key of a filter is 5; give a string"):
        F("a", 5)  # type: ignore[arg-type]


def test_an_expression_that_is_too_deep_or_too_long_is_refused() -> None:
    deep = nested(100_000, lambda inner: ~(inner & (F("a") == 1)), F("a") == 1)
    with pytest.raises(ArgumentError, match="more than 50 levels; write it flatter"):
        sql(deep)
    long = {"$or": [{"a": number} for number in range(1001)]}
    with pytest.raises(ArgumentError, match=r"1001 keys and values, and 1000 are the most; use in_"):
        sql(long)
    assert sql({"a": {"$in": list(range(100_000))}}).sql == sql({"a": {"$in": [1]}}).sql


# SQL


def test_equality_is_containment_which_an_index_serves() -> None:
    assert sql(F("lang") == "en") == Condition("(metadata @> $6::text::jsonb)", ('{"lang": "en"}',))
    assert sql(F("a", "b") == 1) == Condition("(metadata @> $6::text::jsonb)", ('{"a": {"b": 1}}',))
    assert sql(F("tags").contains("x")) == Condition("(metadata @> $6::text::jsonb)", ('{"tags": ["x"]}',))
    assert sql(F("lang").in_(["en", None])) == Condition(
        "(metadata @> ANY($6::text[]::jsonb[]))", (['{"lang": "en"}', '{"lang": null}'],)
    )


def test_lists_and_objects_are_compared_once_more() -> None:
    assert sql(F("a") == [1]) == Condition(
        "(metadata @> $6::text::jsonb AND (metadata -> $7::text) = $8::text::jsonb)", ('{"a": [1]}', "a", "[1]")
    )
    assert sql(F("a").in_([[1], 2])) == Condition(
        "(metadata @> ANY($6::text[]::jsonb[]) AND (metadata -> $7::text) = ANY($8::text[]::jsonb[]))",
        (['{"a": [1]}', '{"a": 2}'], "a", ["[1]", "2"]),
    )


def test_order_looks_at_the_type_first() -> None:
    number, text = sql(F("year") >= 2020), sql(F("a", "b") < "x")
    assert number == Condition(
        "(CASE WHEN jsonb_typeof((metadata -> $6::text)) = 'number' "
        "THEN (metadata -> $6::text) >= $7::text::jsonb ELSE false END)",
        ("year", "2020"),
    )
    assert text.sql.startswith("(CASE WHEN jsonb_typeof((metadata -> $6::text -> $7::text)) = 'string' THEN")
    assert 'COLLATE "C" < $8::text ELSE false' in text.sql
    assert text.parameters == ("a", "b", "x")


def test_a_filter_of_no_parts_is_decided_by_logic() -> None:
    for everything in (
        {},
        {"$and": []},
        {"a": {"$nin": []}},
        {"$or": [{}, {"$or": []}]},
        {"$and": [{}, {"$and": [{}]}]},
    ):
        assert condition(as_filter(everything), 6) is None
    for nothing in ({"$or": []}, {"a": {"$in": []}}, {"$not": {}}, {"$and": [{"a": 1}, {"$or": []}]}):
        assert sql(nothing) == Condition("false", ())
    for a_is_1 in ({"$and": [{}, {"a": 1}]}, {"$or": [{"$or": []}, {"a": 1}]}, {"$not": {"$or": [{"a": {"$ne": 1}}]}}):
        assert sql(a_is_1) == sql({"a": 1})


A, B = F("a"), F("b")
EVERYTHING = {
    "nothing to pass": {},
    "nothing to pass, joined": {"$and": [{}]},
    "nothing among others": {"$or": [{"a": 1}, {}]},
    "nothing of an expression": (A == 1) | as_filter({}),
    "no alternative, negated": {"$not": {"$or": []}},
    "no alternative, negated as an expression": ~A.in_([]),
    "none of no values": {"a": {"$nin": []}},
    "not one of no values": {"a": {"$not": {"$in": []}}},
    "deeply": {"$and": [{"$or": [{"$and": [{"$not": {"$not": {"a": {"$nin": []}}}}]}]}, {}]},
    "there or not": A.exists() | A.missing(),
    "equal or not": {"$or": [{"a": 1}, {"a": {"$ne": 1}}]},
    "equal or not, as JSON has it": {"$or": [{"a": 1.0}, {"a": {"$ne": 1}}]},
    "unequal to one of two": {"$or": [{"a": {"$ne": 1}}, {"a": {"$ne": 2}}]},
    "missing one of two lists": {"$or": [{"a": {"$nin": [1, 2]}}, {"a": {"$nin": [3]}}]},
    "less, or not": {"$or": [{"a": {"$lt": 5}}, {"$not": {"a": {"$lt": 5}}}]},
    "both, or not both": {"$or": [{"a": 1, "b": 2}, {"$not": {"b": 2, "a": 1}}]},
    "case by case": ((A == 1) & (B == 2)) | ((A == 1) & ~(B == 2)) | ~(A == 1),
    "missing, or another": {"$or": [{"a": {"$exists": True}}, {"a": {"$ne": 1}}]},
    "not one of two lists with one in common": ~(A.in_([1, 2]) & ~A.in_([2, 1, 3])),
    "not two values at once": ~((A == "x") & (A == "y")),
    "not in two ranges that do not meet": {"a": {"$not": {"$gt": 5, "$lt": 3}}},
    "not in one range or not in the other": ~(A < 5) | ~(A >= 5),
    "not above 7, or above 5": ~(A > 7) | (A > 5),
    "not above a number, or there": ~(A > 7) | A.exists(),
    "not a number and a string": ~(A > 5) | ~(A > "a"),
    "not between a string and the next": ~(A > "a") | ~(A < "a\x01"),
    "below or not, as JSON has it": (A <= 1) | ~(A <= 1.0),
    "with or without, as JSON has it": A.contains(1) | ~A.contains(1.0),
    "not a value and outside its range": ~(A == 1) | ~(A > 5),
    "not a string and a list": ~A.contains("x") | ~(A == "y"),
    "not a list without what is in it": ~(A == ["x", "y"]) | A.contains("x"),
    "not inside of what is missing": F("a", "b").missing() | A.exists(),
    "not inside of what is no object": ~(F("a", "b") == 1) | ~(A == 2),
    "not an object without what is in it": ~(A == {"b": 1}) | (F("a", "b") == 1.0),
    "not two keys that are in each other": ~(F("a", "b") > 1) | ~(F("a", "b", "c") > 1),
    "one of many, or not, in another order": A.in_(list(range(1000))) | ~A.in_(list(range(999, -1, -1))),
    "many": {"$or": [{"a": 1}, {"a": {"$ne": 1}}, *({"b": number} for number in range(400))]},
}
BY_WHAT_IS_STORED = {
    "no such key": {"x": {"$exists": False}},
    "another value": {"x": {"$ne": 1}},
    "none of some values": {"x": {"$nin": [1]}},
    "equal to an empty dict": {"x": {}},
    "1 and true are two values": {"$or": [{"x": 1}, {"$not": {"x": True}}]},
    "a list with one or the other": ~A.contains(1) | ~A.contains(2),
    "below or above": (A < 5) | (A >= 5),
    "one or not the other": (A == 1) | ~(B == 1),
    "there, or another key is not": A.exists() | B.missing(),
    "two ranges": ~(A >= 3) | ~(A <= 5),
    "two ranges that meet in one number": ~(A >= 3) | ~(A <= 3),
    "two ranges with a number between": ~(A > 3) | ~(A < 4),
    "two ranges with a string between": ~(A > "a") | ~(A < "a\x01\x01"),
    "a key inside, or missing": F("a", "b").exists() | A.missing(),
    "an object with something else": (A == {"b": 1}) | ~(F("a", "b") == 1),
    "a list with something else": (A == ["x"]) | ~A.contains("x"),
    "a list with two elements": ~A.contains("x") | ~A.contains("y"),
    "the same number": {"$or": [{"a": {"$ne": 1}}, {"a": {"$ne": 1.0}}]},
    "lists with one in common": {"$or": [{"a": {"$nin": [1, 2]}}, {"a": {"$nin": [2]}}]},
    "many": {"$or": [{"a": {"$ne": 0}}, *({str(number): number} for number in range(400))]},
}


@pytest.mark.parametrize("filter", EVERYTHING.values(), ids=EVERYTHING)
def test_a_filter_that_passes_everything_is_known_in_any_disguise(filter: Any) -> None:
    assert passes_everything(as_filter(filter))
    assert not passes_everything(~as_filter(filter))


@pytest.mark.parametrize("filter", BY_WHAT_IS_STORED.values(), ids=BY_WHAT_IS_STORED)
def test_a_filter_that_depends_on_the_metadata_may_pass_everything(filter: Any) -> None:
    assert not passes_everything(as_filter(filter))


@given(cases())
def test_property_what_passes_everything_passes_each(drawn: Any) -> None:
    """A filter joined with its own opposite passes everything; one that fails any metadata at all does not."""
    metadata, filters = drawn
    for words in filters:
        filter = as_expression(words)
        if not all(matches(words, each) for each in metadata):
            assert not passes_everything(filter)
        assert passes_everything(filter | ~filter)
        assert not passes_everything(filter & ~filter)


ELEMENTS = [None, True, 0, 1, "x"]
INNER = [MISSING, None, True, -1, 0, 0.5, 1, 2, "", "x", "x\x01", [2], {"b": 0}]
INNER += [[*some, 3] for count in range(len(ELEMENTS) + 1) for some in combinations(ELEMENTS, count)]
OBJECTS = [{"b": 0}, *({"z": 1} if value is MISSING else {"b": value, "z": 1} for value in INNER)]
ALL_METADATA = [
    {key: value for key, value in (("a", a), ("c", c)) if value is not MISSING}
    for a in [*INNER, *OBJECTS]
    for c in INNER
]
"""Metadata of each kind that the filters below can tell apart."""

narrow = filters(
    st.sampled_from([("a",), ("a",), ("a", "b"), ("c",)]), st.sampled_from([None, True, 0, 1, 1.0, "x", [2], {"b": 0}])
)


@given(narrow, narrow)
def test_property_a_filter_passes_everything_or_fails_something(one: Any, other: Any) -> None:
    """It is known of every filter whether there are metadata that it fails."""
    for words in (one, ("or", [one, ("not", other)]), ("or", [("not", one), ("not", other)])):
        assert passes_everything(as_expression(words)) == all(matches(words, each) for each in ALL_METADATA)


def test_a_filter_that_is_too_long_to_be_worked_out_depends_on_the_metadata() -> None:
    many = {"$or": [F("a") > number for number in range(300)] + [~(F(str(number)) > number) for number in range(300)]}
    assert not passes_everything(as_filter(many))
    assert not passes_everything(~A.in_(list(range(100_000))) | ~A.in_(list(range(100_000, 200_000))))
    contained = [A.contains(number) for number in range(50)]
    assert not passes_everything(as_filter({"$or": [~(one & other) for one, other in pairwise(contained)]}))


@given(cases())
def test_property_a_folded_filter_passes_the_same(drawn: Any) -> None:
    """Constants are folded without a change of what passes: the parts are the same, or decided."""
    _, filters = drawn
    for words in filters:
        filter = as_expression(words)
        padded = Every((Some((filter, NEVER)), ALWAYS))
        assert folded(padded) == folded(filter)


def test_a_filter_that_is_too_deep_is_refused_before_its_contents_are_checked() -> None:
    deep = nested(100_000, lambda inner: ~(inner & (F("a") == 1)), F("a") == 1)
    with pytest.raises(ArgumentError, match="more than 50 levels"):
        passes_everything(deep)


WORDS = re.compile(
    r"""(?: [()\s] | \$\d+::text(?:\[\])?(?:::jsonb(?:\[\])?)? | metadata | -> | @> | = | <=? | >=? | \#>>\ '\{\}'
    | COLLATE\ "C" | jsonb_typeof | 'number' | 'string' | CASE\ WHEN | THEN | ELSE\ false\ END | IS\ NOT\ NULL | ANY
    | AND | OR | NOT | true | false )+""",
    re.VERBOSE,
)


@given(filters())
def test_property_nothing_of_a_users_is_in_the_sql(filter: Any) -> None:
    """A condition is made of a few words and placeholders, one for each of its parameters, all of which are text."""
    for written in (condition(as_expression(filter), 6), condition(as_filter(as_dict(filter)), 6)):
        if written is None:
            continue
        assert WORDS.fullmatch(written.sql), written.sql
        placeholders = {int(number) for number in re.findall(r"\$(\d+)", written.sql)}
        assert placeholders == set(range(6, 6 + len(written.parameters)))
        for parameter in written.parameters:
            assert all(isinstance(text, str) for text in ([parameter] if isinstance(parameter, str) else parameter))


def test_filters_of_one_shape_share_a_statement() -> None:
    one = sql((F("lang") == "en") & (F("year") > 2020) & F("tags").in_(["a"]))
    other = sql({"a": True, "b": {"$gt": -1.5}, "c": {"$in": [1, 2, None]}})
    assert one.sql == other.sql
    assert statements.filtered_search(Identifiers("x"), "cosine", one.sql) is statements.filtered_search(
        Identifiers("x"), "cosine", other.sql
    )


def test_the_oracle_knows_json() -> None:
    assert equal(1, 1.0)
    assert not equal(1, True)
    assert not equal("1", 1)
    assert not equal([1, 2], [2, 1])
    assert equal({"a": 1, "b": [None]}, {"b": [None], "a": 1.0})
    assert not matches(("<", ("a",), "b"), {"a": 1})
    assert matches(("!=", ("a",), 1), {})
    assert matches(("not", ("<", ("a",), 1)), {})
