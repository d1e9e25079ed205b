"""The keys of files: one file has one key, however its path is typed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePath
from unicodedata import normalize

from ...errors import ArgumentError

__all__ = ("Keys",)


class Keys:
    """Makes keys of paths.

    The key of a file is its path from the current folder, with forward slashes; of a file that is not below it, and of
    every file if the current folder is the root, the absolute path. Links to folders are followed, a link to a file is
    a file of its own, and letters are composed (NFC).
    """

    def __init__(self) -> None:
        self._folders: dict[PurePath, str] = {}
        try:
            here = os.path.realpath(".")
        except OSError:  # the current folder was deleted
            here = os.sep
        self._here = None if PurePath(here).parent == PurePath(here) else here

    def of_file(self, path: Path) -> str:
        """The key of a file. A pipe, which has no place of its own, keeps the name that it was given."""
        with suppress(OSError):
            if path.is_file():
                return self.of_path(path)
        return path.as_posix()

    def of_path(self, path: Path) -> str:
        """The key that a file has, or had."""
        if path.parent not in self._folders:
            self._folders[path.parent] = _real(path.parent)
        return self._key(PurePath(self._folders[path.parent], path.name))

    def of_folder(self, path: Path) -> str:
        """What the keys of all files below a folder begin with; nothing for the current folder."""
        key = self._key(PurePath(_real(path)))
        return "" if key == "." else key if key.endswith("/") else f"{key}/"

    def _key(self, path: PurePath) -> str:
        if self._here is not None and path.is_relative_to(self._here):
            path = path.relative_to(self._here)
        composed = normalize("NFC", path.as_posix())
        return path.as_posix() if _are_two(path, composed) else composed


def _real(path: Path) -> str:
    """The absolute path without links."""
    try:
        return os.path.realpath(path)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be resolved ({error.strerror}); change to a folder that exists") from error


def _are_two(path: PurePath, composed: str) -> bool:
    """Whether there are two files whose names look alike."""
    with suppress(OSError):
        return composed != path.as_posix() and os.path.lexists(composed) and not Path(path).samefile(composed)
    return False
