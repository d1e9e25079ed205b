"""Find the texts that a model refuses, and embed the others.

An endpoint that refuses one text refuses the whole request, and does not say which text it refuses. So the texts are
given to the model again in halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError, DimensionError, EndpointError, ItemError
from ..storage import Chunk, Embed, about
from .embedders.vectors import VectorsError, shown

__all__ = ("Sieve", "first_refused", "is_about_text", "naming", "naming_queries")

REFUSED = (400, 413, 422)
"""The statuses with which endpoints refuse a text, such as one that is too long."""

HARMLESS = "a few words"
"""A text that every model takes. If the model refuses it as well, the texts are not the cause."""

IN_A_ROW = 16
"""After so many refusals in a row, the model is given the harmless text."""


def is_about_text(error: Exception) -> bool:
    """Whether the model may have refused only some of the texts, and would take the others."""
    if isinstance(error, EndpointError):
        status = error.status or 0
        return not error.transient and (200 <= status < 300 or status in REFUSED)
    return isinstance(error, VectorsError)


async def first_refused(embed: Embed, texts: Sequence[str], error: ItemError) -> tuple[int, ItemError] | None:
    """The index of the first text that the model refuses, and the error about it; None if it takes each text now.

    This is a binary search: it takes about `log2(len(texts))` calls of the model.

    Args:
        error: the error about all of the texts.
    """
    first, last, is_last_word = 0, len(texts), True
    while not isinstance(error, VectorsError) and (last - first > 1 or not is_last_word):
        middle = (first + last + 1) // 2
        refused = await _refusal(embed, texts[first:middle])
        if refused is not None:
            last, error, is_last_word = middle, refused, True
        elif middle == last:
            return None
        else:
            first, is_last_word = middle, False
    if isinstance(error, VectorsError):
        place = min(error.reasons)
        return first + place, error.alone(place)
    return first, error


async def _refusal(embed: Embed, texts: Sequence[str]) -> ItemError | None:
    """The error if the model refuses some of the texts; None if it takes them."""
    try:
        await embed(list(texts))
    except (EndpointError, VectorsError) as error:
        if not is_about_text(error):
            raise
        return error
    return None


def naming(embed: Embed, chunks: Sequence[Chunk]) -> Embed:
    """`embed`, but an error about one text names the chunk that has the text."""

    def name(error: ItemError, text: str) -> None:
        index = next(at for at, chunk in enumerate(chunks) if chunk.text == text and chunk.embedding is None)
        about(error, chunks[index], index)

    return _named(embed, name)


def naming_queries(embed: Embed, queries: Sequence[str]) -> Embed:
    """`embed`, but an error about one text names the query."""

    def name(error: ItemError, text: str) -> None:
        error.item = f"query {list(queries).index(text)} ({shown(text)})"

    return _named(embed, name)


def _named(embed: Embed, name: Callable[[ItemError, str], None]) -> Embed:
    async def embed_or_name(texts: list[str]) -> Any:
        try:
            return await embed(texts)
        except (EndpointError, VectorsError) as error:
            found = await first_refused(embed, texts, error) if is_about_text(error) else None
            if found is None:
                raise
            place, refused = found
            name(refused, texts[place])
            raise refused from refused.__cause__

    return embed_or_name


class Sieve:
    """Embeds batches of texts, of which the model may refuse some.

    Args:
        embed: embeds texts.
    """

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._in_a_row = IN_A_ROW - 1  # the first refusal may be one of everything

    async def embed(self, texts: list[str], needless: Callable[[str], bool], refuse: Callable[[str, Any], None]) -> Any:
        """The vectors of `texts`, in order; None for a text that is refused or needs no vector any more.

        Args:
            needless: whether a text needs no vector any more, because another text of its document was refused.
            refuse: called with each text that is refused, and the error.

        Raises:
            Exception: whatever the model raises that is not about single texts: it refuses the harmless text as well.
        """
        vectors: dict[str, Any] = {}
        waiting = [texts]
        while waiting:
            some = [text for text in waiting.pop() if not needless(text)]
            if not some:
                continue
            try:
                found = await self._embed(some)
            except VectorsError as error:
                await self._weigh(error, any(vector is not None for vector in error.vectors))
                for place, text in enumerate(some):
                    if place in error.reasons:
                        refuse(text, error.alone(place))
                    else:
                        vectors[text] = error.vectors[place]
            except (EndpointError, DimensionError) as error:
                if not (is_about_text(error) or isinstance(error, DimensionError)):
                    raise
                if len(some) > 1:
                    middle = len(some) // 2
                    waiting += [some[middle:], some[:middle]]
                    continue
                await self._weigh(error, False)
                refuse(some[0], error)
            else:
                self._in_a_row = 0
                vectors.update(zip(some, found, strict=True))
        return [vectors.get(text) for text in texts]

    async def _weigh(self, error: ArgumentError | EndpointError, some_are_good: bool) -> None:
        """Raise `error` if the model refuses every text."""
        if some_are_good:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row < IN_A_ROW:
            return
        try:
            await self._embed([HARMLESS])
        except (ArgumentError, EndpointError) as another:
            if isinstance(another, EndpointError) and not is_about_text(another):
                raise
            raise error from error.__cause__
        self._in_a_row = 0
