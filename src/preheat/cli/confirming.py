"""`preheat delete`, `clear` and `drop` ask before they delete: on a terminal, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import typer

from .._concurrency.daemon_thread import run_in_daemon_thread
from ..errors import ArgumentError
from .console import FAILED, counted, err, escape, out, run, show
from .options import Collection

__all__ = ("Deleted", "check_can_ask", "confirmed", "run_deletion")


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    collection: str
    """The collection's name."""
    deleted: int = 0
    """The number of chunks that were deleted."""
    declined: bool = False
    """Whether the answer to the question was no."""
    is_found: bool = True
    """Whether there was something to delete."""
    dropped: bool = False
    """Whether the collection itself was dropped."""

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"collection": self.collection, "deleted": self.deleted, **({"dropped": True} if self.dropped else {})}


def run_deletion(where: Collection, work: Callable[[], Awaitable[Deleted]]) -> None:
    """Run a command that deletes, and report what it deleted.

    Raises:
        typer.Exit: if the command fails, or the answer to its question is no.
    """
    deleted = run(where.backend, work, interrupted="interrupted: nothing was deleted, unless the answer was yes")
    show(deleted, _show_deleted, json=where.json)
    if deleted.declined or not deleted.is_found:
        raise typer.Exit(FAILED)


def check_can_ask(command: str, *, yes: bool) -> None:
    """Check that a command can ask, before it does anything.

    An answer is never read from a pipe: what stands there is meant for something else.

    Raises:
        ArgumentError: if there is no terminal, and no `--yes`.
    """
    if not yes and not _has_terminal():
        raise ArgumentError(
            f"preheat {command} asks on a terminal before it deletes, and there is none; add --yes to delete without "
            "a question"
        )


async def confirmed(question: str) -> bool:
    """Ask a question on the terminal.

    Cancellation: leaves at once, and the answer is ignored. The thread that reads it does not delay the end of the
    process.
    """
    return await run_in_daemon_thread(partial(_ask, question))


def _ask(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # the end of input: Ctrl-D
        return False


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _show_deleted(done: Deleted) -> None:
    name = f"collection [bold]{escape(done.collection)}[/]"
    if done.declined:
        err.print("nothing was deleted")
    elif not done.is_found:
        err.print(f"nothing was deleted: {name} has no such chunk")
    elif done.dropped:
        out.print(f"dropped {name} with {counted(done.deleted)}")
    else:
        out.print(f"deleted {counted(done.deleted)} from {name}")
