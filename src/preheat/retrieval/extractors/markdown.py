"""The tree of a page to Markdown in one walk, in time linear in its size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .tables import Cell, Table
from .visible import GONE, declarations, walk

__all__ = ("written",)

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
VERBATIM = ("pre", "listing", "xmp", "plaintext")
BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "dir"),
    *("div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "frameset", "header", "hgroup", "hr"),
    *("html", "legend", "li", "main", "menu", "ol", "optgroup", "option", "p", "search", "section", "summary"),
    *("table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", *HEADINGS, *VERBATIM),
}
"""What begins on a line of its own."""
DEEPEST = 20  # quotations and lists within each other that are indented; more would be mostly white space

WHITE = re.compile(r"\s+")
INVISIBLE = {0xA0: " ", **dict.fromkeys((0xAD, 0x200B, 0x2060, 0xFEFF))}
EDGE = "\x1f"
"""Where the words of a picture begin and end: white space, but only between two words."""
BETWEEN_WORDS = re.compile(rf"(?<=\w){EDGE}+(?=\w)")
RAISED = re.compile(r"[+\u2212–-]?(?:[0-9]|[^\W\d_](?!\w))")
"""What is raised as an exponent is: a number or one letter, unlike the end of 1st."""
NUMBER = re.compile(r"\s*([+-]?[0-9]{1,9})", re.ASCII)
STYLES = {
    "lower-alpha": "a",
    "lower-latin": "a",
    "upper-alpha": "A",
    "upper-latin": "A",
    "lower-roman": "i",
    "upper-roman": "I",
}
ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl")),
    *((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


def written(page: Any) -> str:
    """What a page, or a part of it, says as Markdown. It holds nothing that is not to be written."""
    writer = _Writer(page)
    for event, element in walk(page):
        if event == "start":
            writer.begin(element)
            if element.text and element.tag != GONE:
                writer.put(element.text)
        else:
            writer.end(element)
            if element.tail and element is not page:
                writer.put(element.tail)
    return writer.finish()


@dataclass(slots=True)
class _Level:
    """A quotation, or an item of a list: what its first line begins with, and what all others do."""

    element: Any
    first: str
    rest: str
    used: bool = False


@dataclass(slots=True)
class _List:
    """A list: its next number, and the step to the one after it; a step of 0 if it has no numbers."""

    number: int = 1
    step: int = 0
    kind: str = "1"
    begun: bool = False

    def marker(self, item: Any) -> str:
        """What the next item begins with."""
        if self.step == 0:
            return "-"
        number = _number(item.get("value"), self.number)
        self.number = number + self.step
        return f"{_counted(number, self.kind)}."


@dataclass(slots=True)
class _Open:
    """A table while it is read."""

    table: Table = field(default_factory=Table)
    cell: Any = None
    """The element of the cell that is read."""
    captions: list[str] = field(default_factory=list[str])


class _Writer:
    """Takes the beginnings, the texts and the ends of elements, in order."""

    def __init__(self, page: Any) -> None:
        self._lines: list[str] = []
        self._text: list[str] = []
        """What is in the present paragraph so far, or in the present capture."""
        self._captures: list[tuple[Any, list[str]]] = []
        """The elements whose text is taken as a whole, each with what there was before. Within one there are no
        lines: what is a block elsewhere is set apart by white space. No two have the same tag."""
        self._levels: list[_Level] = []
        self._lists: list[_List] = []
        self._tables: list[_Open | None] = []
        """None for a table that is written as text."""
        self._readings: list[list[str]] = []
        self._apart = False
        """Whether a blank line goes before the next one."""
        self._is_verbatim = False
        self._laid_out = _laid_out(page)
        self._spare = 10_000 + 8 * sum(map(len, page.itertext()))

    def begin(self, element: Any) -> None:
        """An element begins."""
        tag = element.tag
        if tag in BLOCKS:
            self._break()
        if tag in VERBATIM:
            self._is_verbatim = self._is_verbatim or not self._captures
            self._capture(element)
        elif tag in HEADINGS:
            if not self._captures:
                self._capture(element)
        elif tag == "br":
            self._text.append("\n" if self._is_verbatim or not self._captures else " ")
        elif tag == "img":
            self._text.append(EDGE)
        elif tag in ("ul", "ol", "menu", "dir"):
            self._lists.append(_list(element))
        elif tag == "li":
            self._begin_item(element)
        elif tag == "blockquote":
            if not self._captures:
                self._begin_level(element, "> ", "> ")
        elif tag == "table":
            is_text = self._captures or element in self._laid_out
            self._tables.append(None if is_text else _Open())
            if not is_text:
                self._capture(element)  # what is in none of its cells
        elif tag in ("thead", "tbody", "tfoot", "tr", "td", "th"):
            self._begin_part(element)
        elif tag == "ruby":
            self._readings.append([])
        elif tag in ("caption", "sup", "sub", "rt") or (
            tag == "code" and not self._is_within(*VERBATIM) and element.find("pre") is None
        ):
            self._capture(element)

    def put(self, text: str) -> None:
        """Text as it is in the page."""
        if not text.isascii():
            text = text.translate(INVISIBLE)
        self._text.append(text if self._is_verbatim else WHITE.sub(" ", text))

    def end(self, element: Any) -> None:
        """An element ends."""
        tag = element.tag
        if tag in BLOCKS:
            self._break()
        text = self._captured(element)
        if text is not None:
            self._end_capture(tag, text)
        elif tag == "img":
            self._text.append(EDGE)
        elif tag in ("ul", "ol", "menu", "dir"):
            self._lists.pop()
        elif tag in ("li", "blockquote"):
            self._end_level(element)
        elif tag == "table":
            self._tables.pop()
        elif tag in ("thead", "tbody", "tfoot"):
            if self._tables and (opened := self._tables[-1]):
                opened.table.end_part()
        elif tag == "ruby" and (readings := "".join(self._readings.pop()).strip()):
            self._text.append(f"({readings})")

    def finish(self) -> str:
        """All that was written."""
        self._break()
        return "\n".join(self._lines).strip()

    # Lines

    def _break(self) -> None:
        """What comes next begins on a line of its own."""
        if self._is_verbatim:
            if self._text and not self._text[-1].endswith("\n"):
                self._text.append("\n")
        elif self._captures:
            self._text.append(" ")
        else:
            text, self._text = "".join(self._text), []
            self._write(_lines(text))
            if not self._levels or self._levels[-1].used:
                self._apart = True

    def _write(self, lines: Iterable[str]) -> None:
        for number, line in enumerate(lines):
            if number == 0 and self._apart and self._lines:
                self._lines.append("".join(level.rest for level in self._levels if level.used).rstrip())
            begin = "".join(level.rest if level.used else level.first for level in self._levels)
            self._lines.append((begin + line).rstrip())
            for level in self._levels:
                level.used = True
            self._apart = True

    def _begin_level(self, element: Any, first: str, rest: str) -> None:
        if len(self._levels) < DEEPEST:
            self._levels.append(_Level(element, first, rest))

    def _end_level(self, element: Any) -> None:
        if self._levels and self._levels[-1].element is element:
            level = self._levels.pop()
            if level.used and element.tag == "li" and self._lists:
                self._lists[-1].begun = True

    def _begin_item(self, element: Any) -> None:
        of = self._lists[-1] if self._lists else _List()
        marker = of.marker(element)
        if self._captures:
            self._text.append(f"{marker} ")
            return
        if of.begun or (self._levels and self._levels[-1].element.tag == "li"):
            self._apart = False
        self._begin_level(element, f"{marker} ", " " * (len(marker) + 1))

    # What is taken as a whole

    def _is_within(self, *tags: str) -> bool:
        return any(element.tag in tags for element, _ in self._captures)

    def _capture(self, element: Any) -> None:
        if not self._is_within(element.tag):
            self._captures.append((element, self._text))
            self._text = []

    def _captured(self, element: Any) -> str | None:
        """The text of an element that was taken as a whole; None if it was not."""
        if not self._captures or self._captures[-1][0] is not element:
            return None
        text = "".join(self._text)
        _, self._text = self._captures.pop()
        return text

    def _end_capture(self, tag: str, text: str) -> None:
        opened = self._tables[-1] if self._tables else None
        if tag in VERBATIM:
            self._end_verbatim(text)
        elif tag in HEADINGS:
            line = _flat(text)
            self._write([f"{'#' * int(tag[1])} {line}"] if line else [])
        elif tag in ("td", "th"):
            assert opened is not None
            self._end_cell(opened, text)
        elif tag == "caption" and opened:
            opened.captions.append(_flat(text))
        elif tag == "table":
            assert opened is not None
            self._tables.pop()
            for words in (*opened.captions, _flat(text)):
                self._write([words] if words else [])
            lines = opened.table.lines(self._spare)
            self._spare -= sum(map(len, lines))
            self._write(lines)
        elif tag == "rt" and self._readings:
            self._readings[-1].append(_flat(text))
        elif tag == "code":
            self._text.append(_code(text))
        elif tag in ("sup", "sub"):
            before = self._text[-1][-1:] if self._text else ""
            if tag == "sup" and (before.isalnum() or before in ")]") and RAISED.match(text.strip()):
                self._text.append("^")
            elif tag == "sub" and before.isdecimal() and text.strip()[:1].isdecimal():
                self._text.append("_")
            self._text.append(text)
        else:
            self._text.append(text)
            self._break()

    def _end_verbatim(self, text: str) -> None:
        self._is_verbatim = self._is_verbatim and self._is_within(*VERBATIM)
        if self._is_verbatim:
            self._text.append(text)
        elif self._captures:
            self._text.append(_code(text))
        else:
            lines = [line.rstrip() for line in _with_edges(text).split("\n")]
            while lines and not lines[0]:
                del lines[0]
            while lines and not lines[-1]:
                del lines[-1]
            if lines:
                fence = _fence(text, 3)
                self._write([fence, *lines, fence])

    # Tables

    def _begin_part(self, element: Any) -> None:
        opened = self._tables[-1] if self._tables else None
        if opened is None:
            return
        if opened.cell is not None:  # it was never ended
            text = self._captured(opened.cell)
            if text is None:
                return
            self._end_cell(opened, text)
        if element.tag in ("td", "th"):
            opened.cell = element
            self._capture(element)
        elif element.tag == "tr":
            opened.table.begin_row()
        else:
            opened.table.begin_part(element.tag)

    def _end_cell(self, opened: _Open, text: str) -> None:
        element, opened.cell = opened.cell, None
        rows = _number(element.get("rowspan"), 1)
        opened.table.put(Cell(_flat(text).replace("|", "\\|"), _number(element.get("colspan"), 1), rows))


def _with_edges(text: str) -> str:
    return BETWEEN_WORDS.sub(" ", text).replace(EDGE, "")


def _flat(text: str) -> str:
    return " ".join(_with_edges(text).split())


def _lines(text: str) -> list[str]:
    """The lines of a paragraph, with at most one blank line between two of them, and none around."""
    lines: list[str] = []
    for line in map(_flat, text.split("\n")):
        if line or (lines and lines[-1]):
            lines.append(line)
    return lines if not lines or lines[-1] else lines[:-1]


def _fence(text: str, least: int) -> str:
    """More grave accents than the text has in a row."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _code(text: str) -> str:
    words = _flat(text)
    if not words:
        return text
    fence, edge = _fence(words, 1), " " if words[0] == "`" or words[-1] == "`" else ""
    before, after = " " if text[:1].isspace() else "", " " if text[-1:].isspace() else ""
    return f"{before}{fence}{edge}{words}{edge}{fence}{after}"


