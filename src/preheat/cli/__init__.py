"""The command line. The extra `cli` brings what it needs; without it, it says so."""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command `preheat`."""
    try:
        _run()
    except KeyboardInterrupt:  # before the command has begun
        sys.exit(130)


def _run() -> None:
    try:
        from .app import app
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("rich", "typer", "click", "shellingham"):
            raise
        sys.exit("preheat: the command line needs an optional part; install it with: pip install 'preheat[all]'")
    app()
