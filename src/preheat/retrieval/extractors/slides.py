"""Presentations to HTML, by python-pptx: the text, tables, picture descriptions and notes of each slide."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from io import BytesIO
from typing import Any

from ...errors import MissingExtraError
from .archives import Unpacked, reading

__all__ = ("read_slides",)

WHAT = "a presentation (.pptx)"


def read_slides(name: str, data: bytes) -> tuple[str, str]:
    """Convert a presentation to HTML, without hidden slides. The second value is its title, which may be empty.

    Raises:
        ExtractionError: if the file is not a presentation, or is damaged, encrypted or too large.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        from pptx import Presentation
    except ImportError as error:
        raise MissingExtraError("reading presentations", "documents") from error
    with reading(name, WHAT):
        Unpacked(name, data, WHAT).close()
        presentation = Presentation(BytesIO(data))
        shown = (slide for slide in presentation.slides if slide._element.get("show") != "0")
        return "".join(part for slide in shown for part in _slide(slide)), presentation.core_properties.title or ""


def _slide(slide: Any) -> Iterator[str]:
    title = slide.shapes.title
    if title is not None and title.has_text_frame and title.text_frame.text.strip():
        yield f"<h2>{escape(' '.join(title.text_frame.text.split()))}</h2>"
    for shape in slide.shapes:
        if title is None or shape.shape_id != title.shape_id:
            yield from _shape(shape)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        yield from _paragraphs(slide.notes_slide.notes_text_frame, "Notes: ")


def _shape(shape: Any) -> Iterator[str]:
    described = shape._element.xpath(".//p:cNvPr")[:1]
    if described and described[0].get("hidden") in ("1", "true"):
        return
    if hasattr(shape, "shapes"):  # a group
        for one in shape.shapes:
            yield from _shape(one)
    elif getattr(shape, "has_table", False):
        yield from _table(shape.table)
    elif getattr(shape, "has_text_frame", False) and shape.text_frame.text.strip():
        yield from _paragraphs(shape.text_frame)
    elif described and (described[0].get("descr") or "").strip():
        yield f"<p>{escape(described[0].get('descr'))}</p>"


def _paragraphs(frame: Any, before: str = "") -> Iterator[str]:
    for paragraph in frame.paragraphs:
        if text := _text(paragraph):
            yield f"<p>{escape(before)}{text}</p>"
            before = ""


def _text(paragraph: Any) -> str:
    """The text of a paragraph, without struck-out text."""
    words = ""
    for child in paragraph._p:
        kind = child.tag.rpartition("}")[2]
        if kind == "br":
            words += "<br>"
        elif kind in ("r", "fld"):
            struck = any(mark.get("strike") in ("sngStrike", "dblStrike") for mark in child.xpath("./a:rPr"))
            words += "" if struck else escape("".join(child.xpath("./a:t/text()")).replace("\v", " "))
    return words.strip()


def _table(table: Any) -> Iterator[str]:
    yield "<table>"
    for row in table.rows:
        yield "<tr>"
        for cell in row.cells:
            if not cell.is_spanned:
                spans = f" rowspan={cell.span_height} colspan={cell.span_width}" if cell.is_merge_origin else ""
                yield f"<td{spans}>{''.join(_paragraphs(cell.text_frame))}</td>"
        yield "</tr>"
    yield "</table>"
