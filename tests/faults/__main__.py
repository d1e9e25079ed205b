"""Run the rows of faults on asyncio and trio, and print the table: `just faults`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.faults.stated import COLUMNS, parsed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "reliability" / "faults.md"
WRITTEN = "<!-- written by `just faults --docs` -->"
BACKENDS = ("asyncio", "trio")
QUICK = ("rows_network", "rows_server", "rows_tls")
"""What CI runs of it. The others start servers, poolers and programs of their own, and take four minutes more."""


@dataclass
class Result:
    """One row: what its docstring states, and what was seen on each backend."""

    docstring: str
    outcomes: dict[str, str] = field(default_factory=dict)
    properties: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))

    def largest(self, name: str) -> float | None:
        """The largest of what was measured on the backends; None if it was not."""
        return max((seen[name] for seen in self.properties.values() if seen.get(name) is not None), default=None)

    def line(self) -> str:
        fault, expected = parsed(self.docstring)
        leaks, overrun, healed = (self.largest(name) for name in ("leaks", "overrun", "healed in"))
        healing = expected.get("healing", "–") + ("" if healed is None else f" ({healed:.2f} s)")
        cells = [fault, *(expected.get(column, "–") for column in COLUMNS[:-1]), healing]
        cells += ["–" if leaks is None else f"{leaks:.0f}", "–" if overrun is None else f"{overrun * 1000:.0f} ms"]
        return f"| {' | '.join([*cells, *(self.outcomes.get(backend, 'not run') for backend in BACKENDS)])} |"


class Rows:
    """A pytest plugin that keeps the outcome of each row."""

    def __init__(self) -> None:
        self.by_file: dict[str, dict[str, Result]] = {}
        self.titles: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Function, call: pytest.CallInfo[None]) -> Any:
        report: pytest.TestReport = yield
        module = item.module.__name__
        self.titles[module] = (item.module.__doc__ or "").partition(":")[0].rstrip(".")
        result = self.by_file.setdefault(module, {}).setdefault(item.originalname, Result(item.function.__doc__ or ""))
        backend = next(name for name in BACKENDS if name in item.name)
        result.properties[backend] |= dict(report.user_properties)
        if report.skipped:
            result.outcomes[backend] = "skipped"
        elif report.failed and call.excinfo is not None:
            [reason, *_] = str(call.excinfo.value).splitlines() or [call.excinfo.typename]
            result.outcomes[backend] = f"**failed**: {reason.replace('|', '/')[:160]}"
        else:
            result.outcomes.setdefault(backend, "passed")
        return report

    def table(self) -> str:
        """The rows of each file under its own heading, and how many passed."""
        parts = [WRITTEN]
        results = [result for rows in self.by_file.values() for result in rows.values()]
        passed = {name: sum(result.outcomes.get(name) == "passed" for result in results) for name in BACKENDS}
        leaks, overrun, healed = (
            max(result.largest(name) or 0.0 for result in results) for name in ("leaks", "overrun", "healed in")
        )
        parts.append(
            f"{len(results)} rows; passed: {passed['asyncio']} on asyncio, {passed['trio']} on trio. The most over all "
            f"rows: {leaks:.0f} leaks, {overrun * 1000:.0f} ms of overrun, "
            f"and {healed:.2f} s from the end of a fault to a warm pool. "
            f"Python {platform.python_version()}, {os.cpu_count()} cores."
        )
        heads = ("fault", *COLUMNS, "leaks", "overrun", *BACKENDS)
        for module, rows in self.by_file.items():
            lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *(row.line() for row in rows.values())]
            parts += [f"### {self.titles[module]}", "\n".join(lines)]
        return "\n\n".join(parts) + "\n"


def main() -> int:
    arguments = argparse.ArgumentParser(prog="just faults", description=__doc__)
    arguments.add_argument("--docs", action="store_true", help="write the table into the docs")
    arguments.add_argument("--quick", action="store_true", help="the rows that need one server alone")
    given, further = arguments.parse_known_args()
    if given.docs and (further or given.quick):
        arguments.error(f"--docs writes all rows; leave out {' '.join(further) or '--quick'}")
    rows = Rows()
    files = (
        []
        if any(word.endswith(".py") for word in further)
        else sorted(
            str(path) for path in Path(__file__).parent.glob("rows_*.py") if not given.quick or path.stem in QUICK
        )
    )
    # pytest collects the files of the rows only if they are named.
    code = pytest.main(["-q", "--no-header", "--tb=short", "-m", "slow", *files, *further], plugins=[rows])
    table = rows.table()
    Console(soft_wrap=True, markup=False, highlight=False).print(table)
    if given.docs:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(table, encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
