"""Models in this process: loaded at first use, asked in a worker thread."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..._concurrency.serial_worker import SerialWorker
from ...errors import ArgumentError, MissingExtraError
from .protocol import Embeddings
from .vectors import checked_vectors

__all__ = ("LocalModel", "PretrainedModel", "need")


def need(library: str, feature: str, extra: str) -> None:
    """See that a library is installed, without importing it.

    Raises:
        MissingExtraError: if it is not.
    """
    if importlib.util.find_spec(library) is None:
        raise MissingExtraError(feature, extra)


class LocalModel(ABC):
    """What the models of this process share."""

    def __init__(self) -> None:
        self._model: Any = None
        self._worker = SerialWorker()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of `texts`, in order: shape `(len(texts), dimensions)`, float32.

        Cancellation: leaves at once. A batch that the model works on is finished in its thread, and the next one waits
        for it.
        """
        return await self._worker.run(partial(self._embed, list(texts)))

    def load(self) -> None:
        """Load the model now, in this thread; it may take seconds. :meth:`embed` does it by itself, in its own."""
        if self._model is None:
            with self._worker.lock:
                if self._model is None:
                    self._model = self._open()

    def _embed(self, texts: list[str]) -> Embeddings:
        self.load()
        import numpy as np

        vectors = checked_vectors(getattr(self, "name", ""), self._encode(texts), texts)
        return np.asarray(vectors, dtype=np.float32)

    @abstractmethod
    def _open(self) -> Any:
        """The model, loaded."""

    @abstractmethod
    def _encode(self, texts: list[str]) -> Any:
        """The vectors of `texts`, by the loaded model."""


class PretrainedModel(LocalModel):
    """A model by the name that its library knows it by, or loaded already.

    Args:
        model: the name, a folder, or the model itself.
        name: what collections remember; by default the model's name.
        dimensions: the number of dimensions; None leaves it to the model.
        options: what the library is given besides the name.
    """

    library: str
    extra: str

    def __init__(self, model: Any, name: str | None, dimensions: int | None, options: Mapping[str, Any]) -> None:
        kind = type(self).__name__
        need(self.library, kind, self.extra)
        super().__init__()
        named = isinstance(model, (str, os.PathLike))
        self._source = os.fspath(model) if named else ""
        self._options = dict(options)
        if model is None or (named and not self._source):
            raise ArgumentError(f"{kind} has no model; give its name, a folder, or the model itself")
        if not named:
            if options:
                raise ArgumentError(
                    f"{kind} has a model that is loaded already, so {', '.join(options)} would change nothing; "
                    "load it with that, or give its name in place of it"
                )
            if not name:
                raise ArgumentError(
                    f"{kind} has a model that is loaded already, which has no name; "
                    "give one with name=..., as collections remember it"
                )
            self._model = model
        if dimensions is not None and dimensions < 1:
            raise ArgumentError(f"dimensions is {dimensions}; a vector has at least 1, and the model knows how many")
        self._name = name or self._source
        self._dimensions = dimensions

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def name(self) -> str:
        """The model's identity, which collections remember."""
        return self._name

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the vectors. If it is not known, the model is loaded now, in this thread."""
        if self._dimensions is None:
            self._dimensions = self._look_up()
        if self._dimensions is None:
            self.load()
            self._dimensions = self._size()
        return self._dimensions

    @property
    def known_dimensions(self) -> int | None:
        """The same, or None while the model has to be loaded to know."""
        if self._dimensions is None and self._model is None:
            return None
        return self.dimensions

    def _embed(self, texts: list[str]) -> Embeddings:
        if not texts:
            import numpy as np

            return np.empty((0, self.dimensions), dtype=np.float32)
        vectors = super()._embed(texts)
        if vectors.shape[1] != self.dimensions:
            raise ArgumentError(
                f"the model {self.name!r} gave an array of shape {vectors.shape} for {len(texts)} texts of "
                f"{self.dimensions} dimensions; leave dimensions out, or give it the number that the model has"
            )
        return vectors

    def _look_up(self) -> int | None:
        """The number of dimensions, if the library knows it without loading the model."""
        return None

    @abstractmethod
    def _size(self) -> int:
        """The number of dimensions, by the loaded model."""
