"""Models in this process: loaded at first use, asked in a worker thread."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...errors import MissingExtraError
from .protocol import Embeddings
from .turns import Turns

__all__ = ("LocalModel", "need")


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
        self._turns = Turns()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of `texts`, in order: shape `(len(texts), dimensions)`, float32.

        Cancellation: leaves at once. A batch that the model works on is finished in its thread, and the next one waits
        for it.
        """
        return await self._turns.run(partial(self._embed, list(texts)))

    def load(self) -> None:
        """Load the model now, in this thread; it may take seconds. :meth:`embed` does it by itself, in its own."""
        if self._model is None:
            with self._turns.lock:
                if self._model is None:
                    self._model = self._open()

    def _embed(self, texts: list[str]) -> Embeddings:
        self.load()
        import numpy as np

        return np.asarray(self._encode(texts), dtype=np.float32)

    @abstractmethod
    def _open(self) -> Any:
        """The model, loaded."""

    @abstractmethod
    def _encode(self, texts: list[str]) -> Any:
        """The vectors of `texts`, by the loaded model."""
