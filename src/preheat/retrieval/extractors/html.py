"""HTML to Markdown: Beautiful Soup reads the page, what nobody sees is left out, and markdownify writes.

Of our own is what neither library has: what is hidden, pictures' words and list numbers (`visible.py`), cells that span
rows and columns (`tables.py`), and the few forms of markdownify whose time would not be linear (`markdown.py`).
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

REFUSED = ("utf-16", "utf-32", "utf-7", "unicode", "raw", "idna", "punycode", "undefined")  # no page means these
TAKEN_FOR = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs"} | {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-9": "cp1254",
}
"""The larger encoding that browsers take one for (https://encoding.spec.whatwg.org/)."""
DOCUMENT_TYPE = re.compile(r"<!DOCTYPE\b[^>\[]*(?:\[[^\]]*\][^>]*)?>", re.IGNORECASE)
HEAD = 10_000
"""How many characters of a page its document type is looked for in."""


def markdown_of(data: bytes) -> tuple[str, str]:
    """An HTML page as Markdown, and its title, which may be empty.

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
        # a page with a document type is never taken for XML or an address, which Beautiful Soup would warn of
        page = BeautifulSoup("<!DOCTYPE html>" + text, "lxml", multi_valued_attributes=None)
    except FeatureNotFound as error:
        raise MissingExtraError("reading HTML", "documents") from error
    title = page.head and page.head.title
    about = " ".join(title.get_text().split()) if title else ""
    main = prepared(page)
    return (main is not None and Writer().written(main)) or Writer().written(page), about


@contextmanager
def _standard_html() -> Generator[None]:
    """Let Beautiful Soup import Python's own `html`, also in a program called `html.py`, which hides that package."""
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
    """The characters of a page: by the byte order mark, or what the page declares.

    A page that says nothing is UTF-8 or else Windows-1252, and so is one whose bytes are plainly the other of these two
    than the one it declares. No other encoding is ever guessed. What cannot be decoded is replaced.
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
    """Python's name of an encoding that a page declares; None if no page can mean it."""
    from bs4.dammit import UnicodeDammit

    try:
        codec = codecs.lookup(UnicodeDammit.CHARSET_ALIASES.get(said, said)).name
        "".encode(codec)
    except (LookupError, ValueError):  # there is no such encoding, or it is not one of text
        return None
    return None if codec.startswith(REFUSED) else TAKEN_FOR.get(codec, codec)
