"""How results look to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ..retrieval import ReembedReport
from ..storage import CollectionInfo, Hit, Plan, PlanNode
from ..warming import WarmReport
from .console import err, out

if TYPE_CHECKING:
    from .delete import Deleted
    from .demo import FirstAnswers
    from .ingest import Ingested

__all__ = (
    "CollectionInfo",
    "Hit",
    "WarmReport",
    "show_applied",
    "show_collections",
    "show_delete",
    "show_first_answers",
    "show_hits",
    "show_ingest",
    "show_plan",
    "show_reembed",
    "show_sql",
    "show_warm_report",
)

STATUS_COLORS = {"hot": "green", "failed": "red", "unfinished": "yellow"}


def show_hits(query: str, hits: list[Hit], *, narrowed: bool = False, hybrid: bool = False) -> None:
    """One row a hit, best first; with both ranks if it is by the words as well."""
    if not hits and narrowed:
        out.print("nothing found: no chunk passes; try fewer of --filter, --min-score and --without")
        return
    if not hits:
        out.print("nothing found: the collection is empty; fill it with `preheat ingest`")
        return
    table = Table(title=escape(query), title_justify="left", title_style="bold", expand=True)
    for column in ("score", "vector", "words") if hybrid else ("score",):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("document", overflow="fold", max_width=18 if hybrid else 30)
    table.add_column("text", ratio=1)
    for hit in hits:
        ranks = [str(rank or "") for rank in (hit.vector_rank, hit.text_rank)] if hybrid else []
        score = f"{hit.score:.{4 if hybrid else 3}f}"
        table.add_row(score, *ranks, escape(hit.document), escape(_snippet(hit.text)))
    out.print(table)


def show_plan(plan: Plan) -> None:
    """Which index served, and a tree of the steps."""
    out.print(f"[bold]{escape(plan.summary)}[/]")
    root = Tree(_step(plan.tree))
    _grow(root, plan.tree)
    out.print(root)


def _grow(tree: Tree, node: PlanNode) -> None:
    for child in node.children:
        _grow(tree.add(_step(child)), child)


def _step(node: PlanNode) -> str:
    color = "dim" if not node.loops else "green" if node.index else "default"
    return f"[{color}]{escape(node.title)}[/] [dim]({escape(node.work)})[/]"


def _snippet(text: str, characters: int = 240) -> str:
    text = " ".join(text.split())
    return text if len(text) <= characters else text[: characters - 1].rsplit(" ", 1)[0] + " …"


def show_warm_report(report: WarmReport) -> None:
    """One row a connection."""
    title = f"pool {report.pool}: {report.hot} of {report.requested} connections hot in {report.seconds:.3f} s"
    if report.timed_out:
        title += ", out of time"
    out.print(f"[bold]{escape(title)}[/]")
    table = Table()
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("pid", justify="right", no_wrap=True)
    table.add_column("connect", justify="right", no_wrap=True)
    table.add_column("probe", justify="right", no_wrap=True)
    table.add_column("error")
    for number, connection in enumerate(report.connections, start=1):
        record = connection.as_dict()
        table.add_row(
            str(number),
            Text(connection.status, style=STATUS_COLORS[connection.status]),
            "" if connection.pid is None else str(connection.pid),
            _milliseconds(connection.connect_seconds),
            _milliseconds(connection.probe_seconds),
            escape(record["error"] or ""),
        )
    out.print(table)


def show_collections(infos: list[CollectionInfo]) -> None:
    """One row a collection."""
    if not infos:
        out.print("there are no collections yet; make one with `preheat ingest`, or look at `preheat demo`")
        return
    table = Table()
    table.add_column("collection")
    table.add_column("chunks", justify="right")
    table.add_column("dimensions", justify="right")
    table.add_column("metric")
    table.add_column("model")
    table.add_column("size", justify="right")
    for info in infos:
        table.add_row(
            escape(info.name),
            f"{info.chunks:,}",
            str(info.dimensions),
            info.metric,
            escape(info.embedder or ""),
            _bytes(info.bytes),
        )
    out.print(table)


def show_sql(script: str) -> None:
    """A script, in color on a terminal, and as it is for a pipe or a file."""
    if out.file.isatty():
        out.print(Syntax("", "sql", background_color="default").highlight(script), soft_wrap=True, end="")
    else:
        typer.echo(script, nl=False)


def show_applied(info: CollectionInfo) -> None:
    """One line."""
    out.print(
        f"collection [bold]{escape(info.name)}[/] is there and up to date: {info.dimensions} dimensions, "
        f"{info.metric}, {info.chunks:,} chunks"
    )


def show_reembed(report: ReembedReport) -> None:
    """One line."""
    name, model = escape(report.collection), escape(report.embedder)
    out.print(
        f"collection [bold]{name}[/] is of {model} now, {report.dimensions} dimensions: "
        f"embedded {report.embedded:,} of {report.chunks:,} chunks in {report.seconds:.1f} s"
    )


def show_ingest(done: Ingested) -> None:
    """One line, what it was, and how many were left out."""
    report = done.report
    failed = len(done.skipped) + len(report.failures)
    if not done.is_dry:
        out.print(
            f"stored {report.documents:,} documents as {report.chunks:,} chunks in collection "
            f"[bold]{escape(done.collection)}[/] in {report.seconds:.1f} s: {report.added:,} added, "
            f"{report.changed:,} changed, {report.unchanged:,} unchanged, {report.deleted:,} deleted"
            + (f"; skipped {failed:,}" if failed else "")
        )
    if done.gone is not None:
        deleted = "would delete" if done.is_dry else "deleted"
        what = "1 document that is" if len(done.gone) == 1 else f"{len(done.gone):,} documents that are"
        out.print(f"{deleted} {what} no longer there from collection [bold]{escape(done.collection)}[/]")


def show_delete(done: Deleted) -> None:
    """One line."""
    name = f"collection [bold]{escape(done.collection)}[/]"
    if done.declined:
        err.print("nothing was deleted")
    elif done.dropped:
        out.print(f"dropped {name} with {_chunks(done.deleted)}")
    else:
        out.print(f"deleted {_chunks(done.deleted)} from {name}")


def _chunks(count: int) -> str:
    return "1 chunk" if count == 1 else f"{count:,} chunks"


def show_first_answers(report: FirstAnswers) -> None:
    """How long the first answer takes, beside the steady time, with bars to scale."""
    out.print(f"stored {report.documents:,} documents as {report.chunks:,} chunks in {report.store_seconds:.1f} s")
    table = Table(
        title=f"the first answer of a fresh pool (median of {report.rounds})", title_justify="left", title_style="bold"
    )
    table.add_column("after", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("x steady", justify="right", no_wrap=True)
    table.add_column("")
    rows = (
        ("no warm-up", report.cold, "red"),
        ("SELECT 1 on each", report.after_ping, "yellow"),
        ("a full warm-up", report.after_warm_up, "green"),
        ("steady", report.steady, "blue"),
    )
    for name, seconds, color in rows:
        bar = Text("█" * max(1, round(24 * seconds / report.cold)), style=color)
        table.add_row(name, _milliseconds(seconds), f"{seconds / report.steady:.1f}", bar)
    out.print(table)
    out.print(
        f"The warm-up of 3 connections itself takes {_milliseconds(report.warm_up)}, ahead of the first user.\n"
        f"Go on with: [bold]preheat search 'what is a closure' --collection python-reference[/]"
    )


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.1f} ms"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
