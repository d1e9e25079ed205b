"""Retrieval: questions to chunks."""

from __future__ import annotations

from .chunking import Piece, split
from .embedders import (
    AsyncEmbedder,
    Embedder,
    SyncEmbedder,
    ThreadedEmbedder,
    WordLlamaEmbedder,
)
from .retriever import ResearchRetriever, Storage

__all__ = (
    "AsyncEmbedder",
    "Embedder",
    "Piece",
    "ResearchRetriever",
    "Storage",
    "SyncEmbedder",
    "ThreadedEmbedder",
    "WordLlamaEmbedder",
    "split",
)
