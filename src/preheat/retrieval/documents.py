"""Documents: texts with a key, which are cut into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from anyio import from_thread, to_thread

from ..errors import ArgumentError
from ..storage import Chunk, numbered
from .chunking import pieces

__all__ = ("Document",)

T = TypeVar("T")


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
        return numbered(list(self.cut(chunk_size)))

    def cut(self, chunk_size: int = 800) -> Iterator[Chunk]:
        """The chunks one by one, so that a worker thread can stop in between. Chunks with the same text have the same
        id."""
        try:
            if not isinstance(self.metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArgumentError(f"the metadata is {self.metadata!r:.100}; give a dict")
            for position, piece in enumerate(pieces(self.text, format=self.format, chunk_size=chunk_size)):
                yield Chunk(piece.text, None, {**self.metadata, "start": piece.start}, self.key, position)
        except ArgumentError as error:
            told = ArgumentError(f"document {self.key!r:.100}: {error}")
            told.document = self.key
            raise told from None

    async def in_thread(self, chunk_size: int, then: Callable[[list[Chunk]], T]) -> T:
        """Call `then` with the chunks, in the worker thread that cuts them.

        Cancellation: leaves at once; the thread stops soon after.
        """

        def work() -> T:
            chunks: list[Chunk] = []
            for chunk in self.cut(chunk_size):
                from_thread.check_cancelled()
                chunks.append(chunk)
            return then(numbered(chunks))

        return await to_thread.run_sync(work, abandon_on_cancel=True)
