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
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import orjson
from pgvector import Vector

from ..errors import ArgumentError, DimensionError
from .models import Chunk, Metric, VectorLike, VectorType, about

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = (
    "COPY_COLUMNS",
    "EMPTY_COPY",
    "NoDirectionError",
    "check_half",
    "check_ids",
    "check_k",
    "check_min_score",
    "check_position",
    "check_rounding",
    "check_text",
    "check_texts",
    "check_vector",
    "copy_rows",
    "has_direction",
    "json_text",
    "metadata_json",
    "numbers",
    "query_text",
    "vector_text",
)

COPY_COLUMNS = ("id", "document", "position", "text", "metadata", "embedding")

FLOAT32_MAX = 3.4028235e38
FLOAT16_TOO_LARGE = 65520.0
"""From here on a number is rounded to more than float16 holds, 65,504."""

FLOAT16_STEP = 2.0**-25
"""The most that rounding to float16 changes a number that is too small for its full precision."""

MOST_ROUNDED = 0.01
"""How much of its length rounding to float16 may change a vector by."""

SHORTEST, LONGEST = 1e-18, 1e19
"""Lengths of vectors of which pgvector knows the cosine: it adds up squares in float32."""

SMALLEST, LARGEST = 1e-17, 1e17
"""A vector whose largest number is between these has such a length, whatever the others are."""

Numbers: TypeAlias = "list[float] | NDArray[np.float32]"
"""One vector: what float32 holds exactly, nothing else; shape `(dimensions,)`."""


def numbers(vector: VectorLike, dimensions: int | None = None) -> Numbers:
    """`vector` as finite float32 numbers: in a numpy array if it is one, else in a list.

    Raises:
        DimensionError: if `dimensions` is given and `vector` has another number of them.
        ArgumentError: if it is empty, not one-dimensional, or holds a NaN, an infinity or more than float32 can.
    """
    given: Any = vector if _is_float_array(vector) else _list(vector)
    if dimensions is not None and len(given) != dimensions:
        raise DimensionError(dimensions, len(given))
    if not len(given):
        raise ArgumentError("the embedding is empty; embed the text with a model that gives at least one dimension")
    if isinstance(given, list):
        return _float32s(given)
    if not float(abs(given).max()) <= FLOAT32_MAX:  # a NaN if there is one
        return _float32s(given.tolist())
    array: NDArray[np.float32] = given.astype("=f4", order="C", copy=False)
    return array


def _is_float_array(vector: Any) -> bool:
    """Whether it is a row of numpy's floats. numpy is optional, so nothing of it is named."""
    return getattr(getattr(vector, "dtype", None), "kind", None) == "f" and getattr(vector, "ndim", None) == 1


def _is_single(vector: Any, dimensions: int | None) -> bool:
    """Whether it is a row of so many of numpy's float32."""
    return getattr(getattr(vector, "dtype", None), "char", None) == "f" and vector.shape == (dimensions,)


