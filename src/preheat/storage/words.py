"""The words of a hybrid search, as a pure function of what somebody wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .encoding import check_text

__all__ = ("Words", "words")

LOOKED_AT = 4_000
"""Characters of a text whose words are looked for; what a longer one says is in its vector."""

_TERM = re.compile(r"""(-*)(?:"([^"]*)"?|([^\s"!&|()-][^\s"!&|()]*))""")
"""Dashes, then a phrase in quotation marks or a word. What PostgreSQL takes for an operator parts words."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is looked for, and what is not, both as `websearch_to_tsquery` reads them."""

    wanted: str
    """Words and phrases; empty if there are none."""
    excluded: str
    """Words and phrases, any of which excludes; empty if there are none."""


def words(text: str) -> Words:
    """The words of a text: `-word` and `-"a phrase"` are excluded, all others are looked for.

    A single letter is not excluded: whoever asks what `-O` does means the option of a command.

    Raises:
        ArgumentError: if it is not a string, holds a NUL character or is not valid Unicode.
    """
    check_text("text", text)
    wanted: list[str] = []
    excluded: list[str] = []
    for dashes, phrase, word in _TERM.findall(text[:LOOKED_AT]):
        if dashes == "-" and (phrase or len(word) > 1):
            excluded.append(f'"{word or phrase}"')
        else:
            wanted.append(word or f'"{phrase}"')
    return Words(" ".join(wanted), " or ".join(excluded))
