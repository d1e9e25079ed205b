"""PDF to text by PDFium, the reader that Chrome has: quick, and at work while Python does something else."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from ...errors import ExtractionError, MissingExtraError

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

__all__ = ("PdfText", "read_pdf")

_PDFIUM = Lock()
"""PDFium is not made for several threads, not even with a document each."""

WRONG_PASSWORD = 4
"""PDFium's number for a document that asks for a password (FPDF_ERR_PASSWORD)."""


@dataclass(frozen=True, slots=True)
class PdfText:
    """What a PDF says."""

    pages: list[str]
    """The text of each page; empty where there are only pictures."""
    title: str
    """What the document says of itself; empty if it says nothing."""


def read_pdf(name: str, data: bytes) -> PdfText:
    """The text of a PDF, page by page.

    Raises:
        ExtractionError: if it is damaged, or encrypted with a password.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        from pypdfium2 import PdfDocument, PdfiumError
    except ImportError as error:
        raise MissingExtraError("reading PDF", "documents") from error
    with _PDFIUM:
        try:
            with closing(PdfDocument(data)) as document:
                pages = [_page_text(document, number) for number in range(len(document))]
                return PdfText(pages, " ".join(document.get_metadata_value("Title").split()))
        except PdfiumError as error:
            if error.err_code == WRONG_PASSWORD:
                raise ExtractionError(name, "is an encrypted PDF; save it without a password first") from None
            raise ExtractionError(name, "is not a PDF, or a damaged one") from error


def _page_text(document: PdfDocument, number: int) -> str:
    with closing(document[number]) as page, closing(page.get_textpage()) as text:
        found = text.get_text_bounded()
    whole = found.replace("\x02", "")  # PDFium's mark where a word was divided at the end of a line
    return "\n".join(line.rstrip() for line in whole.replace("\r", "").split("\n")).strip()