def _list(vector: Any) -> list[float]:
    try:
        values = vector.tolist() if hasattr(vector, "tolist") else vector
        return [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(
            "an embedding must be one row of numbers; give a sequence of floats or an array of shape (dimensions,)"
        ) from None


def _float32s(values: list[float]) -> list[float]:
    """The values as float32 holds them."""
    rounded = array("f", values)
    with suppress(ValueError, OverflowError):  # infinities of both signs have no sum
        if math.isfinite(math.fsum(rounded)):
            return rounded.tolist()
    place, value = next((at, value) for at, value in enumerate(values) if not math.isfinite(rounded[at]))
    raise ArgumentError(
        f"dimension {place} of the embedding is {value}, which cannot be stored; "
        "an embedding holds finite float32 numbers, so look at what the model returned for this text"
    )


def vector_text(values: Numbers) -> str:
    """The text form of a vector. orjson takes a tenth of the time of Python's own formatting, and reads numpy."""
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def query_text(vector: VectorLike, dimensions: int | None = None) -> str:
    """The text form of a query vector; raises as :func:`numbers` does.

    A row of float32 needs no check before it is written: what is not finite is written as `null`.
    """
    given: Any = vector
    if _is_single(given, dimensions):
        try:
            text = vector_text(given)
        except TypeError:  # orjson does not take it as it lies in memory
            text = "null"
        if "null" not in text:
            return text
    return vector_text(numbers(vector, dimensions))


_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # then no flags and no header extension
_TRAILER = b"\xff\xff"
EMPTY_COPY = len(_SIGNATURE) + len(_TRAILER)
"""Bytes of a stream without a row."""
_JSONB = b"\x01"  # its version, before its text
_first_length = partial(struct.Struct(">hi").pack, len(COPY_COLUMNS))  # a row begins with its number of columns
_length = struct.Struct(">i").pack
_int32 = partial(struct.Struct(">ii").pack, 4)
_vector_head = struct.Struct(">HH").pack

PIECE = 64 * 1024
"""Bytes that are packed at a time, a millisecond or less: after each of them the event loop has its turn."""


def copy_rows(
    chunks: Iterable[Chunk], dimensions: int, type: VectorType = "vector", metric: Metric | None = None
) -> Iterator[bytes]:
    """The chunks as one binary COPY stream with the columns :data:`COPY_COLUMNS`, piece by piece.

    Raises:
        DimensionError: if an embedding has another number of dimensions.
        NoDirectionError: if an embedding has no cosine to any other, and that is the metric.
        ArgumentError: if an embedding holds a NaN or an infinity, or more or less than its type can, a text a NUL
            character, or the metadata something that JSON cannot hold.
    """
    binary, width = (_binary, 4) if type == "vector" else (_half_binary, 2)
    directed = metric == "cosine"
    piece = bytearray(_SIGNATURE)
    vector_length = _length(4 + width * dimensions)
    for chunk in chunks:
        try:
            id = check_text("id", chunk.id)
            document = check_text("key of the document", chunk.document)
            text = check_text("text", chunk.text)
            metadata = metadata_json(chunk)
            fields = (
                *(_first_length(len(id)), id, _length(len(document)), document, check_position(chunk.position)),
                *(_length(len(text)), text, _length(1 + len(metadata)), _JSONB, metadata),
                *(vector_length, binary(_embedding(chunk), dimensions, directed)),
            )
        except ArgumentError as error:
            raise about(error, chunk) from error.__cause__
        piece += b"".join(fields)
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece + _TRAILER)


def _embedding(chunk: Chunk) -> VectorLike:
    if chunk.embedding is None:
        raise ArgumentError("it has no embedding; give it one, or store it with upsert() and a model")
    return chunk.embedding


def check_vector(vector: VectorLike, dimensions: int, type: VectorType, metric: Metric) -> None:
    """Raise as :func:`copy_rows` does for a vector that cannot be stored."""
    (_binary if type == "vector" else _half_binary)(vector, dimensions, metric == "cosine")


class NoDirectionError(ArgumentError):
    """A vector is zero, or pgvector takes it for that, so that it has no cosine to any other."""


def _binary(vector: VectorLike, dimensions: int, directed: bool = False) -> bytes:
    """The binary form of a vector; raises as :func:`numbers` does, and for one without a direction if it needs one."""
    given: Any = vector
    if _is_single(given, dimensions):
        largest = float(abs(given).max())  # a NaN if there is one
        if SMALLEST < largest < LARGEST or (not directed and largest <= FLOAT32_MAX):
            values: bytes = given.astype(">f4").tobytes()
            return _vector_head(dimensions, 0) + values
    row = _quick_row(given, dimensions)
    if row is not None and (not directed or SHORTEST < math.hypot(*row) < LONGEST):
        if sys.byteorder == "little":
            row.byteswap()
        return _vector_head(dimensions, 0) + row.tobytes()
    checked = numbers(vector, dimensions)
    if directed:
        _check_direction(_length_of(checked))
    return Vector(checked).to_binary()


def _quick_row(vector: Any, dimensions: int) -> array[float] | None:
    """A list or a tuple of finite numbers as float32 holds them; None for all else, which :func:`numbers` is for."""
    if type(vector) not in (list, tuple) or len(vector) != dimensions or not vector:
        return None
    with suppress(TypeError, OverflowError):
        row = array("f", vector)
        if math.isfinite(math.hypot(*row)):
            return row
    return None


def _length_of(values: Any) -> float:
    if not isinstance(values, (list, array)):
        if SMALLEST < float(abs(values).max()) < LARGEST:
            return math.sqrt(float(values.dot(values)))
        values = values.tolist()
    return math.hypot(*values)


def has_direction(vector: Numbers) -> bool:
    """Whether pgvector knows the cosine of a vector to another."""
    return SHORTEST <= _length_of(vector) <= LONGEST


def _check_direction(length: float) -> None:
    if length == 0:
        raise NoDirectionError(
            "the embedding is a zero vector, which has no direction, so that no search by cosine could find it; look "
            "at what the model returned for this text, leave the chunk out, or use a collection with metric='l2' or "
            "'inner_product'"
        )
    if not SHORTEST <= length <= LONGEST:
        raise NoDirectionError(
            f"the length of the embedding is {length:.3g}, and pgvector knows the cosine of lengths from {SHORTEST:g} "
            f"to {LONGEST:g} alone; scale the embeddings to a length of 1"
        )


