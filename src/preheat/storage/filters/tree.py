"""Filters on chunks, as a small tree of comparisons of their metadata, ids, documents and texts.

A filter is an expression of :class:`F`, or a dict with MongoDB's operators. Both become the same tree. Its values are
JSON text: a value that cannot be stored is refused, and a caller who changes the value later does not change the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, ClassVar, NoReturn, TypeAlias
from uuid import UUID

from ...errors import ArgumentError
from ..encoding.jsonb import json_text
from ..validation import check_ids, check_text

MAX_DEPTH = 50
"""The most levels of a filter, a path or a value."""


class Filter:
    """A condition on chunks. A comparison of a key of their metadata or of another field, :class:`F`, makes one.

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
"""A key, or several keys that lead into nested objects; or a column of the table, see :func:`column_of`."""

_COLUMN = "\0"
"""The beginning of a path that is a column; no key of metadata has it, as PostgreSQL cannot store it."""


def column_of(path: Path) -> str | None:
    """The column that is meant by a path; None for a path into the metadata."""
    return path[0][1:] if path[0].startswith(_COLUMN) else None


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
class Timed(Filter):
    """The value under the path is a time, and equal, less or greater than a time, given as ISO 8601 with an offset."""

    path: Path
    operator: str
    time: str


@dataclass(frozen=True, slots=True)
class Like(Filter):
    """The value under the path is a string that a pattern matches as a whole."""

    path: Path
    pattern: str
    ignores_case: bool


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


class _Comparable:
    """A field of a chunk. A comparison with it makes a :class:`Filter`."""

    __slots__ = ("_path",)
    _path: Path

    def _value(self, value: object) -> object:
        """A value to compare with, checked."""
        return value

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return _equal(self._path, self._value(value))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return Not(_equal(self._path, self._value(value)))

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __lt__(self, value: float | str | date) -> Filter:
        return _ordered(self._path, "<", self._value(value))

    def __le__(self, value: float | str | date) -> Filter:
        return _ordered(self._path, "<=", self._value(value))

    def __gt__(self, value: float | str | date) -> Filter:
        return _ordered(self._path, ">", self._value(value))

    def __ge__(self, value: float | str | date) -> Filter:
        return _ordered(self._path, ">=", self._value(value))

    def between(self, low: float | str | date, high: float | str | date) -> Filter:
        """The value is not less than `low`, and not greater than `high`."""
        return (self >= low) & (self <= high)

    def in_(self, values: Iterable[Any]) -> Filter:
        """The value equals one of these; no chunk passes an empty list."""
        return _one_of(self._path, [self._value(value) for value in _items("in_ ($in)", values)])

    def not_in(self, values: Iterable[Any]) -> Filter:
        """The value equals none of these, or there is no such key."""
        return Not(_one_of(self._path, [self._value(value) for value in _items("not_in ($nin)", values)]))

    def like(self, pattern: str) -> Filter:
        """The value is a string, and the pattern matches all of it: `%` stands for any characters, `_` for one, and a
        backslash before a character for the character itself."""
        return Like(self._path, _pattern(pattern), ignores_case=False)

    def ilike(self, pattern: str) -> Filter:
        """As :meth:`like`, without regard to upper and lower case, by the rules of the database's locale."""
        return Like(self._path, _pattern(pattern), ignores_case=True)

    def startswith(self, prefix: str, *, ignore_case: bool = False) -> Filter:
        """The value is a string that begins with this text, in which no character has a special meaning."""
        return Like(self._path, f"{_escaped(prefix)}%", ignore_case)

    def includes(self, part: str, *, ignore_case: bool = False) -> Filter:
        """The value is a string that has this text in it, in which no character has a special meaning."""
        return Like(self._path, f"%{_escaped(part)}%", ignore_case)


