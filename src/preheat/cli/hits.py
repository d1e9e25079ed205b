"""How a hit looks: its heading, its id, its ranks, and its text with the words of the query marked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.text import Text

from ..storage import Hit
from .console import out

__all__ = ("lines_of",)

SNIPPET = 240
"""The most characters of a text that is not shown in full."""

INDENT = "       "

_HEADING = re.compile(r"\s*#{1,6} +(\S.*?)[ #]*(?:\n|$)")
"""The heading of Markdown with which a chunk begins."""

_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e)$")
"""What English words lose and gain in other forms."""

_COMMON = (
    " about also and any are been but can could did does for from had has have how into its many much not off one "
    "only our out over some such than that the their them then there these they this those was were what when "
    "where which while who why will with would you your "
)
"""Words of a question that nobody looks for in the answer."""


def lines_of(hit: Hit, query: str, *, is_full: bool = False) -> Iterator[Text]:
    """The lines of a hit. On a terminal they are broken between words, and in a pipe they are not.

    Args:
        is_full: whether to show the whole text.
    """
    heading, text = _heading(hit)
    is_hybrid = hit.vector_rank is not None or hit.text_rank is not None
    score = (f"{hit.score:.{4 if is_hybrid else 3}f}", "bold green")
    place = f" > {heading}" if heading else ""
    yield from _broken(Text.assemble(score, "  ", (hit.document or "(no document)", "bold"), place))
    ranks = f", vector {hit.vector_rank or '-'}, words {hit.text_rank or '-'}" if is_hybrid else ""
    for line in _broken(Text(f"id {hit.id}{ranks}", style="dim"), INDENT):
        yield Text.assemble(INDENT, line)
    shown = Text(text.strip("\n") if is_full else _snippet(text))
    if pattern := _pattern(query):
        shown.highlight_regex(pattern, "bold magenta")
    for line in shown.split("\n", allow_blank=True):
        for part in _broken(line, INDENT):
            yield Text.assemble(INDENT, part) if part else part


def _broken(text: Text, indent: str = "") -> Iterator[Text]:
    """The lines of a text that leave room for an indent."""
    if not out.is_terminal:
        yield text
        return
    for line in text.wrap(out, max(20, out.width - len(indent)), tab_size=4):
        line.rstrip()
        yield line


def _heading(hit: Hit) -> tuple[str, str]:
    """The title of the document and the heading of the chunk, and the text without that heading."""
    found = _HEADING.match(hit.text)
    title = hit.metadata.get("title")
    headings = [title if isinstance(title, str) else "", found[1] if found else ""]
    shown = " > ".join(dict.fromkeys(heading for heading in headings if heading))
    return shown, hit.text[found.end() :] if found and hit.text[found.end() :].strip() else hit.text


def _snippet(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SNIPPET else text[: SNIPPET - 1].rsplit(" ", 1)[0] + " …"


def _pattern(query: str) -> str:
    """A pattern for the words of a query in a text, in the forms that English words have; empty without such words."""
    words = [
        word
        for word in re.findall(r"\w+", query.lower())
        if f" {word} " not in _COMMON and (len(word) > 2 or not word.isascii())
    ]
    stems = dict.fromkeys(_ENDING.sub("", word) for word in words)
    return "|".join(rf"(?i:\b{stem}\w*)" if stem.isascii() else stem for stem in stems)
