"""Models with a plain `embed`, for async code."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from ..._concurrency.serial_worker import serial_worker_of
from .protocol import AsyncEmbedder, Embedder, SyncEmbedder, known_dimensions

__all__ = ("ThreadedEmbedder", "as_async")


class ThreadedEmbedder:
    """A model whose `embed` is a plain function, made async: it runs in a worker thread, one call at a time.

    However many of these there are for one model, and in however many event loops, only one call of it runs.
    :class:`preheat.ResearchRetriever` does this by itself.

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
        """The same, or None while the model has to be loaded to know."""
        return known_dimensions(self.embedder)

    async def embed(self, texts: Sequence[str]) -> Any:
        """The vectors of `texts`, as the model gives them.

        Cancellation: leaves at once. A call that runs already goes on in its thread, and the next one waits for it.
        """
        vectors = await self._worker.run(partial(self._embed, texts))
        return await vectors if isinstance(vectors, Awaitable) else vectors

    def _embed(self, texts: Sequence[str]) -> Any:
        """In the thread, and so is what a generator does when it is asked for its rows."""
        vectors = self.embedder.embed(texts)
        return list(vectors) if isinstance(vectors, Iterator) else vectors


def as_async(embedder: Embedder) -> AsyncEmbedder:
    """`embedder` itself if its `embed` is async, else a :class:`ThreadedEmbedder` around it."""
    if inspect.iscoroutinefunction(embedder.embed):
        return cast("AsyncEmbedder", embedder)
    return ThreadedEmbedder(embedder)
