"""Cut text and Markdown into chunks, at headings, paragraphs, sentences or words.

The splitter takes time quadratic in the length of a text, and of a line without spaces (Thai, minified code). So a long
text is given to it in parts: in blocks of many chunks, and a long line or a long fence of code in parts of a few
chunks. Each part ends at the best boundary that the splitter finds there, and never within a grapheme.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..errors import ArgumentError, MissingExtraError
from ..storage import check_text

__all__ = ("Piece", "pieces", "split")

CHUNKS_OF_A_BLOCK = 128
CHUNKS_OF_A_LINE = 16
"""About how many chunks a part of a text, or of a line, has. So cutting a chunk takes the same time in any text."""
SHORTEST_LINE = 2000
"""The most characters of a line that is never given in parts, however small the chunks are."""

_LINE = re.compile(r"[^\r\n]+")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\r\n]*)", re.MULTILINE)

Splitter: TypeAlias = Callable[..., Any]
"""A class of `semantic_text_splitter`."""
Span: TypeAlias = tuple[int, int]
"""The start and the end of a part of a text."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text."""

    text: str
    """The piece itself, without surrounding white space."""
    start: int
    """The position of its first character in the text."""


def split(text: str, *, format: Literal["text", "markdown"] = "text", chunk_size: int = 800) -> list[Piece]:
    """Cut `text` into pieces of at most `chunk_size` characters, at headings, paragraphs, sentences or words.

    The time is proportional to the length of the text.

    Args:
        text: the text to cut.
        format: `"markdown"` knows headings, lists and code.
        chunk_size: the most characters of a piece; at least 1.

    Returns:
        The pieces in order; none for a text that is only white space.

    Raises:
        ArgumentError: if `chunk_size` is below 1, `format` is invalid, or the text holds a NUL character or is not
            valid Unicode.
        MissingExtraError: if the extra `local` is not installed.
    """
    return list(pieces(text, format=format, chunk_size=chunk_size))


def pieces(text: str, *, format: Literal["text", "markdown"] = "text", chunk_size: int = 800) -> Iterator[Piece]:
    """The pieces of :func:`split`, one by one. Each step takes milliseconds, however long the text is."""
    if chunk_size < 1:
        raise ArgumentError(f"chunk_size is {chunk_size}; a piece needs at least 1, and a few hundred search well")
    if format not in ("text", "markdown"):
        raise ArgumentError(
            f"format is {format!r}; give 'text' or 'markdown', or let preheat.retrieval.extract read it"
        )
    check_text("text", text)
    try:
        from semantic_text_splitter import MarkdownSplitter, TextSplitter
    except ImportError as error:
        raise MissingExtraError("cutting texts into chunks", "local") from error
    longest = max(CHUNKS_OF_A_LINE * chunk_size, SHORTEST_LINE)
    block = max(CHUNKS_OF_A_BLOCK * chunk_size, longest)
    for span, is_code in _code_apart(text, longest) if format == "markdown" else [((0, len(text)), True)]:
        splitter: Splitter = TextSplitter if is_code else MarkdownSplitter
        cut = splitter(chunk_size).chunk_indices
        for outer in _parts(text, span, splitter, block):
            for start, end in _long_lines_apart(text, outer, TextSplitter, longest):
                for offset, piece in cut(text[start:end]):
                    if piece.strip():
                        yield Piece(piece, start + offset)


def _parts(text: str, span: Span, splitter: Splitter, size: int) -> Iterator[Span]:
    """Divide a span into parts of at most `size` characters, each as long as the boundaries of the text allow."""
    start, end = span
    cut = splitter(size, trim=False).chunk_indices
    while end - start > size:
        taken = 0
        for _, part in cut(text[start : min(start + 2 * size, end)]):
            yield start + taken, start + taken + len(part)
            taken += len(part)
            if taken >= size // 2:  # a short part takes as much time as a long one, so take the next part as well
                break
        start += taken
    yield start, end


def _long_lines_apart(text: str, span: Span, splitter: Splitter, size: int) -> Iterator[Span]:
    """Divide a span so that each line of more than `size` characters is in parts of its own."""
    start, end = span
    for line in _LINE.finditer(text, start, end):
        if line.end() - line.start() > size:
            yield start, line.start()
            yield from _parts(text, line.span(), splitter, size)
            start = line.end()
    yield start, end


def _code_apart(text: str, size: int) -> Iterator[tuple[Span, bool]]:
    """Divide Markdown so that each fence of more than `size` characters is a span of its own, and say whether a span is
    one. A part of a fence cannot be parsed as Markdown: its code is not, and its end looks like another beginning."""
    start, opened = 0, None
    for fence in _FENCE.finditer(text) if len(text) > size else ():
        mark, rest = fence.groups()
        if opened is None:
            opened = None if mark[0] == "`" and "`" in rest else fence
        elif mark.startswith(opened[1]) and not rest.strip():
            if fence.end() - opened.start() > size:
                yield (start, opened.start()), False
                yield (opened.start(), fence.end()), True
                start = fence.end()
            opened = None
    if opened is not None and len(text) - opened.start() > size:  # open to the end
        yield (start, opened.start()), False
        yield (opened.start(), len(text)), True
    else:
        yield (start, len(text)), False
