"""The documents that an ingest could not store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import without_secrets

__all__ = ("IngestFailure",)


@dataclass(frozen=True, slots=True)
class IngestFailure:
    """A document that was not stored. What was stored under its key before is still there."""

    document: str
    """The key of the document; empty if the source gave something that is not a document."""
    error: Exception
    """What is wrong with it, without a traceback."""
    chunk: int | None = None
    """The position of the chunk that is the cause, 0 for the first; None if that is not known."""

    def as_dict(self) -> dict[str, Any]:
        """The record for logs and JSON; the error as a sentence."""
        words = without_secrets(" ".join(str(self.error).split()))
        return {"document": self.document, "chunk": self.chunk, "error": words}
