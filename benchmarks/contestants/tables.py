"""The table that contestants with plain SQL search and fill: preheat's own, with the same columns for everybody."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.runner.jobs import Job, K

COLUMNS = ("id", "document", "position", "text", "metadata", "embedding")
METADATA = {"source": "benchmark", "language": "en"}
"""Of every row."""


def name(job: Job) -> str:
    return f"preheat_{job.collection}"


def search(job: Job, vector: str = "$1") -> str:
    """The search, with a placeholder for the vector."""
    return (
        f"SELECT id, text, metadata, embedding <=> {vector} AS distance "
        f'FROM "{name(job)}" ORDER BY embedding <=> {vector} LIMIT {K}'
    )


def create(job: Job) -> str:
    """The table of an ingest: preheat's columns, and no index but the primary key's."""
    return (
        f'CREATE TABLE "{name(job)}" (id text PRIMARY KEY, document text NOT NULL, position integer NOT NULL, '
        f"text text NOT NULL, metadata jsonb NOT NULL, embedding vector({job.dimensions}) NOT NULL)"
    )


def insert(job: Job) -> str:
    """One row."""
    return f'INSERT INTO "{name(job)}" ({", ".join(COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6)'


def rows(texts: Sequence[str], vectors: Iterable[Any]) -> list[tuple[Any, ...]]:
    """A batch, with ids that are made here, as everybody makes them, and the metadata as the text of its JSON."""
    metadata = json.dumps(METADATA)
    return [
        (str(uuid.uuid4()), "benchmark", position, text, metadata, vector)
        for position, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]


def ids(found: Iterable[Any]) -> list[str]:
    """The ids of asyncpg's records, once their metadata is what an application wants: a dict."""
    return [{**record, "metadata": json.loads(record["metadata"])}["id"] for record in found]
