"""`preheat ingest`: files, folders and standard input are stored in a collection, one document for each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID, TextColumn

from ...errors import ArgumentError
from ...retrieval import Document, FileFormat, IngestFailure, IngestReport, ResearchRetriever
from ...storage import IndexProgress, VectorStorage
from ..console import FAILED, counted, err, escape, out, progress_bar, run, show
from ..database import open_storage
from ..files.sources import Sources, parse_metadata
from ..files.sync import Folder, check_folders, gone
from ..models import dimensions_of, model_of
from ..options import DEFAULT_MODEL, Collection, ModelOption

__all__ = ("ingest",)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Which documents to read, and what is added to them."""

    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS...",
            help="Files, folders to look through, globs such as 'docs/**/*.md', or - for standard input.",
        ),
    ]
    name: Annotated[str | None, typer.Option(help="The key of the document on standard input; by default stdin.")] = (
        None
    )
    format: Annotated[
        FileFormat | None,
        typer.Option(help="The format of standard input, and of files whose names do not show it."),
    ] = None
    metadata: Annotated[str | None, typer.Option(help="""Metadata for each chunk, as JSON: '{"lang": "en"}'.""")] = None


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How documents are stored."""

    sync: Annotated[
        bool, typer.Option("--sync", help="Delete what was stored from the folders and is no longer in them.")
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what --sync would delete; store and delete nothing.")
    ] = False
    batch_size: Annotated[int, typer.Option(help="How many chunks are embedded and written at a time.")] = 1000
    chunk_size: Annotated[int, typer.Option(help="The most characters of a chunk.")] = 800
    model: ModelOption = DEFAULT_MODEL


@dataclass(slots=True)
class Ingested:
    """What was stored, and what was not."""

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

    def interrupted(self) -> str:
        """What to say after Ctrl-C."""
        stored = f"{counted(self.report.documents, 'document')} with {counted(self.report.chunks)}"
        kept = f"{stored} stored in collection {self.collection}" if self.report.documents else "nothing new is stored"
        return f"interrupted: {kept}; run the same command again to go on"

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        report = {"collection": self.collection, **self.report.as_dict(), "skipped": self.skipped}
        skipped = [{"document": key, "chunk": None, "error": f"{key} {why}"} for key, why in self.skipped.items()]
        report["failures"] = [*skipped, *report["failures"]]
        return report if self.gone is None else {**report, "gone": self.gone}


def ingest(sources: SourceOptions, options: IngestOptions, where: Collection) -> None:
    """Store texts, HTML, PDF, Office documents, books and notebooks: cut into chunks, embedded, in a collection.

    If a file cannot be stored, the output names the file and the reason, and all other files are stored; the exit code
    is then 1. Of a file that was stored before, only the changes are embedded and written. So the same command, run
    again, completes an interrupted run.
    """

    done = Ingested(where.collection, is_dry=options.dry_run)

    async def work() -> Ingested:
        return await _ingest(sources, options, where, done)

    report = run(where.backend, work, interrupted=done.interrupted)
    show(report, _show_report, json=where.json)
    if not report.is_complete:
        raise typer.Exit(FAILED)


async def _ingest(given: SourceOptions, options: IngestOptions, where: Collection, done: Ingested) -> Ingested:
    """Store every document. What was stored stays stored when a later one fails."""
    if options.dry_run and not options.sync:
        raise ArgumentError("--dry-run shows what --sync would delete; give both, or leave it out")

    def skip(key: str, reason: str) -> None:
        done.skipped[key] = reason
        err.print(f"[yellow]skipped:[/] {escape(f'{key} {reason}')}", soft_wrap=True)

    metadata = parse_metadata(given.metadata)
    sources = Sources(given.paths, skip, name=given.name, format=given.format, metadata=metadata)
    total = await sources.find()
    if options.sync:
        check_folders(sources.folders)
    _show_other_files(sources.folders)
    embedder = model_of(options.model)
    async with open_storage(where, await dimensions_of(embedder), size=3) as storage:
        if not done.is_dry:
            with progress_bar(TextColumn("{task.fields[note]}")) as progress:
                bars = _Bars(progress, done, total)
                done.report = await ResearchRetriever(storage, embedder).ingest(
                    _documents(sources),
                    batch_size=options.batch_size,
                    chunk_size=options.chunk_size,
                    progress=bars.show,
                )
                bars.finish()
        for failure in done.report.failures:
            err.print(f"[red]failed:[/] {escape(_sentence(failure))}", soft_wrap=True)
        if options.sync:
            await _delete_gone(storage, sources, done)
    return done


async def _documents(sources: Sources) -> AsyncGenerator[Document]:
    async for found in sources:
        yield Document(found.key, found.text, found.metadata, found.format)


async def _delete_gone(storage: VectorStorage, sources: Sources, done: Ingested) -> None:
    """Delete the documents whose files are no longer in the folders."""
    for folder in sources.folders:
        if folder.problems:
            done.kept[str(folder.path)] = folder.problems[0]
            words = f"{folder.path}: nothing was deleted, because a part could not be looked into"
            err.print(f"[yellow]not compared:[/] {escape(words)} ({escape(folder.problems[0])})", soft_wrap=True)
    done.gone = [key async for key in gone(storage, sources.folders, sources.keys)]
    for key in done.gone:
        chunks = await (storage.count(document=key) if done.is_dry else storage.delete(document=key))
        what = "would delete" if done.is_dry else "deleted"
        words = f"{key}, which is no longer there ({counted(chunks)})"
        err.print(f"[yellow]{what}:[/] {escape(words)}", soft_wrap=True)


def _show_other_files(folders: Sequence[Folder]) -> None:
    """Say how many files of the folders have an unsupported kind."""
    others = sum((folder.others for folder in folders), Counter[str]())
    if others:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in others.most_common(5))
        more = ", …" if len(others) > 5 else ""
        what = "1 file" if others.total() == 1 else f"{others.total():,} files"
        err.print(f"[dim]not looked at: {what} of other kinds ({escape(kinds)}{more})[/]", soft_wrap=True)


def _sentence(failure: IngestFailure) -> str:
    """The failure of one document as a sentence with its key."""
    words = str(failure.as_dict()["error"])
    return words if failure.document in words else f"{failure.document}: {words}"


def _show_report(done: Ingested) -> None:
    """One line: what was stored, and how many documents were left out."""
    report = done.report
    failed = len(done.skipped) + len(report.failures)
    if not done.is_dry:
        out.print(
            f"stored {counted(report.documents, 'document')} as {counted(report.chunks)} in collection "
            f"[bold]{escape(done.collection)}[/] in {report.seconds:.1f} s: {report.added:,} added, "
            f"{report.changed:,} changed, {report.unchanged:,} unchanged, {report.deleted:,} deleted"
            + (f"; skipped {failed:,}" if failed else "")
        )
    if done.gone is not None:
        deleted = "would delete" if done.is_dry else "deleted"
        what = "1 document that is" if len(done.gone) == 1 else f"{len(done.gone):,} documents that are"
        out.print(f"{deleted} {what} no longer there from collection [bold]{escape(done.collection)}[/]")


class _Bars:
    """A bar for the documents, and then one for each thing that is made of an index."""

    def __init__(self, progress: Progress, done: Ingested, total: int) -> None:
        self._progress = progress
        self._done = done
        self._documents = progress.add_task("documents", total=total, note="")
        self._chunks = progress.add_task("chunks", total=None, note="")
        self._steps: dict[str, TaskID] = {}

    def show(self, report: IngestReport) -> None:
        """Show how far it is."""
        self._done.report = report
        if report.index is not None:
            self._show_index(report.index)
            return
        rate = f"{report.chunks / report.seconds:,.0f}/s" if report.chunks and report.seconds else ""
        done = report.documents + len(report.failures) + len(self._done.skipped)
        self._progress.update(self._documents, completed=done)
        self._progress.update(
            self._chunks, completed=max(report.embedded, report.chunks), total=report.found, note=rate
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
            self._steps[index.step], completed=index.done, total=index.total or None, note=index.notice or index.phase
        )
