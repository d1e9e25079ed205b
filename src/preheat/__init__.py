"""preheat makes the first answer of an async application as fast as the hundredth, on asyncio and trio."""

# The house, from the top floor down. A module imports only from rooms below its own:
#
#   cli          the command line
#   testing      for users: a pool that fails on purpose, virtual time
#   retrieval    ResearchRetriever: warm once, embed, search
#   storage      VectorStorage: every SQL text
#   warming      warm() and WarmOnce: no driver and no SQL
#   pools        one module for each driver
#   embedded     a PostgreSQL in a folder
#   _concurrency single flight, a serial worker, a bounded gather
#   settings     the environment
#   errors       what can go wrong, in sentences
#
# Nothing optional is imported here: trio, numpy and the drivers are imported by the module that needs them, when it
# is needed.

from __future__ import annotations

from .errors import (
    AccessError,
    ArgumentError,
    CollectionBusyError,
    CollectionError,
    CollectionMismatchError,
    CollectionNotFoundError,
    ConnectError,
    DatabaseError,
    DimensionError,
    EmbeddedPostgresError,
    EmbedderError,
    EndpointError,
    ExtensionError,
    ExtractionError,
    ItemError,
    MissingExtraError,
    PreheatError,
)
from .pools import Lease, Pool, SQLPool, open_pool
from .retrieval import (
    Answer,
    AnswerStatistics,
    AsyncEmbedder,
    Document,
    Embedder,
    FastEmbedEmbedder,
    IngestFailure,
    IngestReport,
    Model2VecEmbedder,
    OpenAIEmbedder,
    ReembedReport,
    ResearchRetriever,
    SentenceTransformerEmbedder,
    SyncEmbedder,
    WordLlamaEmbedder,
    reembed,
)
from .storage import (
    HNSW,
    Chunk,
    CollectionInfo,
    DocumentInfo,
    F,
    Filter,
    Hit,
    Hits,
    IndexProgress,
    Plan,
    Upserted,
    VectorStorage,
    collections,
    schema_script,
)
from .warming import ConnectionReport, WarmOnce, WarmReport, ping, warm

__all__ = (
    "HNSW",
    "AccessError",
    "Answer",
    "AnswerStatistics",
    "ArgumentError",
    "AsyncEmbedder",
    "Chunk",
    "CollectionBusyError",
    "CollectionError",
    "CollectionInfo",
    "CollectionMismatchError",
    "CollectionNotFoundError",
    "ConnectError",
    "ConnectionReport",
    "DatabaseError",
    "DimensionError",
    "Document",
    "DocumentInfo",
    "EmbeddedPostgresError",
    "Embedder",
    "EmbedderError",
    "EndpointError",
    "ExtensionError",
    "ExtractionError",
    "F",
    "FastEmbedEmbedder",
    "Filter",
    "Hit",
    "Hits",
    "IndexProgress",
    "IngestFailure",
    "IngestReport",
    "ItemError",
    "Lease",
    "MissingExtraError",
    "Model2VecEmbedder",
    "OpenAIEmbedder",
    "Plan",
    "Pool",
    "PreheatError",
    "ReembedReport",
    "ResearchRetriever",
    "SQLPool",
    "SentenceTransformerEmbedder",
    "SyncEmbedder",
    "Upserted",
    "VectorStorage",
    "WarmOnce",
    "WarmReport",
    "WordLlamaEmbedder",
    "collections",
    "open_pool",
    "ping",
    "reembed",
    "schema_script",
    "warm",
)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("preheat")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
