"""Texts to vectors: the protocols of models, and one module for each library of models."""

from __future__ import annotations

from .asking import vectors_of
from .fastembed import FastEmbedEmbedder
from .local import LocalModel
from .model2vec import Model2VecEmbedder
from .openai import OpenAIEmbedder
from .protocol import AsyncEmbedder, Embedder, Embeddings, SyncEmbedder, known_dimensions
from .sentence_transformers import SentenceTransformerEmbedder
from .threaded import ThreadedEmbedder, as_async
from .wordllama import WordLlamaEmbedder

__all__ = (
    "AsyncEmbedder",
    "Embedder",
    "Embeddings",
    "FastEmbedEmbedder",
    "LocalModel",
    "Model2VecEmbedder",
    "OpenAIEmbedder",
    "SentenceTransformerEmbedder",
    "SyncEmbedder",
    "ThreadedEmbedder",
    "WordLlamaEmbedder",
    "as_async",
    "known_dimensions",
    "vectors_of",
)
