"""Storage: chunks and their vectors in PostgreSQL with pgvector. Every SQL text is here; no driver is.

The names that the reference describes are public. The others are for `retrieval` and `cli`, which import nothing else
of storage.
"""

from __future__ import annotations

from .answers.table import AnswerTable, StoredAnswer, answer_key, answer_text
from .encoding.jsonb import json_text
from .encoding.vectors import FLOAT32_MAX, Numbers, has_direction, numbers
from .filters.tree import F, Filter, FilterLike, as_filter
from .indexing import IndexProgress
from .models import (
    Chunk,
    CollectionInfo,
    DocumentInfo,
    Hit,
    Hits,
    Metric,
    OnConflict,
    Upserted,
    ValueCount,
    VectorLike,
    VectorType,
)
from .reembed.reembedding import Reembedding
from .schema.catalog import check_collection, collections, server_versions
from .schema.sql import HNSW
from .script import schema_script
from .search.options import IterativeScan, SearchOptions
from .search.plan import Plan, PlanNode
from .session import PoolState, ReadFrom, WarmPolicy
from .sqlstates import sqlstate
from .validation import about, check_k, check_text
from .vector_storage import VectorStorage
from .write.batch import Batch, Stored
from .write.chunks import as_chunks, numbered
from .write.loading import Embed, Loader
from .write.store import check_delete

__all__ = (
    "FLOAT32_MAX",
    "HNSW",
    "AnswerTable",
    "Batch",
    "Chunk",
    "CollectionInfo",
    "DocumentInfo",
    "Embed",
    "F",
    "Filter",
    "FilterLike",
    "Hit",
    "Hits",
    "IndexProgress",
    "IterativeScan",
    "Loader",
    "Metric",
    "Numbers",
    "OnConflict",
    "Plan",
    "PlanNode",
    "PoolState",
    "ReadFrom",
    "Reembedding",
    "SearchOptions",
    "Stored",
    "StoredAnswer",
    "Upserted",
    "ValueCount",
    "VectorLike",
    "VectorStorage",
    "VectorType",
    "WarmPolicy",
    "about",
    "answer_key",
    "answer_text",
    "as_chunks",
    "as_filter",
    "check_collection",
    "check_delete",
    "check_k",
    "check_text",
    "collections",
    "has_direction",
    "json_text",
    "numbered",
    "numbers",
    "schema_script",
    "server_versions",
    "sqlstate",
)
