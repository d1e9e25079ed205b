"""Settings from the environment: variables with the prefix `PREHEAT_`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from .errors import ArgumentError

__all__ = ("setting",)

T = TypeVar("T")
D = TypeVar("D")


def setting(name: str, kind: Callable[[str], T], default: D, environment: Mapping[str, str] | None = None) -> T | D:
    """The variable `PREHEAT_<name>` as a `kind`, or `default` if it is unset or empty.

    Raises:
        ArgumentError: if its value is not a valid `kind`.
    """
    text = (os.environ if environment is None else environment).get(f"PREHEAT_{name}", "").strip()
    if not text:
        return default
    try:
        return kind(text)
    except ValueError:
        raise ArgumentError(
            f"the environment variable PREHEAT_{name} is {text!r}; set it to something like {default!r}, or unset it"
        ) from None
