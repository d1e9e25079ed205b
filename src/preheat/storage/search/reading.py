"""What is in a collection, without a search."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import UUID

from pgvector import Vector

from ...errors import ArgumentError
from ...pools import Row
from ..executor import OpenCollection
from ..filters.sql import Condition, condition
from ..filters.tree import FilterLike, as_filter
from ..models import Chunk, DocumentInfo, Hit
from ..validation import check_ids, check_text
from ..write import sql as statements

__all__ = ("Reading",)

DOCUMENTS = 1000
"""How many documents are listed at a time."""


class Reading(OpenCollection):
    """What gets chunks by their ids or their places, counts them, and goes through all of them."""

    async def get(self, ids: Sequence[str | UUID]) -> list[Chunk]:
        """The chunks with these ids, in the order of document and position; those that are not there are left out."""
        return [_chunk(row) for row in await self._fetch(statements.get(self._names), check_ids(ids))]

    async def count(self, *, document: str | None = None, filter: FilterLike | None = None) -> int:
        """How many chunks are stored.

        Args:
            document: the key of a document, to count its chunks alone.
            filter: which chunks to count, by their metadata; see :meth:`search`.

        Raises:
            ArgumentError: if the filter is none.
        """
        given = _document(document)
        where = _condition(filter, len(given) + 1)
        sql = statements.count(self._names, where.sql, document=bool(given))
        rows = await self._fetch(sql, *given, *where.parameters)
        return int(rows[0]["chunks"]) if rows else 0

    async def documents(self, prefix: str = "") -> AsyncGenerator[DocumentInfo]:
        """All documents, in the order of their keys: an async iterator, to be used with `async for`.

        They come in pages, and no connection is held between these; see :meth:`chunks`.

        Args:
            prefix: what their keys begin with, such as a folder.
        """
        check_text("prefix", prefix)
        last: list[str] = []
        while True:
            sql = statements.documents_page(self._names, first=not last)
            rows = await self._fetch(sql, DOCUMENTS, prefix, *last)
            for row in rows:
                yield DocumentInfo(row["key"], row["chunks"])
            if len(rows) < DOCUMENTS:
                return
            last = [rows[-1]["key"]]

    async def chunks(
        self,
        *,
        document: str | None = None,
        filter: FilterLike | None = None,
        batch_size: int = 1000,
        embeddings: bool = True,
    ) -> AsyncGenerator[Chunk]:
        """All chunks, in the order of their ids, or those of one document in its own order: an async iterator, to be
        used with `async for`.

        The chunks are fetched in pages of `batch_size`. Each page is one statement that continues after the previous
        one. No connection and no transaction is held between pages, so the caller may take any time over a chunk,
        change the collection meanwhile, or stop half-way. A chunk that is stored all the time comes exactly once.

        Args:
            document: the key of a document, to go through its chunks alone.
            filter: which chunks to go through, by their metadata; see :meth:`search`.
            batch_size: how many chunks are fetched at a time, at least 1.
            embeddings: False leaves them out, which are most of what is fetched.

        Raises:
            ArgumentError: if `batch_size` is below 1 or the filter is none.
        """
        if not 1 <= batch_size < 2**31:
            raise ArgumentError(f"batch_size is {batch_size}; fetch at least 1 chunk at a time")
        given = _document(document)
        last: list[Any] = []
        while True:
            where = _condition(filter, 2 + len(given) + len(last))
            sql = statements.page(self._names, where.sql, document=bool(given), first=not last, embedding=embeddings)
            rows = await self._fetch(sql, batch_size, *given, *last, *where.parameters)
            for row in rows:
                yield _chunk(row)
            if len(rows) < batch_size:
                return
            last = [rows[-1]["position"], rows[-1]["id"]] if given else [rows[-1]["id"]]

    async def neighbors(self, chunk: Hit | Chunk, before: int = 1, after: int = 1) -> list[Chunk]:
        """The chunks that stand beside one in its document, in order, so that a hit can be shown in its context.

        The chunk itself is not among them, and they come without their embeddings.

        Args:
            chunk: a hit, or a chunk that is stored.
            before: how many before it, at most.
            after: how many after it, at most.

        Raises:
            ArgumentError: if `before` or `after` is below 0.
        """
        for what, number in (("before", before), ("after", after)):
            if not 0 <= number < 2**31:
                raise ArgumentError(f"{what} is {number}; give a number of chunks, or 0 for none")
        check_text("document of a chunk", chunk.document)
        sql = statements.neighbors(self._names)
        return [_chunk(row) for row in await self._fetch(sql, chunk.document, chunk.position, before, after)]


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
        embedding=None if embedding is None else Vector.from_text(embedding).to_list(),
        metadata=json.loads(row["metadata"]),
        document=row["document"],
        position=row["position"],
        id=row["id"],
    )
