from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import ArgumentError, Chunk, DimensionError, PreheatError
from preheat.storage.encoding.copy_format import copy_rows as packed
from preheat.storage.encoding.vectors import halfvec_binary, numbers, vector_binary, vector_text

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(float32s, min_size=1, max_size=40))
def test_the_text_of_a_vector_holds_every_float32_exactly(values: list[float]) -> None:
    back = [float(np.float32(word)) for word in vector_text(values).strip("[]").split(",")]

    assert back == values


@given(st.lists(float32s, min_size=1, max_size=40))
def test_lists_tuples_and_arrays_mean_the_same(values: list[float]) -> None:
    array = np.asarray(values, dtype=np.float32)

    assert list(numbers(array)) == numbers(values) == numbers(tuple(values)) == values


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39, -1e300])
@pytest.mark.parametrize("wrap", [list, np.array])
def test_a_number_outside_float32_is_refused_with_its_position(bad: float, wrap: Any) -> None:
    with pytest.raises(ArgumentError, match="dimension 1 of the embedding"):
        numbers(wrap([0.5, bad, 1.0]))


@pytest.mark.parametrize("bad", [["a"], "abc", [[1.0, 2.0]], np.ones((2, 2)), None, 3, [1j], np.array([1j, 2])])
def test_a_vector_that_is_not_a_row_of_numbers_is_refused(bad: Any) -> None:
    with pytest.raises(ArgumentError, match="one row of numbers"):
        numbers(bad)


def test_an_empty_vector_is_refused() -> None:
    with pytest.raises(ArgumentError, match="empty"):
        numbers([])


@given(
    st.lists(st.floats(-60_000, 60_000, width=32), min_size=1, max_size=50),
    st.sampled_from([vector_binary, halfvec_binary]),
    st.booleans(),
)
def test_property_a_list_is_packed_as_an_array_is(values: list[float], pack: Any, directed: bool) -> None:
    """A list, a tuple and an array of the same numbers are packed, or refused, alike."""

    def packed(vector: Any) -> object:
        try:
            return pack(vector, len(values), directed)
        except ArgumentError as error:
            return str(error)

    assert packed(values) == packed(tuple(values)) == packed(np.array(values, dtype=np.float32))


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("pack", [vector_binary, halfvec_binary])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39, -1e300, 10**400, "word", None, [1.0]])
def test_a_list_with_a_number_that_cannot_be_stored_is_refused(bad: Any, pack: Any, directed: bool) -> None:
    with pytest.raises(ArgumentError, match=r"dimension 1 of the embedding|must be one row of numbers"):
        pack([0.5, bad, 0.5], 3, directed)
    with pytest.raises(DimensionError):
        pack([0.5, 0.5], 3, directed)


def test_another_number_of_dimensions_names_both() -> None:
    with pytest.raises(DimensionError, match="3 dimensions, not 2") as caught:
        numbers([1.0, 2.0], 3)

    assert (caught.value.expected, caught.value.got) == (3, 2)


def copy_rows(chunks: Any, dimensions: int) -> bytes:
    return b"".join(packed(chunks, dimensions))


def decode(stream: bytes) -> list[list[bytes]]:
    """PostgreSQL's binary COPY format, read by the book."""
    assert stream[:11] == b"PGCOPY\n\xff\r\n\0"
    assert stream[11:19] == bytes(8)
    at, rows = 19, []
    while (columns := struct.unpack_from(">h", stream, at)[0]) != -1:
        at += 2
        row = []
        for _ in range(columns):
            (size,) = struct.unpack_from(">i", stream, at)
            row.append(stream[at + 4 : at + 4 + size])
            at += 4 + size
        rows.append(row)
    assert at + 2 == len(stream)
    return rows


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(
        st.builds(
            Chunk,
            text=words,
            embedding=st.lists(float32s, min_size=3, max_size=3),
            metadata=st.dictionaries(words, words | st.integers() | st.booleans() | st.none(), max_size=3),
            document=words,
            position=st.integers(0, 2**31 - 1),
        ),
        max_size=5,
    )
)
def test_rows_are_encoded_as_postgresql_reads_them(chunks: list[Chunk]) -> None:
    rows = decode(copy_rows(chunks, 3))

    assert len(rows) == len(chunks)
    for (id, document, position, text, metadata, embedding), chunk in zip(rows, chunks, strict=True):
        assert (id.decode(), document.decode(), text.decode()) == (chunk.id, chunk.document, chunk.text)
        assert struct.unpack(">i", position) == (chunk.position,)
        assert metadata[:1] == b"\x01"
        assert json.loads(metadata[1:]) == chunk.metadata
        assert struct.unpack(">HH3f", embedding) == (3, 0, *chunk.embedding)


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (Chunk("a\0b", [1.0]), "NUL"),
        (Chunk("a", [1.0], {"k": "a\0b"}), "NUL"),
        (Chunk("\ud800", [1.0], id="x"), "Unicode"),
        (Chunk("a", [1.0], {"k": {1, 2}}), "not JSON"),
        (Chunk("a", [1.0], {"k": "\ud800"}), "not JSON"),
        (Chunk(None, [1.0], id="x"), "give a string"),  # type: ignore[arg-type]
        (Chunk("a", [1.0], {"k": math.nan}), "not JSON"),
        (Chunk("a", [1.0], position=2**31), "position"),
        (Chunk("a", [math.nan]), "dimension 0"),
        (Chunk("a", [1.0, 2.0]), "not 2"),
    ],
)
def test_a_chunk_that_cannot_be_stored_is_refused_with_the_reason(chunk: Chunk, words: str) -> None:
    with pytest.raises(PreheatError, match=words):
        copy_rows([chunk], 1)


def test_a_backslash_before_u0000_is_text_like_any_other() -> None:
    ((_, _, _, _, metadata, _),) = decode(copy_rows([Chunk("a", [1.0], {"k": "\\u0000"})], 1))

    assert json.loads(metadata[1:]) == {"k": "\\u0000"}


def test_an_id_is_derived_from_document_and_text() -> None:
    assert Chunk("a", [1.0], document="d").id == Chunk("a", [2.0], {"x": 1}, "d", 7).id
    assert Chunk("a", [1.0], document="d").id != Chunk("a", [1.0], document="e").id
    assert Chunk("a", [1.0], id="mine").id == "mine"
