"""The base of models that run in this process: loaded at first use, called in a worker thread."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from ..._concurrency.serial_worker import SerialWorker
from ...errors import ArgumentError, MissingExtraError
from .protocol import Embeddings
from .vectors import checked_vectors

__all__ = ("LocalModel",)


class LocalModel(ABC):
    """A model of a library that runs in this process.

    The model is loaded at first use, and runs in a worker thread, one call at a time.

    Args:
        model: the model's name or folder, or a model of the library that is loaded already.
        name: the name that collections remember; by default the model's name. A loaded model needs a name.
        dimensions: the number of dimensions, if you know it. By default the model is asked when the number is needed.
        batch_size: how many texts the library embeds at a time; by default its own number.
        options: further arguments for the library when it loads the model.

    Raises:
        MissingExtraError: if the library is not installed.
        ArgumentError: if the arguments contradict each other.
    """

    library: ClassVar[str]
    """The library's name as it is imported."""
    extra: ClassVar[str]
    """The extra of preheat that installs the library."""
    default_batch_size: ClassVar[int]
    """How many texts the library embeds at a time unless the caller says another number."""
    note: ClassVar[str] = ""
    """A note about the library, for the error if it is not installed."""

    def __init__(
        self,
        model: str | os.PathLike[str] | Any,
        *,
        name: str | None = None,
        dimensions: int | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        kind = type(self).__name__
        if importlib.util.find_spec(self.library) is None:
            raise MissingExtraError(kind + self.note, self.extra)
        is_named = isinstance(model, (str, os.PathLike))
        self._source = os.fspath(model) if is_named else ""
        if model is None or (is_named and not self._source):
            raise ArgumentError(f"{kind} has no model; give its name, a folder, or the model itself")
        if not is_named and options:
            raise ArgumentError(
                f"{kind} has a model that is loaded already, so {', '.join(options)} would change nothing; "
                "load it with that, or give its name in place of it"
            )
        if not (is_named or name):
            raise ArgumentError(
                f"{kind} has a model that is loaded already, which has no name; "
                "give one with name=..., as collections remember it"
            )
        if batch_size is not None and batch_size < 1:
            raise ArgumentError(f"batch_size is {batch_size}; give the model at least 1 text at a time")
        if dimensions is not None and dimensions < 1:
            raise ArgumentError(f"dimensions is {dimensions}; a vector has at least 1, and the model knows how many")
        self._model: Any = None if is_named else model
        self._options = options
        self._name = name or self._source
        self._dimensions = dimensions
        self._batch_size = batch_size or self.default_batch_size
        self._worker = SerialWorker()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def name(self) -> str:
        """The model's identity, which collections remember."""
        return self._name

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the vectors. If it is not known yet, the model is loaded and tried now, in this
        thread."""
        if self._dimensions is None:
            self._dimensions = self._listed_dimensions()
        if self._dimensions is None:
            with self._worker.lock:
                self.load()
                self._dimensions = len(self._encode(["dimensions"])[0])
        return self._dimensions

    @property
    def known_dimensions(self) -> int | None:
        """The number of dimensions, or None while it is not known."""
        return self._dimensions

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of `texts`, in order: shape `(len(texts), dimensions)`, float32.

        Cancellation: leaves at once. A batch that the model works on is finished in its thread, and the next call waits
        for it.
        """
        return await self._worker.run(partial(self._embed, list(texts)))

    def load(self) -> None:
        """Load the model now, in this thread; it may take seconds. :meth:`embed` loads it by itself, in its thread."""
        if self._model is None:
            with self._worker.lock:
                if self._model is None:
                    self._model = self._open()

    def _embed(self, texts: list[str]) -> Embeddings:
        """Embed in the worker thread."""
        import numpy as np

        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        self.load()
        vectors = np.asarray(checked_vectors(self.name, self._encode(texts), texts), dtype=np.float32)
        self._dimensions = self._dimensions or vectors.shape[1]
        if vectors.shape[1] != self._dimensions:
            raise ArgumentError(
                f"the model {self.name!r} gave an array of shape {vectors.shape} for {len(texts)} texts of "
                f"{self._dimensions} dimensions; leave dimensions out, or give it the number that the model has"
            )
        return vectors

    def _listed_dimensions(self) -> int | None:
        """The number of dimensions, if the library knows it without loading the model."""
        return None

    @abstractmethod
    def _open(self) -> Any:
        """Load the model."""

    @abstractmethod
    def _encode(self, texts: list[str]) -> Any:
        """The vectors of `texts`, by the loaded model."""
