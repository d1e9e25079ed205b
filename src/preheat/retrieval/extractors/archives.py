"""Check documents that are ZIP archives of XML before a library reads them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from typing import Literal
from zipfile import BadZipFile, ZipFile

from ...errors import ExtractionError

__all__ = ("Unpacked", "archive_kind", "reading")

MOST_XML = 32_000_000
"""The most bytes of text and markup to unpack: a library needs up to thirty times as much memory."""
MOST_TIMES = 20
"""How many times its size a document may unpack to beyond that, for pictures and films."""
OLE = bytes.fromhex("D0CF11E0A1B11AE1")
"""The first bytes of old documents of Microsoft Office, and of all encrypted ones."""
MEDIA = {
    *("jpg", "jpeg", "png", "gif", "tif", "tiff", "bmp", "emf", "wmf", "svg", "webp"),
    *("mp3", "mp4", "m4v", "mov", "wav"),
}
PARTS: dict[str, Literal["docx", "pptx", "xlsx", "epub"]] = {
    "word/": "docx",
    "ppt/": "pptx",
    "xl/": "xlsx",
    "META-INF/container.xml": "epub",
}


class Unpacked(ZipFile):
    """The archive of a document whose parts are small enough to be read."""

    def __init__(self, name: str, data: bytes, what: str) -> None:
        """Open the archive.

        Args:
            what: the expected kind of document, such as "a Word document".

        Raises:
            ExtractionError: if the file is not an archive, or is damaged, encrypted or too large.
        """
        if data.startswith(OLE):
            if "EncryptedPackage".encode("utf-16-le") in data:
                raise ExtractionError(name, f"is encrypted; save it without a password first, as {what}")
            raise ExtractionError(name, f"is a document of an old version of Office; save it as {what} first")
        try:
            super().__init__(BytesIO(data))
        except (BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise ExtractionError(name, f"is not {what}, or a damaged one") from error
        entries = self.infolist()
        if any(entry.flag_bits & 1 for entry in entries):
            raise ExtractionError(name, "is encrypted; save it without a password first")
        marked_up = sum(entry.file_size for entry in entries if entry.filename.rpartition(".")[2].lower() not in MEDIA)
        if marked_up > MOST_XML or sum(entry.file_size for entry in entries) > MOST_XML + MOST_TIMES * len(data):
            raise ExtractionError(name, "unpacks to more than can be read safely; divide it into smaller documents")


@contextmanager
def reading(name: str, what: str) -> Generator[None]:
    """Raise any error of a library about a damaged document as an :class:`ExtractionError`."""
    try:
        yield
    except ExtractionError:
        raise
    except RecursionError:
        raise ExtractionError(name, "cannot be read: its elements are nested too deeply") from None
    except Exception as error:
        raise ExtractionError(name, f"is not {what}, or a damaged one") from error


def archive_kind(data: bytes) -> Literal["docx", "pptx", "xlsx", "epub"] | None:
    """The format of a document that is an archive; None for another archive."""
    try:
        with ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
    except (BadZipFile, ValueError, OSError, NotImplementedError):
        return None
    return next((kind for part, kind in PARTS.items() if any(name.startswith(part) for name in names)), None)
