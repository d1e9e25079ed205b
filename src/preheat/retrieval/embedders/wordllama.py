"""WordLlama: small word vectors in numpy, which are part of its package."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import ArgumentError
from .local import LocalModel
from .protocol import Embeddings

__all__ = ("WordLlamaEmbedder",)


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
        """The tokenizer and the vectors of its tokens: shape `(tokens, dimensions)`, float32.

        Only the files of `wordllama` are used. The library itself imports what it needs for downloads, which takes
        longer than to load the model, and configures the logging of the application.
        """
        import numpy as np
        from safetensors import safe_open
        from tokenizers import Tokenizer

        found = importlib.util.find_spec(self.library)
        assert found is not None  # or there would be no embedder
        assert found.submodule_search_locations is not None
        folder = Path(found.submodule_search_locations[0])
        tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        tokenizer.enable_padding()
        tokenizer.no_truncation()
        with suppress(AttributeError):
            # It takes a whole text for one word, and would remember each that it has ever seen.
            tokenizer.model._resize_cache(0)
        with safe_open(folder / "weights" / "l2_supercat_256.safetensors", framework="np") as weights:
            tokens = weights.get_tensor("embedding.weight")[:, : self.dimensions]
        return tokenizer, np.ascontiguousarray(tokens, dtype=np.float32)

    def _encode(self, texts: list[str]) -> Any:
        """The mean of the vectors of a text's tokens, with a length of 1."""
        import numpy as np

        tokenizer, tokens = self._model
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), self._batch_size):
            some = tokenizer.encode_batch(texts[start : start + self._batch_size], add_special_tokens=False)
            mask = np.array([one.attention_mask for one in some], dtype=np.float32)
            ids = np.array([one.ids for one in some], dtype=np.int32).clip(0, len(tokens) - 1)
            sums = np.sum(tokens[ids] * mask[..., np.newaxis], axis=1, dtype=np.float32)
            means = sums / np.maximum(mask.sum(axis=1, keepdims=True), 1.0)
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            vectors[start : start + len(some)] = means
        return vectors
