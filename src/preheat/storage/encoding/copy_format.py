"""Chunks in PostgreSQL's binary COPY format.

It needs no codec on the connection, which would clear its cache of prepared statements. See "Binary Format" of
https://www.postgresql.org/docs/current/sql-copy.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import partial

from ...errors import ArgumentError
from ..models import Chunk, Metric, VectorType
from ..validation import about, check_position, check_text
from .jsonb import metadata_json
from .vectors import halfvec_binary, vector_binary

COPY_COLUMNS = ("id", "document", "position", "text", "metadata", "embedding")

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # then no flags and no header extension
_TRAILER = b"\xff\xff"
EMPTY_COPY = len(_SIGNATURE) + len(_TRAILER)
"""Bytes of a stream without a row."""
_NULL = b"\xff\xff\xff\xff"  # a length of -1
_JSONB = b"\x01"  # its version, before its text
_first_length = partial(struct.Struct(">hi").pack, len(COPY_COLUMNS))  # a row begins with its number of columns
_length = struct.Struct(">i").pack

PIECE = 64 * 1024
"""Bytes that are packed at a time, in a millisecond or less; other tasks of the event loop run between two pieces."""


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
    binary, width = (vector_binary, 4) if type == "vector" else (halfvec_binary, 2)
    directed = metric == "cosine"
    piece = bytearray(_SIGNATURE)
    vector_length = _length(4 + width * dimensions)
    for chunk in chunks:
        try:
            id = check_text("id", chunk.id)
            document = check_text("key of the document", chunk.document)
            text = check_text("text", chunk.text)
            metadata = metadata_json(chunk)
            position = check_position(chunk.position)
            if chunk.embedding is None:
                vector: tuple[bytes, ...] = (_NULL,)
            else:
                vector = (vector_length, binary(chunk.embedding, dimensions, directed))
            fields = (
                *(_first_length(len(id)), id, _length(len(document)), document, position),
                *(_length(len(text)), text, _length(1 + len(metadata)), _JSONB, metadata),
                *vector,
            )
        except ArgumentError as error:
            raise about(error, chunk) from error.__cause__
        piece += b"".join(fields)
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece + _TRAILER)
