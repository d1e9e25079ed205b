"""Bytes to characters: byte order marks, and what an HTML page says of itself."""

from __future__ import annotations

import codecs
import re

from ...errors import ExtractionError

__all__ = ("html_text", "text_of")

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's mark, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

HEAD = 2048
"""Bytes of a page in which it has to say how it is encoded. (The HTML standard asks for it within 1024.)"""

_DECLARED = re.compile(
    rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+) | <meta[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]+)""",
    re.IGNORECASE | re.VERBOSE,
)

CODECS = {
    **dict.fromkeys(("ascii", "us-ascii", "latin1", "latin-1", "iso-8859-1", "iso8859-1", "cp1252"), "windows-1252"),
    **dict.fromkeys(("iso-8859-9", "latin5"), "windows-1254"),
    **dict.fromkeys(("iso-8859-11", "tis-620"), "windows-874"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j", "ms932"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "korean", "windows-949"), "cp949"),
    **dict.fromkeys(("gb2312", "gbk", "gb18030", "x-gbk", "chinese"), "gb18030"),
    **dict.fromkeys(("big5", "big5-hkscs", "x-x-big5"), "big5hkscs"),
    **dict.fromkeys(("euc-jp", "x-euc-jp"), "euc-jp"),
    **dict.fromkeys(("macintosh", "x-mac-roman"), "mac-roman"),
    "x-mac-cyrillic": "mac-cyrillic",
    "ibm866": "cp866",
}
"""Names that pages use, and Python's for what browsers take them for (https://encoding.spec.whatwg.org/)."""

_AS_THEY_ARE = re.compile(r"windows-125[0-8]|windows-874|iso-8859-(?:[2-8]|1[03-6])|koi8-[ru]|iso-2022-jp|cp866")


def text_of(name: str, data: bytes) -> str:
    """The text of a file: UTF-8, or what its byte order mark says. Each end of a line becomes a line feed.

    Raises:
        ExtractionError: if it is not text.
    """
    mark = _mark(data)
    try:
        text = data.decode(mark or "utf-8")
    except UnicodeDecodeError as error:
        named = {"utf-16": "UTF-16", "utf-32": "UTF-32"}.get(mark or "", "UTF-8")
        raise ExtractionError(name, f"is not {named} text (byte {error.start})") from None
    if "\0" in text:
        raise ExtractionError(name, "holds a NUL character, so it is not text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def html_text(data: bytes) -> str:
    """The characters of an HTML page, as a browser would have them: by the byte order mark, what the page declares,
    UTF-8 or else Windows-1252. What cannot be decoded is replaced."""
    if (mark := _mark(data)) is not None:
        return data.decode(mark, errors="replace")
    found = _DECLARED.search(data, 0, HEAD)
    if found is not None and (codec := _codec((found[1] or found[2]).decode("ascii").lower())) is not None:
        return data.decode(codec, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("windows-1252", errors="replace")


def _mark(data: bytes) -> str | None:
    """The codec that a byte order mark stands for."""
    return next((codec for mark, codec in MARKS if data.startswith(mark)), None)


def _codec(declared: str) -> str | None:
    """Python's name of an encoding that a page may have; None for any other, so that no page chooses a codec that is
    not an encoding."""
    if declared in ("utf-8", "utf8"):
        return "utf-8"
    return CODECS.get(declared) or (declared if _AS_THEY_ARE.fullmatch(declared) else None)
