"""The chunks of a batch: their types, distinct ids for repeated texts, and the chunk that is too long to index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from ...errors import ArgumentError
from ..models import Chunk, derived_id
from ..validation import about

INDEXED_BYTES = 2600
"""What an entry of a B-tree holds of an id, or of a document and a position, whatever they are; PostgreSQL's pages have
8 KiB."""


def numbered(chunks: list[Chunk]) -> list[Chunk]:
    """The chunks, with ids of their own for those that have the document, the text and the derived id of another one:
    counted in the order of their positions, so that the first keeps its id and each has the same the next time."""
    counts = Counter(chunk.id for chunk in chunks)
    if len(counts) == len(chunks):
        return chunks
    repeated: dict[str, list[int]] = {}
    for index, chunk in enumerate(chunks):
        if counts[chunk.id] > 1 and chunk.id == derived_id(chunk.document, chunk.text):
            repeated.setdefault(chunk.id, []).append(index)
    chunks = list(chunks)
    for indexes in repeated.values():
        with suppress(TypeError):  # a position that is not a number is told when the chunk is packed
            indexes.sort(key=lambda index: chunks[index].position)
        occurrence = 1
        for index in indexes[1:]:
            chunk = chunks[index]
            occurrence += 1
            while (id := derived_id(chunk.document, chunk.text, occurrence)) in counts:
                occurrence += 1
            chunks[index] = replace(chunk, id=id)
    return chunks


def list_of(given: Iterable[Chunk]) -> list[Chunk]:
    """A list of the chunks, whose items are not checked.

    Raises:
        ArgumentError: if `given` is not iterable.
    """
    if not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"the chunks are {given!r:.100}; give a list of preheat.Chunk(text, embedding)")
    return list(given)


def as_chunks(given: Iterable[Chunk]) -> list[Chunk]:
    """The chunks of a batch, with ids of their own for those of the same text; see :func:`numbered`.

    Raises:
        ArgumentError: if one of them is not a chunk, or has an id that is not a string, or `given` is not iterable.
    """
    chunks = list_of(given)
    for index, chunk in enumerate(chunks):
        if not isinstance(chunk, Chunk):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"item {index} of the batch is {chunk!r:.100}; give preheat.Chunk(text, embedding)")
        if not isinstance(chunk.id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise about(ArgumentError(f"the id is {chunk.id!r:.100}; give a string or a UUID"), chunk, index)
    return numbered(chunks)


def too_long(chunks: Sequence[Chunk]) -> ArgumentError | None:
    """The error for a chunk whose id or document is too long for an index, if there is one. The server names the index,
    not the chunk. Its indexes hold a longer text if it can be compressed."""
    lengths = [(len(value.encode()), what, index) for index, chunk in enumerate(chunks) for what, value in _keys(chunk)]
    length, what, index = max(lengths, default=(0, "", 0))
    if length <= INDEXED_BYTES:
        return None
    error = ArgumentError(f"the {what} has {length:,} bytes; give one of at most {INDEXED_BYTES:,}, as it is indexed")
    return about(error, chunks[index], index)


def _keys(chunk: Chunk) -> tuple[tuple[str, str], ...]:
    return ("id", chunk.id), ("key of the document", chunk.document)