class Column(_Comparable):
    """The id, the document or the text of chunks: `F.id`, `F.document` and `F.text`.

    It is compared as a key of the metadata is, see :class:`F`, and only with strings.

    Raises:
        ArgumentError: for a value that is not a string.
    """

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self._path = (_COLUMN + name,)

    def __repr__(self) -> str:
        return f"F.{self._path[0][1:]}"

    def _value(self, value: object) -> object:
        if isinstance(value, UUID):
            return str(value)
        if not isinstance(value, str):
            raise ArgumentError(f"{self!r} is compared with {value!r}; give a string")
        return value


class F(_Comparable):
    """A key of the metadata. A comparison with it makes a :class:`Filter`.

    Several keys are a path into nested objects: `F("author", "name")`. A path leads through objects only, never into a
    list. A key may be any text; a dot in it has no meaning. `F.id`, `F.document` and `F.text` are the id, the document
    and the text of a chunk, which are compared in the same way.

    Values are compared as JSON. `==`, `!=`, `in_` and `not_in` take any value. `1` and `1.0` are equal. `True` and `1`
    are not. Lists and objects are compared as a whole. `None` is JSON's null, a value like others. `<`, `<=`, `>` and
    `>=` take a number, a string or a time, and values of another type do not pass. Strings are ordered by their code
    points.

    Times are a `datetime` or a `date` of Python's module `datetime`. They are compared with strings in ISO 8601, as
    which times in metadata are stored, and other strings do not pass. A time without an offset is UTC, a date is its
    midnight.

    A chunk without the key passes `!=` and `not_in`, which are the exact opposites of `==` and `in_`, and `missing`. It
    passes no other comparison.

    Args:
        path: the key, or the keys from the outermost object to the innermost; at least one.

    Raises:
        ArgumentError: if a key or a value cannot be stored as metadata, such as a NaN or a NUL character, or if a
            value has no order.
    """

    __slots__ = ()

    id: ClassVar[Column] = Column("id")
    """The id of a chunk."""
    document: ClassVar[Column] = Column("document")
    """The key of the document that a chunk is from."""
    text: ClassVar[Column] = Column("text")
    """The text of a chunk."""

    def __init__(self, *path: str) -> None:
        if not 1 <= len(path) <= MAX_DEPTH:
            raise ArgumentError(f"F() has {len(path)} keys; give one, or up to {MAX_DEPTH} that lead into each other")
        for key in path:
            check_text("key of a filter", key)
        self._path = path

    def __repr__(self) -> str:
        return f"F({', '.join(map(repr, self._path))})"

    def exists(self) -> Filter:
        """There is such a key. Its value may be null."""
        return Exists(self._path)

    def missing(self) -> Filter:
        """There is no such key."""
        return Not(Exists(self._path))

    def contains(self, element: str | float | bool | None) -> Filter:
        """The value is a list, and one of its elements equals this one. A string contains nothing, but see
        `includes`."""
        text = _json(element)
        if is_container(text):
            raise ArgumentError(
                "an element that a list contains is a string, a number, a bool or None; compare lists and dicts by =="
            )
        return Contains(self._path, text)


def _equal(path: Path, value: object) -> Filter:
    return Timed(path, "=", _time(value)) if isinstance(value, date) else Equal(path, _json(value))


def _ordered(path: Path, operator: str, value: object) -> Filter:
    if isinstance(value, date):
        return Timed(path, operator, _time(value))
    text = _json(value)
    if text[0] not in '"-0123456789':
        raise ArgumentError(f"{value!r} has no order; compare with a number, a string or a datetime by <, <=, > and >=")
    return Ordered(path, operator, text)


def _one_of(path: Path, values: list[object]) -> Filter:
    times = [_equal(path, value) for value in values if isinstance(value, date)]
    others = OneOf(path, tuple(_json(value) for value in values if not isinstance(value, date)))
    return Some((*times, others)) if times else others


def _time(value: date) -> str:
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).isoformat()


