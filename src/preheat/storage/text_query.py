"""Text queries: how the server splits the text of a chunk into words, and which words a hybrid search looks for.

PostgreSQL's parser keeps `/etc/postgresql/pg_hba.conf` as one word, and so it does with a sentence in Chinese; it tells
the Unicode forms of a character apart. So a text is rewritten before it is parsed: to one Unicode form, with a space in
place of everything but letters and digits, and with characters of scripts without spaces in pairs. The rule exists
twice, as :func:`separated` here and as :func:`separated_sql` for the server, with the same patterns.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import Any

from ..errors import ArgumentError
from .identifiers import literal
from .validation import check_text

LOOKED_AT = 4_000
"""Characters of a text query that are used; the rest of a longer text counts by its vector alone."""

_LEFT_OUT = (
    r"\u00AD(?:[ \t\r]*\n[ \t]*)?|["
    r"\u034F\u061C\u115F\u1160\u17B4\u17B5\u180B-\u180F\u200B-\u200F\u202A-\u202E\u2060-\u206F\u3164\uFE00-\uFE0F"
    r"\uFEFF\uFFA0\U000E0000-\U000E0FFF"  # what is not seen: joiners, directions, variants
    r"\u0640\u064B-\u0652\u0670\u0610-\u061A\u06D6-\u06DC\u06DF-\u06E4\u06E7\u06E8\u06EA-\u06ED"  # Arabic marks
    r"\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7]"  # Hebrew marks
)
"""A soft hyphen, with the end of a line after it; and characters without which a word is the same."""

_ASCII_BETWEEN = r"\u0001-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u007F"
_BETWEEN = (
    _ASCII_BETWEEN + r"\u0080-\u00BF\u00D7\u00F7\u02B9-\u02BF\u055A-\u055F\u0589\u058A\u05BE\u05C0\u05C3\u05C6\u05F3"
    r"\u05F4\u060C\u060D\u061B-\u061F\u066A-\u066D\u06D4\u0700-\u070D\u0964\u0965\u0970\u0E4F\u0E5A\u0E5B\u0F0B-\u0F14"
    r"\u0F3A-\u0F3D\u104A-\u104F\u10FB\u1360-\u1368\u1400\u166E\u17D4-\u17D6\u17D8-\u17DA\u1800-\u180A\u2000-\u206F"
    r"\u20A0-\u20CF\u2190-\u2BFF\u2E00-\u2E7F\u3000-\u3004\u3008-\u3020\u3030\u303D-\u303F\u30A0\u30FB\uFD3E\uFD3F"
    r"\uFE10-\uFE6F\uFFFC\uFFFD\U0001F000-\U0001FAFF"
)
"""Characters between words: spaces, punctuation, symbols."""

_ALONE = (
    r"\u2E80-\u2FDF\u3005-\u3007\u3021-\u3029\u3038-\u303B\u3400-\u4DBF\u4E00-\uA48F\uF900-\uFAFF\U00020000-\U0003FFFF"
    r"\u3041-\u3096\u309D-\u309F\u30A1-\u30FA\u30FC-\u30FF\u3105-\u312F\u31A0-\u31BF\u31F0-\u31FF\uAC00-\uD7A3"
    r"\u0E01-\u0E30\u0E32\u0E33\u0E40-\u0E46\u0E81-\u0EB0\u0EB2\u0EB3\u0EBD\u0EC0-\u0EC6\u0EDC-\u0EDF"
    r"\u1000-\u102A\u103F\u1050-\u1055\u1780-\u17B3\u17D7\u17DC"
)
"""Characters of scripts without spaces between words, or with long compounds: Chinese, Japanese, Korean, Thai, Lao,
Burmese and Khmer."""
_ON_IT = (
    r"\u3099\u309A\u0E31\u0E34-\u0E3A\u0E47-\u0E4E\u0EB1\u0EB4-\u0EBC\u0EC8-\u0ECE"
    r"\u102B-\u103E\u1056-\u1059\u17B6-\u17D3\u17DD"
)
"""Marks on, under or next to one of these characters, which belong to it."""

_MAY_BE_ALONE = (
    r"[\u0E00-\u0EFF\u1000-\u11FF\u1780-\u17FF\u2E80-\uFFEF\U0001B000-\U0001B16F\U0001F200-\U0001F2FF"
    r"\U00020000-\U0003FFFF]"
)
"""Characters that may become one of them when a text is normalized."""

_UNIT = rf"[{_ALONE}][{_ON_IT}]*"


_NUMBER = r"(?<=[0-9])[.\-]([0-9]+)(?=[A-Za-z])"
"""The last part of a number such as that of a version, if letters touch it: the `0` of `3.14.0rc1`."""
_V = r"([vV])(?=[0-9])"
"""The `v` of a version."""


def _cut(unit: str, between: str) -> str:
    """A pattern for the places at which a text is split. Its groups are words of their own: characters of a script
    without spaces, and the `v` and the last part of a version, so that a search finds the number without them."""
    return rf"(?:^|({unit})|[{between}]+){_V}|{_NUMBER}|({unit})|[{between}]+"


_SPACED, _ASCII_SPACED = r" \1 \2 \3 \4 ", r" \1 \2 "
_UNITS, _PAIRS = _cut(_UNIT, _BETWEEN), _cut(f"{_UNIT}(?:{_UNIT})?", _BETWEEN)
_ASCII = rf"(?:^|[{_ASCII_BETWEEN}]+){_V}|{_NUMBER}|[{_ASCII_BETWEEN}]+"
_ALL_ELSE = rf"[^{_ALONE}{_ON_IT}]+"
_FIRST_UNIT = rf"(?:^| ){_UNIT}"
_ONE_UNIT = rf"(^|[ (!])('{_UNIT}')(?=$|[ )])"
_SHARP_S = r"[\u00DF\u1E9E]"
_DOTTED_I = r"\u0130"  # whose small form is two characters in some locales


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern, compiled at its first use. Those with the characters of all scripts take milliseconds, and a text in
    ASCII needs none of them."""
    return re.compile(pattern)


