"""Retrieval: find chunks and answers for questions."""

from __future__ import annotations

from .answers import Answer, AnswerStatistics
from .chunking import Piece, split
from .documents import Document
from .embedders import (
    AsyncEmbedder,
    Embedder,
    FastEmbedEmbedder,
    LocalModel,
    Model2VecEmbedder,
    OpenAIEmbedder,
    SentenceTransformerEmbedder,
    SyncEmbedder,
    ThreadedEmbedder,
    WordLlamaEmbedder,
)
from .extractors import Extracted, FileFormat, extract
from .failures import IngestFailure
from .ingest import IngestReport
from .reembed import ReembedReport, reembed
from .retriever import ResearchRetriever, Storage

__all__ = (
    "Answer",
    "AnswerStatistics",
    "AsyncEmbedder",
    "Document",
    "Embedder",
    "Extracted",
    "FastEmbedEmbedder",
    "FileFormat",
    "IngestFailure",
    "IngestReport",
    "LocalModel",
    "Model2VecEmbedder",
    "OpenAIEmbedder",
    "Piece",
    "ReembedReport",
    "ResearchRetriever",
    "SentenceTransformerEmbedder",
    "Storage",
    "SyncEmbedder",
    "ThreadedEmbedder",
    "WordLlamaEmbedder",
    "extract",
    "reembed",
    "split",
)
