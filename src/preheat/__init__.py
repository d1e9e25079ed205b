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
# A name is imported with its room when a program asks for it, so a program that only warms a pool does not pay for
# storage and retrieval. Nothing optional is imported here: trio, numpy and the drivers are imported by the module that
# needs them, when it is needed.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # warm a pool once
    from .warming import (
        warm,
        WarmOnce,
        WarmReport,
        ConnectionReport,
        ping,
    )

    # open a pool
    from .pools import (
        open_pool,
        Pool,
        SQLPool,
        Lease,
    )

    # store and search vectors
    from .storage import (
        VectorStorage,
        Chunk,
        Hit,
        Hits,
        F,
        Filter,
        HNSW,
        CollectionInfo,
        DocumentInfo,
        IndexProgress,
        Plan,
        Upserted,
        ValueCount,
        collections,
        schema_script,
    )

    # retrieve: embed, warm once, search
    from .retrieval import (
        ResearchRetriever,
        Document,
        Answer,
        AnswerStatistics,
        AsyncEmbedder,
        Embedder,
        FastEmbedEmbedder,
        IngestFailure,
        IngestReport,
        Model2VecEmbedder,
        OpenAIEmbedder,
        ReembedReport,
        SentenceTransformerEmbedder,
        SyncEmbedder,
        WordLlamaEmbedder,
        reembed,
    )

    # what can go wrong
    from .errors import (
        PreheatError,
        AccessError,
        ArgumentError,
        ChunkExistsError,
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
        PoolBusyError,
    )

    __version__: str

__all__ = (
    # warm a pool once
    "warm",
    "WarmOnce",
    "WarmReport",
    "ConnectionReport",
    "ping",
    # open a pool
    "open_pool",
    "Pool",
    "SQLPool",
    "Lease",
    # store and search vectors
    "VectorStorage",
    "Chunk",
    "Hit",
    "Hits",
    "F",
    "Filter",
    "HNSW",
    "CollectionInfo",
    "DocumentInfo",
    "IndexProgress",
    "Plan",
    "Upserted",
    "ValueCount",
    "collections",
    "schema_script",
    # retrieve: embed, warm once, search
    "ResearchRetriever",
    "Document",
    "Answer",
    "AnswerStatistics",
    "AsyncEmbedder",
    "Embedder",
    "FastEmbedEmbedder",
    "IngestFailure",
    "IngestReport",
    "Model2VecEmbedder",
    "OpenAIEmbedder",
    "ReembedReport",
    "SentenceTransformerEmbedder",
    "SyncEmbedder",
    "WordLlamaEmbedder",
    "reembed",
    # what can go wrong
    "PreheatError",
    "AccessError",
    "ArgumentError",
    "ChunkExistsError",
    "CollectionBusyError",
    "CollectionError",
    "CollectionMismatchError",
    "CollectionNotFoundError",
    "ConnectError",
    "DatabaseError",
    "DimensionError",
    "EmbeddedPostgresError",
    "EmbedderError",
    "EndpointError",
    "ExtensionError",
    "ExtractionError",
    "ItemError",
    "MissingExtraError",
    "PoolBusyError",
)

_ROOMS = ("errors", "pools", "warming", "storage", "retrieval")
"""From the ground floor up. A room imports those below it, so looking for a name in this order imports nothing more."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "__version__":
            return import_module("importlib.metadata").version("preheat")
        if name in _ROOMS:
            return import_module(f".{name}", __name__)
        for room in _ROOMS if name in __all__ else ():
            module = import_module(f".{room}", __name__)
            if name in module.__all__:
                globals()[name] = value = getattr(module, name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_ROOMS, *__all__})
