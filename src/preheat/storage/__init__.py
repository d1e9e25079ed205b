"""Storage: chunks and their vectors in PostgreSQL with pgvector. Every SQL text is here; no driver is."""

from __future__ import annotations

from .answers.table import AnswerTable
from .filters.tree import F, Filter, FilterLike
from .models import Chunk, CollectionInfo, DocumentInfo, Hit, Hits, Metric, Upserted, VectorLike, VectorType
from .schema.catalog import collections
from .schema.indexing import IndexProgress
from .schema.script import schema_script
from .schema.sql import HNSW
from .search.explain import Plan, PlanNode
from .session import WarmPolicy
from .vector_storage import VectorStorage

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
