"""Filters on metadata, as a small tree of comparisons.

A filter is an expression of :class:`F`, or a dict with MongoDB's operators. Both become the same tree. Its values are
JSON text: a value that cannot be stored is refused, and a caller who changes the value later does not change the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TypeAlias

from ...errors import ArgumentError
from ..encoding.jsonb import json_text
from ..validation import check_text

MAX_DEPTH = 50
"""The most levels of a filter, a path or a value."""


class Filter:
    """A condition on the metadata of chunks. A comparison of a key, :class:`F`, makes one.

    A chunk passes `one & other` if it passes both filters, `one | other` if it passes at least one of them, and `~one`
    if it does not pass `one`. Python's `and`, `or` and `not`, and chains such as `2000 < F("year") < 2020`, raise an
    :class:`ArgumentError`, since a class cannot define them.
    """

    __slots__ = ()

    def __and__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return Every((*_parts(self, Every), *_parts(other, Every)))

    def __or__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return Some((*_parts(self, Some), *_parts(other, Some)))

    def __invert__(self) -> Filter:
        return self.part if isinstance(self, Not) else Not(self)

    def __bool__(self) -> NoReturn:
        raise ArgumentError(
            "a filter is neither true nor false by itself; join filters with &, | and ~, each of them in parentheses"
        )


FilterLike: TypeAlias = Filter | Mapping[str, Any]
"""A filter: an expression such as `F("year") >= 2020`, or a dict such as `{"year": {"$gte": 2020}}`."""

Path: TypeAlias = tuple[str, ...]
"""A key, or several keys that lead into nested objects."""


@dataclass(frozen=True, slots=True)
class Equal(Filter):
    """The value under the path equals a value, given as JSON."""

    path: Path
    value: str


@dataclass(frozen=True, slots=True)
class OneOf(Filter):
    """The value under the path equals one of several values, given as JSON."""

    path: Path
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ordered(Filter):
    """The value under the path has the type of a value, given as JSON, and is less or greater."""

    path: Path
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Exists(Filter):
    """There is a value under the path."""

    path: Path


@dataclass(frozen=True, slots=True)
class Contains(Filter):
    """The value under the path is a list with this element, given as JSON."""

    path: Path
    element: str


@dataclass(frozen=True, slots=True)
class Every(Filter):
    """All parts are true; so it is if there are no parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Some(Filter):
    """At least one part is true; so it is false if there are no parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """The part is not true."""

    part: Filter


def _parts(filter: Filter, kind: type[Every | Some]) -> tuple[Filter, ...]:
    return filter.parts if isinstance(filter, kind) else (filter,)


class F:
    """A key of the metadata. A comparison with it makes a :class:`Filter`.

    Several keys are a path into nested objects: `F("author", "name")`. A path leads through objects only, never into a
    list. A key may be any text; a dot in it has no meaning.

    Values are compared as JSON. `==`, `!=`, `in_` and `not_in` take any value. `1` and `1.0` are equal. `True` and `1`
    are not. Lists and objects are compared as a whole. `None` is JSON's null, a value like others. `<`, `<=`, `>` and
    `>=` take a number or a string, and values of another type do not pass. Strings are ordered by their code points.

    A chunk without the key passes `!=` and `not_in`, which are the exact opposites of `==` and `in_`, and `missing`. It
    passes no other comparison.

    Args:
        path: the key, or the keys from the outermost object to the innermost; at least one.

    Raises:
        ArgumentError: if a key or a value cannot be stored as metadata, such as a NaN or a NUL character, or if a
            value has no order.
    """

    __slots__ = ("_path",)

    def __init__(self, *path: str) -> None:
        if not 1 <= len(path) <= MAX_DEPTH:
            raise ArgumentError(f"F() has {len(path)} keys; give one, or up to {MAX_DEPTH} that lead into each other")
        for key in path:
            check_text("key of a filter", key)
        self._path = path

    def __repr__(self) -> str:
        return f"F({', '.join(map(repr, self._path))})"

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return Equal(self._path, _json(value))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return Not(Equal(self._path, _json(value)))

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __lt__(self, value: float | str) -> Filter:
        return Ordered(self._path, "<", _json_with_order(value))

    def __le__(self, value: float | str) -> Filter:
        return Ordered(self._path, "<=", _json_with_order(value))

    def __gt__(self, value: float | str) -> Filter:
        return Ordered(self._path, ">", _json_with_order(value))

    def __ge__(self, value: float | str) -> Filter:
        return Ordered(self._path, ">=", _json_with_order(value))

    def in_(self, values: Iterable[Any]) -> Filter:
        """The value equals one of these; no chunk passes an empty list."""
        return OneOf(self._path, tuple(_json(value) for value in _items("in_ ($in)", values)))

    def not_in(self, values: Iterable[Any]) -> Filter:
        """The value equals none of these, or there is no such key."""
        return Not(OneOf(self._path, tuple(_json(value) for value in _items("not_in ($nin)", values))))

    def exists(self) -> Filter:
        """There is such a key. Its value may be null."""
        return Exists(self._path)

    def missing(self) -> Filter:
        """There is no such key."""
        return Not(Exists(self._path))

    def contains(self, element: str | float | bool | None) -> Filter:
        """The value is a list, and one of its elements equals this one. A string contains nothing."""
        text = _json(element)
        if is_container(text):
            raise ArgumentError(
                "an element that a list contains is a string, a number, a bool or None; compare lists and dicts by =="
            )
        return Contains(self._path, text)


def _json(value: object) -> str:
    _check_depth(value, MAX_DEPTH)
    return json_text("value of a filter", value)


def _check_depth(value: object, left: int) -> None:
    if left < 0:
        raise ArgumentError(f"the value of a filter has more than {MAX_DEPTH} levels; compare a part of it")
    if isinstance(value, Mapping):
        for inner in value.values():
            _check_depth(inner, left - 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_depth(inner, left - 1)


def _json_with_order(value: object) -> str:
    text = _json(value)
    if text[0] not in '"-0123456789':
        raise ArgumentError(f"{value!r} has no order; compare with a number or a string by <, <=, > and >=")
    return text


def is_container(value: str) -> bool:
    """Whether a value, as JSON, is a list or an object."""
    return value[0] in "[{"


def _items(what: str, values: Any) -> Iterable[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ArgumentError(f"{what} of a filter is {values!r}; give a list")
    return values


# Dicts


def as_filter(filter: FilterLike) -> Filter:
    """An expression or a dict as a tree.

    Raises:
        ArgumentError: if the filter is neither an expression nor a dict, has an unknown operator, or has a key or a
            value that cannot be stored as metadata.
    """
    if isinstance(filter, Filter):
        return filter
    return _tree(filter, 0)


def _tree(words: object, depth: int) -> Filter:
    if isinstance(words, Filter):
        return words
    if not isinstance(words, Mapping):
        raise ArgumentError(
            f"a filter is {words!r}; give an expression such as F('year') >= 2020, "
            "or a dict such as {'year': {'$gte': 2020}}"
        )
    if depth > MAX_DEPTH:
        raise too_deep()
    return _all_of([_entry(key, value, depth) for key, value in words.items()])


def _entry(key: Any, value: Any, depth: int) -> Filter:
    if key in ("$and", "$or"):
        parts = tuple(_tree(part, depth + 1) for part in _items(key, value))
        return Every(parts) if key == "$and" else Some(parts)
    if key == "$not":
        return ~_tree(value, depth + 1)
    if _is_operator(key):
        raise ArgumentError(
            f"{key!r} is no operator that joins filters; use $and, $or or $not, or F({key!r}) for a key of that name"
        )
    return _comparisons(F(key), value, depth + 1)


def _comparisons(key: F, value: Any, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise too_deep()
    if not isinstance(value, Mapping) or not any(map(_is_operator, value)):
        return COMPARISONS["$eq"](key, value)
    return _all_of([_comparison(key, operator, operand, depth) for operator, operand in value.items()])


def _comparison(key: F, operator: Any, operand: Any, depth: int) -> Filter:
    if operator == "$not":
        return ~_comparisons(key, operand, depth + 1)
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise ArgumentError(f"$exists of a filter is {operand!r}; give true or false")
        return key.exists() if operand else key.missing()
    if operator not in COMPARISONS:
        raise ArgumentError(
            f"{operator!r} is no operator of a filter; use {', '.join(COMPARISONS)}, $exists or $not, "
            f"or {key!r} == ... to compare with a dict"
        )
    return COMPARISONS[operator](key, operand)


COMPARISONS: dict[str, Callable[[F, Any], Filter]] = {
    "$eq": F.__eq__,
    "$ne": F.__ne__,
    "$gt": F.__gt__,
    "$gte": F.__ge__,
    "$lt": F.__lt__,
    "$lte": F.__le__,
    "$in": F.in_,
    "$nin": F.not_in,
    "$contains": F.contains,
}


def _is_operator(key: object) -> bool:
    return isinstance(key, str) and key.startswith("$")


def _all_of(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Every(tuple(parts))


def too_deep() -> ArgumentError:
    """The error for a filter with too many levels."""
    return ArgumentError(f"the filter has more than {MAX_DEPTH} levels; write it flatter")
