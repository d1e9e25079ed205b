"""`preheat warm`: a warm-up of a pool, and what happened to each connection."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ...storage import VectorStorage, check_collection
from ...warming import WarmReport
from ..console import FAILED, escape, milliseconds, out, run, show
from ..database import database
from ..options import DEFAULT_COLLECTION, Reads, Schema

__all__ = ("warm",)

STATUS_COLORS = {"hot": "green", "failed": "red", "unfinished": "yellow"}


def warm(
    where: Schema,
    reads: Reads,
    connections: Annotated[int | None, typer.Option(help="How many connections; by default at most 3.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for the whole warm-up.")] = 5.0,
    size: Annotated[int, typer.Option(help="The size of the pool.")] = 10,
    collection: Annotated[
        str | None,
        typer.Option(
            "--collection",
            "-c",
            help=f"The collection whose search is the probe; by default {DEFAULT_COLLECTION}, if that exists.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Warm a pool once and report on each connection.

    The exit code is 1 unless all connections are hot, and the collection that --collection names exists.
    """

    async def work() -> WarmReport | None:
        async with (
            database(where) as dsn,
            VectorStorage(
                dsn,
                collection or DEFAULT_COLLECTION,
                schema=where.schema,
                size=size,
                warm="never",
                warm_connections=connections,
                warm_timeout=timeout,
                **where.pool_options,
                **reads.read_options,
            ) as storage,
        ):
            is_hot = await storage.warm_pool()
            if is_hot and collection is not None:
                await check_collection(storage.pool, collection, where.schema)
            return storage.warm_report

    report = run(where.backend, work)
    if report is not None:
        show(report, _show_report, json=where.json)
    if report is None or not report.ok:
        raise typer.Exit(FAILED)


def _show_report(report: WarmReport) -> None:
    """One row for each connection."""
    title = f"pool {report.pool}: {report.hot} of {report.requested} connections hot in {report.seconds:.3f} s"
    if report.timed_out:
        title += ", out of time"
    out.print(f"[bold]{escape(title)}[/]")
    table = Table()
    for column in ("#", "status", "pid", "connect", "probe"):
        table.add_column(column, justify="left" if column == "status" else "right", no_wrap=True)
    table.add_column("error")
    for number, connection in enumerate(report.connections, start=1):
        table.add_row(
            str(number),
            Text(connection.status, style=STATUS_COLORS[connection.status]),
            "" if connection.pid is None else str(connection.pid),
            milliseconds(connection.connect_seconds),
            milliseconds(connection.probe_seconds),
            escape(connection.as_dict()["error"] or ""),
        )
    out.print(table)
