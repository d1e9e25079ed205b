"""Prepare a page for markdownify in one pass: leave out what is hidden or struck out, and flatten the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString, PreformattedString

from .tables import Cell, Table

__all__ = ("HEADINGS", "prepared")

NOISE = {
    *("script", "style", "noscript", "template", "title", "canvas", "iframe", "object", "audio", "video"),
    *("nav", "footer", "button", "select", "datalist", "input", "textarea", "rp", "noframes", "noembed"),
    *("annotation", "annotation-xml"),
}
STRUCK = ("del", "s", "strike")
NOISY_ROLES = ("navigation", "search", "contentinfo", "menu", "menubar", "dialog", "alertdialog")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
VERBATIM = ("pre", "listing", "xmp", "plaintext")
LISTS = ("ul", "ol", "menu", "dir")
BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div"),
    *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "frameset", "header", "hgroup", "hr", "html"),
    *("legend", "li", "main", "nav", "optgroup", "option", "p", "search", "section", "summary", "table", "tbody"),
    *("td", "tfoot", "th", "thead", "tr", *LISTS, *HEADINGS, *VERBATIM),
}
"""The elements that begin on a line of their own."""
DEEPEST = 20
"""How many nested lists, items and quotations are indented. More would be mostly white space."""

INVISIBLE: dict[int, str | None] = {0xA0: " ", 0xAD: None, 0x200B: None, 0x2060: None, 0xFEFF: None}
SIGNS = " \t\n\u200b\xa0#¶"
EDGE = "\x1f"
"""Marks where the words of a picture begin and end. It becomes a space between two words, and else nothing."""
BETWEEN_WORDS = re.compile(rf"(?<=\w){EDGE}+(?=\w)")
EXPONENT = re.compile(r"[+\u2212–-]?(?:[0-9]|[^\W\d_](?!\w))")
"""A number or one letter, unlike the end of `1st`."""
NUMBER = re.compile(r"\s*([+-]?[0-9]{1,9})", re.ASCII)


@dataclass(slots=True)
class _List:
    """A list, and the number of its next item; None for a list without numbers."""

    number: int | None = None


@dataclass(slots=True)
class _Place:
    """The surroundings of a node of the page."""

    out: list[Any]
    """The texts and elements of the element that the node becomes a part of."""
    items: _List
    invisible: bool = False
    indents: int = 0
    within: frozenset[str] = frozenset()
    paragraphs: str = ""
    """Separates paragraphs in cells, headings and code, where Markdown has no paragraphs; empty elsewhere."""
    table: Table | None = None
    cell: Cell | None = None

    def put(self, what: Any) -> None:
        """Append a text or an element."""
        self.out.append(what)
        if self.cell:
            self.cell.size += len(what) if isinstance(what, str) else 10


def prepared(page: BeautifulSoup) -> Tag | None:
    """Prepare a page, in place, so that markdownify writes it in time linear in its size.

    Hidden and struck-out text is gone, a picture is its words, and the only elements left are those that Markdown has a
    form for, nested to a limited depth. Style sheets are not read: an element is hidden by its own attributes.

    Returns:
        The main element of the page; None if no element, or more than one, says that it is the main one.
    """
    mains = list[Tag]()
    end, empty = page.new_tag("div"), page.new_tag("td")
    top = _Place([], _List())
    outs: list[tuple[Tag, list[Any]]] = [(page, top.out)]
    tables: dict[int, tuple[Tag, Table]] = {}
    size = 10_000
    waiting: list[tuple[Any, _Place]] = [(child, top) for child in reversed(page.contents)]
    while waiting:
        node, at = waiting.pop()
        if isinstance(node, str):
            if not (at.invisible or isinstance(node, PreformattedString)):
                size += 8 * len(node)
                at.put(node if node.isascii() else node.translate(INVISIBLE))
            continue
        if node is end:
            if not at.paragraphs:
                at.put(node)
            elif at.out and not (isinstance(at.out[-1], str) and at.out[-1].endswith(at.paragraphs)):
                at.put(at.paragraphs)
            continue
        if id(node) in tables:
            at.put(node)
            continue
        name = node.name
        style = _declarations(node.get("style"))
        inside = replace(at)
        if (visibility := style.get("visibility", "inherit")) not in ("", "inherit"):
            inside.invisible = visibility in ("hidden", "collapse")
        words = None if name in ("html", "body") else _instead(node, style, invisible=inside.invisible)
        if words is not None:
            if name in ("nav", "footer"):
                waiting.append((end, at))
            if name not in ("td", "th", "li") or _has_no_box(node, style):
                at.put(words.translate(INVISIBLE))
                continue
            node.contents = []  # a table keeps its columns, and a list its numbers
        kept = None
        before = ""
        match name:
            case "br":
                at.put(at.paragraphs or node)
                continue
            case "pre" | "listing" | "xmp" | "plaintext" if not at.within & {"pre", "code"} or not at.paragraphs:
                kept = "code" if at.paragraphs else "pre"
                inside.within |= {"pre", "code", "sup"}
                inside.paragraphs = at.paragraphs or "\n"
            case "code" if "code" not in at.within:
                kept = "code"
                inside.within |= {"code", "sup"}
            case "ul" | "ol" | "menu" | "dir":
                numbered = name == "ol" and node.get("reversed") is None
                inside.items = _List(_number(node.get("start"), 1) if numbered else None)
                kept = "ol" if name == "ol" else "ul"
            case "li":
                node["marker"] = _marker(node, at.items)
                before, kept = f"{node['marker']} ", "li"
            case "blockquote":
                kept = name
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if not at.paragraphs:
                kept, inside.paragraphs = name, " "
            case "table":
                if at.paragraphs or _is_layout(node):
                    inside.table = None
                else:
                    inside.table = Table()
                    grid = page.new_tag("table")
                    tables[id(grid)] = grid, inside.table
                    waiting.append((grid, at))
            case "thead" | "tbody" | "tfoot" | "tr" if at.table:
                at.table.begin(name)
            case "td" | "th" if at.table:
                inside.cell = Cell(node, _number(node.get("colspan"), 1), _number(node.get("rowspan"), 1))
                inside.paragraphs = " "
                at.table.put(inside.cell)
            case "sup" if "sup" not in at.within:
                base = at.out[-1][-1:] if at.out and isinstance(at.out[-1], str) else ""
                if (base.isalnum() or base in (")", "]")) and EXPONENT.match(next(node.stripped_strings, "")):
                    at.put("^")  # or else 10<sup>6</sup> would become 106
                inside.within |= {"sup"}
            case "rt":
                before = "("
                waiting.append((")", at))
            case _:
                if (name == "main" or node.get("role") == "main") and not at.paragraphs:
                    mains.append(node)
                    if "main" not in at.within:
                        kept = "div"
                        inside.within |= {"main"}
        if kept in ("ul", "ol", "li", "blockquote"):
            if at.paragraphs or at.indents >= DEEPEST:
                kept = None
            else:
                inside.indents, before = at.indents + 1, ""
        children = [(child, inside) for child in reversed(node.contents)]
        if inside.cell is not at.cell or kept:
            inside.out = []
            outs.append((node, inside.out))
            node.name = kept or "td"
            if kept:
                at.put(node)
            waiting += children
        else:
            around = [(end, at)] * (name in BLOCKS)
            waiting += around + children + [(before, inside)] * bool(before) + around
    for element, out in outs:
        _fill(element, out)
    for grid, table in tables.values():
        spread, size = table.spread(empty, size)
        rows = [page.new_tag("tr") for _ in spread]
        for row, elements in zip(rows, spread, strict=True):
            _link(row, elements)
        _link(grid, rows)
    return mains[0] if len(mains) == 1 else None


def _fill(element: Tag, out: list[Any]) -> None:
    """Put texts and elements into an element, and join adjacent texts."""
    contents: list[Any] = []
    for is_text, group in groupby(out, key=lambda what: isinstance(what, str)):
        if not is_text:
            contents += (next(same) for _, same in groupby(group, key=id))
        elif text := BETWEEN_WORDS.sub(" ", "".join(group)).replace(EDGE, ""):
            contents.append(NavigableString(text))
    _link(element, contents)


def _link(element: Tag, contents: list[Any]) -> None:
    for one, other in pairwise(contents):
        one.next_sibling, other.previous_sibling = other, one
    for node in contents:
        node.parent = element
    element.contents = contents


def _is_layout(table: Tag) -> bool:
    """Whether a table only arranges the page: it says so, or it has no head and holds a table, a heading or code."""
    names, waiting = set[str](), list(table.contents)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Tag):
            names.add(node.name)
            waiting += () if node.name == "table" else node.contents  # each element is visited for one table only
    is_plain = "th" not in names and not names.isdisjoint(("table", "pre", *HEADINGS))
    return is_plain or table.get("role") in ("presentation", "none")


def _marker(item: Tag, of: _List) -> str:
    """The beginning of a list item: its number, or a dash."""
    if of.number is None:
        return "-"
    number = _number(item.get("value"), of.number)
    of.number = number + 1
    return f"{number}."


def _number(text: Any, default: int) -> int:
    """The number at the beginning of an attribute, as in browsers."""
    found = NUMBER.match(text or "")
    return int(found[1]) if found else default


def _declarations(style: str | None) -> Mapping[str, str]:
    """The declarations of a `style` attribute, in lower case. The last one of a property wins."""
    pairs = (declaration.lower().partition(":") for declaration in (style or "").split(";"))
    return {name.strip(): value.partition("!")[0].strip() for name, _, value in pairs}


def _has_no_box(element: Tag, style: Mapping[str, str]) -> bool:
    """Whether the page is laid out as if the element were not there."""
    display = style.get("display")
    hidden = _of(element, "hidden", "until-found").lower() != "until-found" if display is None else display == "none"
    closed = element.name == "dialog" and element.get("open") is None
    return hidden or closed or element.get("popover") is not None


def _instead(element: Tag, style: Mapping[str, str], *, invisible: bool) -> str | None:
    """The text to write in place of an element: none for what is hidden, struck out, a menu or a link sign of a
    heading; the words of a picture; None if the element itself is to be written."""
    words = _alternative(element)
    struck = f"{style.get('text-decoration', '')} {style.get('text-decoration-line', '')}"
    if (
        _has_no_box(element, style)
        or (element.name in NOISE and words is None)
        or element.name in STRUCK
        or "line-through" in struck
        or element.get("role") in NOISY_ROLES
        or element.get("aria-hidden") == "true"
        or (element.name == "a" and all(isinstance(node, str) and not node.strip(SIGNS) for node in element.contents))
    ):
        return ""
    return words and ("" if invisible else EDGE + words + EDGE)


def _alternative(element: Tag) -> str | None:
    """The words that stand for a picture; None if it is not a picture, or its own text is to be written."""
    label = _of(element, "aria-label")
    match element.name:
        case "img" | "area":
            return _of(element, "alt", label or _of(element, "title"))
        case "svg":
            return label or " ".join(child.get_text() for child in element.find_all(("title", "desc"), recursive=False))
        case "math":
            return _of(element, "alttext") or None
        case _:
            is_picture = element.get("role") == "img" and not any(map(_has_text, element.contents))
            return (label or None) if is_picture else None


def _has_text(node: Any) -> bool:
    return bool(node.strip() if isinstance(node, str) else node.contents and node.name != "svg")


def _of(element: Tag, attribute: str, default: str = "") -> str:
    return str(element.get(attribute, default))
