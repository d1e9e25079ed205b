"""Retrieval: questions to chunks and answers."""

from __future__ import annotations

from .answers import Answer, AnswerStatistics
from .chunking import Piece, split
from .embedding import Embedder, WordLlamaEmbedder
from .retriever import ResearchRetriever, Storage

__all__ = (
    "Answer",
    "AnswerStatistics",
    "Embedder",
    "Piece",
    "ResearchRetriever",
    "Storage",
    "WordLlamaEmbedder",
    "split",
)
