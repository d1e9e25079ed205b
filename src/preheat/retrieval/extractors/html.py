"""HTML to Markdown: lxml reads the page, what nobody sees is taken out of it, and the rest is written."""

from __future__ import annotations

import codecs
import re
from typing import Any

from ...errors import ExtractionError, MissingExtraError

__all__ = ("markdown_of",)

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's mark, with which it begins
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
DECLARED = re.compile(
    rb"""(?:<\?xml\b[^>]{0,200}?encoding|<meta\b[^>]{0,500}?charset)\s*=\s*["']?\s*([^\s"'/;>]+)""", re.IGNORECASE
)
XHTML = re.compile(rb"\s*<\?xml\b|[^>]{0,500}<html\b[^>]{0,500}\bxmlns\s*=", re.IGNORECASE)

REFUSED = ("utf-16", "utf-32", "utf-7", "unicode", "raw", "idna", "punycode", "undefined")  # no page means these
TAKEN_FOR = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs"} | {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-9": "cp1254",
}
"""The larger encoding that browsers take one for (https://encoding.spec.whatwg.org/)."""
ALIASES = {"x-sjis": "cp932", "x-gbk": "gb18030", "x-euc-jp": "euc_jp", "macintosh": "mac_roman"}
DOCUMENT_TYPE = re.compile(r"<!DOCTYPE\b[^>\[]*(?:\[[^\]]*\][^>]*)?>", re.IGNORECASE)
HEAD = 10_000
"""How many characters of a page its document type is looked for in."""
NAMED = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
IN_XML = ("amp", "lt", "gt", "quot", "apos")
NO_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def markdown_of(name: str, data: bytes) -> tuple[str, str]:
    """An HTML page as Markdown, and its title, which may be empty.

    Raises:
        ExtractionError: if about two thousand elements are within each other.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise MissingExtraError("reading HTML", "documents") from error
    from .markdown import written
    from .visible import only_what_is_seen

    page = _parsed(etree, name, data)
    if page is None:
        return "", ""
    title = next((element.text for element in page.iter("title") if element.getparent().tag in ("head", "html")), "")
    main = only_what_is_seen(page)
    return (main is not None and written(main)) or written(page), " ".join((title or "").split())


def _parsed(etree: Any, name: str, data: bytes) -> Any:
    """The tree of a page, without comments; None if there is nothing in it."""
    text = NO_XML.sub("", _decoded(data))
    text = DOCUMENT_TYPE.sub("", text[:HEAD], count=1) + text[HEAD:]  # whatever it declares is not looked at
    options = {"encoding": "utf-8", "remove_comments": True, "remove_pis": True, "no_network": True}
    if XHTML.match(data[:2048]):  # an element may end in its own tag, <script/>, as it may not in HTML
        strict = etree.XMLParser(resolve_entities=False, load_dtd=False, **options)
        try:
            return _without_namespaces(etree.fromstring(_without_entities(text.strip()).encode(), strict))
        except etree.XMLSyntaxError:
            pass
    parser = etree.HTMLParser(huge_tree=True, **options)
    try:
        page = etree.fromstring(("<!DOCTYPE html>" + text).encode(errors="replace"), parser)
    except etree.ParserError:
        return None
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise ExtractionError(name, "cannot be read: its HTML nests too many elements within each other")
    return page


def _without_entities(text: str) -> str:
    """XHTML with characters in place of the names that HTML has for them."""
    from html.entities import html5

    def character(found: re.Match[str]) -> str:
        return found[0] if found[1] in IN_XML else html5.get(f"{found[1]};", found[0])

    return NAMED.sub(character, text)


def _without_namespaces(page: Any) -> Any:
    for element in page.iter("*"):
        element.tag = element.tag.rpartition("}")[2].lower()
    return page


def _decoded(data: bytes) -> str:
    """The characters of a page: by the byte order mark, or what the page declares.

    A page that says nothing is UTF-8 or else Windows-1252, and so is one whose bytes are plainly the other of these two
    than the one it declares. No other encoding is ever guessed. What cannot be decoded is replaced.
    """
    for mark, codec in MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, errors="replace")
    declared = DECLARED.search(data[:2048])
    said = _codec(declared[1].decode("ascii", errors="replace")) if declared else None
    if said is not None and said not in ("utf-8", "cp1252"):
        return data.decode(said, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
    wrong = text.count("\ufffd")
    right = sum(not character.isascii() for character in text) - wrong
    return data.decode("cp1252", errors="replace") if said == "cp1252" or right < wrong else text


def _codec(said: str) -> str | None:
    """Python's name of an encoding that a page declares; None if no page can mean it."""
    try:
        codec = codecs.lookup(ALIASES.get(said.lower(), said)).name
        "".encode(codec)
    except (LookupError, ValueError):  # there is no such encoding, or it is not one of text
        return None
    return None if codec.startswith(REFUSED) else TAKEN_FOR.get(codec, codec)
