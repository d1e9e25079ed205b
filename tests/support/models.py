"""Models whose vectors a test can predict."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import anyio
import numpy as np
from anyio.lowlevel import checkpoint


class Hashing:
    """A model whose vectors are drawn from the text and its own name.

    Args:
        hold: before a batch with this text is embedded, `held` is set and `go` is waited for.
    """

    def __init__(self, name: str, dimensions: int, *, hold: str | None = None) -> None:
        self.name = name
        self.dimensions = dimensions
        self.texts: list[str] = []
        self.hold = hold
        self.held = anyio.Event()
        self.go = anyio.Event()

    def vector(self, text: str) -> Any:
        seed = int.from_bytes(hashlib.sha256(f"{self.name} {text}".encode()).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(self.dimensions, dtype=np.float32)

    async def embed(self, texts: Sequence[str]) -> Any:
        await checkpoint()
        if self.hold is not None and any(self.hold in text for text in texts):
            self.held.set()
            await self.go.wait()
        self.texts += texts
        return np.array([self.vector(text) for text in texts]).reshape(len(texts), self.dimensions)


class Words:
    """An embedder that knows no words, only their lengths."""

    def __init__(self, name: str = "words", dimensions: int = 3) -> None:
        self.name = name
        self.dimensions = dimensions
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.calls += 1
        return np.array([[len(text) + n + 1 for n in range(self.dimensions)] for text in texts], dtype=np.float32)


class AsyncWords(Words):
    """The same without a thread, for virtual time."""

    async def embed(self, texts: Sequence[str]) -> Any:
        await anyio.lowlevel.checkpoint()
        return super().embed(texts)


class Lengths:
    """A model that knows no words, only their lengths.

    Args:
        otherwise: the vectors of texts that contain these words.
    """

    name, dimensions = "lengths", 3

    def __init__(self, **otherwise: Any) -> None:
        self.otherwise = otherwise
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Any:
        await checkpoint()
        self.texts += texts
        return [
            next((row for word, row in self.otherwise.items() if word in text), [float(len(text)), 1.0, 2.0])
            for text in texts
        ]


class Letters:
    """A model that counts letters: similar texts have similar vectors."""

    name = "letters"
    dimensions = 26

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Any:
        self.batches.append(list(texts))
        return np.array([[1 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32)


class AsyncLetters(Letters):
    """The same without a thread."""

    async def embed(self, texts: Sequence[str]) -> Any:
        await checkpoint()
        return super().embed(texts)
