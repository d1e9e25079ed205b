"""The command line. The extra `cli` brings what it needs; without it, it says so."""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command `preheat`."""
    try:
        from .app import app
    except KeyboardInterrupt:
        sys.exit(130)  # nothing was begun
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("rich", "typer", "click", "shellingham"):
            raise
        sys.exit("preheat: the command line needs an optional part; install it with: pip install 'preheat[all]'")
    app()
