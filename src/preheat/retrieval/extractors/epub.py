"""E-books to Markdown: the pages of an EPUB in reading order."""

from __future__ import annotations

from posixpath import dirname, join, normpath
from typing import Any
from urllib.parse import unquote

from ...errors import ExtractionError, MissingExtraError
from .archives import Unpacked, reading
from .html import markdown_of

__all__ = ("read_epub",)

WHAT = "an EPUB"
FONTS_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def read_epub(name: str, data: bytes) -> tuple[str, str]:
    """Convert an EPUB to Markdown. The second value is its title, which may be empty.

    Raises:
        ExtractionError: if the file is not an EPUB, or is damaged, protected or too large.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise MissingExtraError("reading EPUB", "documents") from error
    with reading(name, WHAT), Unpacked(name, data, WHAT) as archive:
        entries = set(archive.namelist())
        if "META-INF/encryption.xml" in entries:
            methods = _parsed(etree, archive, "META-INF/encryption.xml").iterfind(
                ".//{*}EncryptedData/{*}EncryptionMethod"
            )
            if any(method.get("Algorithm") not in FONTS_ONLY for method in methods):
                raise ExtractionError(name, "is protected against copying (DRM), so its text cannot be read")
        package = str(_parsed(etree, archive, "META-INF/container.xml").find(".//{*}rootfile").get("full-path"))
        book = _parsed(etree, archive, package)
        places = {item.get("id"): item.get("href", "") for item in book.iterfind(".//{*}manifest/{*}item")}
        pages: list[str] = []
        for item in book.iterfind(".//{*}spine/{*}itemref"):
            place = normpath(join(dirname(package), unquote(places.get(item.get("idref"), "").partition("#")[0])))
            if place in entries:
                pages.append(markdown_of(archive.read(place))[0])
        title = book.findtext(".//{http://purl.org/dc/elements/1.1/}title") or ""
        return "\n\n".join(page for page in pages if page), str(title)


def _parsed(etree: Any, archive: Unpacked, entry: str) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    return etree.fromstring(archive.read(entry), parser)
