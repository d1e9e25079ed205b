"""Checks of arguments, which raise before any I/O."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from ..errors import ArgumentError, ItemError
from .models import Chunk

E = TypeVar("E", bound=ItemError)

_int32 = partial(struct.Struct(">ii").pack, 4)


def about(error: E, chunk: Chunk, index: int | None = None) -> E:
    """The error, with the chunk that it is about and the chunk's index in the batch, if that is known."""
    error.document, error.chunk, error.position = chunk.document, chunk.id, chunk.position
    error.index = index
    return error


def check_text(what: str, value: str) -> bytes:
    """`value` as PostgreSQL stores it.

    Raises:
        ArgumentError: if it is not a string, holds a NUL character or is not valid Unicode.
    """
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"the {what} is {value!r}; give a string")
    if "\0" in value:
        raise ArgumentError(f"the {what} holds a NUL character, which PostgreSQL cannot store; remove it")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"the {what} is not valid Unicode; decode it with errors='replace'") from None


def check_ids(values: Sequence[Any]) -> list[str]:
    """`values` as a list of ids; a UUID becomes one.

    Raises:
        ArgumentError: if they are one string or one UUID, or one of them is not a string, holds a NUL character or is
            not valid Unicode.
    """
    if isinstance(values, (str, UUID)):
        raise ArgumentError("ids are strings; give a list of them")
    ids = [str(value) if isinstance(value, UUID) else value for value in values]
    for id in ids:
        check_text("ids", id)
    return ids


def check_k(k: int) -> None:
    """Raise :class:`ArgumentError` unless `k` is a valid number of hits."""
    if k < 1:
        raise ArgumentError(f"k is {k}; ask for at least 1 hit")
    if k >= 2**31:
        raise ArgumentError(f"k is {k}; ask for fewer than 2**31 hits")


def check_min_score(min_score: object) -> None:
    """Raise :class:`ArgumentError` unless `min_score` is a number and not a NaN."""
    if not isinstance(min_score, (int, float)) or math.isnan(min_score):
        raise ArgumentError(f"min_score is {min_score!r}; give a number, such as 0.5")


def check_position(value: int) -> bytes:
    """`value` as PostgreSQL stores it.

    Raises:
        ArgumentError: if it is not a whole number, or too large.
    """
    try:
        return _int32(value)
    except struct.error:
        raise ArgumentError(f"the position is {value!r}; give a whole number below 2**31") from None
