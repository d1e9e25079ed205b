"""`preheat ingest`: files, folders and standard input into a collection, one document a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..retrieval import FileFormat, ResearchRetriever, WordLlamaEmbedder
from ..storage import VectorStorage
from .console import database, err
from .sources import Sources

__all__ = ("Ingest", "IngestReport", "progress_bar")


@dataclass(slots=True)
class IngestReport:
    """What was stored and what was not."""

    collection: str
    """The collection's name."""
    documents: int = 0
    """How many documents were stored."""
    chunks: int = 0
    """How many chunks they gave."""
    seconds: float = 0.0
    """Seconds from opening the database to the last document."""
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    """The documents that were not stored, each with the reason."""

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "collection": self.collection,
            "documents": self.documents,
            "chunks": self.chunks,
            "seconds": self.seconds,
            "skipped": self.skipped,
        }


class Ingest:
    """One run of the command."""

    def __init__(
        self,
        given: list[str],
        collection: str,
        dsn: str | None,
        data: Path | None,
        *,
        name: str | None = None,
        format: FileFormat | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._sources = Sources(given, self._skip, name=name, format=format, metadata=metadata)
        self._dsn = dsn
        self._data = data
        self._report = IngestReport(collection)

    async def run(self) -> IngestReport:
        """Store every document. One that was stored stays stored when a later one fails."""
        report = self._report
        total = await self._sources.find()
        embedder = WordLlamaEmbedder()
        async with database(self._dsn, self._data) as dsn:
            started = perf_counter()
            storage = VectorStorage(dsn, report.collection, embedder.dimensions, size=2, warm="never")
            async with storage:
                retriever = ResearchRetriever(storage, embedder)
                with progress_bar() as progress:
                    task = progress.add_task(f"storing in {report.collection}", total=total)
                    async for found in self._sources:
                        report.chunks += await retriever.add(found.key, found.text, found.metadata, format=found.format)
                        report.documents += 1
                        progress.update(task, completed=report.documents + len(report.skipped))
                    progress.update(task, completed=total)
            report.seconds = perf_counter() - started
        return report

    def _skip(self, key: str, reason: str) -> None:
        self._report.skipped[key] = reason
        err.print(f"[yellow]skipped:[/] {escape(f'{key} {reason}')}", soft_wrap=True)


def progress_bar() -> Progress:
    """A progress bar on stderr, so that results can be piped."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
    )
