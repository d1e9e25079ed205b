"""`preheat ingest`: files and folders into a collection, one document a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from anyio import to_thread
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import ArgumentError
from ..retrieval import ResearchRetriever
from ..storage import VectorStorage
from ..storage.encoding import check_text
from .console import database, err
from .models import DEFAULT_MODEL, dimensions_of, model_of

__all__ = ("Ingest", "IngestReport", "find_files", "progress_bar")

MARKDOWN = {".md", ".markdown", ".mdown", ".mkd"}
TEXT = {".txt", ".text", ".rst", ".adoc", ".org", ".log"}


@dataclass(slots=True)
class IngestReport:
    """What was stored and what was not."""

    collection: str
    """The collection's name."""
    documents: int = 0
    """How many files were stored."""
    chunks: int = 0
    """How many chunks they gave."""
    seconds: float = 0.0
    """Seconds from opening the database to the last file."""
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    """The files that were not stored, each with the reason."""

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
        paths: list[Path],
        collection: str,
        dsn: str | None,
        data: Path | None,
        schema: str | None = None,
        model: str = DEFAULT_MODEL,
    ) -> None:
        self._paths = paths
        self._model = model
        self._schema = schema
        self._dsn = dsn
        self._data = data
        self._report = IngestReport(collection)

    async def run(self) -> IngestReport:
        """Store every file. One that was stored stays stored when a later one fails."""
        report = self._report
        files = await to_thread.run_sync(lambda: list(find_files(self._paths)))
        if not files:
            raise ArgumentError(
                "there is no text or Markdown file in what was given; name a file, or a folder with such files"
            )
        embedder = model_of(self._model)
        async with database(self._dsn, self._data) as dsn:
            started = perf_counter()
            dimensions = await dimensions_of(embedder)
            storage = VectorStorage(dsn, report.collection, dimensions, schema=self._schema, size=2, warm="never")
            async with storage:
                retriever = ResearchRetriever(storage, embedder)
                with progress_bar() as progress:
                    task = progress.add_task(f"storing in {report.collection}", total=len(files))
                    for file in files:
                        await self._store(retriever, file)
                        progress.advance(task)
            report.seconds = perf_counter() - started
        return report

    async def _store(self, retriever: ResearchRetriever, file: Path) -> None:
        try:
            check_text("name", file.as_posix())
        except ArgumentError:
            self._skip(Path(os.fsencode(file).decode(errors="replace")), "has a name that is not UTF-8")
            return
        try:
            text = await to_thread.run_sync(lambda: file.read_text(encoding="utf-8-sig"))
            if "\0" in text:
                raise ValueError
        except UnicodeDecodeError as error:
            self._skip(file, f"is not UTF-8 text (byte {error.start})")
        except ValueError:
            self._skip(file, "holds a NUL character, so it is not text")
        except OSError as error:
            self._skip(file, error.strerror or "cannot be read")
        else:
            format = "markdown" if file.suffix.lower() in MARKDOWN else "text"
            chunks = await retriever.add(file.as_posix(), text, format="markdown" if format == "markdown" else "text")
            self._report.documents += 1
            self._report.chunks += chunks

    def _skip(self, file: Path, reason: str) -> None:
        self._report.skipped[file.as_posix()] = reason
        err.print(f"[yellow]skipped:[/] {file.as_posix()} {reason}", soft_wrap=True)


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files among `paths`, and the text and Markdown files below the folders among them, each once, in order.

    Raises:
        ArgumentError: if one of them does not exist.
    """
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise ArgumentError(f"{path} does not exist; check the path")
        for file in _below(path) if path.is_dir() else (path,):
            if file not in seen:
                seen.add(file)
                yield file


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in MARKDOWN | TEXT and not hidden and path.is_file():
            yield path


def progress_bar() -> Progress:
    """A progress bar on stderr, so that results can be piped."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
    )
