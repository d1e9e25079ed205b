"""Call a model, and check the vectors that it returns before any other code sees them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..._concurrency.offload import offloaded
from .protocol import AsyncEmbedder
from .vectors import Vectors, checked_vectors

__all__ = ("vectors_of",)

INLINE_TEXTS = 8
"""The vectors of up to so many texts are checked in the event loop: less than a millisecond."""


async def vectors_of(model: AsyncEmbedder, texts: Sequence[str], dimensions: int | None = None) -> Vectors:
    """The vectors of `texts`: one for each text, finite, and all of one length.

    Args:
        dimensions: the number of dimensions that they must have; None if it is not known.

    Raises:
        ArgumentError: if the model returns anything else; see :func:`checked_vectors`.
        Exception: whatever the model raises.
    """
    given = await model.embed(texts)
    check = partial(checked_vectors, model.name, given, texts, dimensions)
    return await offloaded(check, size=len(texts), inline=INLINE_TEXTS)
