"""Vectors and rows on their way to the server, as pure functions.

A query vector travels as text, `$1::text::vector`: no codec and no type introspection on the way to a first answer.
Rows travel in PostgreSQL's binary COPY format (https://www.postgresql.org/docs/current/sql-copy.html, "Binary
Format"), which needs no codec on the connection either: a codec would clear its cache of prepared statements.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from pgvector import Vector

from ..errors import ArgumentError, DimensionError
from .records import Chunk, VectorLike

__all__ = ("COPY_COLUMNS", "check_k", "check_text", "copy_rows", "floats", "vector_text")

COPY_COLUMNS = ("id", "document", "position", "text", "metadata", "embedding")

FLOAT32_MAX = 3.4028235e38


def floats(vector: VectorLike, dimensions: int | None = None) -> list[float]:
    """`vector` as a list of finite floats.

    Raises:
        DimensionError: if `dimensions` is given and `vector` has another number of them.
        ArgumentError: if it is empty, not one-dimensional, or holds a NaN, an infinity or more than float32 can.
    """
    try:
        tolist = getattr(vector, "tolist", None)  # numpy is optional
        values: list[float] = [float(value) for value in vector] if tolist is None else tolist()
        total = math.fsum(abs(value) for value in values)
        min(values, default=0.0)  # what has no order is no number
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(
            "an embedding must be one row of numbers; give a sequence of floats or an array of shape (dimensions,)"
        ) from None
    if dimensions is not None and len(values) != dimensions:
        raise DimensionError(dimensions, len(values))
    if not values:
        raise ArgumentError("the embedding is empty; embed the text with a model that gives at least one dimension")
    if not total <= FLOAT32_MAX:
        for index, value in enumerate(values):
            if not abs(value) <= FLOAT32_MAX:
                raise ArgumentError(
                    f"dimension {index} of the embedding is {value}, which cannot be stored; "
                    "an embedding holds finite float32 numbers, so look at what the model returned for this text"
                )
    return values


def vector_text(values: Sequence[float]) -> str:
    """The text form of a vector; nine digits hold a float32 exactly."""
    return _format(len(values)) % tuple(values)


@lru_cache(maxsize=64)
def _format(dimensions: int) -> str:
    return "[" + ",".join(["%.9g"] * dimensions) + "]"


_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # then no flags and no header extension
_TRAILER = b"\xff\xff"
_ROW = struct.pack(">h", len(COPY_COLUMNS))
_int32 = struct.Struct(">i").pack


def copy_rows(chunks: Iterable[Chunk], dimensions: int) -> bytes:
    """The chunks as one binary COPY stream with the columns :data:`COPY_COLUMNS`.

    Raises:
        DimensionError: if an embedding has another number of dimensions.
        ArgumentError: if an embedding holds a NaN or an infinity, a text a NUL character, or the metadata something
            that JSON cannot hold.
    """
    out = [_SIGNATURE]
    for chunk in chunks:
        out += (
            _ROW,
            _field(check_text("id of a chunk", chunk.id)),
            _field(check_text("document of a chunk", chunk.document)),
            _field(_position(chunk.position)),
            _field(check_text("text of a chunk", chunk.text)),
            _field(b"\x01" + _json(chunk)),  # jsonb: a version byte, then its text
            _field(Vector(floats(chunk.embedding, dimensions)).to_binary()),
        )
    out.append(_TRAILER)
    return b"".join(out)


def _field(value: bytes) -> bytes:
    return _int32(len(value)) + value


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


def check_k(k: int) -> None:
    """Raise :class:`ArgumentError` unless `k` is a number of hits that can be asked for."""
    if not 1 <= k < 2**31:
        raise ArgumentError(f"k is {k}; ask for at least 1 hit")


def _position(value: int) -> bytes:
    try:
        return _int32(value)
    except struct.error:
        raise ArgumentError(f"the position of a chunk is {value!r}; give a whole number below 2**31") from None


_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # not a backslash of the text's own, which is doubled


def _json(chunk: Chunk) -> bytes:
    try:
        text = json.dumps(dict(chunk.metadata), allow_nan=False, ensure_ascii=False)
        encoded = text.encode()
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"the metadata of chunk {chunk.id!r} is not JSON ({error}); "
            "use strings, finite numbers, booleans, lists and dicts"
        ) from None
    if _NUL_IN_JSON.search(text):
        raise ArgumentError(f"the metadata of chunk {chunk.id!r} holds a NUL character; PostgreSQL cannot store it")
    return encoded
