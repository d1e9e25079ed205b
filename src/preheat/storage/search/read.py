"""Read what is in a collection, without a search."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from ...errors import ArgumentError
from ...pools import Row
from ..encoding.vectors import read_vector
from ..executor import Executor
from ..filters.sql import Condition, condition
from ..filters.tree import F, FilterLike, as_filter, with_scope
from ..models import Chunk, DocumentInfo, Hit, ValueCount
from ..validation import check_ids, check_text
from ..write import sql as statements

DOCUMENTS = 1000
"""How many documents are fetched at a time."""


async def get(executor: Executor, ids: Sequence[str | UUID]) -> list[Chunk]:
    """See :meth:`preheat.VectorStorage.get`."""
    return [_chunk(row) for row in await executor.fetch(statements.get, check_ids(ids))]


async def count(executor: Executor, document: str | None, filter: FilterLike | None) -> int:
    """See :meth:`preheat.VectorStorage.count`."""
    given = _document(document)
    where = _condition(filter, len(given) + 1)
    write = partial(statements.count, condition=where.sql, document=bool(given))
    rows = await executor.fetch(write, *given, *where.parameters)
    return int(rows[0]["chunks"]) if rows else 0


async def metadata_values(
    executor: Executor, path: tuple[str, ...], document: str | None, filter: FilterLike | None, limit: int
) -> list[ValueCount]:
    """See :meth:`preheat.VectorStorage.metadata_values`."""
    F(*path)  # checks the keys
    if not 1 <= limit < 2**31:
        raise ArgumentError(f"limit is {limit}; ask for at least 1 value")
    where = _condition(with_scope(filter, None, document), 2 + len(path))
    write = partial(statements.values, keys=len(path), condition=where.sql)
    rows = await executor.fetch(write, limit, *path, *where.parameters)
    return [ValueCount(json.loads(row["value"]), row["chunks"]) for row in rows]


async def metadata_keys(executor: Executor) -> dict[str, frozenset[str]]:
    """See :meth:`preheat.VectorStorage.metadata_keys`."""
    return {row["key"]: frozenset(row["types"]) for row in await executor.fetch(statements.keys)}


async def documents(executor: Executor, prefix: str) -> AsyncGenerator[DocumentInfo]:
    """See :meth:`preheat.VectorStorage.documents`."""
    check_text("prefix", prefix)
    last: list[str] = []
    while True:
        rows = await executor.fetch(partial(statements.documents_page, first=not last), DOCUMENTS, prefix, *last)
        for row in rows:
            yield DocumentInfo(row["key"], row["chunks"])
        if len(rows) < DOCUMENTS:
            return
        last = [rows[-1]["key"]]


async def chunks(
    executor: Executor, document: str | None, filter: FilterLike | None, batch_size: int, *, embeddings: bool
) -> AsyncGenerator[Chunk]:
    """See :meth:`preheat.VectorStorage.chunks`."""
    if not 1 <= batch_size < 2**31:
        raise ArgumentError(f"batch_size is {batch_size}; fetch at least 1 chunk at a time")
    given = _document(document)
    last: list[Any] = []
    while True:
        where = _condition(filter, 2 + len(given) + len(last))
        write = partial(
            statements.page, condition=where.sql, document=bool(given), first=not last, embedding=embeddings
        )
        rows = await executor.fetch(write, batch_size, *given, *last, *where.parameters)
        for row in rows:
            yield _chunk(row)
        if len(rows) < batch_size:
            return
        last = [rows[-1]["position"], rows[-1]["id"]] if given else [rows[-1]["id"]]


async def neighbors(executor: Executor, chunk: Hit | Chunk, before: int, after: int) -> list[Chunk]:
    """See :meth:`preheat.VectorStorage.neighbors`."""
    for what, number in (("before", before), ("after", after)):
        if not 0 <= number < 2**31:
            raise ArgumentError(f"{what} is {number}; give a number of chunks, or 0 for none")
    check_text("document of a chunk", chunk.document)
    rows = await executor.fetch(statements.neighbors, chunk.document, chunk.position, before, after, from_replica=True)
    return [_chunk(row) for row in rows]


EVERYTHING = Condition("", ())


def _condition(filter: FilterLike | None, first: int) -> Condition:
    return (None if filter is None else condition(as_filter(filter), first)) or EVERYTHING


def _document(key: str | None) -> list[str]:
    """The parameter for a document; none if there is none."""
    if key is None:
        return []
    check_text("key of a document", key)
    return [key]


def _chunk(row: Row) -> Chunk:
    embedding = row["embedding"]
    return Chunk(
        text=row["text"],
        embedding=None if embedding is None else read_vector(embedding),
        metadata=json.loads(row["metadata"]),
        document=row["document"],
        position=row["position"],
        id=row["id"],
    )
