"""Retrieval: questions to chunks and answers."""

from __future__ import annotations

from .answers import Answer, AnswerStatistics
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
from .extractors import Extracted, FileFormat, extract
from .retriever import ResearchRetriever, Storage

__all__ = (
    "Answer",
    "AnswerStatistics",
    "AsyncEmbedder",
    "Embedder",
    "Extracted",
    "FastEmbedEmbedder",
    "FileFormat",
    "Model2VecEmbedder",
    "OpenAIEmbedder",
    "Piece",
    "ResearchRetriever",
    "SentenceTransformerEmbedder",
    "Storage",
    "SyncEmbedder",
    "ThreadedEmbedder",
    "WordLlamaEmbedder",
    "extract",
    "split",
)
