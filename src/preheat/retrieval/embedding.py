"""Text to vectors."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Awaitable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import anyio
from anyio import to_thread
from anyio.lowlevel import RunVar

from ..errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ("Embedder", "WordLlamaEmbedder")

Embeddings: TypeAlias = "NDArray[np.float32]"
"""Vectors of shape `(n, dimensions)`."""


@runtime_checkable
class Embedder(Protocol):
    """What :class:`preheat.ResearchRetriever` needs of a model."""

    @property
    def name(self) -> str:
        """The model's identity; a collection remembers it, so that vectors of two models never mix."""
        ...

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the vectors."""
        ...

    def embed(self, texts: Sequence[str]) -> Any | Awaitable[Any]:
        """The vectors of `texts`: shape `(len(texts), dimensions)`, float32. May also be `async def`.

        If it is not, it runs in a worker thread, one call at a time.
        """
        ...


_limiter: RunVar[anyio.CapacityLimiter] = RunVar("preheat embedding")


def one_at_a_time() -> anyio.CapacityLimiter:
    """The limiter for models in worker threads, one for each event loop: two encodings at once gain nothing."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(1)
        _limiter.set(limiter)
        return limiter


@contextmanager
def _logging_left_alone() -> Generator[None]:
    """Importing wordllama configures the root logger, unless it has a handler; that is for the application to do."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


class WordLlamaEmbedder:
    """Embeddings of 256 dimensions from WordLlama, on the CPU and without a network.

    The model comes with the package `wordllama` (the extra `local`) and is loaded at first use, in a worker thread.
    A few texts take less than a millisecond and are embedded at once; more go to a worker thread, one batch at a time.
    """

    name = "wordllama-l2-supercat-256"
    dimensions = 256

    INLINE_TEXTS = 4
    INLINE_CHARACTERS = 4000
    """Up to so much is embedded in the event loop: about a millisecond of work, less than going to a thread saves."""

    def __init__(self) -> None:
        if importlib.util.find_spec("wordllama") is None:
            raise MissingExtraError("WordLlamaEmbedder (which has wheels for Python 3.11 to 3.13)", "local")
        self._model: Any = None

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of `texts`, of length 1: shape `(len(texts), 256)`, float32.

        Cancellation: takes effect when the batch in the worker thread has ended.
        """
        texts = list(texts)
        few = len(texts) <= self.INLINE_TEXTS and sum(map(len, texts)) <= self.INLINE_CHARACTERS
        if few and self._model is not None:
            return self._embed(texts)
        return await to_thread.run_sync(partial(self._embed, texts), limiter=one_at_a_time())

    def load(self) -> None:
        """Load the model now, in this thread; about a second. :meth:`embed` does it by itself."""
        if self._model is None:
            with _logging_left_alone():
                import wordllama

            # Its own default looks in a folder that does not exist and then asks the network.
            folder = Path(wordllama.__file__).parent
            self._model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    def _embed(self, texts: list[str]) -> Embeddings:
        self.load()
        import numpy as np

        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        vectors: Embeddings = np.asarray(self._model.embed(texts, norm=True), dtype=np.float32)
        return vectors
