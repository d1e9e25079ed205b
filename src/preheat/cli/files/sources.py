"""The documents of `preheat ingest`: files, folders, globs and standard input, read one after the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread

from ..._concurrency.daemon_thread import run_in_daemon_thread
from ...errors import ArgumentError, ExtractionError, MissingExtraError
from ...retrieval import Extracted, FileFormat, extract
from ...retrieval.extractors import format_of, remedy_of_name, resembles_a_document
from ...storage import check_text, json_text
from ..console import err
from ..options import json_object
from .keys import Keys
from .sync import Folder
from .walking import has_magic, matching, walk

__all__ = ("Source", "Sources", "find_sources", "parse_metadata")

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One document before it is read."""

    key: str
    """The key of the document."""
    path: Path | None
    """The file; None for standard input."""
    format: FileFormat | None = None
    """The format; None if it is to be detected from the bytes."""
    problem: str = ""
    """The reason why the document cannot be read, if it is known already."""


class Sources:
    """The documents of a command. Each one is read when it is asked for.

    `async for` yields each document with its text. For one without text, or that cannot be read, `skip` is called.

    Args:
        given: files, folders, globs, or `-`.
        skip: is called with the key of a document that is left out, and the reason.
        name: the key of the document on standard input.
        format: the format of standard input, and of files whose names do not show it.
        metadata: for each document; it takes precedence over the document's own metadata.
    """

    def __init__(
        self,
        given: Iterable[str],
        skip: Callable[[str, str], None],
        *,
        name: str | None = None,
        format: FileFormat | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._given = tuple(given)
        self._skip = skip
        self._name = name
        self._format: FileFormat | None = format
        self._metadata = metadata or {}
        self._left: Iterator[Source] = iter(())
        self.folders: list[Folder] = []
        """The folders that were looked through."""
        self.keys: frozenset[str] = frozenset()
        """The keys of all documents that were found."""

    async def find(self) -> int:
        """Find the files, without reading them, and return the maximum number of documents.

        Raises:
            ArgumentError: if a path does not exist, or there is nothing to read.
        """
        folders: list[Folder] = []

        def find() -> list[Source]:
            return list(find_sources(self._given, name=self._name, format=self._format, folders=folders))

        found = await to_thread.run_sync(find, abandon_on_cancel=True)
        self._left = iter(found)
        self.folders = folders
        self.keys = frozenset(source.key for source in found)
        return len(found)

    def __aiter__(self) -> Sources:
        return self

    async def __anext__(self) -> Extracted:
        for source in self._left:
            if source.problem:
                self._skip(_shown(source.key), source.problem)
                continue
            try:
                found = await run_in_daemon_thread(partial(_read, source))
            except ExtractionError as error:
                self._skip(source.key, error.reason)
            except MissingExtraError as error:
                self._skip(source.key, f"is left out: {error}")
            except OSError as error:
                self._skip(source.key, f"cannot be read: {error.strerror or error}")
            else:
                return replace(found, metadata={**found.metadata, **self._metadata})
        raise StopAsyncIteration


def _read(source: Source) -> Extracted:
    data = _read_stdin() if source.path is None else source.path.read_bytes()
    if source.path is None and not data:
        raise ExtractionError(source.key, "is empty: nothing came on standard input")
    return extract(source.key, data, format=source.format)


def _read_stdin() -> bytes:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise OSError(0, "there is no standard input")
    if sys.stdin.isatty():
        err.print("reading from the terminal; end with Ctrl-D on a line of its own")
    data: bytes | None = getattr(
        stream, "raw", stream
    ).read()  # unbuffered, because an abandoned reader must not hold the buffer's lock
    return data or b""


def find_sources(
    given: Iterable[str],
    *,
    name: str | None = None,
    format: FileFormat | None = None,
    folders: list[Folder] | None = None,
) -> Iterator[Source]:
    """The documents to read, each once, in order. Of a folder only the files with a known suffix are read.

    Args:
        folders: a list to which the folders that were searched are appended.

    Raises:
        ArgumentError: if a path does not exist, a glob matches nothing, or there is no file in all of it.
    """
    given = tuple(given)
    if name is not None and STDIN not in given:
        raise ArgumentError("--name is the key of what comes on standard input; name - as a path to read that")
    if name is not None and not name.strip():
        raise ArgumentError("--name is empty; give the document a key, or leave the option out")
    seen: set[str | None] = set()
    find = _Finder(format, [] if folders is None else folders)
    for word in given:
        for source in (_stdin(name or "stdin", format),) if word == STDIN else find.files(word):
            known_as = None if source.path is None else source.key
            if known_as not in seen:
                seen.add(known_as)
                yield source
    if not seen:
        raise ArgumentError(
            "there is no file that can be read in what was given; name a file, or a folder with text, Markdown, HTML, "
            "PDF, Word documents, presentations, workbooks, EPUB or notebooks"
        )


def _stdin(name: str, format: FileFormat | None) -> Source:
    check_text("value of --name", name)
    return Source(name, None, format or format_of(name))


class _Finder:
    """Finds files, each with its key."""

    def __init__(self, format: FileFormat | None, folders: list[Folder]) -> None:
        self._format: FileFormat | None = format
        self._folders = folders
        self._keys = Keys()

    def files(self, word: str) -> Iterator[Source]:
        """The files of a word of the command line, which is a file, a folder or a glob."""
        if os.path.isdir(word):  # noqa: PTH112 - False, not an error, for a name that no file system takes
            yield from self._below(Path(word))
        elif os.path.exists(word):  # noqa: PTH110
            yield self._source(Path(word), self._format)
        elif not has_magic(word):
            raise ArgumentError(f"{_shown(word)} does not exist; check the path")
        else:
            found = False
            for path, problem in matching(word):
                found = True
                yield self._source(path, self._format, problem)
            if not found:
                raise ArgumentError(
                    f"{_shown(word)} matches no file; check the pattern, in which ** stands for any folders"
                )

    def _below(self, path: Path) -> Iterator[Source]:
        folder = Folder(path, self._keys.of_folder(path))
        self._folders.append(folder)

        def is_wanted(file: Path) -> bool:
            known = format_of(file.name) is not None or resembles_a_document(file.name)
            if not known:
                folder.others[file.suffix.lower() or file.name] += 1
            return known

        for file, problem in walk(path, is_wanted):
            if problem:
                folder.problems.append(f"{_shown(file.as_posix())}: {problem}")
                problem = f"cannot be looked into: {problem}"
            else:
                folder.files += 1
            yield self._source(file, None, problem)

    def _source(self, path: Path, format: FileFormat | None, problem: str = "") -> Source:
        key = path.as_posix() if problem else self._keys.of_file(path)
        format = format_of(path.name) or format
        if format is None and not problem:
            problem = remedy_of_name(path.name) or ""
        try:
            check_text("name", key)
        except ArgumentError:
            problem = "has a name that is not UTF-8"
        return Source(key, path, format, problem)


def _shown(name: str) -> str:
    """A name that can be printed."""
    if not name:
        return "the empty path"
    return name.encode(errors="replace").decode() if len(name) <= 200 else _shown(name[:200]) + "…"


def parse_metadata(text: str | None) -> dict[str, Any]:
    """The metadata in the option `--metadata`.

    Raises:
        ArgumentError: if it is not a JSON object, or holds what cannot be stored.
    """
    if text is None:
        return {}
    value = json_object("--metadata", text)
    if "start" in value:
        raise ArgumentError("--metadata has start, which is where a chunk begins in its document; use another name")
    json_text("value of --metadata", value)
    return value
