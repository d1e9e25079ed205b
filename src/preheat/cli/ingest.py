"""`preheat ingest`: files, folders and standard input into a collection, one document a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn

from ..errors import ArgumentError
from ..retrieval import Document, FileFormat, IngestFailure, IngestReport, ResearchRetriever
from ..storage import IndexProgress, VectorStorage
from .console import database, err
from .models import DEFAULT_MODEL, dimensions_of, model_of
from .sources import Sources
from .sync import check_folders, gone

__all__ = ("Ingest", "Ingested", "progress_bar")


@dataclass(slots=True)
class Ingested:
    """What was stored and what was not."""

    collection: str
    """The collection's name."""
    report: IngestReport = field(default_factory=IngestReport)
    """What became of the documents."""
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    """The documents whose files could not be read, or hold no text, each with the reason."""
    gone: list[str] | None = None
    """The documents that were deleted because their files are no longer there; None if that was not asked for."""
    is_dry: bool = False
    """Whether these are only the ones that would be deleted."""
    kept: dict[str, str] = field(default_factory=dict[str, str])
    """The folders that were not compared, each with the reason."""

    @property
    def is_complete(self) -> bool:
        """Whether every document was stored, and every folder compared."""
        return not (self.skipped or self.report.failures or self.kept)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        report = {"collection": self.collection, **self.report.as_dict(), "skipped": self.skipped}
        skipped = [{"document": key, "chunk": None, "error": f"{key} {why}"} for key, why in self.skipped.items()]
        report["failures"] = [*skipped, *report["failures"]]
        return report if self.gone is None else {**report, "gone": self.gone}


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
        sync: bool = False,
        dry_run: bool = False,
    ) -> None:
        if dry_run and not sync:
            raise ArgumentError("--dry-run says what --sync would delete; give both, or leave it out")
        self._sources = Sources(given, self._skip, name=name, format=format, metadata=metadata)
        self._sync = sync
        self._model = model
        self._schema = schema
        self._dsn = dsn
        self._data = data
        self._done = Ingested(collection, is_dry=dry_run)

    async def run(self) -> Ingested:
        """Store every document. What was stored stays stored when a later one fails."""
        done = self._done
        total = await self._sources.find()
        if self._sync:
            check_folders(self._sources.folders)
        self._tell_of_others()
        embedder = model_of(self._model)
        async with database(self._dsn, self._data) as dsn:
            dimensions = await dimensions_of(embedder)
            async with VectorStorage(
                dsn, done.collection, dimensions, schema=self._schema, size=3, warm="never"
            ) as storage:
                if not done.is_dry:
                    with progress_bar(TextColumn("{task.fields[note]}")) as progress:
                        bars = _Bars(progress, done, total)
                        retriever = ResearchRetriever(storage, embedder)
                        done.report = await retriever.ingest(self._documents(), progress=bars.show)
                        bars.finish()
                for failure in done.report.failures:
                    err.print(f"[red]failed:[/] {escape(_told(failure))}", soft_wrap=True)
                if self._sync:
                    await self._delete_gone(storage)
        return done

    def _tell_of_others(self) -> None:
        """Say how many files of folders are of kinds that are not looked at."""
        others = sum((folder.others for folder in self._sources.folders), Counter[str]())
        if others:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in others.most_common(5))
            more = ", …" if len(others) > 5 else ""
            what = "1 file" if others.total() == 1 else f"{others.total():,} files"
            err.print(f"[dim]not looked at: {what} of other kinds ({escape(kinds)}{more})[/]", soft_wrap=True)

    async def _delete_gone(self, storage: VectorStorage) -> None:
        """Delete the documents whose files are no longer in the folders."""
        done, folders = self._done, self._sources.folders
        for folder in folders:
            if folder.problems:
                done.kept[str(folder.path)] = folder.problems[0]
                words = f"{folder.path}: nothing was deleted, because a part could not be looked into"
                err.print(f"[yellow]not compared:[/] {escape(words)} ({escape(folder.problems[0])})", soft_wrap=True)
        done.gone = [key async for key in gone(storage, folders, self._sources.keys)]
        for key in done.gone:
            chunks = await (storage.count(document=key) if done.is_dry else storage.delete(document=key))
            what = "would delete" if done.is_dry else "deleted"
            words = f"{key}, which is no longer there ({chunks:,} chunk{'' if chunks == 1 else 's'})"
            err.print(f"[yellow]{what}:[/] {escape(words)}", soft_wrap=True)

    async def _documents(self) -> AsyncGenerator[Document]:
        async for found in self._sources:
            yield Document(found.key, found.text, found.metadata, found.format)

    def _skip(self, key: str, reason: str) -> None:
        self._done.skipped[key] = reason
        err.print(f"[yellow]skipped:[/] {escape(f'{key} {reason}')}", soft_wrap=True)


def _told(failure: IngestFailure) -> str:
    """The failure of one document as a sentence with its key."""
    words = str(failure.as_dict()["error"])
    return words if failure.document in words else f"{failure.document}: {words}"


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
            completed=report.documents + len(report.failures) + len(self._done.skipped),
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
