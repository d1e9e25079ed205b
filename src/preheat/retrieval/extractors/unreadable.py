"""Files of formats that are not supported, and the remedy for each format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

__all__ = ("remedy_of_bytes", "remedy_of_name", "resembles_a_document")

DOCUMENTS: Mapping[str, str] = {
    **dict.fromkeys(
        (".doc", ".dot", ".rtf", ".odt", ".ott", ".fodt", ".pages", ".wpd", ".wps", ".hwp"),
        "is a text document of a format that is not read; save it as .docx or PDF first",
    ),
    **dict.fromkeys(
        (".xls", ".xlsb", ".ods", ".fods", ".numbers"),
        "is a workbook of a format that is not read; save it as .xlsx or CSV first",
    ),
    **dict.fromkeys(
        (".ppt", ".pps", ".ppsx", ".odp", ".fodp", ".key"),
        "is a presentation of a format that is not read; save it as .pptx or PDF first",
    ),
    **dict.fromkeys(
        (".mobi", ".azw", ".azw3", ".kfx", ".fb2", ".lit"),
        "is an e-book of a format that is not read; convert it to EPUB first",
    ),
    **dict.fromkeys(
        (".djvu", ".xps", ".oxps", ".ps"), "is a document of a format that is not read; save it as PDF first"
    ),
    **dict.fromkeys((".eml", ".msg", ".mbox", ".pst"), "is mail, which is not read; save it as text or HTML first"),
}
"""Formats of documents. A user who stores a folder expects their text to be found."""
OTHERS: Mapping[str, str] = {
    **dict.fromkeys(
        (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif", ".avif", ".ico", ".psd"),
        "is a picture; have its text recognized (OCR), and store that",
    ),
    **dict.fromkeys(
        (".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma"),
        "is a recording; have it transcribed, and store the text",
    ),
    **dict.fromkeys(
        (".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".wmv", ".mpg", ".mpeg"),
        "is a film; have it transcribed, and store the text",
    ),
    **dict.fromkeys(
        (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".jar"),
        "is an archive; unpack it, and store the files in it",
    ),
}
BEGINNINGS: Mapping[bytes, str] = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"ID3": ".mp3",
    b"OggS": ".ogg",
    b"fLaC": ".flac",
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ": ".xz",
    b"7z\xbc\xaf": ".7z",
    b"Rar!": ".rar",
    b"PK\3\4": ".zip",
    b"{\\rtf": ".rtf",
    bytes.fromhex("D0CF11E0A1B11AE1"): ".doc",
}


def remedy_of_name(name: str) -> str | None:
    """The remedy for a file whose name has the suffix of an unsupported format; None for any other name."""
    suffix = PurePath(name).suffix.lower()
    return DOCUMENTS.get(suffix) or OTHERS.get(suffix)


def remedy_of_bytes(data: bytes) -> str | None:
    """The remedy for a file that begins like an unsupported format; None for any other file."""
    suffix = next((suffix for begin, suffix in BEGINNINGS.items() if data.startswith(begin)), None)
    return None if suffix is None else remedy_of_name(f"a{suffix}")


def resembles_a_document(name: str) -> bool:
    """Whether the name has the suffix of an unsupported document format."""
    return PurePath(name).suffix.lower() in DOCUMENTS
