"""`preheat ingest --sync`: what is no longer in a folder is deleted from the collection."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from anyio import to_thread

from ...errors import ArgumentError
from ...retrieval.extractors import format_of
from ...storage import VectorStorage

__all__ = ("Folder", "check_folders", "gone")


@dataclass(slots=True)
class Folder:
    """A folder that was looked through."""

    path: Path
    """Where it is."""
    prefix: str
    """What the keys of the files below it begin with; nothing for the current folder."""
    files: int = 0
    """How many files were found."""
    problems: list[str] = field(default_factory=list[str])
    """The folders below it that could not be looked into, each with the reason."""
    others: Counter[str] = field(default_factory=Counter[str])
    """How many files of other kinds there are, by the end of their names."""


def check_folders(folders: Sequence[Folder]) -> None:
    """See that a comparison makes sense, before anything is done.

    Raises:
        ArgumentError: if there is no folder, or one in which nothing was found.
    """
    if not folders:
        raise ArgumentError("--sync compares folders with what is stored, and none was given; name a folder")
    for folder in folders:
        if not folder.files:
            raise ArgumentError(
                f"there is no file to read in {folder.path}, and --sync would delete all that was stored from it; "
                "check that its disk is there, or delete the documents with preheat delete"
            )


async def gone(storage: VectorStorage, folders: Sequence[Folder], found: Container[str]) -> AsyncGenerator[str]:
    """The keys of stored documents whose files are no longer below these folders.

    A folder of which a part could not be looked into is left out, and so is one that has gone itself.

    Args:
        found: the keys of all files that were found, whether they could be stored or not.
    """
    for folder in folders:
        if folder.problems or not await to_thread.run_sync(folder.path.is_dir):
            continue
        async for document in storage.documents(folder.prefix):
            if document.key not in found and await to_thread.run_sync(_is_gone, folder, document.key):
                yield document.key


def _is_gone(folder: Folder, key: str) -> bool:
    """Whether a key is that of a file below a folder, and there is no such file."""
    path = PurePath(key)
    if ".." in path.parts:
        return False  # from elsewhere
    if not folder.prefix and (path.is_absolute() or format_of(key) is None):
        return False  # from elsewhere as well, or the name of something that is not a file
    return not os.path.lexists(folder.path / key[len(folder.prefix) :])
