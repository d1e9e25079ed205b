"""Retrieval: questions to chunks."""

from __future__ import annotations

from .chunking import Piece, split
from .embedding import Embedder, WordLlamaEmbedder
from .retriever import ResearchRetriever, Storage

__all__ = ("Embedder", "Piece", "ResearchRetriever", "Storage", "WordLlamaEmbedder", "split")
