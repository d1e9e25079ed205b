"""Decide whether a filter passes every chunk, by a search for a chunk that it fails.

A filter treats all values of one kind alike. The kinds are each value that the filter names, the numbers between two
neighboring numbers that it names, the lists with some of the elements that it names, and so on. One value of each kind
is tried for each key, together with the kinds of the other keys. If the filter passes all of these, it passes any
metadata. The columns of a chunk are keys here whose values are strings, and never missing. Patterns and times are not
tried: a filter with one of them counts as one that depends on the chunk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import combinations, pairwise, product
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from .folding import ALWAYS, NEVER, folded
from .tree import Contains, Equal, Every, Exists, Filter, Like, Not, OneOf, Ordered, Some, Timed, column_of

Comparison: TypeAlias = Equal | OneOf | Ordered | Exists | Contains
Value: TypeAlias = tuple[type, Any]
"""A JSON value with its type, so that 1 and true are not equal."""
Holding: TypeAlias = frozenset[int]
"""The `id` of each comparison that is true."""
Spend: TypeAlias = Callable[[int], None]

WORK = 10_000
"""The most comparisons that are evaluated, which takes some hundredths of a second. A filter that needs more counts as
one that depends on the metadata."""

MISSING: Value = (object, None)
UNNAMED = "\0"
"""A key or a string that no filter can name, as it cannot be stored. It stands for all keys and strings that the filter
does not name."""
FRESH: Value = (str, UNNAMED)
ORDERS: dict[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


def passes_everything(filter: Filter) -> bool:
    """Whether a filter passes every chunk whatever its metadata, such as `F("a").exists() | F("a").missing()`.

    It is never true for a filter that depends on the metadata. It is false for a filter that does not, if the filter is
    too long to decide.

    Raises:
        ArgumentError: if it has too many levels.
    """
    left = WORK

    def spend(work: int) -> None:
        nonlocal left
        left -= work
        if left < 0:
            raise _TooMuchError

    try:
        return not _fails(folded(filter), spend)
    except _TooMuchError:
        return False


class _TooMuchError(Exception):
    """The filter is too long to decide."""


def _fails(whole: Filter, spend: Spend) -> bool:
    """Whether there are metadata that do not pass a filter."""
    comparisons = list(_comparisons(whole))
    if any(isinstance(comparison, (Like, Timed)) for comparison in comparisons):
        return True
    has_columns = any(column_of(comparison.path) for comparison in comparisons)
    keys = _Place()
    cases = [whole]
    while cases:
        one = cases.pop()
        if one == ALWAYS:
            continue
        if one == NEVER or not (
            has_columns or folded(one, lambda _: False) == ALWAYS
        ):  # without the keys that are left
            return True
        if not keys.inner:
            for comparison in comparisons:
                keys.take(comparison, spend)
        key = next(_comparisons(one)).path[0]
        for holding in keys.inner[key].kinds(spend, is_column=column_of((key,)) is not None):
            spend(len(comparisons))
            cases.append(folded(one, _decided(key, holding)))
    return False


def _comparisons(filter: Filter) -> Iterator[Any]:
    if isinstance(filter, Not):
        yield from _comparisons(filter.part)
    elif isinstance(filter, (Every, Some)):
        for part in filter.parts:
            yield from _comparisons(part)
    else:
        yield filter


def _decided(key: str, holding: Holding) -> Callable[[Any], bool | None]:
    """Decides the comparisons of one key: those of `holding` are true, the others false."""
    return lambda comparison: id(comparison) in holding if comparison.path[0] == key else None


class _Place:
    """The comparisons of a filter with one place in the metadata, and with the places inside it."""

    def __init__(self) -> None:
        self.inner: dict[str, _Place] = {}
        self._tests: list[tuple[int, Callable[[Value], bool]]] = []
        self._named: dict[Value, None] = {}
        self._elements: dict[Value, None] = {}
        self._ordered: set[type] = set()

    def take(self, comparison: Comparison, spend: Spend) -> None:
        """Add a comparison."""
        place = self
        for key in comparison.path:
            place = place.inner.setdefault(key, _Place())
        place._tests.append((id(comparison), place._test(comparison, spend)))

    def _test(self, comparison: Comparison, spend: Spend) -> Callable[[Value], bool]:
        """The comparison as a function of a value; the values that it names are recorded."""
        match comparison:
            case Exists():
                return lambda value: value != MISSING
            case Contains(_, text):
                element = _value(text)
                self._elements[element] = None
                return lambda value: value[0] is list and element in value[1]
            case Ordered(_, operator, text):
                type, limit = _value(text)
                self._named[type, limit] = None
                self._ordered.add(type)
                return lambda value: value[0] is type and ORDERS[operator](value[1], limit)
            case Equal() | OneOf():
                texts = (comparison.value,) if isinstance(comparison, Equal) else comparison.values
                spend(len(texts))
                named = dict.fromkeys(map(_value, texts))
                self._named |= named
                return named.__contains__

    def kinds(self, spend: Spend, *, is_column: bool = False) -> dict[Holding, Value]:
        """Each set of comparisons that can be true at once, with a value for which they are."""
        found: dict[Holding, Value] = {}
        for value in self._strings() if is_column else self._values(spend):
            found.setdefault(frozenset(self._holding(value, spend)), value)
        return found

    def _strings(self) -> Iterator[Value]:
        """One value of each kind for a column."""
        yield FRESH
        yield from self._named
        if self._ordered:
            yield from ((str, value) for value in _between(value for _, value in self._named))

    def _values(self, spend: Spend) -> Iterator[Value]:
        """One value of each kind that the comparisons distinguish."""
        yield MISSING
        yield from self._named
        for type in self._ordered:
            yield from ((type, value) for value in _between(value for kind, value in self._named if kind is type))
        for count in range(len(self._elements) + 1):
            yield from ((list, (*some, FRESH)) for some in combinations(self._elements, count))
        inner = [[(key, value) for value in place.kinds(spend).values()] for key, place in self.inner.items()]
        for pairs in product(*inner):
            yield dict, frozenset([(UNNAMED, FRESH), *(pair for pair in pairs if pair[1] != MISSING)])

    def _holding(self, value: Value, spend: Spend) -> Iterator[int]:
        spend(1 + len(self._tests))
        yield from (identity for identity, test in self._tests if test(value))
        inside: dict[str, Value] = dict(value[1]) if value[0] is dict else {}
        for key, place in self.inner.items():
            yield from place._holding(inside.get(key, MISSING), spend)


def _between(values: Iterable[Any]) -> Iterator[Any]:
    """Values below, between and above some numbers, or some strings."""
    ordered = sorted(values)
    if isinstance(ordered[0], str):
        yield from (
            "",
            *(f"{value}\x01" for value in ordered),
        )  # the next string that can be stored
    else:
        yield from (ordered[0] - 1, *(Fraction(one + other) / 2 for one, other in pairwise(ordered)), ordered[-1] + 1)


def _value(text: str) -> Value:
    return _comparable(json.loads(text, parse_float=Fraction))


def _comparable(value: Any) -> Value:
    if isinstance(value, dict):
        return dict, frozenset((key, _comparable(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return list, tuple(map(_comparable, value))
    return Fraction if type(value) is int else type(value), value
