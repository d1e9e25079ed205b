"""sentence-transformers: models on PyTorch."""

from __future__ import annotations

import os
from typing import Any

from .local import PretrainedModel

__all__ = ("SentenceTransformerEmbedder",)


class SentenceTransformerEmbedder(PretrainedModel):
    """Embeddings from a model of sentence-transformers (the extra `sentence-transformers`).

    The model is loaded at first use, and works in a worker thread, one batch at a time.

    Args:
        model: the model's name or folder, or a `SentenceTransformer` that is loaded already.
        name: what collections remember; by default the name or folder. A model that is loaded already needs one.
        dimensions: the number of dimensions, if you know it; otherwise the model is loaded to know.
        batch_size: how many texts the model takes in at once.
        options: further arguments of `SentenceTransformer`, such as `device` or `truncate_dim`.

    Raises:
        MissingExtraError: if the extra `sentence-transformers` is not installed.
        ArgumentError: if `model`, `name` and `options` do not fit together.
    """

    library = "sentence_transformers"
    extra = "sentence-transformers"

    def __init__(
        self,
        model: str | os.PathLike[str] | Any,
        *,
        name: str | None = None,
        dimensions: int | None = None,
        batch_size: int = 32,
        **options: Any,
    ) -> None:
        super().__init__(model, name, dimensions, options)
        self._batch_size = batch_size

    def _open(self) -> Any:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

        return SentenceTransformer(self._source, **self._options)

    def _encode(self, texts: list[str]) -> Any:
        return self._model.encode(texts, batch_size=self._batch_size, show_progress_bar=False)

    def _size(self) -> int:
        # Older versions know it by another name only. It is None where no module of the model says it.
        ask = getattr(self._model, "get_embedding_dimension", None) or self._model.get_sentence_embedding_dimension
        return int(ask() or len(self._encode(["size"])[0]))
