"""Find the files of folders and globs: in order, without hidden files, and never through a link to a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

__all__ = ("has_magic", "matching", "walk")


def walk(
    folder: Path, is_wanted: Callable[[Path], bool], *, hidden: bool = False, depth: int | None = None
) -> Iterator[tuple[Path, str]]:
    """The wanted files below a folder, sorted, each with an empty string.

    A folder that cannot be read is in the list, too, with the reason.

    Args:
        is_wanted: says whether a file is wanted.
        hidden: whether to include names that begin with a dot.
        depth: how many folders to go down, `folder` itself included; None for all of them.
    """
    waiting = [(folder, True, depth)]
    while waiting:
        path, is_folder, levels = waiting.pop()
        if not is_folder:
            yield path, ""
        elif levels != 0:
            below = None if levels is None else levels - 1
            try:
                with os.scandir(path) as entries:
                    inside = [
                        (path / entry.name, entry.is_dir(follow_symlinks=False), below)
                        for entry in entries
                        if (hidden or not entry.name.startswith("."))
                        and (entry.is_dir(follow_symlinks=False) or (is_wanted(path / entry.name) and entry.is_file()))
                    ]
            except OSError as error:
                yield path, error.strerror or "cannot be looked into"
            else:
                waiting += sorted(inside, reverse=True)


def matching(pattern: str) -> Iterator[tuple[Path, str]]:
    """The files that a glob matches, in the form of :func:`walk`.

    `**` stands for any number of folders, and at the end for every file below. As in a shell, a hidden name is matched
    only by a part that begins with a dot. (The standard library follows links into folders, which may form circles, and
    treats `**` at the end differently in each version.)
    """
    parts = Path(pattern).parts
    first = next(place for place, part in enumerate(parts) if has_magic(part))
    base, wanted = Path(*parts[:first]), parts[first:]

    def fits(path: Path) -> bool:
        return _fits(path.parts[len(base.parts) :], wanted)

    if os.path.isdir(base):  # noqa: PTH112 - False, not an error, for a name that no file system takes
        hidden = any(part.startswith(".") for part in wanted)
        yield from walk(base, fits, hidden=hidden, depth=None if "**" in wanted else len(wanted))


def _fits(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether the parts of a path are those that a pattern asks for."""
    ends = {0}  # how many parts the pattern so far may have taken
    for part in wanted:
        if part == "**":
            ends = {end for start in ends for end in _any_folders(parts, start)}
        else:
            ends = {end + 1 for end in ends if end < len(parts) and _is_like(parts[end], part)}
    return len(parts) in ends


def _any_folders(parts: tuple[str, ...], start: int) -> Iterator[int]:
    yield start
    for place in range(start, len(parts)):
        if parts[place].startswith("."):
            return
        yield place + 1


def _is_like(name: str, part: str) -> bool:
    return fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))
