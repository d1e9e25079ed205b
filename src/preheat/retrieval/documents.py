"""Documents: texts with a key, which are cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from anyio import from_thread, to_thread

from ..errors import ArgumentError
from ..storage import Chunk, numbered
from .chunking import pieces

__all__ = ("Document", "cut", "cut_in_thread")


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is stored under a key, cut into chunks."""

    key: str
    """Identifies the document in its collection, such as a path. Storing another text under the same key replaces the
    document."""
    text: str = field(repr=False)
    """Its text. Storing an empty text deletes the document."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Anything that JSON can hold. Each chunk gets it, together with `start`, the position of the chunk in the text."""
    format: Literal["text", "markdown"] = "text"
    """`"markdown"` is cut at headings, lists and code."""

    def chunks(self, chunk_size: int = 800) -> list[Chunk]:
        """Its chunks, each of at most `chunk_size` characters, without embeddings. A text that occurs several times
        becomes as many chunks, each with an id of its own.

        Raises:
            ArgumentError: if `chunk_size` is below 1.
            MissingExtraError: if the extra `local` is not installed.
        """
        return numbered(list(cut(self, chunk_size)))


def cut(document: Document, chunk_size: int) -> Iterator[Chunk]:
    """The chunks of a document one by one, so that a worker thread can stop in between. Chunks with the same text have
    the same id.

    Raises:
        ArgumentError: if the document cannot be stored. The error names it.
    """
    try:
        if not isinstance(document.metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"the metadata is {document.metadata!r:.100}; give a dict")
        for position, piece in enumerate(pieces(document.text, format=document.format, chunk_size=chunk_size)):
            yield Chunk(piece.text, None, {**document.metadata, "start": piece.start}, document.key, position)
    except ArgumentError as error:
        told = ArgumentError(f"document {document.key!r:.100}: {error}")
        told.document = document.key
        raise told from None


async def cut_in_thread(document: Document, chunk_size: int) -> list[Chunk]:
    """The chunks of a document, cut in a worker thread.

    Cancellation: leaves at once; the thread stops soon after.
    """

    def work() -> list[Chunk]:
        chunks: list[Chunk] = []
        for chunk in cut(document, chunk_size):
            from_thread.check_cancelled()
            chunks.append(chunk)
        return numbered(chunks)

    return await to_thread.run_sync(work, abandon_on_cancel=True)
