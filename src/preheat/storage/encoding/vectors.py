"""Vectors as pgvector reads them: checked, as text for a search, in binary for COPY.

A query vector travels as text, `$1::text::vector`: no codec and no type introspection on the way to a first answer.
numpy is optional, so nothing of it is named.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from ...errors import ArgumentError, DimensionError
from ..models import Metric, VectorLike, VectorType

try:
    from pgvector import Vector
except ImportError:  # before pgvector 0.4
    from pgvector.utils import Vector  # type: ignore[import-not-found,no-redef,unused-ignore]  # pyright: ignore[reportMissingImports]

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = list[float] | NDArray[np.float32]
else:  # so that hints can be read without numpy
    Numbers = list[float] | Any
"""One vector: the numbers that float32 holds exactly, and nothing else; shape `(dimensions,)`."""

FLOAT32_MAX = 3.4028235e38
FLOAT16_TOO_LARGE = 65520.0
"""Numbers from here on are rounded to more than the largest number of float16, 65,504."""

FLOAT16_STEP = 2.0**-25
"""The most that rounding to float16 changes a number that is too small for the full precision of float16."""

MOST_ROUNDED = 0.01
"""The greatest change of a vector by rounding to float16 that is accepted, as a share of its length."""

SHORTEST, LONGEST = 1e-18, 1e19
"""The shortest and the longest vector of which pgvector can compute the cosine, as it adds up squares in float32."""

SMALLEST, LARGEST = 1e-17, 1e17
"""A vector whose largest number is between these has such a length, whatever its other numbers are."""


def numbers(vector: VectorLike, dimensions: int | None = None) -> Numbers:
    """`vector` as finite float32 numbers: in a numpy array if it is one, else in a list.

    Raises:
        DimensionError: if `dimensions` is given and `vector` has another number of them.
        ArgumentError: if it is empty, not one-dimensional, or holds a NaN, an infinity or more than float32 can.
    """
    row = _float32_row(vector, dimensions)
    if row is not None:
        return list(row)
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
    """Whether it is a one-dimensional numpy array of floats."""
    return getattr(getattr(vector, "dtype", None), "kind", None) == "f" and getattr(vector, "ndim", None) == 1


def _is_single(vector: Any, dimensions: int | None) -> bool:
    """Whether it is a numpy array of float32 with the shape `(dimensions,)`."""
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


def read_vector(text: str) -> list[float]:
    """A vector from its text form, as float32 holds it."""
    return Vector.from_text(text).to_list()  # type: ignore[no-any-return,unused-ignore]


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


_vector_head = struct.Struct(">HH").pack


def check_vector(vector: VectorLike, dimensions: int, type: VectorType, metric: Metric) -> None:
    """Raise as when a chunk is packed for a vector that cannot be stored."""
    (vector_binary if type == "vector" else halfvec_binary)(vector, dimensions, metric == "cosine")


class NoDirectionError(ArgumentError):
    """A vector is zero, or zero to pgvector, so that its cosine to other vectors is not defined."""


def vector_binary(vector: VectorLike, dimensions: int, directed: bool = False) -> bytes:
    """The binary form of a vector; raises as :func:`numbers` does, and, if `directed`, for a vector without a
    direction."""
    given: Any = vector
    if _is_single(given, dimensions):
        largest = float(abs(given).max())  # a NaN if there is one
        if SMALLEST < largest < LARGEST or (not directed and largest <= FLOAT32_MAX):
            values: bytes = given.astype(">f4").tobytes()
            return _vector_head(dimensions, 0) + values
    if _is_row(given, dimensions):
        with suppress(TypeError, OverflowError, struct.error):
            length = math.hypot(*given)  # not finite if one of the numbers is not
            if SMALLEST < length < LARGEST or (not directed and length <= FLOAT32_MAX):
                return struct.pack(f">HH{dimensions}f", dimensions, 0, *given)
    checked = numbers(vector, dimensions)
    if directed:
        _check_direction(_length_of(checked))
    return Vector(checked).to_binary()


def _is_row(vector: Any, dimensions: int | None) -> bool:
    """Whether it is a list or a tuple of this length, or of any length but 0."""
    return type(vector) in (list, tuple) and 0 < len(vector) == (dimensions or len(vector))


def _float32_row(vector: Any, dimensions: int | None) -> tuple[float, ...] | None:
    """A list or a tuple of finite numbers as float32 holds them; None for everything else, which is handled with care.

    `struct` takes a tenth of the time of `array`, and refuses what float32 cannot hold.
    """
    if _is_row(vector, dimensions):
        with suppress(TypeError, OverflowError, struct.error):
            if math.isfinite(math.hypot(*vector)):
                form = f">{len(vector)}f"
                return struct.unpack(form, struct.pack(form, *vector))
    return None


def _length_of(values: Any) -> float:
    if not isinstance(values, (list, tuple)):
        if SMALLEST < float(abs(values).max()) < LARGEST:
            return math.sqrt(float(values.dot(values)))
        values = values.tolist()
    return math.hypot(*values)


def has_direction(vector: Numbers) -> bool:
    """Whether pgvector can compute the cosine of a vector to another."""
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
            f"the length of the embedding is {length:.3g}, and pgvector computes the cosine of lengths from "
            f"{SHORTEST:g} to {LONGEST:g} only; scale the embeddings to a length of 1"
        )


def check_half(vector: VectorLike) -> None:
    """Raise :class:`ArgumentError` if a number in `vector` is too large for float16."""
    halfvec_binary(vector, len(vector))


def halfvec_binary(vector: VectorLike, dimensions: int, directed: bool = False) -> bytes:
    """The binary form of a `halfvec`; raises as :func:`vector_binary` does, and for what float16 cannot hold."""
    values: Any = _float32_row(vector, dimensions)
    if values is None:
        values = numbers(vector, dimensions)
    is_plain = isinstance(values, (list, tuple))
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


# A vector to search for, whose direction pgvector, or float16, would not keep

SURELY_KEPT = 2e-4
"""A vector with a larger number keeps its direction: float16 changes each of 4,000 numbers by at most `2**-25`, or by a
two-thousandth, which together is less than a hundredth of this."""

_large = re.compile(r"e[+0-9]").search


def may_lose_direction(vector: str) -> bool:
    """Whether the text of a vector has to be checked by :func:`check_query_direction`. Hardly any has."""
    if "e" in vector and _large(vector):
        return True
    end = vector.find(",")
    if abs(float(vector[1 : end if end > 0 else -1])) > SURELY_KEPT:
        return False
    return all(abs(float(number)) <= SURELY_KEPT for number in vector[1:-1].split(","))


def check_query_direction(vector: str, type: VectorType, metric: Metric) -> None:
    """Raise :class:`ArgumentError` if the server would search for another direction than that of the text of a vector.

    pgvector computes no cosine of a vector that is very short or very long, and float16 changes small numbers. By l2
    the direction does not matter.
    """
    if metric == "l2":
        return
    values = [float(number) for number in vector[1:-1].split(",")]
    if metric == "cosine":
        length = math.hypot(*values)
        if length == 0:
            raise ArgumentError(
                "the vector to search for is zero, and so near to nothing by cosine; look at what the model returned "
                "for the query, or search with metric='l2'"
            )
        if length < SHORTEST or (length > LONGEST and type == "vector"):
            raise ArgumentError(
                f"the length of the vector to search for is {length:.3g}, and pgvector knows the cosine of lengths "
                f"from {SHORTEST:g} to {LONGEST:g} alone; scale it to a length of 1"
            )
    if type == "halfvec" and max(map(abs, values)) < FLOAT16_TOO_LARGE:  # the server refuses larger ones
        check_rounding("vector to search for", values)
