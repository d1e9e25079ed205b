"""HTML to Markdown: Beautiful Soup reads the page, markdownify writes it."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...errors import ExtractionError, MissingExtraError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

__all__ = ("markdown_of",)

NOISE = {
    *("script", "style", "noscript", "template", "title", "svg", "canvas", "iframe", "object", "embed", "audio"),
    *("video", "map", "nav", "footer", "button", "select", "datalist", "input", "textarea"),
}
NOISY_ROLES = ("navigation", "search", "contentinfo", "menu", "menubar", "dialog", "alertdialog")
NEVER_BLANK = ("h1", "h2", "h3", "h4", "h5", "h6", "pre", "table")
WRITTEN = [
    *("p", "div", "article", "section", "blockquote", "pre", "code", "br", "ul", "ol", "li", "script"),
    *("caption", "tr", "td", "th", *NEVER_BLANK),
]
"""What Markdown is written for. Of any other element, as of what is emphasised or linked, the words are."""
BLOCKS = (
    *("address", "aside", "center", "dd", "details", "dialog", "dir", "dl", "dt", "fieldset", "figcaption", "figure"),
    *("form", "header", "hgroup", "legend", "main", "menu", "option", "search", "summary"),
)
RENAMED = {**dict.fromkeys(BLOCKS, "div"), "tfoot": "tbody"}
"""What markdownify does not know to begin a new line, and that the end of a table has no head."""
DEEPEST = 200  # elements within each other: who writes the Markdown calls itself for each, three frames deep

REFUSED = ("utf-16", "utf-32", "utf-7", "unicode", "raw", "idna", "punycode", "undefined")  # no page means these
TAKEN_FOR = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs"} | {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-9": "cp1254",
}
"""The larger encoding that browsers take one for (https://encoding.spec.whatwg.org/)."""
INVISIBLE = {0xA0: " ", **dict.fromkeys((0xAD, 0x200B, 0x2060, 0xFEFF))}


def markdown_of(name: str, data: bytes) -> tuple[str, str]:
    """An HTML page as Markdown, and its title, which may be empty.

    Raises:
        ExtractionError: if too many elements are within each other.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        from bs4 import BeautifulSoup, FeatureNotFound
        from markdownify import MarkdownConverter
    except ImportError as error:
        raise MissingExtraError("reading HTML", "documents") from error
    style: dict[str, Any] = {"heading_style": "atx", "bullets": "-", "escape_asterisks": False}
    style |= {"escape_underscores": False, "wrap": True, "wrap_width": None}
    writer = MarkdownConverter(convert=WRITTEN, table_infer_header=True, **style)
    try:
        # a page with a document type is never taken for XML or an address, which Beautiful Soup would warn of
        page = BeautifulSoup("<!DOCTYPE html>" + _decoded(data), "lxml")
        title = page.head and page.head.title
        about = " ".join(title.get_text().split()) if title else ""
        main = _prepared(page)
        return (main is not None and _tidied(writer.convert_soup(main))) or _tidied(writer.convert_soup(page)), about
    except FeatureNotFound as error:
        raise MissingExtraError("reading HTML", "documents") from error
    except RecursionError:
        raise ExtractionError(name, "cannot be read: its HTML nests too many elements within each other") from None


def _decoded(data: bytes) -> str:
    """The characters of a page, as a browser would have them: by the byte order mark, what the page declares, UTF-8 or
    else Windows-1252. What cannot be decoded is replaced. Beautiful Soup itself would guess if chardet is there."""
    from bs4.dammit import EncodingDetector, UnicodeDammit

    data, marked = EncodingDetector.strip_byte_order_mark(data)
    said = marked or EncodingDetector.find_declared_encoding(data[:2048], is_html=True) or ""
    with suppress(LookupError, ValueError):  # there is no such encoding, or it is none of text
        codec = codecs.lookup(UnicodeDammit.CHARSET_ALIASES.get(said, said)).name
        if marked or not codec.startswith(REFUSED):
            return data.decode(TAKEN_FOR.get(codec, codec), errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("windows-1252", errors="replace")


def _prepared(page: BeautifulSoup) -> Tag | None:
    """Make the page one that markdownify writes well. The only element that says it is the main one is returned."""
    depths = {id(page): 0}
    mains: list[Tag] = []
    elements = page.find_all(True)
    for element in elements:
        depth = depths.get(id(element.parent))
        if depth is None:
            continue  # it was within noise
        if _is_noise(element):
            element.clear()
            element.name = "script"  # of which nothing is written; to take it out of its siblings would be slow
            continue
        if depth == DEEPEST:
            raise RecursionError
        depths[id(element)] = depth + 1
        if element.name == "main" or element.get("role") == "main":
            mains.append(element)
        element.name = RENAMED.get(element.name, element.name)
        element.attrs.clear()  # no addresses, and no numbers that a page could make too large
    for element in elements:
        if element.name in NEVER_BLANK and not any(element.stripped_strings):
            element.name = "script"
    return mains[0] if len(mains) == 1 else None


def _is_noise(element: Tag) -> bool:
    """Whether an element is no part of the text: by its kind, hidden, or a sign that only links to a heading."""
    of = element.attrs
    hidden = of.get("hidden", "until-found") != "until-found" or of.get("aria-hidden") == "true"
    sign = element.name == "a" and not (element.string or "words").strip(" \t\n\u200b\xa0#¶")
    return element.name in NOISE or of.get("role") in NOISY_ROLES or hidden or sign


def _tidied(markdown: str) -> str:
    lines = (line.rstrip() for line in markdown.translate(INVISIBLE).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