def _pattern(pattern: object) -> str:
    check_text("pattern of a filter", pattern)  # type: ignore[arg-type]
    text = str(pattern)
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise ArgumentError(f"the pattern {text!r} ends with a backslash that stands before nothing; write two of them")
    return text


def _escaped(text: object) -> str:
    check_text("text that a filter looks for", text)  # type: ignore[arg-type]
    return str(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


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


def is_container(value: str) -> bool:
    """Whether a value, as JSON, is a list or an object."""
    return value[0] in "[{"


def _items(what: str, values: Any) -> Iterable[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ArgumentError(f"{what} of a filter is {values!r}; give a list")
    return values


# Dicts


def with_scope(filter: FilterLike | None, ids: Iterable[Any] | None, document: str | None) -> Filter:
    """A filter that also asks for one of some ids, and for a document, where they are given.

    Raises:
        ArgumentError: as :func:`as_filter`, or if an id or the document is not a string.
    """
    parts: list[Filter] = []
    if ids is not None:
        parts.append(F.id.in_(check_ids(ids)))  # type: ignore[arg-type]
    if document is not None:
        parts.append(F.document == document)
    if filter is not None:
        parts.append(as_filter(filter))
    return _all_of(parts)


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
    if key in COLUMNS:
        return _comparisons(COLUMNS[key], value, depth + 1)
    if _is_operator(key):
        raise ArgumentError(
            f"{key!r} is no operator that joins filters; use $and, $or or $not, {', '.join(COLUMNS)} for a chunk's own "
            f"fields, or F({key!r}) for a key of that name"
        )
    return _comparisons(F(key), value, depth + 1)


def _comparisons(key: F | Column, value: Any, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise too_deep()
    if not isinstance(value, Mapping) or not any(map(_is_operator, value)):
        return key.__eq__(value)
    return _all_of([_comparison(key, operator, operand, depth) for operator, operand in value.items()])


def _comparison(key: F | Column, operator: Any, operand: Any, depth: int) -> Filter:
    if operator == "$not":
        return ~_comparisons(key, operand, depth + 1)
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise ArgumentError(f"$exists of a filter is {operand!r}; give true or false")
        return _applied(key, "$exists", "exists" if operand else "missing")
    if operator == "$between":
        limits = list(_items("$between", operand))
        if len(limits) != 2:
            raise ArgumentError(f"$between of a filter is {operand!r}; give a list of the least and the greatest value")
        return key.between(*limits)
    if operator not in COMPARISONS:
        raise ArgumentError(
            f"{operator!r} is no operator of a filter; use {', '.join(COMPARISONS)}, $between, $exists or $not, "
            f"or {key!r} == ... to compare with a dict"
        )
    return _applied(key, operator, COMPARISONS[operator], operand)


def _applied(key: F | Column, operator: str, method: str, *operands: Any) -> Filter:
    apply: Callable[..., Filter] | None = getattr(key, method, None)
    if apply is None:
        raise ArgumentError(f"{operator!r} does not apply to {key!r}, which every chunk has and which is a string")
    return apply(*operands)


COMPARISONS = {
    "$eq": "__eq__",
    "$ne": "__ne__",
    "$gt": "__gt__",
    "$gte": "__ge__",
    "$lt": "__lt__",
    "$lte": "__le__",
    "$in": "in_",
    "$nin": "not_in",
    "$contains": "contains",
    "$like": "like",
    "$ilike": "ilike",
}
"""The operators of a dict, and the methods that do the same."""

COLUMNS = {"$id": F.id, "$document": F.document, "$text": F.text}
"""The keys of a dict that stand for a chunk's own fields."""


def _is_operator(key: object) -> bool:
    return isinstance(key, str) and key.startswith("$")


def _all_of(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Every(tuple(parts))


def too_deep() -> ArgumentError:
    """The error for a filter with too many levels."""
    return ArgumentError(f"the filter has more than {MAX_DEPTH} levels; write it flatter")
