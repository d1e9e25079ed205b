"""HTML to Markdown: Beautiful Soup reads the page, and markdownify writes the Markdown.

Neither library leaves out hidden text, keeps alternative texts and list numbers (`visible.py`), or repeats cells that
span rows and columns (`tables.py`). Some methods of markdownify take more than linear time, and are replaced
(`markdown.py`).
"""

from __future__ import annotations

import codecs
import re
import sys
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

from ...errors import MissingExtraError

__all__ = ("markdown_of",)

REFUSED = ("utf-16", "utf-32", "utf-7", "unicode", "raw", "idna", "punycode", "undefined")  # not encodings of pages
TAKEN_FOR = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs"} | {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-9": "cp1254",
}
"""The encodings that browsers use instead, which have more characters (https://encoding.spec.whatwg.org/)."""
DOCUMENT_TYPE = re.compile(r"<!DOCTYPE\b[^>\[]*(?:\[[^\]]*\][^>]*)?>", re.IGNORECASE)
HEAD = 10_000
"""How many characters of a page are searched for its document type."""


def markdown_of(data: bytes) -> tuple[str, str]:
    """Convert an HTML page to Markdown. The second value is its title, which may be empty.

    Raises:
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        with _standard_html():
            from bs4 import BeautifulSoup, FeatureNotFound

            from .markdown import Writer
            from .visible import prepared
    except ImportError as error:
        raise MissingExtraError("reading HTML", "documents") from error
    text = _decoded(data)
    text = DOCUMENT_TYPE.sub("", text[:HEAD], count=1) + text[HEAD:]
    try:
        # Beautiful Soup warns of a page that looks like XML or a URL, unless it has a document type.
        page = BeautifulSoup("<!DOCTYPE html>" + text, "lxml", multi_valued_attributes=None)
    except FeatureNotFound as error:
        raise MissingExtraError("reading HTML", "documents") from error
    title = page.head and page.head.title
    about = " ".join(title.get_text().split()) if title else ""
    main = prepared(page)
    return (main is not None and Writer().written(main)) or Writer().written(page), about


@contextmanager
def _standard_html() -> Generator[None]:
    """Let Beautiful Soup import Python's own package `html`, also in a program named `html.py`, which hides it."""
    found = sys.modules.get("html")
    spec = PathFinder.find_spec("html", [sysconfig.get_path("stdlib")])
    if hasattr(found, "__path__") or spec is None or spec.loader is None:
        yield
        return
    sys.modules["html"] = standard = module_from_spec(spec)
    try:
        spec.loader.exec_module(standard)
        yield
    finally:
        if found is not None:
            sys.modules["html"] = found


def _decoded(data: bytes) -> str:
    """Decode a page: by its byte order mark, or else by the encoding that it declares.

    A page without either is UTF-8 or else Windows-1252. So is a page that declares one of these two but is clearly the
    other one. No other encoding is guessed. Invalid bytes are replaced.
    """
    from bs4.dammit import EncodingDetector

    data, marked = EncodingDetector.strip_byte_order_mark(data)
    if marked:
        return data.decode(marked, errors="replace")
    said = _codec(EncodingDetector.find_declared_encoding(data[:2048], is_html=True) or "")
    if said not in (None, "utf-8", "cp1252"):
        return data.decode(said, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
    wrong = text.count("\ufffd")
    right = sum(not character.isascii() for character in text) - wrong
    return data.decode("cp1252", errors="replace") if said == "cp1252" or right < wrong else text


def _codec(said: str) -> str | None:
    """Python's name of the encoding that a page declares; None if it cannot be the encoding of a page."""
    from bs4.dammit import UnicodeDammit

    try:
        codec = codecs.lookup(UnicodeDammit.CHARSET_ALIASES.get(said, said)).name
        "".encode(codec)
    except (LookupError, ValueError):  # an unknown encoding, or not an encoding of text
        return None
    return None if codec.startswith(REFUSED) else TAKEN_FOR.get(codec, codec)
