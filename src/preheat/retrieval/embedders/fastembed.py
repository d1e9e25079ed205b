"""fastembed: models on ONNX Runtime."""

from __future__ import annotations

import os
from typing import Any

from .local import PretrainedModel

__all__ = ("FastEmbedEmbedder",)


class FastEmbedEmbedder(PretrainedModel):
    """Embeddings from a text model of fastembed (the extra `fastembed`).

    The model is loaded at first use, and works in a worker thread, one batch at a time. How many dimensions a model has
    fastembed knows without loading it.

    Args:
        model: the model's name, as in `TextEmbedding.list_supported_models()`, or a `TextEmbedding` that is loaded
            already.
        name: what collections remember; by default the model's name. A model that is loaded already needs one.
        dimensions: the number of dimensions, if you know it; otherwise fastembed is asked.
        batch_size: how many texts the model takes in at once.
        options: further arguments of `TextEmbedding`, such as `cache_dir`, `threads` or `local_files_only`.

    Raises:
        MissingExtraError: if the extra `fastembed` is not installed.
        ArgumentError: if `model`, `name` and `options` do not fit together.
    """

    library = "fastembed"
    extra = "fastembed"

    def __init__(
        self,
        model: str | os.PathLike[str] | Any,
        *,
        name: str | None = None,
        dimensions: int | None = None,
        batch_size: int = 256,
        **options: Any,
    ) -> None:
        super().__init__(model, name, dimensions, options)
        self._batch_size = batch_size

    def _open(self) -> Any:
        from fastembed import TextEmbedding  # pyright: ignore[reportMissingImports]

        return TextEmbedding(self._source, **self._options)

    def _encode(self, texts: list[str]) -> Any:
        return list(self._model.embed(texts, batch_size=self._batch_size))

    def _look_up(self) -> int | None:
        from fastembed import TextEmbedding  # pyright: ignore[reportMissingImports]

        for known in TextEmbedding.list_supported_models():
            if known["model"].lower() == self._source.lower():  # as fastembed itself compares them
                return int(known["dim"])
        return None

    def _size(self) -> int:
        return len(self._encode(["size"])[0])