MOST_WORDS = 500
"""The most words of a text query: the server compares each of them with each chunk that has any of them."""

INDEXED = 100_000
"""How many characters of a text are split into words: PostgreSQL refuses a `tsvector` of more than a megabyte."""
INDEXED_IN_PAIRS = 40_000
"""How many in a script in which each character may begin a word."""

_HOLDS_TOGETHER = r"._+&@#~\-\u2010\u2212\u00B7"
"""Characters inside a name, such as that of a file, a version or a host."""
_APART = rf"(?:(?![{_HOLDS_TOGETHER}])[{_BETWEEN}])+"


def one_form(text: str) -> str:
    """A text in one of its Unicode forms; upper and lower case are left to the server."""
    if text.isascii():
        return text
    text = _compiled(_LEFT_OUT).sub("", unicodedata.normalize("NFKC", text))
    return _compiled(_SHARP_S).sub("ss", text.replace("\u0130", "i"))


def separated(text: str) -> str:
    """A text with its words separated by spaces, the same as by :func:`separated_sql`."""
    if text.isascii():
        return _compiled(_ASCII).sub(_ASCII_SPACED, text)
    form = one_form(text)
    pairs = _compiled(_PAIRS)
    cut = pairs.sub(_SPACED, form)
    if not _compiled(_MAY_BE_ALONE).search(text):
        return cut
    units = _compiled(_ALL_ELSE).sub(" ", form)
    return cut + " " + pairs.sub(_SPACED, _compiled(_FIRST_UNIT).sub(" ", units))


def separated_sql(column: str) -> str:
    """SQL for a text with its words separated by spaces. It is immutable: it depends on the text alone.

    A text in which each character is a byte is ASCII, or is in a database with a single-byte encoding, for which
    PostgreSQL does not normalize.

    Characters of scripts without spaces are paired twice: `ABCD` becomes `AB CD` and `BC D`. So each character begins a
    word, of two characters unless it is the last.
    """
    text = f"left({column}, {INDEXED})"
    ascii = _replaced(text, _ASCII, _ASCII_SPACED)
    shorter = f"left({column}, {INDEXED_IN_PAIRS})"
    cut, first = _replaced(_form_sql(text), _PAIRS, _SPACED), _replaced(_form_sql(shorter), _PAIRS, _SPACED)
    second = _replaced(_replaced(_form_sql(shorter), _ALL_ELSE, " "), _FIRST_UNIT, " ")
    second = _replaced(second, _PAIRS, _SPACED)
    return (
        f"CASE WHEN octet_length({text}) = length({text}) THEN {ascii} WHEN {column} ~ {_pattern(_MAY_BE_ALONE)} "
        f"THEN {first} || ' '::text || {second} ELSE {cut} END"
    )


