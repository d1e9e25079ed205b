"""Storage: chunks and their vectors in PostgreSQL with pgvector. Every SQL text is here; no driver is."""

from __future__ import annotations

from .answers.table import AnswerTable
from .encoding.jsonb import json_text
from .filters.tree import F, Filter, FilterLike
from .models import Chunk, CollectionInfo, DocumentInfo, Hit, Hits, Metric, Upserted, VectorLike, VectorType
from .schema.catalog import check_collection, collections
from .schema.indexing import IndexProgress
from .schema.script import schema_script
from .schema.sql import HNSW
from .search.explain import Plan, PlanNode
from .session import WarmPolicy
from .validation import check_text
from .vector_storage import VectorStorage
from .write.writing import chosen

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
    "check_collection",
    "check_text",
    "chosen",
    "collections",
    "json_text",
    "schema_script",
)
