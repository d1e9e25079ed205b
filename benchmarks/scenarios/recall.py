"""How many of the nearest a search finds, compared with brute force, and what that takes.

Run it with `python -m benchmarks.scenarios.recall`. Rows and questions are made by :mod:`benchmarks.data.mixture`.
Everything is asked with preheat's defaults on the indexes as
:meth:`~preheat.VectorStorage.create_index` makes them; only for the plot `ef_search` is given. How often the nearest
are found is up to chance as an index is built, within about a hundredth; milliseconds are the machine's.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import anyio
from rich.console import Console
from tests.support.server import running_server

from benchmarks.data.mixture import PARTS, Mixture, mixture
from benchmarks.report.layout import Cell, Table, markdown, on_terminal
from benchmarks.report.tables import WIDTH
from benchmarks.report.words import number
from benchmarks.runner.timing import timed
from preheat import VectorStorage
from preheat.storage.encoding.vectors import vector_text
from preheat.storage.filters.sql import condition
from preheat.storage.filters.tree import as_filter
from preheat.storage.identifiers import Identifiers
from preheat.storage.search import sql as search_statements

K = 10
DEFAULT_EF_SEARCH = 100
EF_SEARCH = (10, 20, 40, 70, DEFAULT_EF_SEARCH, 200, 400)
SERVER = ("shared_buffers=2GB", "maintenance_work_mem=1GB", "max_wal_size=8GB")
FOLDER = Path(__file__).parents[2] / "docs" / "explanation" / "recall"
WRITTEN = "<!-- written by `python -m benchmarks.scenarios.recall --docs` -->"

Asked = Callable[[int], tuple[Any, Any]]
"""The filter of a question by its number, and which rows pass it."""


@dataclass
class Figures:
    """What was found for all the questions of a kind."""

    recall: list[float] = field(default_factory=list)
    """Of each question, from 0 to 1."""
    hits: list[int] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    """Milliseconds."""
    way: str = ""
    """How most of them were answered."""


def kinds(data: Mixture) -> Iterator[tuple[str, Asked]]:
    """Every kind of question, by what is said of it in the table."""
    yield "no filter", lambda _: (None, None)
    for share, parts in PARTS.items():
        for name, where in (("spread", "anywhere"), ("apart", "whole clusters")):
            yield (
                f"{share}, {where}",
                lambda question, name=name, parts=parts: data.equal(name, parts, 7 * question % parts),
            )
    for share, parts in PARTS.items():
        yield f"{share}, by a comparison", lambda _, parts=parts: data.below("spread", parts)


async def filters(storage: VectorStorage, data: Mixture) -> dict[str, Figures]:
    """Ask each question with every filter, in turn, and twice: the first time for its pages and its plan."""
    asked = dict(kinds(data))
    found = {name: Figures() for name in asked}
    ways: dict[str, list[str]] = {name: [] for name in asked}
    for question, vector in enumerate(data.questions):
        for name, figures in found.items():
            kept, passes = asked[name](question)
            hits = await storage.search(vector, K, filter=kept)
            again = await timed(lambda vector=vector, kept=kept: storage.search(vector, K, filter=kept))
            expected = data.nearest(question, K, passes)
            figures.recall.append(len({hit.id for hit in hits} & expected) / len(expected))
            figures.hits.append(len(hits))
            figures.taken.append(1000 * again)
            if question < 9:
                ways[name].append(await way(storage, vector, kept))
    for name, figures in found.items():
        figures.way = max(ways[name], key=ways[name].count)
    return found


async def way(storage: VectorStorage, vector: Any, kept: Any) -> str:
    """How the server answers, as it explains it."""
    where = None if kept is None else condition(as_filter(kept), search_statements.FIRST_OF_CONDITION)
    names, arguments = Identifiers(storage.collection), (vector_text(vector), K, storage.collection, None, None)
    if where is None:
        return "the index of the vectors"
    explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + search_statements.filtered_search(
        names, "cosine", where.sql
    )
    async with storage.pool.lease() as lease:
        rows = await lease.fetch(explain, *arguments, *where.parameters)
    parts = re.split(r"\n  CTE (\w+)\n", "\n".join(row["QUERY PLAN"] for row in rows))
    plans = dict(zip(parts[1::2], parts[2::2], strict=True))
    found, compared = ("never executed" not in plans[part] for part in ("scanned", "few"))
    if not compared:
        return "the index of the vectors"
    by = "by their index" if '.metadata"' in plans["few"] else "by a scan"
    return f"all compared, {by}" + (", after the index of the vectors" if found else "")


async def candidates(storage: VectorStorage, data: Mixture) -> dict[int, Figures]:
    """Ask each question with every number of candidates, in another order each time."""
    found = {ef_search: Figures() for ef_search in EF_SEARCH}
    for question, vector in enumerate(data.questions):
        expected = data.nearest(question, K)
        await storage.search(vector, K, ef_search=max(EF_SEARCH))
        for ef_search in random.sample(EF_SEARCH, k=len(EF_SEARCH)):
            hits = await storage.search(vector, K, ef_search=ef_search)
            found[ef_search].recall.append(len({hit.id for hit in hits} & expected) / K)
            again = await timed(lambda vector=vector, ef=ef_search: storage.search(vector, K, ef_search=ef))
            found[ef_search].taken.append(1000 * again)
    return found


async def measure(
    dsn: str, data: Mixture, collection: str, dimensions: int
) -> tuple[dict[str, Figures], dict[int, Figures]]:
    """Store the rows, index them, and ask."""
    async with VectorStorage(dsn, collection, dimensions, index=False, warm="never", size=1) as storage:
        for chunks in data.chunks():
            await storage.add(chunks)
        await storage.create_index()
        return await filters(storage, data), await candidates(storage, data)


def by_kind(found: dict[str, Figures], rows: int, dimensions: int) -> Table:
    return Table(
        f"filters-{dimensions}",
        f"What a search with defaults finds of the {K} nearest of {rows:,} rows of {dimensions} dimensions",
        ("rows that pass", "recall", "fewest hits", "ms", "answered by"),
        tuple(
            (
                Cell(name),
                Cell(f"{fmean(figures.recall):.3f}"),
                Cell(str(min(figures.hits))),
                Cell(number(median(figures.taken))),
                Cell(figures.way),
            )
            for name, figures in found.items()
        ),
        "Means of recall, medians of milliseconds.",
    )


def by_candidates(found: dict[int, dict[int, Figures]], rows: int) -> Table:
    return Table(
        "candidates",
        f"More candidates find more of the {K} nearest of {rows:,} rows, without a filter",
        ("ef_search", *(f"{heading}, {dimensions}-d" for dimensions in found for heading in ("recall", "ms"))),
        tuple(
            (
                Cell(f"{ef_search}, the default" if ef_search == DEFAULT_EF_SEARCH else str(ef_search)),
                *(
                    Cell(text)
                    for figures in found.values()
                    for text in (
                        f"{fmean(figures[ef_search].recall):.3f}",
                        number(median(figures[ef_search].taken)),
                    )
                ),
            )
            for ef_search in EF_SEARCH
        ),
        "Means of recall, medians of milliseconds.",
    )


def draw(found: dict[int, dict[int, Figures]], folder: Path) -> None:
    """Recall against milliseconds, with the number of candidates beside each mark."""
    from benchmarks.report.canvas import BLUE, LINES, ORANGE, PALE_INK, save, sheet, style
    from benchmarks.report.marks import legend, mark

    title = f"What more candidates find of the {K} nearest, and what they take"
    with style():
        figure, (axes,) = sheet(title, LINES + 0.4)
        signs = list(zip(found.items(), ((BLUE, "o"), (ORANGE, "^"), (PALE_INK, "s")), strict=False))
        for (_, figures), (color, sign) in signs:
            points = [(median(one.taken), fmean(one.recall)) for one in figures.values()]
            axes.plot(*zip(*points, strict=True), color=color, marker=sign)
            for ef_search, point in zip(figures, points, strict=True):
                axes.annotate(str(ef_search), point, (5, -12), textcoords="offset points", color=color, fontsize=8)
        axes.axhline(0.95, color=PALE_INK, linewidth=0.8, linestyle="--")
        axes.grid(axis="y")
        axes.set_xlabel("milliseconds per search, median")
        axes.set_ylabel("recall, mean")
        handles = [mark(sign, f"{dimensions} dimensions") for (dimensions, _), (_, sign) in signs]
        for handle, (_, (color, _)) in zip(handles, signs, strict=True):
            handle.set_color(color)
        legend(axes, handles)
        save(figure, folder / "candidates.svg", title)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scenarios.recall", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--docs", action="store_true", help="write the tables and the plot into the docs")
    options = parser.parse_args()
    console, shown, more = Console(), [], {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        running_server(Path(folder) / "data", *SERVER) as server,
    ):
        for dimensions in options.dimensions:
            data = mixture(options.rows, dimensions, options.questions)
            with console.status(f"{options.rows:,} rows of {dimensions} dimensions"):
                found, more[dimensions] = anyio.run(measure, server.dsn(), data, f"recall_{dimensions}", dimensions)
            shown.append(by_kind(found, options.rows, dimensions))
    shown.append(by_candidates(more, options.rows))
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    for table in shown:
        console.print(on_terminal(table))
        console.print()
    if options.docs:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for table in shown:
            (FOLDER / f"{table.name}.md").write_text(f"{WRITTEN}\n\n{markdown(table)}", encoding="utf-8")
        draw(more, FOLDER)


if __name__ == "__main__":
    main()
