"""Retrieval: questions to chunks."""

from __future__ import annotations

from .chunking import Piece, split
from .embedders import (
    AsyncEmbedder,
    Embedder,
    FastEmbedEmbedder,
    Model2VecEmbedder,
    OpenAIEmbedder,
    SentenceTransformerEmbedder,
    SyncEmbedder,
    ThreadedEmbedder,
    WordLlamaEmbedder,
)
from .retriever import ResearchRetriever, Storage

__all__ = (
    "AsyncEmbedder",
    "Embedder",
    "FastEmbedEmbedder",
    "Model2VecEmbedder",
    "OpenAIEmbedder",
    "Piece",
    "ResearchRetriever",
    "SentenceTransformerEmbedder",
    "Storage",
    "SyncEmbedder",
    "ThreadedEmbedder",
    "WordLlamaEmbedder",
    "split",
)
