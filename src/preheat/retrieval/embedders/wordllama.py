"""WordLlama: small word vectors in numpy, which come with their package."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...errors import ArgumentError
from .local import LocalModel, need
from .protocol import Embeddings

__all__ = ("WordLlamaEmbedder",)


@contextmanager
def _logging_left_alone() -> Generator[None]:
    """Importing wordllama configures the root logger, unless it has a handler; that is for the application to do."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


DIMENSIONS = (64, 128, 256)
"""What the model was trained to be cut off at; https://github.com/dleemiller/WordLlama#matryoshka-representations."""


class WordLlamaEmbedder(LocalModel):
    """Embeddings of 256 dimensions from WordLlama, on the CPU and without a network.

    The model comes with the package `wordllama` (the extra `local`) and is loaded at first use, in a worker thread.
    A few texts take less than a millisecond and are embedded at once; more go to a worker thread, one batch at a time.

    Args:
        dimensions: 256, or the first 128 or 64 of them, which take less room and find less well.

    Raises:
        MissingExtraError: if the extra `local` is not installed.
        ArgumentError: if the model cannot be cut off at `dimensions`.
    """

    name: str = "wordllama-l2-supercat-256"
    dimensions: int = 256

    INLINE_TEXTS = 4
    INLINE_CHARACTERS = 4000
    """Up to so much is embedded in the event loop: about a millisecond of work, less than going to a thread saves."""

    AT_ONCE = 16
    """Texts that the model takes in at once: their tokens' vectors fit into a processor's cache, and no step of numpy,
    which holds up the event loop even from a thread, takes more than a few milliseconds."""

    def __init__(self, dimensions: int = 256) -> None:
        if dimensions not in DIMENSIONS:
            raise ArgumentError(f"dimensions is {dimensions}; WordLlama gives {', '.join(map(str, DIMENSIONS))}")
        need("wordllama", "WordLlamaEmbedder (which has wheels for Python 3.11 to 3.13)", "local")
        super().__init__()
        self.dimensions = dimensions
        self.name = f"wordllama-l2-supercat-{dimensions}"

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of `texts`, of length 1: shape `(len(texts), dimensions)`, float32.

        Cancellation: leaves at once. A batch that the model works on is finished in its thread, and the next one waits
        for it.
        """
        texts = list(texts)
        few = len(texts) <= self.INLINE_TEXTS and sum(map(len, texts)) <= self.INLINE_CHARACTERS
        if few and self._model is not None:
            return self._embed(texts)
        return await super().embed(texts)

    def _open(self) -> Any:
        with _logging_left_alone():
            import wordllama

        # Its own default looks in a folder that does not exist and then asks the network.
        folder = Path(wordllama.__file__).parent
        shorter = None if self.dimensions == 256 else self.dimensions
        model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True, trunc_dim=shorter)
        with suppress(AttributeError):
            # Its tokenizer takes a whole text for one word, and would remember each that it has ever seen.
            model.tokenizer.model._resize_cache(0)
        return model

    def _embed(self, texts: list[str]) -> Embeddings:
        if not texts:
            import numpy as np

            return np.empty((0, self.dimensions), dtype=np.float32)
        return super()._embed(texts)

    def _encode(self, texts: list[str]) -> Any:
        return self._model.embed(texts, norm=True, batch_size=self.AT_ONCE)
