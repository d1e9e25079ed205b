"""The models of the command line, by their names."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ArgumentError
from ..retrieval.embedders import (
    Embedder,
    FastEmbedEmbedder,
    Model2VecEmbedder,
    OpenAIEmbedder,
    SentenceTransformerEmbedder,
    WordLlamaEmbedder,
    as_async,
    known_dimensions,
)

__all__ = ("dimensions_of", "model_of")

KINDS: dict[str, Callable[[str], Embedder]] = {
    "model2vec": Model2VecEmbedder,
    "fastembed": FastEmbedEmbedder,
    "sentence-transformers": SentenceTransformerEmbedder,
    "openai": OpenAIEmbedder,
}


def model_of(text: str) -> Embedder:
    """The model that an option names; it is loaded at its first use.

    Raises:
        ArgumentError: if the option names no known model.
        MissingExtraError: if the model's library is not installed.
    """
    kind, _, name = text.partition(":")
    if kind == "wordllama":
        if name and not (name.isascii() and name.isdecimal()):
            raise ArgumentError(f"--model is {text!r}; after wordllama: comes a number of dimensions, 64, 128 or 256")
        return WordLlamaEmbedder(int(name)) if name else WordLlamaEmbedder()
    if kind not in KINDS or not name:
        known = ", ".join(f"{known}:NAME" for known in KINDS)
        raise ArgumentError(f"--model is {text!r}; give one of wordllama, wordllama:128, wordllama:64, {known}")
    return KINDS[kind](name)


async def dimensions_of(model: Embedder) -> int:
    """The number of dimensions of a model's vectors; a model that does not know it embeds a word."""
    known = known_dimensions(model)
    return len((await as_async(model).embed(["dimensions"]))[0]) if known is None else known
