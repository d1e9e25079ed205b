"""`just quality`: ask the language reference 40 questions by vectors, by words, and by both.

Everything runs through the library's own retriever, against an embedded PostgreSQL in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import anyio
from rich.console import Console

from benchmarks.report.layout import markdown, on_terminal
from benchmarks.scenarios.quality.measure import Quality, measure
from benchmarks.scenarios.quality.tables import by_mode, by_question
from preheat.embedded import embedded_postgres

PAGES = Path(__file__).parents[3] / "docs" / "explanation" / "quality"
WRITTEN = "<!-- written by `just quality --docs` -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="just quality", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--docs", action="store_true", help="write the tables into the docs")
    options = parser.parse_args()
    quality = anyio.run(in_a_temporary_folder)
    if options.docs:
        write(quality)
    if options.json:
        print(json.dumps(quality.as_dict(), indent=2, ensure_ascii=False))
        return
    console = Console()
    for table in (by_question(quality), by_mode(quality)):
        console.print(on_terminal(table), "")


async def in_a_temporary_folder() -> Quality:
    """Measure with a server that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="preheat-") as folder:
        async with embedded_postgres(Path(folder) / "data") as dsn:
            return await measure(dsn)


def write(quality: Quality, folder: Path = PAGES) -> None:
    """Write both tables where a page of the docs includes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in (by_mode(quality), by_question(quality)):
        (folder / f"{table.name}.md").write_text(f"{WRITTEN}\n\n{markdown(table)}", encoding="utf-8")


if __name__ == "__main__":
    main()
