"""model2vec: static word vectors in numpy."""

from __future__ import annotations

import os
from typing import Any

from .local import PretrainedModel

__all__ = ("Model2VecEmbedder",)


class Model2VecEmbedder(PretrainedModel):
    """Embeddings from a static model of model2vec (the extra `model2vec`), on the CPU and fast.

    The model is loaded at first use, and works in a worker thread, one batch at a time.

    Args:
        model: the model's name or folder, or a `StaticModel` that is loaded already.
        name: what collections remember; by default the name or folder. A model that is loaded already needs one.
        dimensions: the number of dimensions, if you know it; otherwise the model is loaded to know.
        batch_size: how many texts the model takes in at once.
        options: further arguments of `StaticModel.from_pretrained`, such as `dimensionality` or `normalize`.

    Raises:
        MissingExtraError: if the extra `model2vec` is not installed.
        ArgumentError: if `model`, `name` and `options` do not fit together.
    """

    library = "model2vec"
    extra = "model2vec"

    def __init__(
        self,
        model: str | os.PathLike[str] | Any,
        *,
        name: str | None = None,
        dimensions: int | None = None,
        batch_size: int = 1024,
        **options: Any,
    ) -> None:
        super().__init__(model, name, dimensions, options)
        self._batch_size = batch_size

    def _open(self) -> Any:
        from model2vec import StaticModel

        return StaticModel.from_pretrained(self._source, **self._options)

    def _encode(self, texts: list[str]) -> Any:
        return self._model.encode(texts, batch_size=self._batch_size)

    def _size(self) -> int:
        return int(self._model.dim)
