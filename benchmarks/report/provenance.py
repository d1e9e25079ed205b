"""What a run was measured on and with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from benchmarks.report.layout import Cell, Table
from benchmarks.report.records import Results


def machine(results: Results) -> Table:
    """What was measured on, and of which versions. Of paths only the last name is told."""
    facts: Iterable[tuple[str, Mapping[str, Any]]] = (
        ("", {name.removesuffix("_gib"): _sized(name, value) for name, value in results.machine.items()}),
        ("", results.versions),
        ("", {"commit": results.commit}),
        ("option ", results.options),
    )
    rows = [(prefix + name.replace("_", " "), value) for prefix, group in facts for name, value in group.items()]
    return Table(
        "machine",
        "Measured on and with",
        ("", ""),
        tuple((Cell(name), Cell(_without_folder(value))) for name, value in rows),
        figures=False,
    )


def _sized(name: str, value: object) -> str:
    return f"{value} GiB" if name.endswith("_gib") else str(value)


def _without_folder(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_without_folder, value))
    text = str(value)
    return PurePath(text).name if PurePath(text).is_absolute() else text
