"""Check the vectors that a model returns: plain functions.

A vector that is not a list of finite numbers is refused here, so that no cache and no table ever holds one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import ArgumentError, DimensionError
from ...storage import FLOAT32_MAX, Numbers, numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ("Vectors", "VectorsError", "checked_vectors", "shown", "vector_of")

Vectors: TypeAlias = "Sequence[Numbers] | NDArray[np.float32]"
"""Vectors of finite float32 numbers, all of one length."""

SHOWN = 60
"""The most characters of a value in a message."""


class VectorsError(ArgumentError):
    """A model has returned invalid vectors for some of its texts.

    Attributes:
        model: the model's name.
        reasons: why a vector is invalid, by the index of its text.
        vectors: the vectors; None for each invalid one.
    """

    def __init__(
        self, model: str, texts: Sequence[str], reasons: Mapping[int, str], vectors: Sequence[Numbers | None]
    ) -> None:
        self.model = model
        self.reasons = reasons
        self.vectors = vectors
        place = min(reasons)
        super().__init__(self._about(place, f" for text {place + 1} of {len(texts)} ({shown(texts[place])})"))

    def alone(self, place: int) -> ArgumentError:
        """The error about one of the invalid vectors, without its text."""
        return ArgumentError(self._about(place, ""))

    def _about(self, place: int, text: str) -> str:
        return (
            f"the model {self.model!r} gave no usable vector{text}: {self.reasons[place]}; "
            "a vector is a list of finite float32 numbers, so look at what the model returned for this text"
        )


def checked_vectors(model: str, given: Any, texts: Sequence[str], dimensions: int | None = None) -> Vectors:
    """The result of a model as vectors. They are copies, because a model may use its array again.

    Many vectors that are not in one array take a while: check them in a worker thread.

    Args:
        model: the model's name.
        given: the result of the model: an array, or an iterable of rows of numbers.
        texts: the texts that the model was given.
        dimensions: the number of dimensions that the vectors must have; None if any number will do.

    Raises:
        DimensionError: if all vectors have another number of dimensions.
        VectorsError: if some vectors are not lists of finite numbers, or have another number of dimensions.
        ArgumentError: if there is not one vector for each text, or `dimensions` is None and the lengths differ.
    """
    array: Vectors | None = _quickly(given, len(texts), dimensions)
    if array is not None:
        return array
    reasons: dict[int, str] = {}
    vectors: list[Numbers | None] = []
    for place, row in enumerate(_rows(model, given, len(texts))):
        try:
            vectors.append(vector_of(row))
        except ValueError as error:
            vectors.append(None)
            reasons[place] = str(error)
    sizes = {len(vector) for vector in vectors if vector is not None}
    if dimensions is None and len(sizes) > 1:
        raise ArgumentError(
            f"the model {model!r} gave vectors of {' and '.join(map(str, sorted(sizes)))} dimensions in one call; "
            "its embed() must return rows of one length"
        )
    if dimensions is not None and not reasons and len(sizes) == 1 and sizes != {dimensions}:
        raise DimensionError(dimensions, sizes.pop())
    for place, vector in enumerate(vectors):
        if dimensions is not None and vector is not None and len(vector) != dimensions:
            reasons[place] = f"it has {len(vector)} dimensions in place of {dimensions}"
            vectors[place] = None
    if reasons:
        raise VectorsError(model, texts, reasons, vectors)
    return [vector for vector in vectors if vector is not None]


def _quickly(given: Any, count: int, dimensions: int | None) -> Any:
    """A copy of an array of floats that is valid as it is; None for anything else."""
    if getattr(getattr(given, "dtype", None), "kind", None) != "f" or getattr(given, "ndim", None) != 2:
        return None
    rows, columns = given.shape
    if not rows or not columns or rows != count or columns != (dimensions or columns):
        return None
    if not float(abs(given).max()) <= FLOAT32_MAX:  # a NaN if there is one
        return None
    return given.astype("=f4", order="C")


def _rows(model: str, given: Any, count: int) -> list[Any]:
    """The rows of a model's result."""
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, bytearray, Mapping, AbstractSet)):
        raise ArgumentError(
            f"the model {model!r} gave {shown(given)} for {count} texts; "
            "its embed() must return one row of numbers for each text, in order"
        )
    if getattr(given, "ndim", 1) == 0:
        given = [given]
    rows: list[Any] = list(given)
    if len(rows) != count:
        raise ArgumentError(
            f"the model {model!r} gave {len(rows)} vectors for {count} texts; "
            "its embed() must return one row for each text, in order"
        )
    return rows


def vector_of(given: Any) -> Numbers:
    """A copy of one vector: a list of finite numbers, or a row of a numpy array.

    Raises:
        ValueError: if `given` is not a vector. The message continues a sentence about the vector.
    """
    row: Any = given
    if getattr(getattr(row, "dtype", None), "kind", None) == "f" and getattr(row, "ndim", None) == 1:
        if len(row) and float(abs(row).max()) <= FLOAT32_MAX:
            copy: Numbers = row.astype("=f4", order="C")
            return copy
        values = row.tolist()
    elif isinstance(given, (str, bytes, bytearray, Mapping, AbstractSet)) or not isinstance(given, Iterable):
        raise ValueError(f"it is {shown(row)}, not a list of numbers")
    elif getattr(row, "ndim", 1) == 0:
        raise ValueError(f"it is {shown(row)}, one number")
    else:
        values = row.tolist() if hasattr(row, "tolist") else list(row)
    if not values:
        raise ValueError("it is empty")
    if not set(map(type, values)) <= {float, int}:
        values = [_number(place, value) for place, value in enumerate(values)]
    try:
        return numbers(values)
    except ArgumentError:
        place = next(place for place, value in enumerate(values) if not -FLOAT32_MAX <= value <= FLOAT32_MAX)
        raise ValueError(
            f"dimension {place} of the embedding is {shown(values[place])}, which cannot be stored"
        ) from None


def _number(place: int, value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", None):
        raise ValueError(
            f"dimension {place} of the embedding is a list of its own, as if there was a vector for each token; "
            "let the model give one vector for the whole text"
        )
    if isinstance(value, Decimal) and not value.is_snan():
        return float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"dimension {place} of the embedding is {shown(value)}, not a number")  # noqa: TRY004
    return value


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    try:
        words = repr(value[: SHOWN + 1] if isinstance(value, (str, bytes)) else value)
    except Exception:
        words = f"<{type(value).__name__}>"
    words = " ".join(words.split())
    return words if len(words) <= SHOWN else f"{words[: SHOWN - 1]}…"
