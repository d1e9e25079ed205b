"""WordLlama: small word vectors in numpy, which are part of its package."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...errors import ArgumentError
from .local import LocalModel
from .protocol import Embeddings

__all__ = ("WordLlamaEmbedder",)


@contextmanager
def _logging_left_alone() -> Generator[None]:
    """Give the root logger a handler, so that importing wordllama does not configure it: the application does that."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


DIMENSIONS = (64, 128, 256)
"""The lengths that the model was trained for: https://github.com/dleemiller/WordLlama#matryoshka-representations."""


class WordLlamaEmbedder(LocalModel):
    """Embeddings of 256 dimensions from WordLlama, on the CPU and without a network.

    The model is part of the package `wordllama` (the extra `local`) and is loaded at first use, in a worker thread. A
    few texts take less than a millisecond and are embedded in the event loop. More texts are embedded in a worker
    thread, one call at a time.

    Args:
        dimensions: 256, or the first 128 or 64 of them, which take less room and find less well.

    Raises:
        MissingExtraError: if the extra `local` is not installed.
        ArgumentError: if the model cannot be cut off at `dimensions`.
    """

    library = "wordllama"
    extra = "local"
    note = " (which has wheels for Python 3.11 to 3.13)"
    default_batch_size = 16
    """The vectors of the tokens of so few texts fit into a processor's cache. No step of numpy, which blocks the event
    loop even from a thread, takes more than a few milliseconds."""

    INLINE_TEXTS = 4
    INLINE_CHARACTERS = 4000
    """Up to this limit texts are embedded in the event loop: about a millisecond, less than a thread would take."""

    def __init__(self, dimensions: int = 256) -> None:
        if dimensions not in DIMENSIONS:
            raise ArgumentError(f"dimensions is {dimensions}; WordLlama gives {', '.join(map(str, DIMENSIONS))}")
        super().__init__(f"wordllama-l2-supercat-{dimensions}", dimensions=dimensions)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of `texts`, of length 1: shape `(len(texts), dimensions)`, float32.

        Cancellation: leaves at once. A batch that the model works on is finished in its thread, and the next call waits
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

    def _encode(self, texts: list[str]) -> Any:
        return self._model.embed(texts, norm=True, batch_size=self._batch_size)