def query_sql(language: str, query: str) -> str:
    """SQL for a query of :func:`text_query` or :func:`exclusion_query` as `tsquery`; without a word it is empty.

    A single character of a script without spaces stands for all words that begin with it.
    """
    text = f"websearch_to_tsquery({language}, {query})::text"
    return _replaced(text, _ONE_UNIT, r"\1\2:*") + "::tsquery"


def _form_sql(text: str) -> str:
    form = f"normalize({text}, NFKC)"
    for pattern, instead in ((_LEFT_OUT, ""), (_DOTTED_I, "i"), (_SHARP_S, "ss")):
        form = _replaced(form, pattern, instead)
    return form


def _pattern(pattern: str) -> str:
    return literal(pattern).lstrip()


def _replaced(text: str, pattern: str, instead: str) -> str:
    return f"regexp_replace({text}, {_pattern(pattern)}, {_pattern(instead)}, 'g')"


def text_query(text: str) -> str:
    """A query for chunks with any of the words of a text, as `websearch_to_tsquery` reads it.

    Nothing in a text is an operator. A name with punctuation in it, such as that of a file or a version, becomes a
    phrase; characters of scripts without spaces become pairs. The query also has the words as PostgreSQL's own parser
    splits them, for a collection of an earlier version.

    Raises:
        ArgumentError: if it is not a string, holds a NUL character or is not valid Unicode.
    """
    check_text("text", text)
    text = text[:LOOKED_AT]
    terms = [term for name in _compiled(_APART).split(one_form(text)) for term in _named(name)]
    return _any_of([_quoted(term) for term in (*terms, *text.split())][:MOST_WORDS])


def exclusion_query(without: Sequence[str]) -> str:
    """A query for the words and phrases that no hit may have, as `websearch_to_tsquery` reads it. A string with more
    than one word is a phrase.

    Raises:
        ArgumentError: if it is not a list of strings; if a string has no word in it, holds a NUL character or is not
            valid Unicode; or if all strings together are longer than 4,000 characters.
    """
    given: Any = without
    if isinstance(given, (str, bytes)) or not isinstance(given, Collection):
        raise ArgumentError(f"without is {without!r}; give a list of words and phrases, such as ['word', 'a phrase']")
    for each in without:
        check_text("word in without", each)
    if sum(map(len, without)) > LOOKED_AT:
        raise ArgumentError(f"without is longer than {LOOKED_AT:,} characters; exclude fewer words")
    for each in without:
        if not separated(each).split():
            raise ArgumentError(f"without holds {each!r}, which has no word in it; give words that no hit may have")
    wholes = [" ".join(map(_quoted, _terms(one_form(each)))) for each in without]
    return _any_of([*wholes, *map(_quoted, without)])


def _named(text: str) -> Iterator[str]:
    """The words and phrases of a name in one form; those of a version also without its `v`."""
    for term in _terms(text):
        yield term
        first, _, rest = term.partition(" ")
        if first in ("v", "V") and " " in rest:
            yield rest


def _terms(text: str) -> Iterator[str]:
    """The words and phrases of a text in one form."""
    if text.isascii():
        if phrase := " ".join(_compiled(_ASCII).sub(_ASCII_SPACED, text).split()):
            yield phrase
        return
    starts_alone = _compiled(f"[{_ALONE}]").match
    words = _compiled(_UNITS).sub(_SPACED, text).split()
    for alone, run in groupby(words, lambda word: starts_alone(word) is not None):
        found = list(run)
        if alone and len(found) > 1:
            yield from map("".join, pairwise(found))
        else:
            yield " ".join(found)


def _quoted(term: str) -> str:
    return '"{}"'.format(" ".join(term.replace('"', " ").split()))


def _any_of(terms: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(terms))