def check_half(vector: VectorLike) -> None:
    """Raise :class:`ArgumentError` if a number in `vector` is too large for float16."""
    _half_binary(vector, len(vector))


def _half_binary(vector: VectorLike, dimensions: int, directed: bool = False) -> bytes:
    """The binary form of a `halfvec`; raises as :func:`_binary` does, and for what float16 cannot hold."""
    values: Any = _quick_row(vector, dimensions)
    if values is None:
        values = numbers(vector, dimensions)
    is_plain = isinstance(values, (list, array))
    if not is_plain and float(abs(values).max()) < FLOAT16_TOO_LARGE:
        halves: bytes = values.astype(">f2").tobytes()
    else:
        values = values if is_plain else values.tolist()
        try:
            halves = struct.pack(f">{dimensions}e", *values)
        except OverflowError:
            place, value = next((at, value) for at, value in enumerate(values) if abs(value) >= FLOAT16_TOO_LARGE)
            raise ArgumentError(
                f"dimension {place} of the embedding is {value}, which float16 cannot hold; "
                "scale the embeddings down, or use a collection with vector_type='vector'"
            ) from None
    length = _length_of(values)
    if directed:
        _check_direction(length)
    if length * MOST_ROUNDED <= 2 * math.sqrt(dimensions) * FLOAT16_STEP:  # else it is less whatever the numbers are
        check_rounding("embedding", values, halves)
    return _vector_head(dimensions, 0) + halves


def check_rounding(what: str, values: Sequence[float], halves: bytes | None = None) -> None:
    """Raise :class:`ArgumentError` if float16 would change a vector by more than :data:`MOST_ROUNDED` of its length.

    Args:
        what: the vector, for the error.
        values: its numbers, each of which float16 holds.
        halves: the same as float16, if that is known.
    """
    form, length = f">{len(values)}e", math.hypot(*values)
    changed = math.dist(values, struct.unpack(form, struct.pack(form, *values) if halves is None else halves))
    if changed > MOST_ROUNDED * length:
        raise ArgumentError(
            f"the {what} has a length of {length:.3g}, and float16 would change it by {changed / length:.0%}, as it "
            "has steps of 6e-08 near zero; scale the embeddings to a length of 1, or use a collection with "
            "vector_type='vector'"
        )


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


def check_texts(what: str, values: Sequence[Any]) -> list[str]:
    """`values` as a list.

    Raises:
        ArgumentError: if they are one string, or one of them is none, holds a NUL character or is not valid Unicode.
    """
    if isinstance(values, str):
        raise ArgumentError(f"{what} are strings; give a list of them")
    for value in values:
        check_text(what, value)
    return list(values)


def check_ids(values: Sequence[Any]) -> list[str]:
    """`values` as a list of ids; a UUID becomes one.

    Raises:
        ArgumentError: as :func:`check_texts`, or if they are one UUID.
    """
    if isinstance(values, UUID):
        values = str(values)
    return check_texts("ids", values if isinstance(values, str) else [_id(value) for value in values])


def _id(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def check_k(k: int) -> None:
    """Raise :class:`ArgumentError` unless `k` is a number of hits that can be asked for."""
    if not 1 <= k < 2**31:
        raise ArgumentError(f"k is {k}; ask for at least 1 hit")


def check_min_score(min_score: object) -> None:
    """Raise :class:`ArgumentError` unless `min_score` is a number that a score can be compared with."""
    if not isinstance(min_score, (int, float)) or math.isnan(min_score):
        raise ArgumentError(f"min_score is {min_score!r}; give a number, such as 0.5")


def check_position(value: int) -> bytes:
    """`value` as PostgreSQL stores it.

    Raises:
        ArgumentError: if it is no whole number, or too large.
    """
    try:
        return _int32(value)
    except struct.error:
        raise ArgumentError(f"the position is {value!r}; give a whole number below 2**31") from None


_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # not a backslash of the text's own, which is doubled


_AS_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


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
        text = json.dumps(value(), allow_nan=False, ensure_ascii=False)
        encoded = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"the {what} is not JSON ({error}); use strings, finite numbers, booleans, lists and dicts"
        ) from None
    if _NUL_IN_JSON.search(text):
        raise ArgumentError(f"the {what} holds a NUL character; PostgreSQL cannot store it")
    return encoded