def _number(text: str | None, default: int) -> int:
    """The number that an attribute begins with, as browsers have it."""
    found = NUMBER.match(text or "")
    return int(found[1]) if found else default


def _list(element: Any) -> _List:
    if element.tag != "ol":
        return _List()
    style = declarations(element.get("style"))
    kind = style.get("list-style-type", style.get("list-style", "")).split(" ")[0]
    kind = STYLES.get(kind, str(element.get("type", "1")))
    if element.get("reversed") is None:
        return _List(_number(element.get("start"), 1), 1, kind)
    return _List(_number(element.get("start"), sum(item.tag == "li" for item in element)), -1, kind)


def _counted(number: int, kind: str) -> str:
    """A number of a list as it is shown: 3, c, C, iii or III."""
    letters, left = "", number
    if kind in ("i", "I") and 0 < number < 4000:
        for value, sign in ROMAN:
            times, left = divmod(left, value)
            letters += sign * times
    elif kind in ("a", "A") and number > 0:
        while left:
            left, place = divmod(left - 1, 26)
            letters = chr(97 + place) + letters
    return (letters.upper() if kind.isupper() else letters) or str(number)


def _laid_out(page: Any) -> set[Any]:
    """The tables of a page that are no tables but its layout: those that say so, and those without a head that hold
    another table, a heading or code."""
    found: set[Any] = set()
    tables: list[list[Any]] = []
    for event, element in walk(page, "table", "th", "pre", *HEADINGS):
        if event == "end":
            if element.tag == "table":
                table, has_head, holds = tables.pop()
                if table.get("role") in ("presentation", "none") or (holds and not has_head):
                    found.add(table)
        elif element.tag == "th":
            if tables:
                tables[-1][1] = True
        else:
            if tables:
                tables[-1][2] = True
            if element.tag == "table":
                tables.append([element, False, False])
    return found
