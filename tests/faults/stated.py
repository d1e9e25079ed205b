"""What the docstring of a row states. This module imports nothing that pytest has to rewrite."""

from __future__ import annotations

import inspect

COLUMNS = ("warm-up", "reads", "writes", "healing")


def parsed(docstring: str) -> tuple[str, dict[str, str]]:
    """The fault, and the expected outcomes by column, as in `reads: ConnectError, then answer`."""
    fault, _, stated = inspect.cleandoc(docstring).partition("\n\n")
    expected = dict(line.split(": ", 1) for line in stated.splitlines())
    assert set(expected) <= set(COLUMNS), expected
    return fault.rstrip("."), expected
