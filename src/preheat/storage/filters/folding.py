"""Simplify a filter: leave out the parts that pass every chunk or none."""

from __future__ import annotations

from collections.abc import Callable

from .tree import MAX_DEPTH, Every, Filter, Like, Not, OneOf, Some, column_of, too_deep

ALWAYS = Every(())
"""The filter that passes every chunk."""

NEVER = Some(())
"""The filter that passes no chunk."""


def folded(filter: Filter, decide: Callable[[Filter], bool | None] = lambda _: None, depth: int = 0) -> Filter:
    """The filter without the parts that are always true or always false.

    Args:
        decide: gives the truth of a comparison; None keeps the comparison.

    Returns:
        The rest of the filter; :data:`ALWAYS` or :data:`NEVER` if no comparison is left.

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
    if isinstance(filter, Like) and column_of(filter.path) is not None and set(filter.pattern) == {"%"}:
        return ALWAYS
    decided = decide(filter)
    return filter if decided is None else ALWAYS if decided else NEVER


def _contradict(parts: list[Filter], joined: type[Every | Some]) -> bool:
    """Whether a filter and its opposite are among the parts."""
    known = set(parts)
    for part in parts:
        if isinstance(part, Not):
            negated = part.part.parts if isinstance(part.part, joined) else (part.part,)
            if known.issuperset(negated):
                return True
    return False
