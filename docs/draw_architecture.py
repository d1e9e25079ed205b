"""Draw the rooms of the house and the way of a query through them, from the code itself: `just architecture`.

`rooms.svg` is read from the imports. `query.svg` is what Python's profiler sees while a warmed retriever answers one
question, on asyncio, from the embedded PostgreSQL.
"""

from __future__ import annotations

import ast
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self
from unittest.mock import patch

import anyio
from benchmarks.report.canvas import BLUE, GREEN, GREY, INK, ORANGE, PAGE, PALE_INK, PURPLE, save, sheet, style
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

import preheat
from preheat import ResearchRetriever, VectorStorage
from preheat.embedded import embedded_postgres
from preheat.pools.asyncpg import pool as asyncpg_pool

SOURCE = Path(preheat.__file__).parent
PICTURES = Path(__file__).parent / "explanation" / "architecture"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli", "integrations"),
    ("measure", "testing", "retrieval"),
    ("storage",),
    ("warming",),
    ("pools",),
    ("_concurrency", "embedded", "settings"),
    ("errors",),
)
"""Top floor first. A room imports only from the floors below its own; tests/test_architecture.py holds it to that."""

COLORS = {"retrieval": ORANGE, "storage": BLUE, "warming": PURPLE, "pools": GREEN}


@dataclass(frozen=True)
class Room:
    """A package or a module of the library."""

    name: str
    purpose: str
    """The first sentence of its docstring."""
    imports: tuple[str, ...]
    """The rooms that it imports from, in the order of the floors."""


@dataclass(frozen=True)
class Step:
    """The first call of one function on the way of a query."""

    depth: int
    """How many of the library's functions are under way when it is called."""
    file: str
    function: str

    @property
    def room(self) -> str:
        """The room that the function is in."""
        return self.file.split("/")[0].removesuffix(".py")


def rooms() -> list[Room]:
    """Every room, top floor first."""
    return [_room(name) for floor in FLOORS for name in floor]


def _room(name: str) -> Room:
    path = SOURCE / name
    first = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))) or ""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [first]
    imported = {found for file in files for found in _imports(file)} - {name}
    known = [room for floor in FLOORS for room in floor]
    return Room(name, docstring.partition("\n")[0].rstrip("."), tuple(sorted(imported & set(known), key=known.index)))


def _imports(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    package = path.relative_to(SOURCE).parent.parts
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            parts = [*base, *(node.module or "").split(".")]
            found |= {parts[0]} if parts[0] else {alias.name for alias in node.names}
    return found


class _Vectors:
    """A model that takes no time, so that the picture shows the library alone."""

    name, dimensions = "vectors", 3

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0, 2.0, float(len(text))] for text in texts]


class Profile:
    """The functions of the library that are called between entering and leaving, each one once."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._seen = set[tuple[str, str]]()

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        here = Path(frame.f_code.co_filename)
        function = frame.f_code.co_qualname
        # Comprehensions are functions in some versions of Python, and not in others.
        if event != "call" or not here.is_relative_to(SOURCE) or function.endswith(">"):
            return
        name = here.relative_to(SOURCE).as_posix(), function.replace(".<locals>", "")
        if name not in self._seen:
            self._seen.add(name)
            self.steps.append(Step(_depth(frame), *name))

    @property
    def files(self) -> int:
        """How many files a reader would open."""
        return len({step.file for step in self.steps})


def _depth(frame: FrameType) -> int:
    above, depth = frame.f_back, 0
    while above is not None:
        inside = Path(above.f_code.co_filename).is_relative_to(SOURCE)
        depth += inside and not above.f_code.co_qualname.endswith(">")
        above = above.f_back
    return depth


async def profiles() -> dict[str, Profile]:
    """What is called for the first query, a later one, and a document."""
    found = {name: Profile() for name in ("first query", "later query", "document")}
    # Otherwise the functions that are called depend on the speed of this machine.
    every_time = patch.object(asyncpg_pool, "CERTAIN_SECONDS", 0.0)
    with every_time, tempfile.TemporaryDirectory() as folder:
        async with embedded_postgres(Path(folder) / "data") as dsn, VectorStorage(dsn, "drawing", 3) as storage:
            retriever = ResearchRetriever(storage, _Vectors())
            await retriever.add("first.md", "a text")
            with found["first query"]:
                await retriever.retrieve("one")
            await retriever.retrieve("three")
            with found["later query"]:
                await retriever.retrieve("seven")
            with found["document"]:
                await retriever.add("second.md", "another text")
    return found


def draw_rooms(path: Path) -> Path:
    """The floors, with what each room is for and what it imports."""
    title = "A module imports only from the floors below its own"
    with style():
        figure, [axes] = sheet(title, 0.72 * len(FLOORS))
        by_name = {room.name: room for room in rooms()}
        for level, floor in enumerate(reversed(FLOORS)):
            width = 1 / len(floor)
            for place, name in enumerate(floor):
                _box(axes, place * width, level, width - 0.01 * (place < len(floor) - 1), by_name[name])
        _bare(axes, len(FLOORS))
        return save(figure, path, title)


def _box(axes: Axes, x: float, level: int, width: float, room: Room) -> None:
    color = COLORS.get(room.name, GREY)
    axes.add_patch(
        FancyBboxPatch(
            (x, level + 0.06), width, 0.86, boxstyle="round,pad=0,rounding_size=0.02", facecolor=PAGE, edgecolor=color
        )
    )
    left = x + 0.015
    axes.text(left, level + 0.68, room.name, color=color, fontsize=11, fontweight="bold", va="center")
    axes.text(left, level + 0.44, textwrap.shorten(room.purpose, int(125 * width)), color=INK, fontsize=8, va="center")
    imports = f"imports {', '.join(room.imports)}" if room.imports else "imports nothing of the house"
    axes.text(left, level + 0.2, imports, color=PALE_INK, fontsize=7.5, va="center")


def draw_query(path: Path, profile: Profile) -> Path:
    """The functions that a query passes, in the order of their first call, each one under its caller."""
    title = f"A later query passes {profile.files} files and {len(profile.steps)} functions"
    with style():
        figure, [axes] = sheet(title, 0.21 * len(profile.steps) + 0.1)
        least = min(step.depth for step in profile.steps)
        for line, step in enumerate(profile.steps):
            y, x = len(profile.steps) - line - 0.5, 0.01 + 0.022 * (step.depth - least)
            color = COLORS.get(step.room, GREY)
            axes.plot([x - 0.006] * 2, [y - 0.38, y + 0.38], color=color, linewidth=2.4, solid_capstyle="butt")
            axes.text(x, y, step.function, color=INK, fontsize=8.5, va="center")
            axes.text(0.99, y, step.file, color=color, fontsize=8, va="center", ha="right")
        _bare(axes, len(profile.steps))
        return save(figure, path, title)


def _bare(axes: Axes, height: float) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, height)
    axes.axis("off")


def main() -> None:
    """Write both pictures, and print the counts."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    found = anyio.run(profiles)
    draw_rooms(PICTURES / "rooms.svg")
    draw_query(PICTURES / "query.svg", found["later query"])
    for name, profile in found.items():
        print(f"{name}: {profile.files} files, {len(profile.steps)} functions")


if __name__ == "__main__":
    main()
