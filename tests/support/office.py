"""Documents as small as they can be, most of them written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_LINKS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def archive(entries: Mapping[str, str | bytes]) -> bytes:
    """A zip file."""
    out = BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as file:
        for name, text in entries.items():
            file.writestr(ZipInfo(name), text, ZIP_DEFLATED)  # without the time, so that the bytes are always the same
    return out.getvalue()


def docx(body: str, *, title: str = "", before: str = "") -> bytes:
    """A Word document with this in its body, and something before its root."""
    return archive(
        {
            "[Content_Types].xml": f'<Types xmlns="{_TYPES}"><Default Extension="xml" ContentType="application/xml"/>'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            "</Types>",
            "_rels/.rels": f'<Relationships xmlns="{_LINKS}"><Relationship Id="r1" Type="{_OFFICE}/officeDocument" '
            'Target="word/document.xml"/></Relationships>',
            "word/document.xml": f'{before}<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>',
            "word/styles.xml": f'<w:styles xmlns:w="{_WORD}"><w:style w:type="paragraph" w:styleId="H1">'
            '<w:name w:val="heading 1"/></w:style></w:styles>',
            "word/_rels/document.xml.rels": f'<Relationships xmlns="{_LINKS}"><Relationship Id="r1" '
            f'Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
            "docProps/core.xml": f'<p xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></p>',
        }
    )


def run(text: str, *marks: str) -> str:
    """A run of a Word document, with properties such as `strike`."""
    return (
        f"<w:r><w:rPr>{''.join(f'<w:{mark}/>' for mark in marks)}</w:rPr><w:t xml:space='preserve'>{text}</w:t></w:r>"
    )


def paragraph(*runs: str, style: str = "") -> str:
    """A paragraph of a Word document."""
    return f"<w:p><w:pPr>{f'<w:pStyle w:val={style!r}/>' if style else ''}</w:pPr>{''.join(runs)}</w:p>"


def epub(
    pages: Mapping[str, str], spine: Sequence[str], *, title: str = "", more: Mapping[str, str] | None = None
) -> bytes:
    """An EPUB with these pages, read in this order."""
    items = "".join(f'<item id="i{number}" href="{name}"/>' for number, name in enumerate(pages))
    order = "".join(f'<itemref idref="i{list(pages).index(name)}"/>' for name in spine)
    package = '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
    package += f"<dc:title>{title}</dc:title></metadata><manifest>{items}</manifest><spine>{order}</spine></package>"
    where = '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'{where}full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": package,
            **{f"OEBPS/{name}": text for name, text in pages.items()},
            **(more or {}),
        }
    )


def notebook(*cells: tuple[str, Any]) -> bytes:
    """A Jupyter notebook with cells of these types."""
    written = [{"cell_type": kind, "source": source, "outputs": [{"text": ["put out"]}]} for kind, source in cells]
    about = {"language_info": {"name": "python"}}
    return json.dumps({"nbformat": 4, "metadata": about, "cells": written}).encode()


def pptx() -> bytes:
    """A presentation with two slides that are shown, and one that is not."""
    from pptx import Presentation
    from pptx.util import Inches

    show = Presentation()
    show.core_properties.title = "Kettles at work"
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text = "How to boil"
    slide.placeholders[1].text = "Fill it\nSwitch it on"
    slide.placeholders[1].text_frame.add_paragraph().add_run().text = "struck"
    slide.placeholders[1].text_frame.paragraphs[2].runs[0]._r.get_or_add_rPr().set("strike", "sngStrike")
    slide.notes_slide.notes_text_frame.text = "Mind the steam."
    slide = show.slides.add_slide(show.slide_layouts[6])
    table = slide.shapes.add_table(2, 3, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for place, text in enumerate(("Price", "", "Note", "1", "2", "n | m")):
        table.cell(place // 3, place % 3).text = text
    table.cell(0, 0).merge(table.cell(0, 1))
    shape = slide.shapes.add_shape(1, Inches(1), Inches(3), Inches(1), Inches(1))
    shape._element.xpath(".//p:cNvPr")[0].set("descr", "a wiring diagram")
    hidden = show.slides.add_slide(show.slide_layouts[5])
    hidden.shapes.title.text = "Not shown"
    hidden._element.set("show", "0")
    out = BytesIO()
    show.save(out)
    return out.getvalue()


def xlsx() -> bytes:
    """A workbook with a sheet that is shown, and one that is not."""
    from datetime import date

    from openpyxl import Workbook
    from openpyxl.styles import Font

    book = Workbook()
    book.properties.title = "Plans"
    sheet = book.active
    sheet.title = "Limits"
    for row in (
        ["Plan", "Limit", "secret", "Since", "Share", "Sum"],
        ["Basic", 10, "x", date(2026, 1, 31), 0.125, "=B2+1"],
        [None, 20.5, "x", True, None, "struck"],
        [],
        ["hidden", 30, "x", None, None, None],
    ):
        sheet.append(row)
    sheet.merge_cells("A2:A3")
    sheet["E2"].number_format = "0.0%"
    sheet["F3"].font = Font(strike=True)
    sheet.column_dimensions["C"].hidden = True
    sheet.row_dimensions[5].hidden = True
    book.create_sheet("Secrets").append(["hidden"])
    book["Secrets"].sheet_state = "hidden"
    out = BytesIO()
    book.save(out)
    return out.getvalue()
