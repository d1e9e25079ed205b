"""`preheat ingest`: files, folders and standard input into a collection, one document a file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn

from ..retrieval import Document, FileFormat, IngestReport, ResearchRetriever
from ..storage import IndexProgress, VectorStorage
from .console import database, err
from .models import DEFAULT_MODEL, dimensions_of, model_of
from .sources import Sources

__all__ = ("Ingest", "Ingested", "progress_bar")


@dataclass(slots=True)
class Ingested:
    """What was stored and what was not."""

    collection: str
    """The collection's name."""
    report: IngestReport = field(default_factory=IngestReport)
    """What became of the documents."""
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    """The documents that were not stored, each with the reason."""

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"collection": self.collection, **self.report.as_dict(), "skipped": self.skipped}


class Ingest:
    """One run of the command."""

    def __init__(
        self,
        given: list[str],
        collection: str,
        dsn: str | None,
        data: Path | None,
        *,
        schema: str | None = None,
        model: str = DEFAULT_MODEL,
        name: str | None = None,
        format: FileFormat | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._sources = Sources(given, self._skip, name=name, format=format, metadata=metadata)
        self._model = model
        self._schema = schema
        self._dsn = dsn
        self._data = data
        self._done = Ingested(collection)

    async def run(self) -> Ingested:
        """Store every document. What was stored stays stored when a later one fails."""
        done = self._done
        total = await self._sources.find()
        embedder = model_of(self._model)
        async with database(self._dsn, self._data) as dsn:
            dimensions = await dimensions_of(embedder)
            async with VectorStorage(
                dsn, done.collection, dimensions, schema=self._schema, size=3, warm="never"
            ) as storage:
                with progress_bar(TextColumn("{task.fields[note]}")) as progress:
                    bars = _Bars(progress, done, total)
                    retriever = ResearchRetriever(storage, embedder)
                    done.report = await retriever.ingest(self._documents(), progress=bars.show)
                    bars.finish()
        return done

    async def _documents(self) -> AsyncGenerator[Document]:
        async for found in self._sources:
            yield Document(found.key, found.text, found.metadata, found.format)

    def _skip(self, key: str, reason: str) -> None:
        self._done.skipped[key] = reason
        err.print(f"[yellow]skipped:[/] {escape(f'{key} {reason}')}", soft_wrap=True)


class _Bars:
    """A bar for the documents, and then one for each thing that is made of an index."""

    def __init__(self, progress: Progress, done: Ingested, total: int) -> None:
        self._progress = progress
        self._done = done
        self._documents = progress.add_task(f"storing in {done.collection}", total=total, note="")
        self._steps: dict[str, TaskID] = {}

    def show(self, report: IngestReport) -> None:
        """Show how far it is."""
        if report.index is not None:
            self._show_index(report.index)
            return
        rate = f", {report.chunks / report.seconds:,.0f}/s" if report.seconds else ""
        self._progress.update(
            self._documents,
            completed=report.documents + len(self._done.skipped),
            note=f"{report.chunks:,} chunks{rate}",
        )

    def finish(self) -> None:
        """Whatever was being made is there."""
        for task in self._steps.values():
            self._progress.update(task, completed=1, total=1, note="")

    def _show_index(self, index: IndexProgress) -> None:
        if index.step not in self._steps:
            self.finish()
            self._steps[index.step] = self._progress.add_task(f"making {index.step}", total=None, note="")
        self._progress.update(
            self._steps[index.step], completed=index.done, total=index.total or None, note=index.phase
        )


def progress_bar(*more: ProgressColumn) -> Progress:
    """A progress bar on stderr, so that results can be piped."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *more,
        console=err,
    )
