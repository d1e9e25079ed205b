"""Extract the text of a file: recognize its format, and call the reader of the format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ...errors import ExtractionError
from .encodings import text_of
from .unreadable import remedy_of_bytes, remedy_of_name

__all__ = ("SUFFIXES", "Extracted", "FileFormat", "extract", "format_of")

FileFormat: TypeAlias = Literal["text", "markdown", "html", "pdf", "docx", "pptx", "xlsx", "epub", "ipynb"]
"""The format of a file."""

SUFFIXES: Mapping[str, FileFormat] = MappingProxyType(
    {
        **dict.fromkeys((".txt", ".text", ".rst", ".adoc", ".org", ".log"), "text"),
        **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), "markdown"),
        **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
        ".pdf": "pdf",
        **dict.fromkeys((".docx", ".docm"), "docx"),
        **dict.fromkeys((".pptx", ".pptm"), "pptx"),
        **dict.fromkeys((".xlsx", ".xlsm"), "xlsx"),
        ".epub": "epub",
        ".ipynb": "ipynb",
    }
)
"""The formats by the suffixes of file names."""

_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f\ufffe\uffff]")
"""Control characters except tab and line feed, and two code points that are not characters."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a file."""

    key: str
    """The name of the file, as it was given."""
    text: str
    """The text, unchanged or converted to Markdown."""
    metadata: Mapping[str, Any]
    """The `title`, if the file has one, and the number of `pages` of a PDF."""
    format: Literal["text", "markdown"]
    """The format of the text; see :meth:`preheat.ResearchRetriever.add`."""


def format_of(name: str) -> FileFormat | None:
    """The format by the suffix of a file's name; None if the suffix is not known."""
    return SUFFIXES.get(PurePath(name).suffix.lower())


def extract(name: str, data: bytes, *, format: FileFormat | None = None) -> Extracted:
    """Extract the text of a file from its bytes.

    Text and Markdown are UTF-8, or UTF-16 or UTF-32 with a byte order mark. HTML becomes Markdown: headings, lists,
    tables and code are kept; scripts, styles, menus, page footers and hidden text are left out. If the page has one
    main part, everything outside of it is left out as well. Word documents, presentations, workbooks, EPUB and Jupyter
    notebooks also become Markdown. A PDF becomes the text of its pages, with the values of its forms. The extra
    `documents` installs the readers of all of these formats except notebooks.

    A large file takes a while: call this in a worker thread. Several calls may run at the same time.

    Args:
        name: the name of the file; it is in the errors, and it is the key of the result.
        data: the contents of the file.
        format: the format of the file; by default the suffix of the name decides, and otherwise the first bytes.

    Returns:
        The text; empty for an empty text file.

    Raises:
        ExtractionError: if the format is not supported, the file has another format than it says, is damaged or
            encrypted, or a file other than a text file has no text.
        MissingExtraError: if the extra `documents` is not installed and the file needs it.
    """
    found = format or format_of(name) or _guess(name, data)
    match found:
        case "html":
            from .html import markdown_of

            markdown, title = markdown_of(data)
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
                    name, "is a PDF without text, of pictures perhaps; have their text recognized (OCR) first"
                )
            return Extracted(name, text, _about(title=_clean(pdf.title), pages=len(pdf.pages)), "text")
        case "text" | "markdown":
            if format is None and (remedy := remedy_of_bytes(data)):
                raise ExtractionError(name, remedy)
            return Extracted(name, text_of(name, data), {}, found)
        case _:
            markdown, title = _document(name, data, found)
            if not markdown:
                raise ExtractionError(
                    name, "holds no text; if it holds pictures, have their text recognized (OCR) first"
                )
            return Extracted(name, markdown, _about(title=_clean(title)), "markdown")


def _document(name: str, data: bytes, format: FileFormat) -> tuple[str, str]:
    """Convert a document to Markdown; its title is the second value."""
    from .html import markdown_of

    match format:
        case "docx":
            from .word import read_word as read
        case "pptx":
            from .slides import read_slides as read
        case "xlsx":
            from .sheets import read_sheets as read
        case "epub":
            from .epub import read_epub as read
        case _:
            from .notebook import read_notebook as read
    text, title = read(name, data)
    if format in ("docx", "pptx", "xlsx"):
        text, _ = markdown_of(text.encode(errors="replace"))
    return _clean(text), title


def _guess(name: str, data: bytes) -> FileFormat:
    """The format by the first bytes.

    Raises:
        ExtractionError: if the format is not supported.
    """
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"%pdf-"):
        return "pdf"
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    if data.startswith(b"PK"):
        from .archives import archive_kind

        if kind := archive_kind(data):
            return kind
    if remedy := remedy_of_name(name) or remedy_of_bytes(data):
        raise ExtractionError(name, remedy)
    return "text"


def _clean(text: str) -> str:
    return _CONTROL.sub("", text).strip()


def _about(**values: str | int) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
