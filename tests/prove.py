"""The long campaign, `just prove`: the properties with many more examples, and a table of what was run and found."""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
BACKENDS = ("asyncio", "trio")


class Campaign:
    """A pytest plugin that keeps the time of each backend, and counts what failed."""

    def __init__(self) -> None:
        self.tallies: dict[str, Any] = {}
        self.seconds = dict.fromkeys(BACKENDS, 0.0)
        self.violations = dict.fromkeys([*BACKENDS, ""], 0)
        self.mistakes: set[str] = set()
        self.missed: set[str] = set()

    def pytest_collection_finish(self) -> None:
        from tests.properties.tally import tallies  # pytest wants to be the first to import what it tests

        self.tallies = tallies

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        before = {backend: tally.schedules for backend, tally in self.tallies.items()}
        started = time.perf_counter()
        try:
            return (yield)
        finally:
            ran = {backend: tally.schedules - before[backend] for backend, tally in self.tallies.items()}
            for backend, schedules in ran.items():
                self.seconds[backend] += (time.perf_counter() - started) * schedules / (sum(ran.values()) or 1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "test_broken" in report.nodeid:
            mistake = report.nodeid.split("[")[-1].rsplit("-", 1)[0]
            self.mistakes.add(mistake)
            if report.failed:
                self.missed.add(mistake)
        elif report.failed:
            self.violations[next((backend for backend in BACKENDS if backend in report.nodeid), "")] += 1


def commit() -> str:
    """The commit that is being proved, with a plus if there are changes on top."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    return (head.strip() or "unknown") + ("+" if dirty.strip() else "")


def rows(campaign: Campaign) -> list[tuple[str, ...]]:
    """The table: what was counted on each backend."""
    counted = {
        "schedules": lambda _, tally: tally.schedules,
        "distinct schedules": lambda _, tally: len(tally.distinct),
        "violations": lambda backend, _: campaign.violations[backend],
        "stuck callers": lambda _, tally: tally.stuck_callers,
        "leases leaked": lambda _, tally: tally.leases_leaked,
        "tasks leaked": lambda _, tally: tally.tasks_leaked,
        "uses of the guard's safety net": lambda _, tally: tally.safety_net_used,
        "cancel points swept": lambda _, tally: tally.cancel_points,
        "seconds": lambda backend, _: round(campaign.seconds[backend]),
        "schedules a second": lambda backend, tally: round(tally.schedules / (campaign.seconds[backend] or 1)),
    }
    return [
        (name, *(f"{count(backend, tally):,}" for backend, tally in campaign.tallies.items()))
        for name, count in counted.items()
    ]


def main() -> int:
    """Run the campaign, print the table and write it to build/proof.md."""
    arguments = argparse.ArgumentParser(prog="just prove", description=__doc__)
    arguments.add_argument("--seed", type=int, help="of Hypothesis; any by default")
    arguments.add_argument("--profile", default="campaign", help="of Hypothesis, in tests/conftest.py")
    given, further = arguments.parse_known_args()
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed

    campaign = Campaign()
    options = ["-q", "--no-header", "--show-capture=no", "--timeout=1800", f"--hypothesis-seed={seed}"]
    selection = [str(ROOT / "tests" / "properties"), *further]
    code = pytest.main([*options, f"--hypothesis-profile={given.profile}", *selection], plugins=[campaign])

    facts = (
        f"seed {seed}, commit {commit()}, Python {platform.python_version()}, {os.cpu_count()} cores; "
        f"{len(campaign.mistakes - campaign.missed)} of {len(campaign.mistakes)} planted mistakes caught"
        + (f"; {campaign.violations['']} more tests failed" if campaign.violations[""] else "")
    )
    table = Table("", *BACKENDS, caption=facts)
    for column in table.columns[1:]:
        column.justify = "right"
    lines = [f"| | {' | '.join(BACKENDS)} |", f"| --- |{' ---: |' * len(BACKENDS)}"]
    for row in rows(campaign):
        table.add_row(*row)
        lines.append(f"| {' | '.join(row)} |")
    Console().print(table)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "proof.md").write_text("\n".join([*lines, "", facts]) + "\n", encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
