"""fastembed: models on ONNX Runtime."""

from __future__ import annotations

from typing import Any

from .local import LocalModel

__all__ = ("FastEmbedEmbedder",)


class FastEmbedEmbedder(LocalModel):
    """Embeddings from a text model of fastembed (the extra `fastembed`).

    The arguments are those of :class:`preheat.retrieval.LocalModel`. The model's name is one of
    `TextEmbedding.list_supported_models()`, from which fastembed also knows the number of dimensions without loading
    the model. `options` go to `TextEmbedding`, such as `cache_dir`, `threads` or `local_files_only`.
    """

    library = "fastembed"
    extra = "fastembed"
    default_batch_size = 256

    def _open(self) -> Any:
        from fastembed import TextEmbedding  # pyright: ignore[reportMissingImports]

        return TextEmbedding(self._source, **self._options)

    def _encode(self, texts: list[str]) -> Any:
        return list(self._model.embed(texts, batch_size=self._batch_size))

    def _listed_dimensions(self) -> int | None:
        from fastembed import TextEmbedding  # pyright: ignore[reportMissingImports]

        for listed in TextEmbedding.list_supported_models():
            if listed["model"].lower() == self._source.lower():  # as fastembed itself compares names
                return int(listed["dim"])
        return None
