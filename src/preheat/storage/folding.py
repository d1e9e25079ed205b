"""What can be known of a filter without looking at any metadata: whether it passes every chunk, or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

from .filters import MAX_DEPTH, Equal, Every, Exists, Filter, Not, OneOf, Some, too_deep

__all__ = ("ALWAYS", "NEVER", "folded", "passes_everything")

ALWAYS = Every(())
"""The filter that passes every chunk."""

NEVER = Some(())
"""The filter that passes none."""

STEPS = 500
"""How many cases are told apart at most; a filter that has more is taken for one that depends on the metadata."""


def folded(filter: Filter, decide: Callable[[Filter], bool | None] = lambda _: None, depth: int = 0) -> Filter:
    """The filter without parts that are always true, or never: :data:`ALWAYS` or :data:`NEVER` if nothing is left.

    Args:
        decide: what a comparison is taken for; None leaves it as it is.

    Raises:
        ArgumentError: if it has too many levels.
    """
    if depth > MAX_DEPTH:
        raise too_deep()
    if isinstance(filter, Not):
        part = folded(filter.part, decide, depth + 1)
        if part in (ALWAYS, NEVER):
            return NEVER if part == ALWAYS else ALWAYS
        return filter if part is filter.part else ~part
    if isinstance(filter, (Every, Some)):
        joined = Every if isinstance(filter, Every) else Some
        neutral, deciding = (ALWAYS, NEVER) if joined is Every else (NEVER, ALWAYS)
        parts: list[Filter] = []
        for given in filter.parts:
            part = folded(given, decide, depth + 1)
            if part == deciding:
                return deciding
            if part != neutral:
                parts.append(part)
        if _contradict(parts, joined):
            return deciding
        if len(parts) == 1:
            return parts[0]
        return filter if tuple(parts) == filter.parts else joined(tuple(parts))
    if isinstance(filter, OneOf) and not filter.values:
        return NEVER
    decided = decide(filter)
    return filter if decided is None else ALWAYS if decided else NEVER


def _contradict(parts: list[Filter], joined: type[Every | Some]) -> bool:
    """Whether something and its opposite are among the parts."""
    known = set(parts)
    for part in parts:
        if isinstance(part, Not):
            negated = part.part.parts if isinstance(part.part, joined) else (part.part,)
            if known.issuperset(negated):
                return True
    return False


def passes_everything(filter: Filter) -> bool:
    """Whether a filter passes every chunk whatever metadata it has, such as `F("a").exists() | F("a").missing()`.

    It is true of nothing that depends on the metadata. What it does not find out are filters in which ranges complete
    each other, such as all but those below 5 or all but those above 7, and very long ones.

    Raises:
        ArgumentError: if it has too many levels.
    """
    cases = [folded(filter)]
    for _ in range(STEPS):
        if not cases:
            return True
        one = cases.pop()
        if one == ALWAYS:
            continue
        if one == NEVER or folded(one, lambda _: False) != ALWAYS:  # what has no metadata does not pass
            return False
        comparison = next(_comparisons(one))
        cases += [folded(one, partial(_given, comparison, holds)) for holds in (True, False)]
    return False


def _comparisons(filter: Filter) -> Iterator[Any]:
    if isinstance(filter, Not):
        yield from _comparisons(filter.part)
    elif isinstance(filter, (Every, Some)):
        for part in filter.parts:
            yield from _comparisons(part)
    else:
        yield filter


def _given(known: Any, holds: bool, other: Any) -> bool | None:
    """Whether `other` is true if `known` is, or is not; None if both may be."""
    if other == known:
        return holds
    if other.path != known.path:
        return None
    if isinstance(known, Exists):
        return None if holds else False
    if not holds:
        return _without(known, other)
    if isinstance(other, Exists):
        return True
    values, others = _values(known), _values(other)
    if values is None or others is None:
        return None
    if values <= others:
        return True
    return None if values & others else False


def _without(known: Any, other: Any) -> bool | None:
    """Whether `other` is true if `known` is not."""
    values, others = _values(known), _values(other)
    return False if values is not None and others is not None and others <= values else None


def _values(comparison: Any) -> frozenset[Any] | None:
    """Which values pass; None if these cannot be counted."""
    if isinstance(comparison, Equal):
        return frozenset([_value(comparison.value)])
    if isinstance(comparison, OneOf):
        return frozenset(map(_value, comparison.values))
    return None


def _value(text: str) -> Any:
    return _comparable(json.loads(text, parse_int=Decimal, parse_float=Decimal))


def _comparable(value: Any) -> Any:
    """A value that equals another just where their JSON does; 1 and true do not."""
    if isinstance(value, dict):
        return dict, frozenset((key, _comparable(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return list, tuple(map(_comparable, value))
    return type(value), value
