"""What is asked of a model."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

__all__ = ("AsyncEmbedder", "Embedder", "Embeddings", "SyncEmbedder", "known_dimensions")

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Embeddings: TypeAlias = NDArray[np.float32]
else:  # so that hints can be read without numpy
    Embeddings = Any
"""Vectors of shape `(n, dimensions)`."""


class Model(Protocol):
    """What every model says of itself."""

    @property
    def name(self) -> str:
        """The model's identity; a collection remembers it, so that vectors of two models never mix."""
        ...

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the vectors."""
        ...


@runtime_checkable
class Embedder(Model, Protocol):
    """What :class:`preheat.ResearchRetriever` needs of a model, be it sync or async."""

    def embed(self, texts: Sequence[str]) -> Any | Awaitable[Any]:
        """The vectors of `texts`: shape `(len(texts), dimensions)`, float32. May also be `async def`.

        If it is not, it runs in a worker thread, one call at a time.
        """
        ...


@runtime_checkable
class SyncEmbedder(Model, Protocol):
    """A model that is asked with a plain function. It runs in a worker thread, one call at a time."""

    def embed(self, texts: Sequence[str]) -> Any:
        """The vectors of `texts`, in order: shape `(len(texts), dimensions)`, float32."""
        ...


@runtime_checkable
class AsyncEmbedder(Model, Protocol):
    """A model that is asked with an async function. It runs in the event loop, as often at a time as it is called."""

    async def embed(self, texts: Sequence[str]) -> Any:
        """The vectors of `texts`, in order: shape `(len(texts), dimensions)`, float32."""
        ...


def known_dimensions(model: Model) -> int | None:
    """How many dimensions the vectors of `model` have; None if it has to be loaded, or asked, to know."""
    unsaid = object()
    known: Any = getattr(model, "known_dimensions", unsaid)
    return model.dimensions if known is unsaid else known
