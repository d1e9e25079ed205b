"""The documents that an ingest could not store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError, DimensionError, without_secrets
from ..storage import sqlstate

__all__ = ("IngestFailure", "failure", "is_about_rows")

ABOUT_ROWS = ("22", "23", "44", "54", "P0")
"""The classes of SQLSTATE for the values that are written: invalid data, a constraint, the check of a view, a limit
such as that of an index, and errors that a trigger raises."""


@dataclass(frozen=True, slots=True)
class IngestFailure:
    """A document that was not stored. An earlier version under its key is still stored."""

    document: str
    """The key of the document; empty for an item of the source that is not a document."""
    error: Exception
    """The error, without a traceback."""
    chunk: int | None = None
    """The position of the chunk that caused the error, 0 for the first; None if it is not known."""

    def as_dict(self) -> dict[str, Any]:
        """The record for logs and JSON; the error as a sentence."""
        words = without_secrets(" ".join(str(self.error).split()))
        return {"document": self.document, "chunk": self.chunk, "error": words}


def failure(document: str, error: Exception, chunk: int | None = None) -> IngestFailure:
    """Make the record of a document that could not be stored. Without tracebacks, it keeps no frames alive."""
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return IngestFailure(document, error, getattr(error, "position", None) if chunk is None else chunk)


def is_about_rows(error: Exception) -> bool:
    """Whether the database, or the storage before it, has refused one of the rows, and would write the others."""
    if isinstance(error, ArgumentError):
        return error.chunk is not None and not isinstance(error, DimensionError)
    return (sqlstate(error) or "")[:2] in ABOUT_ROWS
