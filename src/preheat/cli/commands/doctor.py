"""`preheat doctor`: what is wrong with a database, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from ...measure import Check, Diagnosis, Needs, diagnose
from ..console import escape, out, run, show
from ..database import database
from ..options import Schema

__all__ = ("doctor",)


def doctor(
    where: Schema,
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", help="The collection to check; by default all.", show_default=False),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Connections of the pool of each process.")] = 10,
    processes: Annotated[int, typer.Option(min=1, help="Processes that each have a pool.")] = 1,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Check what a search needs; nothing is to be stored.")
    ] = False,
    extra: Annotated[
        list[str] | None, typer.Option(help="An extra of preheat that has to be installed; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for all checks.")] = 10.0,
    wait: Annotated[
        bool, typer.Option("--wait", help="Try again until --timeout if the database cannot be reached for now.")
    ] = False,
) -> None:
    """Check a database, and say what to do. Nothing is changed.

    The exit code is 0 if all is green, 1 if something is yellow, and 2 if something is red.
    """

    async def work() -> Diagnosis:
        async with database(where) as dsn:
            extras = [*(extra or ()), *(["trio"] if where.backend == "trio" else [])]
            return await diagnose(
                dsn,
                needs=Needs(size, processes, writes=not read_only),
                schema=where.schema,
                collection=collection,
                extras=extras,
                timeout=timeout,
                wait=wait,
                bounds=where.bounds,
            )

    diagnosis = run(where.backend, work)
    show(diagnosis, _show_checks, json=where.json)
    if diagnosis.exit_code:
        raise typer.Exit(diagnosis.exit_code)


def _show_checks(diagnosis: Diagnosis) -> None:
    """One line for each check, and what to do below it."""
    width = max(len(check.name) for check in diagnosis.checks)
    for check in diagnosis.checks:
        name = f"{check.name}:".ljust(min(width, 20) + 1)
        out.print(
            f"[{check.status}]{check.status:<6}[/] [bold]{escape(name)}[/] {escape(check.message)}", soft_wrap=True
        )
        for line in _remedy(check):
            out.print(f"{'':6} {escape(line)}", soft_wrap=True)


def _remedy(check: Check) -> list[str]:
    if check.remedy is None:
        return []
    lines = [f"-> {check.remedy}"]
    lines += [f"   {statement};" for statement in check.sql]
    if check.dsn is not None:
        lines.append(f"   in the DSN: {check.dsn}")
    return lines
