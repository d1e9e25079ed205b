"""Word documents to HTML, by mammoth."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from zipfile import ZipFile

from ...errors import MissingExtraError
from .archives import Unpacked, reading

__all__ = ("read_word",)

WHAT = "a Word document (.docx)"
STRUCK = "strike => s"
"""Makes mammoth mark struck-out text. It leaves out tracked deletions by itself."""


def read_word(name: str, data: bytes) -> tuple[str, str]:
    """Convert a Word document to HTML. The second value is its title, which may be empty.

    Raises:
        ExtractionError: if the file is not a Word document, or is damaged, encrypted or too large.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        import mammoth
        from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise MissingExtraError("reading Word documents", "documents") from error
    with reading(name, WHAT), Unpacked(name, data, WHAT) as archive:
        shown = _without_hidden_text(etree, archive, data)
        options: dict[str, Any] = {"style_map": STRUCK, "convert_image": mammoth.images.img_element(lambda _: {})}
        body: str = mammoth.convert_to_html(BytesIO(shown), **options).value
        return body, core_title(etree, archive)


def core_title(etree: Any, archive: Unpacked) -> str:
    """The title in the properties of an Office document."""
    if "docProps/core.xml" not in archive.namelist():
        return ""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    core = etree.fromstring(archive.read("docProps/core.xml"), parser)
    return str(core.findtext("{http://purl.org/dc/elements/1.1/}title") or "")


def _without_hidden_text(etree: Any, archive: Unpacked, data: bytes) -> bytes:
    """The document without its hidden text, which mammoth would write."""
    part = "word/document.xml"
    if part not in archive.namelist() or not any(mark in archive.read(part) for mark in (b"w:vanish", b"w:dstrike")):
        return data
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    body = etree.fromstring(archive.read(part), parser)
    space = {"w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main"}
    off = "[not(@w:val='0' or @w:val='false')]"
    for run in body.xpath(f"//w:r[w:rPr/w:vanish{off} or w:rPr/w:dstrike{off}]", namespaces=space):
        run.getparent().remove(run)
    rewritten = BytesIO()
    with ZipFile(rewritten, "w") as out:
        for entry in archive.namelist():
            out.writestr(entry, etree.tostring(body) if entry == part else archive.read(entry))
    return rewritten.getvalue()
