"""HTML to Markdown: Beautiful Soup reads the page, markdownify writes it."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import ExtractionError, MissingExtraError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

__all__ = ("markdown_of",)

NOISE = (
    "script, style, noscript, template, title, svg, canvas, iframe, object, embed, audio, video, map, nav, footer, "
    "button, select, datalist, input, textarea, colgroup, col, [hidden]:not([hidden=until-found]), [aria-hidden=true], "
    "[role=navigation], [role=search], [role=contentinfo], [role=menu], [role=menubar], [role=dialog], "
    "[role=alertdialog]"
)
"""What is no part of a page's text."""

DEEPEST = 200
"""So many elements may be within each other. Who writes the Markdown calls itself for each, three frames deep; and no
page that is meant to be read comes near."""

KEPT = [
    *("p", "div", "article", "section", "blockquote", "pre", "code", "br", "ul", "ol", "li"),
    *("table", "tr", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6"),
]
"""What Markdown is written for. Of any other element, as of what is emphasised or linked, the words are."""

BLOCKS = (
    "address, aside, center, dd, details, dialog, dir, dl, dt, fieldset, figcaption, figure, form, header, hgroup, "
    "legend, main, menu, optgroup, option, search, summary"
)
"""Elements that begin a new line and of which markdownify does not know it."""

CELLS = "caption, thead, tbody, tfoot, tr, td, th"

CODECS = (
    *("ascii", "big5", "cp125", "cp866", "cp874", "cp932", "cp949", "euc_", "gb", "hz", "iso2022_jp", "iso8859-"),
    *("johab", "koi8-", "mac-", "shift_jis", "tis-620", "utf-8"),
)
"""What the names of Python's codecs begin with that a page may choose: no others, as some are not meant for that."""

TAKEN_FOR = {
    **dict.fromkeys(("ascii", "iso8859-1"), "cp1252"),
    **dict.fromkeys(("iso8859-11", "tis-620"), "cp874"),
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    "iso8859-9": "cp1254",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
"""The larger encoding that browsers take one for (https://encoding.spec.whatwg.org/)."""

_CHARACTERS = {0xA0: " ", **dict.fromkeys((0xAD, 0x200B, 0x2060, 0xFEFF))}
"""A space that does not break is a space, and what is invisible is nothing."""

_SIGNS = " \t\n\u200b\xa0#¶"
"""What a link has that only leads to the heading that it stands in."""

_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANKS = re.compile(r"\n{3,}")


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
    try:
        # a page with a document type is never taken for XML or an address, which Beautiful Soup would warn of
        page = BeautifulSoup("<!DOCTYPE html>" + _decoded(data), "lxml")
    except FeatureNotFound as error:
        raise MissingExtraError("reading HTML", "documents") from error
    writer = MarkdownConverter(
        convert=KEPT,
        heading_style="atx",
        bullets="-",
        table_infer_header=True,
        wrap=True,
        wrap_width=None,
        escape_asterisks=False,
        escape_underscores=False,
    )
    try:
        if _depth(page) > DEEPEST:
            raise RecursionError
        title = page.select_one("head title")
        about = "" if title is None else " ".join(title.get_text().split())
        main = _without_noise(page)
        _for_markdownify(page)
        return (main is not None and _tidied(writer.convert_soup(main))) or _tidied(writer.convert_soup(page)), about
    except RecursionError:
        raise ExtractionError(name, "cannot be read: its HTML nests too many elements within each other") from None


def _decoded(data: bytes) -> str:
    """The characters of a page, as a browser would have them: by the byte order mark, what the page declares, UTF-8 or
    else Windows-1252. What cannot be decoded is replaced. Beautiful Soup itself would guess if chardet is there."""
    from bs4.dammit import EncodingDetector, UnicodeDammit

    data, encoding = EncodingDetector.strip_byte_order_mark(data)
    if encoding is None and (declared := EncodingDetector.find_declared_encoding(data[:2048], is_html=True)):
        with suppress(LookupError, ValueError):
            codec = codecs.lookup(UnicodeDammit.CHARSET_ALIASES.get(declared, declared)).name
            encoding = TAKEN_FOR.get(codec, codec) if codec.startswith(CODECS) else None
    try:
        return data.decode(encoding or "utf-8", errors="replace" if encoding else "strict")
    except UnicodeDecodeError:
        return data.decode("windows-1252", errors="replace")


def _depth(page: BeautifulSoup) -> int:
    """How many elements are within each other."""
    depths = {id(page): 0}
    for element in page.descendants:
        depths[id(element)] = depths[id(element.parent)] + 1
    return max(depths.values())


def _without_noise(page: BeautifulSoup) -> Tag | None:
    """Take out what is no part of the text. The element that says it is the main part is returned, if it is the only
    one."""
    for noise in page.select(NOISE):
        if not noise.decomposed:
            noise.decompose()
    for link in page.select("a"):
        if not link.decomposed and not link.get_text().strip(_SIGNS):
            link.decompose()
    for empty in page.select("h1, h2, h3, h4, h5, h6, pre, table"):
        if not empty.decomposed and not empty.get_text().strip():
            empty.decompose()
    return next((found[0] for found in map(page.select, ("main", "[role=main]")) if len(found) == 1), None)


def _for_markdownify(page: BeautifulSoup) -> None:
    """Make the page one that markdownify writes well."""
    for block in page.select(BLOCKS):
        block.name = "div"
    for table in page.select("table"):
        if table.name == "table":  # and not within another that holds data
            parts = table.select(CELLS)
            if _is_data(table):
                _straighten(table)
            else:
                for part in (table, *(part for part in parts if part.find_parent("table") is table)):
                    part.name = "div"
    for element in page.select("*"):
        element.attrs.clear()  # no addresses, and no numbers that a page could make too large


def _is_data(table: Tag) -> bool:
    """Whether a table holds data: it has headings before anything that is more than a line of text. Others, which
    arrange a page, are read cell by cell."""
    first = table.select_one("th, p, div, table, pre, ul, ol, h1, h2, h3, h4, blockquote")
    return table.select_one("tr") is not None and (first is None or first.name == "th")


def _straighten(table: Tag) -> None:
    """Leave rows of cells alone in a table, as markdownify takes the first row of each of its parts for a head."""
    for caption in table.select("caption"):
        caption.name = "div"
        table.insert_before(caption.extract())
    for inner in table.select("table, table table :is(tr, td, th)"):
        inner.name = "div"
    for part in table.select("thead, tbody, tfoot"):
        part.unwrap()
    for text in table.find_all(string=re.compile(r"\|")):
        text.replace_with(text.replace("|", "\\|"))


def _tidied(markdown: str) -> str:
    return _BLANKS.sub("\n\n", _TRAILING.sub("", markdown.translate(_CHARACTERS))).strip()
