"""Elements of a page to Markdown, one after the other. What is emphasised or linked is written as plain words: it is
to be searched, and addresses are noise to a model."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ("MarkdownWriter",)

HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}

BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset "  # noqa: SIM905
    "figcaption figure form header hgroup hr html legend li main menu ol p pre search section summary table tbody td "
    "tfoot th thead tr ul".split()
).union(HEADINGS)
"""Elements that begin a new line."""

DEEPEST = 8
"""Lists and quotations within each other are indented so many times; deeper ones no further."""

_SPACE = re.compile(r"\s+")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_TICKS = re.compile("`+")


@dataclass(slots=True)
class _Around:
    """A list item or a quotation that is open."""

    first: str
    """What its first line begins with."""
    others: str
    """What every other line begins with."""
    begun: bool = False


class MarkdownWriter:
    """Writes Markdown as elements are opened and closed, in the order of the page."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self._words: list[str] = []
        self._around: list[_Around] = []
        self._lists: list[int | None] = []
        self._heading = ""
        self._verbatim = 0
        self._tables = 0
        self._rows: list[list[str]] = []
        self._after_item = False

    def open(self, tag: str, *, data_table: bool = False) -> None:
        """An element begins."""
        if tag == "br":
            self._words.append("\n")
        elif self._verbatim:
            self._verbatim += tag == "pre"
        elif self._tables:
            self._open_in_table(tag)
        elif self._heading:
            self._words.append(" " if tag in BLOCKS else "")
        elif tag in BLOCKS:
            self._flush()
            self._open_block(tag, data_table)

    def close(self, tag: str) -> None:
        """An element ends."""
        if self._verbatim:
            self._verbatim -= tag == "pre"
            if not self._verbatim:
                self._emit_code()
        elif self._tables:
            self._close_in_table(tag)
        elif self._heading:
            if HEADINGS.get(tag) == self._heading:
                self._flush()
                self._heading = ""
        elif tag in BLOCKS:
            self._flush()
            self._close_block(tag)

    def write(self, text: str | None) -> None:
        """Text of the element that is open."""
        if text:
            self._words.append(text if self._verbatim else _SPACE.sub(" ", text))

    def finish(self) -> str:
        """All of it."""
        self._flush()
        return "".join(self._written)

    def _open_block(self, tag: str, data_table: bool) -> None:
        match tag:
            case "ul" | "menu" | "dir":
                self._lists.append(None)
            case "ol":
                self._lists.append(0)
            case "li":
                self._around.append(self._item())
            case "blockquote":
                self._around.append(_Around("> ", "> "))
            case "pre":
                self._verbatim = 1
            case "table" if data_table:
                self._tables = 1
            case _:
                self._heading = HEADINGS.get(tag, "")

    def _close_block(self, tag: str) -> None:
        if tag in ("ul", "ol", "menu", "dir") and self._lists:
            self._lists.pop()
        elif tag in ("li", "blockquote") and self._around:
            self._around.pop()

    def _item(self) -> _Around:
        number = self._lists[-1] if self._lists else None
        if number is None:
            return _Around("- ", "  ")
        self._lists[-1] = number + 1
        first = f"{number + 1}. "
        return _Around(first, " " * len(first))

    def _open_in_table(self, tag: str) -> None:
        if tag == "table":
            self._tables += 1
        elif tag == "tr" and self._tables == 1:
            self._rows.append([])
        if tag in BLOCKS:
            self._words.append(" ")

    def _close_in_table(self, tag: str) -> None:
        if tag == "table":
            self._tables -= 1
            if not self._tables:
                self._emit_table()
        elif tag in ("td", "th") and self._tables == 1:
            cell = self._taken(" ").replace("|", "\\|")
            if not self._rows:  # a cell outside of any row
                self._rows.append([])
            self._rows[-1].append(cell)
        elif tag == "caption" and self._tables == 1:
            self._emit(self._taken(" "))
        elif tag in BLOCKS:
            self._words.append(" ")

    def _taken(self, line_feed: str) -> str:
        """The words so far, which begin anew. Each line feed among them is a `<br>`."""
        lines = (" ".join(line.split()) for line in "".join(self._words).split("\n"))
        self._words.clear()
        return _INVISIBLE.sub("", line_feed.join(line for line in lines if line))

    def _flush(self) -> None:
        if not self._words:
            return
        if self._heading:
            text = self._taken(" ").rstrip("¶ ")
            self._emit(text and self._heading + text)
        else:
            self._emit(self._taken("\n"))

    def _emit_code(self) -> None:
        code = "".join(self._words).strip("\n").rstrip()
        self._words.clear()
        if code:
            fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(code)), default=0))
            self._emit(f"{fence}\n{code}\n{fence}")

    def _emit_table(self) -> None:
        rows = [f"| {' | '.join(row)} |" for row in self._rows if any(row)]
        if rows:
            head = next(row for row in self._rows if any(row))
            rows.insert(1, "|" + " --- |" * len(head))
        self._rows = []
        self._emit(self._taken("\n"))  # what stood in the table, but in no cell of it
        self._emit("\n".join(rows))

    def _emit(self, text: str) -> None:
        """Write a block: a paragraph, a heading, code or a table."""
        if not text:
            return
        around = self._around[:DEEPEST]
        first = "".join(each.others if each.begun else each.first for each in around)
        others = "".join(each.others for each in around)
        between = "".join(each.others for each in around if each.begun).rstrip()
        is_item = any(not each.begun and each.first != each.others for each in around)
        for each in around:
            each.begun = True
        if self._written:
            self._written.append("\n" if is_item and self._after_item else f"\n{between}\n")
        self._after_item = is_item
        line, *lines = text.split("\n")
        self._written.append("\n".join((first + line, *((others + line).rstrip() for line in lines))))
