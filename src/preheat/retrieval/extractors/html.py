"""HTML to Markdown: lxml reads the page, :mod:`.markdown` writes it."""

from __future__ import annotations

from typing import Any

from ...errors import ExtractionError, MissingExtraError
from .encodings import html_text
from .markdown import MarkdownWriter

__all__ = ("markdown_of",)

NOISE = frozenset(
    "script style noscript template head svg canvas iframe object embed audio video map "  # noqa: SIM905
    "nav footer button select datalist input textarea".split()
)
"""Elements that are no part of a page's text."""

NOISY_ROLES = frozenset(("navigation", "search", "contentinfo", "menu", "menubar", "dialog", "alertdialog"))


def markdown_of(name: str, data: bytes) -> tuple[str, str]:
    """An HTML page as Markdown, and its title, which may be empty.

    Raises:
        ExtractionError: if it cannot be read to its end. A page is never that wrong, but it may be too much.
        MissingExtraError: if the extra `documents` is not installed.
    """
    try:
        from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise MissingExtraError("reading HTML", "documents") from error
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root: Any = etree.fromstring(html_text(data).encode(), parser)
    except etree.XMLSyntaxError:  # there is nothing in it
        return "", ""
    if root is None:
        return "", ""
    if parser.error_log.filter_from_fatals():
        raise ExtractionError(name, "cannot be read to its end: its HTML nests too many elements within each other")
    title = " ".join((root.findtext(".//head/title") or "").split())
    main = _main_part(root)
    return (main is not None and _written(main, etree.iterwalk)) or _written(root, etree.iterwalk), title


def _main_part(root: Any) -> Any:
    """The element that says it is the main part, if it is the only one."""
    for path in (".//main", ".//*[@role='main']"):
        found = root.findall(path)
        if len(found) == 1:
            return found[0]
    return None


def _written(root: Any, iterwalk: Any) -> str:
    """What is in an element, as Markdown. No function calls itself here: a page may be nested as deep as it likes."""
    writer = MarkdownWriter()
    walk = iterwalk(root, events=("start", "end"))
    noise: Any = None
    for event, element in walk:
        if event == "start":
            if element is not root and _is_noise(element):
                noise = element
                walk.skip_subtree()
            else:
                writer.open(element.tag, data_table=element.tag == "table" and _is_data(element))
                writer.write(element.text)
        else:
            if element is noise:
                noise = None
            else:
                writer.close(element.tag)
            if element is not root:
                writer.write(element.tail)
    return writer.finish()


def _is_noise(element: Any) -> bool:
    return (
        element.tag in NOISE
        or element.get("hidden", "until-found") != "until-found"
        or element.get("aria-hidden") == "true"
        or element.get("role") in NOISY_ROLES
    )


def _is_data(table: Any) -> bool:
    """Whether a table holds data: it has headings before anything that is more than a line of text. Others, which
    arrange a page, are read cell by cell."""
    for inside in table.iter("th", "p", "div", "table", "pre", "ul", "ol", "h1", "h2", "h3", "h4", "blockquote"):
        if inside is not table:
            return bool(inside.tag == "th")
    return True
