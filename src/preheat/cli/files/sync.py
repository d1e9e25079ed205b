"""`preheat ingest --sync`: documents whose files are no longer in a folder are deleted from the collection."""

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
    """The path of the folder."""
    prefix: str
    """The beginning of the keys of the files below the folder; empty for the current folder."""
    files: int = 0
    """The number of files that were found."""
    problems: list[str] = field(default_factory=list[str])
    """The folders below that could not be read, each with the reason."""
    others: Counter[str] = field(default_factory=Counter[str])
    """The number of files of other kinds, by the ends of their names."""


def check_folders(folders: Sequence[Folder]) -> None:
    """Check that the folders can be compared, before anything is done.

    Raises:
        ArgumentError: if there is no folder, or a folder without files.
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

    A folder that is gone is left out, and so is a folder of which a part could not be read.

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
    """Whether a key belongs to a file below a folder, and the file does not exist."""
    path = PurePath(key)
    if ".." in path.parts:
        return False  # from elsewhere
    if not folder.prefix and (path.is_absolute() or format_of(key) is None):
        return False  # from elsewhere, or not the name of a file
    return not os.path.lexists(folder.path / key[len(folder.prefix) :])
