"""A model is asked for vectors, and what it gives is checked before anybody else sees it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..._concurrency.offload import offloaded
from .protocol import AsyncEmbedder
from .vectors import Vectors, checked_vectors

__all__ = ("vectors_of",)

INLINE_TEXTS = 8
"""The vectors of so many texts are checked in the event loop: less than a millisecond of work."""


async def vectors_of(model: AsyncEmbedder, texts: Sequence[str], dimensions: int | None = None) -> Vectors:
    """The vectors of some texts: finite, of one length and as many as texts.

    Args:
        dimensions: how many dimensions they must have; None if that is not known.

    Raises:
        ArgumentError: if the model gives something else; see :func:`checked_vectors`.
        Exception: whatever the model raises.
    """
    given = await model.embed(texts)
    check = partial(checked_vectors, model.name, given, texts, dimensions)
    return await offloaded(check, size=len(texts), inline=INLINE_TEXTS)
