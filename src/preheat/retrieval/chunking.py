"""Text and Markdown to chunks, cut where the text itself has its seams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..errors import ArgumentError, MissingExtraError
from ..storage.encoding import check_text

__all__ = ("Piece", "split")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text."""

    text: str
    """The piece itself, without surrounding white space."""
    start: int
    """Where it begins in the text, in characters."""


def split(text: str, *, format: Literal["text", "markdown"] = "text", characters: int = 800) -> list[Piece]:
    """Cut `text` into pieces of at most `characters` characters, at headings, paragraphs, sentences or words.

    Args:
        text: the text to cut.
        format: `"markdown"` knows headings, lists and code.
        characters: the most characters of a piece; at least 1.

    Returns:
        The pieces in order; none for a text that is only white space.

    Raises:
        ArgumentError: if `characters` is below 1, or the text holds a NUL character or is not valid Unicode.
        MissingExtraError: if the extra `local` is not installed.
    """
    if characters < 1:
        raise ArgumentError(f"characters is {characters}; a piece needs at least 1, and a few hundred search well")
    check_text("text", text)
    try:
        from semantic_text_splitter import MarkdownSplitter, TextSplitter
    except ImportError as error:
        raise MissingExtraError("cutting texts into chunks", "local") from error
    cut: Callable[[str], list[tuple[int, str]]]
    cut = (MarkdownSplitter if format == "markdown" else TextSplitter)(characters).chunk_indices
    return [Piece(piece, start) for start, piece in cut(text) if piece.strip()]
