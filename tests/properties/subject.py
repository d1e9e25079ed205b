"""What the properties are asked of: the library itself, or one of the broken ones that must not get through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import preheat


@dataclass(frozen=True)
class Subject:
    """An engine and a guard."""

    warm: Any = preheat.warm
    WarmOnce: Any = preheat.WarmOnce


_current = Subject()


def current() -> Subject:
    """The subject of the properties that run now."""
    return _current


@contextmanager
def using(subject: Subject) -> Iterator[None]:
    """Ask the properties of another subject."""
    global _current  # noqa: PLW0603
    before, _current = _current, subject
    try:
        yield
    finally:
        _current = before
