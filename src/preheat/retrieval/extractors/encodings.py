"""Decode text files: UTF-8, or the encoding of a byte order mark."""

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
    """Decode a text file: UTF-8, or the encoding of its byte order mark. Each line ends with a line feed afterwards.

    Raises:
        ExtractionError: if the file is not text.
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
