"""The protocols of models."""

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
    """The attributes of every model."""

    @property
    def name(self) -> str:
        """The model's identity. A collection remembers it, so that the vectors of two models never mix."""
        ...

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the vectors."""
        ...


@runtime_checkable
class Embedder(Model, Protocol):
    """A model for :class:`preheat.ResearchRetriever`, sync or async."""

    def embed(self, texts: Sequence[str]) -> Any | Awaitable[Any]:
        """The vectors of `texts`: shape `(len(texts), dimensions)`, float32.

        It may be an `async def`. A plain function runs in a worker thread, one call at a time.
        """
        ...


@runtime_checkable
class SyncEmbedder(Model, Protocol):
    """A model whose `embed` is a plain function. It runs in a worker thread, one call at a time."""

    def embed(self, texts: Sequence[str]) -> Any:
        """The vectors of `texts`, in order: shape `(len(texts), dimensions)`, float32."""
        ...


@runtime_checkable
class AsyncEmbedder(Model, Protocol):
    """A model whose `embed` is an async function. It runs in the event loop, and several calls may run at a time."""

    async def embed(self, texts: Sequence[str]) -> Any:
        """The vectors of `texts`, in order: shape `(len(texts), dimensions)`, float32."""
        ...


def known_dimensions(model: Model) -> int | None:
    """The number of dimensions of the model's vectors; None if the model must be loaded, or called, to know it."""
    missing = object()
    known: Any = getattr(model, "known_dimensions", missing)
    return model.dimensions if known is missing else known
