"""What a reader sees of an HTML page: what is hidden or struck out goes, alternative texts stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ("declarations", "only_what_is_seen", "walk")

GONE = "script"
"""What an element is renamed to of which nothing is written; to take it out of its siblings would be slow."""
BREAK = "hr"
"""What an element is renamed to that only keeps apart what is before and after it."""
NOISE = {
    *("script", "style", "noscript", "template", "title", "canvas", "iframe", "object", "audio", "video"),
    *("nav", "footer", "button", "select", "datalist", "input", "textarea", "rp", "noframes", "noembed"),
    *("annotation", "annotation-xml"),
}
STRUCK = ("del", "s", "strike")
NOISY_ROLES = ("navigation", "search", "contentinfo", "menu", "menubar", "dialog", "alertdialog")
KEEPS_ITS_PLACE = ("td", "th", "li")
"""What stays, empty, so that a table keeps its columns and a list its numbers."""
COMMENT = re.compile(r"/\*.*?(?:\*/|$)", re.DOTALL)
DECLARATION = re.compile(r"([a-zA-Z-]+)\s*:([^;]*)")


def walk(page: Any, *tags: str) -> Any:
    """The beginnings and the ends of the elements of a page, in order."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    return etree.iterwalk(page, events=("start", "end"), tag=tags or None)


def only_what_is_seen(page: Any) -> Any:
    """Take out of a page what nobody sees, and turn pictures into images with an `alt`.

    Style sheets are not read: what hides an element is its own attributes.

    Returns:
        The only element that says it is the main one; None if there is no such element, or several.
    """
    mains: list[Any] = []
    gone: list[tuple[Any, str, str]] = []
    invisible: list[bool] = [False]
    texts: list[tuple[Any, str]] = []
    elements = walk(page)
    for event, element in elements:
        if event == "end":
            invisible.pop()
            if invisible[-1] and element.tail:
                texts.append((element, "tail"))
            continue
        style = declarations(element.get("style"))
        invisible.append(_is_invisible(style, inherited=invisible[-1]))
        alternative = _alternative(element)
        if element.tag in ("html", "body"):  # if one of these is hidden a script shows it
            pass
        elif _has_no_place(element, style) or (alternative is None and element.tag in NOISE):
            gone.append((element, BREAK if element.tag in ("nav", "footer") else GONE, ""))
        elif _is_unread(element, style) or (alternative is not None and invisible[-1]):
            gone.append((element, element.tag if element.tag in KEEPS_ITS_PLACE else GONE, ""))
        elif alternative is not None:
            gone.append((element, "img", alternative))
        elif element.tag == "main" or element.get("role") == "main":
            mains.append(element)
        if gone and gone[-1][0] is element:
            elements.skip_subtree()
        elif invisible[-1] and element.text:
            texts.append((element, "text"))
    for element, where in texts:
        setattr(element, where, None)
    for element, becomes, alternative in gone:
        element[:], element.text, element.tag = [], alternative, becomes
    return mains[0] if len(mains) == 1 else None


def declarations(style: str | None) -> Mapping[str, str]:
    """What a `style` attribute declares, each property in lower case; an important one wins, else the last."""
    found: dict[str, str] = {}
    if style:
        important: dict[str, str] = {}
        for name, value in DECLARATION.findall(COMMENT.sub("", style)):
            value, mark, _ = value.lower().partition("!")
            (important if mark else found)[name.lower()] = value.strip()
        found |= important
    return found


def _is_invisible(style: Mapping[str, str], *, inherited: bool) -> bool:
    visibility = style.get("visibility")
    return inherited if visibility in (None, "", "inherit") else visibility in ("hidden", "collapse")


def _has_no_place(element: Any, style: Mapping[str, str]) -> bool:
    """Whether a page is laid out as if the element were not there."""
    display = style.get("display")
    hidden = element.get("hidden", "until-found").lower() != "until-found" if display is None else display == "none"
    closed = element.tag == "dialog" and element.get("open") is None
    return hidden or closed or element.get("popover") is not None


def _is_unread(element: Any, style: Mapping[str, str]) -> bool:
    """Whether the text of an element is struck out, beside the point, or a sign that only links to a heading."""
    struck = f"{style.get('text-decoration', '')} {style.get('text-decoration-line', '')}"
    return (
        element.tag in STRUCK
        or "line-through" in struck
        or element.get("role") in NOISY_ROLES
        or element.get("aria-hidden") == "true"
        or (element.tag == "a" and not len(element) and _is_sign(element.text or ""))
    )


def _is_sign(text: str) -> bool:
    return text != "" and not text.strip(" \t\n\u200b\xa0#¶")


def _alternative(element: Any) -> str | None:
    """The words that stand for a picture; None if it is not a picture, or if its own text is to be taken."""
    of: Mapping[str, str] = element.attrib
    label = of.get("aria-label")
    match element.tag:
        case "img" | "area":
            return of["alt"] if "alt" in of else label or of.get("title", "")
        case "input" if of.get("type", "").strip().lower() == "image":
            return of["alt"] if "alt" in of else label or of.get("title", "")
        case "svg":
            return label or " ".join(child.text or "" for child in element if child.tag in ("title", "desc"))
        case "math":
            return of.get("alttext")
        case _:
            is_picture = label and of.get("role") == "img" and not any(text.strip() for text in element.itertext())
            return label if is_picture else None
