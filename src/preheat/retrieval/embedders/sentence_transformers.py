"""sentence-transformers: models on PyTorch."""

from __future__ import annotations

from typing import Any

from .local import LocalModel

__all__ = ("SentenceTransformerEmbedder",)


class SentenceTransformerEmbedder(LocalModel):
    """Embeddings from a model of sentence-transformers (the extra `sentence-transformers`).

    The arguments are those of :class:`preheat.retrieval.LocalModel`. `options` go to `SentenceTransformer`, such as
    `device` or `truncate_dim`.
    """

    library = "sentence_transformers"
    extra = "sentence-transformers"
    default_batch_size = 32

    def _open(self) -> Any:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

        return SentenceTransformer(self._source, **self._options)

    def _encode(self, texts: list[str]) -> Any:
        return self._model.encode(texts, batch_size=self._batch_size, show_progress_bar=False)
