"""The bytes of a file to its text: which format it is, and who reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ...errors import ExtractionError
from .encodings import text_of

__all__ = ("SUFFIXES", "Extracted", "FileFormat", "extract", "format_of")

FileFormat: TypeAlias = Literal["text", "markdown", "html", "pdf"]
"""What the bytes of a file are."""

SUFFIXES: Mapping[str, FileFormat] = MappingProxyType(
    {
        **dict.fromkeys((".txt", ".text", ".rst", ".adoc", ".org", ".log"), "text"),
        **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), "markdown"),
        **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
        ".pdf": "pdf",
    }
)
"""The format that the end of a file's name stands for."""

_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f\ufffe\uffff]")
"""What no text has: the control characters but tab and line feed, and two that are no characters."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was found in a file."""

    key: str
    """The file's name, as it was given."""
    text: str
    """Its text: as it is, or Markdown made of HTML."""
    metadata: Mapping[str, Any]
    """Its `title` if an HTML page or a PDF has one, and how many `pages` a PDF has."""
    format: Literal["text", "markdown"]
    """How to cut the text; see :meth:`preheat.ResearchRetriever.add`."""


def format_of(name: str) -> FileFormat | None:
    """The format that the end of a file's name stands for; None if it is not known."""
    return SUFFIXES.get(PurePath(name).suffix.lower())


def extract(name: str, data: bytes, *, format: FileFormat | None = None) -> Extracted:
    """The text of a file from its bytes.

    Text and Markdown are UTF-8, or UTF-16 or UTF-32 with a byte order mark. HTML becomes Markdown: headings, lists,
    tables and code are kept; scripts, styles, menus and page footers are left out; if there is one main part, all
    that is around it is, too. A PDF becomes the text of its pages. The extra `documents` brings what reads these two.

    It takes a while for a large file: run it in a worker thread. Several may run at the same time.

    Args:
        name: the file's name; errors have it, and it is the key of what is returned.
        data: what is in the file.
        format: what the bytes are; by default what the end of the name stands for, else what the bytes begin with.

    Returns:
        The text, which is empty if a file of text is.

    Raises:
        ExtractionError: if the file is not of that format, is damaged or encrypted, or an HTML page or a PDF has no
            text.
        MissingExtraError: if the extra `documents` is not installed and the file is HTML or PDF.
    """
    match format or format_of(name) or _guess(data):
        case "html":
            from .html import markdown_of

            markdown, title = markdown_of(name, data)
            markdown = _clean(markdown)
            if data.strip() and not markdown:
                raise ExtractionError(
                    name, "is an HTML page without text; if a script fills it in the browser, save it from there"
                )
            return Extracted(name, markdown, _about(title=_clean(title)), "markdown")
        case "pdf":
            from .pdf import read_pdf

            pdf = read_pdf(name, data)
            text = _clean("\n\n".join(page for page in pdf.pages if page))
            if not text:
                raise ExtractionError(
                    name, "is a PDF without text, of pictures perhaps; have their text recognised (OCR) first"
                )
            return Extracted(name, text, _about(title=_clean(pdf.title), pages=len(pdf.pages)), "text")
        case "markdown":
            return Extracted(name, text_of(name, data), {}, "markdown")
        case "text":
            return Extracted(name, text_of(name, data), {}, "text")


def _guess(data: bytes) -> FileFormat:
    """The format that the bytes begin like."""
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"%pdf-"):
        return "pdf"
    return "html" if start.startswith((b"<!doctype html", b"<html")) else "text"


def _clean(text: str) -> str:
    return _CONTROL.sub("", text).strip()


def _about(**values: str | int) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
