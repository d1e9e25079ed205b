"""Storage: chunks and their vectors in PostgreSQL with pgvector. Every SQL text is here; no driver is."""

from __future__ import annotations

from .answers import AnswerTable
from .catalog import collections
from .filters import F, Filter, FilterLike
from .indexing import IndexProgress
from .lifecycle import WarmPolicy
from .plan import Plan, PlanNode
from .records import Chunk, CollectionInfo, DocumentInfo, Hit, Hits, Metric, Upserted, VectorLike, VectorType
from .schema_statements import HNSW
from .script import schema_script
from .storage import VectorStorage

__all__ = (
    "HNSW",
    "AnswerTable",
    "Chunk",
    "CollectionInfo",
    "DocumentInfo",
    "F",
    "Filter",
    "FilterLike",
    "Hit",
    "Hits",
    "IndexProgress",
    "Metric",
    "Plan",
    "PlanNode",
    "Upserted",
    "VectorLike",
    "VectorStorage",
    "VectorType",
    "WarmPolicy",
    "collections",
    "schema_script",
)
