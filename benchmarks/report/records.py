"""What was measured: series of samples, and the limits that some of their ratios must keep.

A series never forgets its samples: medians, spreads and ratios are worked out from them wherever they are shown, and
`results.json` holds them all.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Series:
    """Samples of one figure."""

    part: str
    """The part of the benchmark: `contest`, `ingest`, `warming`, `callers`, `crowd`, `growth`, `parameters`,
    `tls`, `costs`, `packing`, `startup`."""
    who: str
    """Who was measured, such as `preheat on trio` or `psycopg_pool`."""
    what: str
    """What was measured, such as `cold first answer`."""
    unit: str
    """`ms`, `us`, `round trips`, `rows/s` or `x`."""
    samples: tuple[float, ...]
    """The samples, in the order in which they were taken."""
    round_trip: float | None = None
    """The network's round trip in seconds; None where there is none to speak of."""
    at: float | None = None
    """The number of connections, callers, rows or dimensions, for figures that depend on one."""

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and the third quartile; of fewer than four samples the least and the greatest."""
        if len(self.samples) < 4:
            return min(self.samples), max(self.samples)
        low, _, high = quantiles(self.samples, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Limit:
    """A figure that was promised, worked out from medians of one run."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def kept(self) -> bool:
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def promised(self) -> str:
        words = [] if self.at_most is None else [f"at most {self.at_most:g}"]
        return " and ".join([*words, *([] if self.at_least is None else [f"at least {self.at_least:g}"])])


@dataclass
class Results:
    """All that one run has measured, and on what."""

    machine: Mapping[str, Any]
    """Cores, processor, memory, system."""
    versions: Mapping[str, str]
    """Of Python, PostgreSQL, pgvector, and every package that was measured, of the peers too."""
    commit: str
    options: Mapping[str, Any]
    """How the run was asked for: rows, rounds, quick."""
    series: list[Series] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)

    def add(self, series: Iterable[Series]) -> None:
        self.series.extend(series)

    def find(
        self, part: str, what: str, who: str | None = None, *, round_trip: float | None = None, at: float | None = None
    ) -> list[Series]:
        """The series of a part and figure; of one contestant, round trip or size where these are given."""
        return [
            series
            for series in self.series
            if (series.part, series.what) == (part, what)
            and who in (None, series.who)
            and round_trip in (None, series.round_trip)
            and at in (None, series.at)
        ]

    def one(
        self, part: str, what: str, who: str, *, round_trip: float | None = None, at: float | None = None
    ) -> Series | None:
        """The one series that :meth:`find` finds; None if it was not measured."""
        found = self.find(part, what, who, round_trip=round_trip, at=at)
        return found[0] if found else None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored["series"] = [Series(**{**series, "samples": tuple(series["samples"])}) for series in stored["series"]]
        stored["limits"] = [Limit(**limit) for limit in stored["limits"]]
        return cls(**stored)


def machine() -> dict[str, Any]:
    """What the figures are measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit that is checked out; with a plus sign where it has been changed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changes = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")
