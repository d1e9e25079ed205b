"""The command line. The extra `cli` installs what it needs; without the extra, the command says so."""

from __future__ import annotations

import io
import sys

__all__ = ("main",)


def main() -> None:
    """Run the command `preheat`."""
    try:
        _run()
    except KeyboardInterrupt:  # before the command has begun
        sys.exit(130)
    except OSError as error:  # commands handle their own, so this one is about their output
        sys.exit(f"error: the output cannot be written: {error.strerror or error}")


def _run() -> None:
    if sys.argv[1:] == ["--version"]:  # without the imports of the other options
        from .. import __version__

        print(f"preheat {__version__}", flush=True)
        return
    try:
        from .app import app
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("rich", "typer", "click", "shellingham"):
            raise
        sys.exit("preheat: the command line needs an optional part; install it with: pip install 'preheat[all]'")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None in a program without a console
            stream.reconfigure(errors="backslashreplace")  # a locale may lack the characters of a text
    app()
