"""model2vec: static word vectors in numpy."""

from __future__ import annotations

from typing import Any

from .local import LocalModel

__all__ = ("Model2VecEmbedder",)


class Model2VecEmbedder(LocalModel):
    """Embeddings from a static model of model2vec (the extra `model2vec`), on the CPU and fast.

    The arguments are those of :class:`preheat.retrieval.LocalModel`. `options` go to `StaticModel.from_pretrained`,
    such as `dimensionality` or `normalize`.
    """

    library = "model2vec"
    extra = "model2vec"
    default_batch_size = 1024

    def _open(self) -> Any:
        from model2vec import StaticModel

        return StaticModel.from_pretrained(self._source, **self._options)

    def _encode(self, texts: list[str]) -> Any:
        return self._model.encode(texts, batch_size=self._batch_size)
