"""What the docs and the README show of a run, so that no figure is ever typed by hand.

`python -m benchmarks.report.pages results.json` writes

- a Markdown fragment per table, one about the machine, and the plots into `docs/explanation/performance/`, for the
  page there to include;
- the same tables between the markers of the README, which cannot include: what stands between
  `<!-- bench: summary -->` and `<!-- /bench -->` is the table `summary`.

Fragments and plots of an earlier run that this run has not measured are removed: a page that includes one then fails
to build, and shows no old figures among new ones.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.report.plots import PLOTS, draw
from benchmarks.report.records import Results
from benchmarks.report.tables import machine, markdown, summary, tables

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "explanation" / "performance"
README = ROOT / "README.md"
WRITTEN = "<!-- written by `python -m benchmarks.report.pages` -->"
"""Starts every fragment, and tells which files may be removed."""
MARKED = re.compile(r"(<!-- bench: (?P<name>[\w-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def fragments(results: Results) -> dict[str, str]:
    """Markdown of every table, by its name."""
    small = summary(results)
    shown = [*tables(results), machine(results), *([] if small is None else [small])]
    return {table.name: markdown(table) for table in shown}


def write(results: Results, folder: Path = PAGES, readme: Path = README) -> list[Path]:
    """Write fragments and plots into a folder in place of older ones, fill the README, and return their paths.

    Raises:
        ValueError: if the README has a wrong marker; see :func:`rewrite`. Then nothing is written.
    """
    new = fragments(results)
    text = rewrite(readme.read_text(encoding="utf-8"), new)
    folder.mkdir(parents=True, exist_ok=True)
    _remove(folder)
    paths = [folder / f"{name}.md" for name in new]
    for path, fragment in zip(paths, new.values(), strict=True):
        path.write_text(f"{WRITTEN}\n\n{fragment}", encoding="utf-8")
    paths += draw(results, folder)
    readme.write_text(text, encoding="utf-8")
    return [*paths, readme]


def _remove(folder: Path) -> None:
    """Remove what an earlier run has written, and nothing else."""
    for path in folder.glob("*.md"):
        if path.read_text(encoding="utf-8").startswith(WRITTEN):
            path.unlink()
    for name in PLOTS:
        (folder / f"{name}.svg").unlink(missing_ok=True)


def rewrite(text: str, new: Mapping[str, str]) -> str:
    """The text with what stands between its markers replaced; without markers it is left as it is.

    Raises:
        ValueError: if a marker names a table that is not in `new`, or is not closed.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in new:
            raise ValueError(f"no table {name!r} was measured; there are {', '.join(sorted(new))}")
        return f"{match[1]}\n{new[name]}\n{match[3]}"

    rewritten, found = MARKED.subn(replaced, text)
    if not found == text.count("<!-- bench: ") == text.count("<!-- /bench -->"):
        raise ValueError("a marker `<!-- bench: name -->` stands on a line of its own, and `<!-- /bench -->` closes it")
    return rewritten


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report.pages", description="Write a run into the docs.")
    parser.add_argument("results", type=Path, help="what `just bench` has stored")
    parser.add_argument("--folder", type=Path, default=PAGES, help="where fragments and plots go")
    parser.add_argument("--readme", type=Path, default=README, help="whose markers are filled")
    options = parser.parse_args()
    for path in write(Results.read(options.results), options.folder, options.readme):
        print(path.name)


if __name__ == "__main__":
    main()
