"""Texts with a key, on their way into a collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..storage import Chunk
from .chunking import split

__all__ = ("Document",)


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is stored under a key, cut into chunks."""

    key: str
    """What tells it from all other documents of the collection, such as a path: storing another text under the same key
    replaces it."""
    text: str = field(repr=False)
    """Its text. Without any, what is stored under the key is deleted."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Anything that JSON can hold; given to each of its chunks, beside `start`, where the chunk begins in the text."""
    format: Literal["text", "markdown"] = "text"
    """`"markdown"` is cut at headings, lists and code."""

    def chunks(self, characters: int = 800) -> list[Chunk]:
        """Its chunks, each of at most `characters` characters, without embeddings.

        Raises:
            ArgumentError: if `characters` is below 1.
            MissingExtraError: if the extra `local` is not installed.
        """
        return [
            Chunk(piece.text, None, {**self.metadata, "start": piece.start}, self.key, position)
            for position, piece in enumerate(split(self.text, format=self.format, characters=characters))
        ]
