"""Bytes to characters: UTF-8, or what a byte order mark says."""

from __future__ import annotations

import codecs

from ...errors import ExtractionError

__all__ = ("text_of",)

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's mark, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_of(name: str, data: bytes) -> str:
    """The text of a file: UTF-8, or what its byte order mark says. Each end of a line becomes a line feed.

    Raises:
        ExtractionError: if it is not text.
    """
    mark = next((codec for mark, codec in MARKS if data.startswith(mark)), None)
    try:
        text = data.decode(mark or "utf-8")
    except UnicodeDecodeError as error:
        named = {"utf-16": "UTF-16", "utf-32": "UTF-32"}.get(mark or "", "UTF-8")
        raise ExtractionError(name, f"is not {named} text (byte {error.start})") from None
    if "\0" in text:
        raise ExtractionError(name, "holds a NUL character, so it is not text")
    return text.replace("\r\n", "\n").replace("\r", "\n")
