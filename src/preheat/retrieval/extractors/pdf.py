"""PDF to text, by PDFium, the reader of Chrome. It is quick, and lets other Python threads run meanwhile."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from ...errors import ExtractionError, MissingExtraError

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

__all__ = ("PdfText", "read_pdf")

_PDFIUM = Lock()
"""PDFium is not thread-safe, even if each thread has a document of its own."""

WRONG_PASSWORD = 4
"""The error code of PDFium for a missing password (FPDF_ERR_PASSWORD)."""
HIDDEN = 2 | 32
"""The flags of a hidden field (FPDF_ANNOT_FLAG_HIDDEN, FPDF_ANNOT_FLAG_NOVIEW)."""
IS_PASSWORD = 1 << 13
"""The flag of a text field for a password (ISO 32000-1, table 228)."""


@dataclass(frozen=True, slots=True)
class PdfText:
    """The text of a PDF."""

    pages: list[str]
    """The text of each page, with the values of its forms; empty for a page of pictures."""
    title: str
    """The title in the metadata; empty if there is none."""


def read_pdf(name: str, data: bytes) -> PdfText:
    """Read a PDF page by page.

    Raises:
        ExtractionError: if the file is not a PDF, is damaged, or needs a password.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        from pypdfium2 import PdfDocument, PdfiumError
    except ImportError as error:
        raise MissingExtraError("reading PDF", "documents") from error
    with _PDFIUM:
        try:
            with closing(PdfDocument(data)) as document:
                document.init_forms()
                pages = [_page_text(document, number) for number in range(len(document))]
                return PdfText(pages, " ".join(document.get_metadata_value("Title").split()))
        except PdfiumError as error:
            if error.err_code == WRONG_PASSWORD:
                raise ExtractionError(name, "is an encrypted PDF; save it without a password first") from None
            raise ExtractionError(name, "is not a PDF, or a damaged one") from error


def _page_text(document: PdfDocument, number: int) -> str:
    with closing(document[number]) as page, closing(page.get_textpage()) as text:
        found = text.get_text_bounded()
        filled = [line for line in _filled_in(document, page) if line]
    whole = found.replace("\x02", "")  # PDFium marks a word that is hyphenated at the end of a line
    lines = "\n".join(line.rstrip() for line in whole.replace("\r", "").split("\n")).strip()
    return "\n\n".join(part for part in (lines, "\n".join(filled)) if part)


def _filled_in(document: PdfDocument, page: Any) -> Iterator[str]:
    """The values of the form fields of a page, each with its name, and the text in boxes."""
    import pypdfium2.raw as pdfium

    form = document.formenv
    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        try:
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            if pdfium.FPDFAnnot_GetFlags(annotation) & HIDDEN:
                continue
            if kind == pdfium.FPDF_ANNOT_FREETEXT:
                yield _text(partial(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents"))
            elif kind == pdfium.FPDF_ANNOT_WIDGET and form is not None:
                yield _field(form, annotation)
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _field(form: Any, annotation: Any) -> str:
    """A field as "name: value"; empty for an empty field, a button or a password."""
    import pypdfium2.raw as pdfium

    kind = pdfium.FPDFAnnot_GetFormFieldType(form, annotation)
    name = _text(partial(pdfium.FPDFAnnot_GetFormFieldAlternateName, form, annotation)) or _text(
        partial(pdfium.FPDFAnnot_GetFormFieldName, form, annotation)
    )
    if kind in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON):
        if not pdfium.FPDFAnnot_IsChecked(form, annotation):
            return ""
        value = _text(partial(pdfium.FPDFAnnot_GetFormFieldExportValue, form, annotation)) or "yes"
    elif kind == pdfium.FPDF_FORMFIELD_LISTBOX:
        options = range(pdfium.FPDFAnnot_GetOptionCount(form, annotation))
        chosen = [place for place in options if pdfium.FPDFAnnot_IsOptionSelected(form, annotation, place)]
        value = ", ".join(_text(partial(pdfium.FPDFAnnot_GetOptionLabel, form, annotation, place)) for place in chosen)
    elif kind in (pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX):
        if (
            pdfium.FPDFAnnot_GetFormFieldFlags(form, annotation) & IS_PASSWORD
            and kind == pdfium.FPDF_FORMFIELD_TEXTFIELD
        ):
            return ""
        value = _text(partial(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation))
    else:
        return ""
    return f"{name}: {value}" if name and value else value


def _text(read: Callable[..., int]) -> str:
    """The text that a function of PDFium writes into a buffer, as UTF-16."""
    import pypdfium2.raw as pdfium

    size = read(None, 0)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    read(ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), size)
    lines = buffer.raw[: size - 2].decode("utf-16-le", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return lines.strip("\0\n ")
