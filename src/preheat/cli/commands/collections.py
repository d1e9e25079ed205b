"""`preheat collections`: what is in a database."""

from __future__ import annotations

from rich.table import Table

from ...pools import open_pool
from ...storage import CollectionInfo
from ...storage import collections as find_collections
from ..console import err, escape, out, run, show
from ..database import database
from ..options import Schema

__all__ = ("collections",)


def collections(where: Schema) -> None:
    """List the collections of a database."""

    async def work() -> list[CollectionInfo]:
        async with database(where) as dsn, open_pool(dsn, size=1, **where.pool_options) as pool:
            return await find_collections(pool, where.schema)

    show(run(where.backend, work), _show_collections, json=where.json)


def _show_collections(infos: list[CollectionInfo]) -> None:
    """One row for each collection."""
    if not infos:
        out.print("there are no collections yet; make one with `preheat ingest`, or look at `preheat demo`")
        return
    table = Table()
    for column in ("collection", "chunks", "dimensions", "metric", "model", "size"):
        table.add_column(
            column, justify="right" if column in ("chunks", "dimensions", "size") else "left", overflow="fold"
        )
    for info in infos:
        table.add_row(
            escape(info.name),
            f"{info.chunks:,}" if info.missing is None else "[red]missing[/]",
            str(info.dimensions),
            info.metric,
            escape(info.embedder or ""),
            _bytes(info.bytes),
        )
    out.print(table)
    for info in infos:
        if info.missing is not None:
            err.print(f"[red]missing:[/] {escape(info.missing)}", soft_wrap=True)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
