"""What all commands share: where output goes, how commands end, and progress bars."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import anyio
import typer

from ..errors import ArgumentError, DimensionError, MissingExtraError, PreheatError, describe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

__all__ = (
    "FAILED",
    "Backend",
    "counted",
    "err",
    "escape",
    "log_to_stderr",
    "milliseconds",
    "out",
    "progress_bar",
    "run",
    "show",
)

T = TypeVar("T")


PIPE = 10_000
"""The width of a pipe or a file, in which no line is broken, unless COLUMNS says another one."""


class _Console:
    """A console of rich, which is imported when something is printed."""

    def __init__(self, *, stderr: bool = False) -> None:
        self._stderr = stderr

    @cached_property
    def itself(self) -> Console:
        from rich.console import Console

        console = Console(stderr=self._stderr, highlight=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = PIPE
        return console

    def __getattr__(self, name: str) -> Any:
        return getattr(self.itself, name)


_out, _err = _Console(), _Console(stderr=True)
out: Console = cast("Console", _out)
"""For results: what a pipe or a file receives."""
err: Console = cast("Console", _err)
"""For progress, notes and errors: what a person reads meanwhile."""

FAILED = 1
"""Exit code: an error, explained in a sentence; or something was left out, and named."""
MISUSED = 2
"""Exit code: an invalid command line; nothing was done."""
INTERRUPTED = 130
"""Exit code: Ctrl-C."""


class Backend(StrEnum):
    """The event loops that preheat runs on."""

    asyncio = "asyncio"
    trio = "trio"


def run(
    backend: Backend, work: Callable[[], Awaitable[T]], *, interrupted: str | Callable[[], str] = "interrupted"
) -> T:
    """Run the work of a command on an event loop. An error of the user's, and Ctrl-C, end it with a sentence.

    Args:
        backend: the event loop.
        work: the async function.
        interrupted: the message after Ctrl-C, or a function that returns it.
    """
    options = {"restrict_keyboard_interrupt_to_checkpoints": True} if backend is Backend.trio else {}
    try:
        if backend is Backend.trio and backend not in anyio.get_available_backends():
            raise MissingExtraError("--backend trio", "trio")
        return anyio.run(work, backend=backend.value, backend_options=options)
    except BaseException as raised:
        error = _cause(raised)
        if isinstance(error, PreheatError):
            _print_error(str(error))
            is_misused = isinstance(error, ArgumentError) and not isinstance(error, DimensionError)
            raise typer.Exit(MISUSED if is_misused else FAILED) from None
        if isinstance(error, KeyboardInterrupt):
            if err.is_terminal:
                err.print()  # after ^C
            err.print(escape(interrupted if isinstance(interrupted, str) else interrupted()), soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None
        if not isinstance(error, Exception) or logging.getLogger("preheat").isEnabledFor(logging.DEBUG):
            raise
        _print_error(describe(error))
        err.print("set PREHEAT_LOG=debug to see where it comes from")
        raise typer.Exit(FAILED) from None


def _cause(error: BaseException) -> BaseException:
    """The error in an exception group: Ctrl-C if the group has one, otherwise the first error."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    interrupt, _ = error.split(KeyboardInterrupt)
    first: BaseException = error if interrupt is None else interrupt
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _print_error(sentence: str) -> None:
    printable = sentence.encode(errors="backslashreplace").decode()  # the bytes of an argument need not be UTF-8
    err.print(f"[bold red]error:[/] {escape(printable)}", soft_wrap=True)


class Record(Protocol):
    """A result that can be printed as JSON."""

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        ...


R = TypeVar("R", bound="Record | Sequence[Record]")


def show(result: R, as_text: Callable[[R], None], *, json: bool) -> None:
    """Print the result of a command, as JSON or as text for a person."""
    if json:
        print_json([one.as_dict() for one in result] if isinstance(result, Sequence) else result.as_dict())
    else:
        as_text(result)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def progress_bar(*more: ProgressColumn) -> Progress:
    """A progress bar on stderr, so that results can be piped."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *more,
        console=_err.itself,
    )


def escape(text: str) -> str:
    """A text in which rich finds no markup."""
    from rich import markup

    return markup.escape(text)


def counted(count: int, what: str = "chunk") -> str:
    """A number of things in words."""
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


def milliseconds(seconds: float | None) -> str:
    """A duration for a table; nothing for None."""
    return "" if seconds is None else f"{1000 * seconds:.1f} ms"


def log_to_stderr() -> None:
    """Show preheat's log if `PREHEAT_LOG` is a level, such as `info`."""
    level = os.environ.get("PREHEAT_LOG", "").strip().upper()
    if not level:
        for name in ("preheat", "stamina"):
            logging.getLogger(name).addHandler(logging.NullHandler())  # the commands themselves say what happened
    elif level in logging.getLevelNamesMapping():
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("preheat").setLevel(level)
    else:
        _print_error(f"PREHEAT_LOG is {level.lower()!r}; set it to info, warning or debug, or unset it")
        raise typer.Exit(MISUSED)
