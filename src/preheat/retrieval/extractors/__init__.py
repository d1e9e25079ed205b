"""Files to texts: recognize the format, and one module for each library that reads a format."""

from __future__ import annotations

from .extraction import SUFFIXES, Extracted, FileFormat, extract, format_of
from .unreadable import remedy_of_name, resembles_a_document

__all__ = (
    "SUFFIXES",
    "Extracted",
    "FileFormat",
    "extract",
    "format_of",
    "remedy_of_name",
    "resembles_a_document",
)
