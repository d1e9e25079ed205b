"""Models whose `embed` is a plain function, for async code."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from ..._concurrency.serial_worker import serial_worker_of
from .protocol import AsyncEmbedder, Embedder, SyncEmbedder, known_dimensions

__all__ = ("ThreadedEmbedder", "as_async")


class ThreadedEmbedder:
    """Makes a model async whose `embed` is a plain function: it runs in a worker thread, one call at a time.

    This holds for all wrappers of one model together, also in several event loops. :class:`preheat.ResearchRetriever`
    wraps such a model by itself.

    Args:
        embedder: the model.
    """

    def __init__(self, embedder: SyncEmbedder) -> None:
        self.embedder = embedder
        self._worker = serial_worker_of(embedder)

    def __repr__(self) -> str:
        return f"<ThreadedEmbedder {self.embedder!r}>"

    @property
    def name(self) -> str:
        """The model's identity."""
        return self.embedder.name

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the vectors."""
        return self.embedder.dimensions

    @property
    def known_dimensions(self) -> int | None:
        """The number of dimensions, or None while the model must be loaded to know it."""
        return known_dimensions(self.embedder)

    async def embed(self, texts: Sequence[str]) -> Any:
        """The vectors of `texts`, as the model returns them.

        Cancellation: leaves at once. A call that runs already goes on in its thread, and the next one waits for it.
        """
        vectors = await self._worker.run(partial(self._embed, texts))
        return await vectors if isinstance(vectors, Awaitable) else vectors

    def _embed(self, texts: Sequence[str]) -> Any:
        """In the thread. A generator does its work there, too, when its rows are collected."""
        vectors = self.embedder.embed(texts)
        return list(vectors) if isinstance(vectors, Iterator) else vectors


def as_async(embedder: Embedder) -> AsyncEmbedder:
    """`embedder` itself if its `embed` is async, else a :class:`ThreadedEmbedder` around it."""
    if inspect.iscoroutinefunction(embedder.embed):
        return cast("AsyncEmbedder", embedder)
    return ThreadedEmbedder(embedder)
