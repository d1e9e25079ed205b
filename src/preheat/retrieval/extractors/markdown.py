"""Write Markdown with markdownify, for a page that was prepared for it."""

from __future__ import annotations

import re
from typing import Any

from markdownify import MarkdownConverter

from .visible import HEADINGS

__all__ = ("Writer",)

LIBRARY: Any = MarkdownConverter
"""The base class without types: its type information lacks the methods that are called here."""
EMPTY_LINES = re.compile(r"\n(?: *\n){2,}")
KEPT = "\x1f"
"""Marks an empty line of code, so that several are not reduced to one."""


class Writer(MarkdownConverter):
    """Writes headings, lists, tables, quotations and code, and the text of all other elements."""

    class Options:
        """The options of markdownify."""

        convert: tuple[str, ...] = (
            *("blockquote", "pre", "code", "ul", "ol", "li", "br", "div", "table", "tr", "td"),
            *HEADINGS,
        )
        heading_style = "atx"
        escape_asterisks = escape_underscores = False
        wrap = True
        wrap_width: int | None = None
        strip_pre: str | None = None

    def written(self, page: Any) -> str:
        """Convert a page, or a part of it, to Markdown."""
        text = _tight(self.convert_soup(page)).replace(KEPT, "")
        return "\n".join(line.rstrip() for line in text.split("\n")).strip()

    def convert_div(self, el: Any, text: str, parent_tags: Any) -> str:
        """End a paragraph, or write the main part of the page."""
        return f"\n\n{text.strip()}\n\n"

    def convert_blockquote(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write a quotation, with at most one empty line in a row."""
        return f"\n{LIBRARY.convert_blockquote(self, el, _tight(text), parent_tags)}"

    def convert_hN(self, n: int, el: Any, text: str, parent_tags: Any) -> str:  # noqa: N802
        """Write a heading, unless it is empty."""
        return f"\n\n{'#' * n} {' '.join(text.split())}\n\n" if text.strip() else "\n\n"

    def convert_list(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write a list. The next text begins on a line of its own, also within an item."""
        before = "\n" if "li" in parent_tags else "\n\n"
        return f"{before}{text.strip()}\n\n"

    def convert_ul(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write a list with dashes."""
        return self.convert_list(el, text, parent_tags)

    def convert_ol(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write a list with numbers."""
        return self.convert_list(el, text, parent_tags)

    def convert_li(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write an item with its prepared marker. markdownify would count all items before it, for each item."""
        marker, text = el["marker"], text.strip()
        indented = re.sub(r"\n(?=[^\n])", "\n" + " " * (len(marker) + 1), text)
        return f"\n{marker} {indented}\n" if text else ""

    def convert_code(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write code within a line."""
        return text if "\n" in text else str(LIBRARY.convert_code(self, el, text, parent_tags))

    def convert_pre(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write a block of code, between more backticks than it has in a row."""
        lines = text.rstrip().split("\n")
        first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        code = "\n".join(line if line.strip() else KEPT for line in lines[first:])
        return f"\n\n{fence}\n{code}\n{fence}\n\n" if code else "\n\n"

    def convert_td(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write a cell in one column."""
        return " " + " ".join(text.split()).replace("|", "\\|") + " |"

    def convert_tr(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write a row, unless it is empty."""
        return f"|{text}\n" if text.strip(" |") else ""

    def convert_table(self, el: Any, text: str, parent_tags: Any) -> str:
        """Write a table, with its first row as the head."""
        head, _, rows = text.strip().partition("\n")
        line = "|" + " --- |" * len(el.contents[0].contents) if head else ""
        return f"\n\n{head}\n{line}\n{rows}\n\n" if head else "\n\n"


def _tight(text: str) -> str:
    return EMPTY_LINES.sub("\n\n", text)
