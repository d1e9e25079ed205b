"""`python -m preheat` is the command `preheat`."""

from __future__ import annotations

from preheat.cli import main

main()
