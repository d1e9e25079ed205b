"""Metadata and other values as JSON that PostgreSQL stores; times become strings in ISO 8601."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any
from uuid import UUID

import orjson

from ...errors import ArgumentError
from ..models import Chunk

_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # not a backslash of the text's own, which is doubled


_AS_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS


def metadata_json(chunk: Chunk) -> bytes:
    """The metadata of a chunk as JSON.

    Raises:
        ArgumentError: if they hold something that JSON cannot hold, or a NUL character.
    """
    if not chunk.metadata:
        return b"{}"
    if not isinstance(chunk.metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"the metadata is {chunk.metadata!r:.100}; give a dict")
    return _quick_json(chunk.metadata) or _careful_json("metadata", lambda: dict(chunk.metadata))


def json_text(what: str, value: Any) -> str:
    """`value` as JSON, written as metadata is.

    Raises:
        ArgumentError: if it holds something that JSON cannot hold, or a NUL character.
    """
    return (_quick_json(value) or _careful_json(what, lambda: value)).decode()


def _quick_json(value: Any) -> bytes | None:
    """JSON by orjson; None for what it does not take, or takes for null: the standard library decides about that."""
    try:
        quick = orjson.dumps(value, option=_AS_JSON)
    except TypeError:
        return None
    return None if b"null" in quick or b"\\u0000" in quick else quick


def _careful_json(what: str, value: Callable[[], Any]) -> bytes:
    try:
        text = json.dumps(value(), allow_nan=False, ensure_ascii=False, default=_as_text)
        encoded = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"the {what} is not JSON ({error}); use strings, finite numbers, booleans, times, lists and dicts"
        ) from None
    if _NUL_IN_JSON.search(text):
        raise ArgumentError(f"the {what} holds a NUL character; PostgreSQL cannot store it")
    return encoded


def _as_text(value: object) -> str:
    """What orjson writes for a time or a UUID."""
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
