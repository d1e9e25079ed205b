"""A filter as a condition in SQL.

Keys and values travel as parameters, all of them text: no text of a user's becomes SQL, the driver has no type to ask
the server about, and the SQL depends on nothing but the shape of the filter, so that those of one shape share a
prepared statement.

A condition is true or false for every row, never null and never an error, whatever lies under the key. So `NOT` is the
exact opposite.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ...errors import ArgumentError
from .folding import ALWAYS, folded
from .tree import (
    MAX_DEPTH,
    Contains,
    Equal,
    Every,
    Exists,
    Filter,
    Like,
    Not,
    OneOf,
    Ordered,
    Path,
    Some,
    Timed,
    column_of,
    is_container,
    too_deep,
)

NOTHING = "false"
"""The condition that no row passes."""

MAX_PARAMETERS = 1000
"""How many keys and values a filter may have; a list in which something is looked up is one or two."""


_ZONE = "(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?"
_TIME = f"^(?!0000)[0-9]{{4}}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([T ]{_CLOCK}{_ZONE}?)?$"
_WITH_ZONE = f"[T ].*{_ZONE}$"
"""Patterns of PostgreSQL for times in ISO 8601, and for those of them with an offset."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter as PostgreSQL reads it."""

    sql: str
    """The condition on one row; it depends on the shape of the filter alone."""
    parameters: tuple[str | list[str], ...]
    """What its placeholders stand for."""


def condition(filter: Filter, first: int) -> Condition | None:
    """A filter as a condition on the columns of a chunk, with placeholders from `$first` on; None if all rows pass.

    Equality, `in` and `contains` are written as containment, `metadata @> ...`, which an index serves. Containment is
    equality for what is no list and no object; these are compared once more.

    Raises:
        ArgumentError: if the filter has too many levels, or too many keys and values.
    """
    filter = folded(filter)
    if filter == ALWAYS:
        return None
    writer = _Writer(first)
    sql = writer.write(filter, 0)
    if len(writer.parameters) > MAX_PARAMETERS:
        raise ArgumentError(
            f"the filter has {len(writer.parameters)} keys and values, and {MAX_PARAMETERS} are the most; "
            "use in_() or $in for a long list of values"
        )
    return Condition(sql, tuple(writer.parameters))


class _Writer:
    """Writes a condition, and collects what its placeholders stand for."""

    def __init__(self, first: int) -> None:
        self._first = first
        self.parameters: list[str | list[str]] = []

    def write(self, filter: Filter, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise too_deep()
        match filter:
            case Equal(path, value) if column := column_of(path):
                return f'("{column}" = {self._bind(json.loads(value))})'
            case OneOf(path, values) if column := column_of(path):
                return f'("{column}" = ANY({self._bind([json.loads(value) for value in values])}))'
            case Ordered(path, operator, value) if column := column_of(path):
                return f'("{column}" COLLATE "C" {operator} {self._bind(json.loads(value))})'
            case Like(path, pattern, ignores_case):
                return self._like(path, "ILIKE" if ignores_case else "LIKE", pattern)
            case Timed(path, operator, time):
                return self._timed(path, operator, time)
            case Equal(path, value):
                contained = f"metadata @> {self._bind(_nested(path, value))}::jsonb"
                if not is_container(value):
                    return f"({contained})"
                return f"({contained} AND {self._at(path)} = {self._bind(value)}::jsonb)"
            case OneOf(path, values):
                contained = f"metadata @> ANY({self._bind([_nested(path, value) for value in values])}::jsonb[])"
                if not any(map(is_container, values)):
                    return f"({contained})"
                return f"({contained} AND {self._at(path)} = ANY({self._bind(list(values))}::jsonb[]))"
            case Ordered(path, operator, value):
                return self._ordered(path, operator, value)
            case Exists(path):
                return f"({self._at(path)} IS NOT NULL)"
            case Contains(path, element):
                return f"(metadata @> {self._bind(_nested(path, f'[{element}]'))}::jsonb)"
            case Not(part):
                return f"(NOT {self.write(part, depth + 1)})"
            case Every(parts):
                return f"({' AND '.join(self.write(part, depth + 1) for part in parts)})"
            case Some(()):
                return NOTHING
            case Some(parts):
                return f"({' OR '.join(self.write(part, depth + 1) for part in parts)})"
            case _:
                raise ArgumentError(f"{filter!r} is no filter; compare an F to make one")

    def _ordered(self, path: Path, operator: str, value: str) -> str:
        """A comparison of two numbers, or two strings. CASE keeps the order of its tests, which AND need not."""
        place = self._at(path)
        if value[0] != '"':
            compared, type = f"{place} {operator} {self._bind(value)}::jsonb", "number"
        else:
            string = f"({place} #>> '{{}}')"
            compared, type = f'{string} COLLATE "C" {operator} {self._bind(json.loads(value))}', "string"
        return f"(CASE WHEN jsonb_typeof({place}) = '{type}' THEN {compared} ELSE false END)"

    def _like(self, path: Path, operator: str, pattern: str) -> str:
        if column := column_of(path):
            return f'("{column}" {operator} {self._bind(pattern)})'
        place = self._at(path)
        matched = f"({place} #>> '{{}}') {operator} {self._bind(pattern)}"
        return f"(CASE WHEN jsonb_typeof({place}) = 'string' THEN {matched} ELSE false END)"

    def _timed(self, path: Path, operator: str, time: str) -> str:
        """A comparison of two times. The cast of a string that is not a time would be an error, so the string is looked
        at first, with the number of days of its month."""
        place = self._at(path)
        last_day = "extract(day FROM (substr(string, 1, 7) || '-01')::date + interval '1 month' - interval '1 day')"
        found = (
            f"CASE WHEN string ~ '{_WITH_ZONE}' THEN string::timestamptz ELSE string::timestamp AT TIME ZONE 'UTC' END"
        )
        return (
            f"(SELECT CASE WHEN string ~ '{_TIME}' THEN CASE WHEN substr(string, 9, 2)::integer <= {last_day} "
            f"THEN ({found}) {operator} {self._bind(time)}::timestamptz ELSE false END ELSE false END "
            f"FROM (SELECT CASE WHEN jsonb_typeof(place) = 'string' THEN place #>> '{{}}' END AS string "
            f"FROM (SELECT {place} AS place) AS under) AS looked_at)"
        )

    def _at(self, path: Path) -> str:
        """What lies under a path; null if nothing does. `->` takes a text for a key, never for a place in a list."""
        return f"(metadata {' '.join(f'-> {self._bind(key)}' for key in path)})"

    def _bind(self, value: str | list[str]) -> str:
        self.parameters.append(value)
        type = "text" if isinstance(value, str) else "text[]"
        return f"${self._first + len(self.parameters) - 1}::{type}"


def _nested(path: Path, value: str) -> str:
    """The object in which nothing but the value lies under the path, as JSON."""
    for key in reversed(path):
        value = f"{{{json.dumps(key, ensure_ascii=False)}: {value}}}"
    return value
