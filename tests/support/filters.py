"""Filters as plain data, an oracle that says what each of them means, and the two ways to write them.

A filter is a tuple here: `("==", path, value)` and the like, `("and", parts)`, `("or", parts)`, `("not", part)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import reduce
from typing import Any

from hypothesis import strategies as st

from preheat import F, Filter

MISSING = object()
WORDS = {
    "==": "$eq",
    "!=": "$ne",
    "<": "$lt",
    "<=": "$lte",
    ">": "$gt",
    ">=": "$gte",
    "in": "$in",
    "not in": "$nin",
    "contains": "$contains",
}


def matches(filter: Any, metadata: Any) -> bool:
    """Whether metadata pass a filter: the documented meaning, word for word."""
    operator, *rest = filter
    if operator == "and":
        return all(matches(part, metadata) for part in rest[0])
    if operator == "or":
        return any(matches(part, metadata) for part in rest[0])
    if operator == "not":
        return not matches(rest[0], metadata)
    found = under(metadata, rest[0])
    if operator in ("exists", "missing"):
        return (found is not MISSING) == (operator == "exists")
    value = rest[1]
    if operator in ("!=", "not in"):
        return not matches(("==" if operator == "!=" else "in", rest[0], value), metadata)
    if found is MISSING:
        return False
    if operator == "==":
        return equal(found, value)
    if operator == "in":
        return any(equal(found, one) for one in value)
    if operator == "contains":
        return isinstance(found, list) and any(equal(element, value) for element in found)
    if kind(found) != kind(value):
        return False
    one, other = (found, value) if kind(value) == "string" else (number(found), number(value))
    return {"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[operator]


def under(metadata: Any, path: tuple[str, ...]) -> Any:
    """What lies under a path, which leads through objects only."""
    for key in path:
        if not isinstance(metadata, dict) or key not in metadata:
            return MISSING
        metadata = metadata[key]
    return metadata


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON."""
    if kind(one) != kind(other):
        return False
    if kind(one) == "number":
        return number(one) == number(other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return one == other


def kind(value: Any) -> str:
    """The type that JSON has for a value."""
    if isinstance(value, bool):
        return "boolean"
    names = {int: "number", float: "number", str: "string", list: "array", dict: "object", type(None): "null"}
    return names[type(value)]


def number(value: Any) -> Decimal:
    """What a number is worth as it is written, which is how it is stored."""
    return Decimal(repr(value))


def as_expression(filter: Any) -> Filter:
    """A filter as it is written with F."""
    operator, *rest = filter
    if operator in ("and", "or"):
        parts = [as_expression(part) for part in rest[0]]
        return reduce(lambda one, other: one & other if operator == "and" else one | other, parts)
    if operator == "not":
        return ~as_expression(rest[0])
    key, *values = F(*rest[0]), *rest[1:]
    named = {"in": "in_", "not in": "not_in", "exists": "exists", "missing": "missing", "contains": "contains"}
    if operator in named:
        return getattr(key, named[operator])(*values)
    value = values[0]
    return {
        "==": lambda: key == value,
        "!=": lambda: key != value,
        "<": lambda: key < value,
        "<=": lambda: key <= value,
        ">": lambda: key > value,
        ">=": lambda: key >= value,
    }[operator]()


def as_dict(filter: Any) -> Any:
    """A filter as it is written in a dict; what a dict cannot say is an expression in it."""
    operator, *rest = filter
    if operator in ("and", "or"):
        return {f"${operator}": [as_dict(part) for part in rest[0]]}
    if operator == "not":
        return {"$not": as_dict(rest[0])}
    (key, *deeper), *values = rest
    if deeper or key.startswith("$"):
        return as_expression(filter)
    if operator in ("exists", "missing"):
        return {key: {"$exists": operator == "exists"}}
    return {key: {WORDS[operator]: values[0]}}


# Few keys and few values, so that they meet; and each of them has something that SQL, JSON or a path might trip over.
KEYS = ["a", "b", "a.b", "0", "", "$gt", "ä", 'quo"te', "back\\slash", "'; DROP TABLE x; --"]
STRINGS = ["", "a", "b", "B", "ä", "\uffff", "\U0001f600", "1", "true", "\\u0000", "'; DROP TABLE x; --", '{"a": 1}']
NUMBERS = [0, 1, 2, -1, 1.0, -0.0, 1.5, 0.1, 1e16, 10**16, 2**53 + 1, 1e23, 10**23, 10**40, 5e-324, -1.7e308]

keys = st.sampled_from(KEYS)
paths = st.lists(keys, min_size=1, max_size=2).map(tuple)
strings = st.sampled_from(STRINGS) | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=3)
numbers = st.sampled_from(NUMBERS) | st.integers(-3, 3)
scalars = st.none() | st.booleans() | numbers | strings
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2), max_leaves=4
)
metadatas = st.dictionaries(keys, values, max_size=4)

Path = tuple[str, ...]


def filters(
    paths: st.SearchStrategy[Path] = paths, values: st.SearchStrategy[Any] = values
) -> st.SearchStrategy[tuple[Any, ...]]:
    """Filters with these paths and values."""
    plain = values.filter(lambda value: not isinstance(value, (list, dict)))
    with_order = values.filter(lambda value: kind(value) in ("number", "string"))
    comparisons = st.one_of(
        st.tuples(st.sampled_from(["==", "!="]), paths, values),
        st.tuples(st.sampled_from(["<", "<=", ">", ">="]), paths, with_order),
        st.tuples(st.sampled_from(["in", "not in"]), paths, st.lists(values, max_size=3)),
        st.tuples(st.sampled_from(["exists", "missing"]), paths),
        st.tuples(st.just("contains"), paths, plain),
    )
    return st.recursive(
        comparisons,
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
            st.tuples(st.just("not"), inner),
        ),
        max_leaves=4,
    )


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All that lies in a value, and where; also what lies in lists, where no path leads."""
    if path:
        yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, str(key)))


def almost(value: Any) -> Any:
    """A value that is contained in this one, or contains it, but for what has no parts."""
    if isinstance(value, list):
        return value[1:] if value else [None]
    if isinstance(value, dict):
        return dict(list(value.items())[1:]) if value else {"a": None}
    return [value]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
    """Metadata that are stored, and filters about what lies in them, or almost."""
    stored = draw(st.lists(metadatas, min_size=1, max_size=6))
    known = [place for metadata in stored for place in places(metadata)]
    if not known:
        return stored, draw(st.lists(filters(), min_size=1, max_size=4))
    near = st.sampled_from(known)
    about = filters(
        near.map(lambda place: place[0]) | paths,
        near.map(lambda place: place[1]) | near.map(lambda place: almost(place[1])) | values,
    )
    direct = st.one_of(
        near.map(lambda place: ("==", *place)),
        near.map(lambda place: ("==", place[0], almost(place[1]))),
        near.map(lambda place: ("in", place[0], [almost(place[1]), None])),
        st.tuples(st.sampled_from(["<", ">="]), near.map(lambda place: place[0]), numbers | strings),
    )
    return stored, draw(st.lists(about | direct, min_size=1, max_size=4))
