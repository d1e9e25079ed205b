"""Chunks into a collection, and out of it for good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from operator import attrgetter

from ..errors import ArgumentError
from . import statements
from .encoding import check_texts, copy_rows
from .open_collection import OpenCollection
from .records import Chunk
from .schema import INVALID_SCHEMA, UNDEFINED_TABLE, sqlstate

__all__ = ("Writing",)


class Writing(OpenCollection):
    """What stores chunks and deletes them."""

    async def add(self, chunks: Iterable[Chunk]) -> int:
        """Store chunks, all of them or none; one with the id of a stored one replaces it.

        The first time it makes the collection if it is missing.

        Args:
            chunks: what to store; of two with the same id the later one counts.

        Returns:
            How many chunks were stored.

        Raises:
            DimensionError: if an embedding has another number of dimensions than the collection.
            ArgumentError: if an embedding holds a NaN or infinity, or a text or metadata cannot be stored.
            CollectionError: if the collection is not what the storage was opened for.
            EmbedderError: if the collection's vectors come from another model.
            ExtensionError: if pgvector is missing and cannot be added.
            ConnectError: if there is no connection.
        """
        return await self._store(chunks, replacing=None)

    async def replace_document(self, document: str, chunks: Iterable[Chunk]) -> int:
        """Store the chunks of a document in place of all that is stored under its key, in one transaction.

        Args:
            document: the key of the document.
            chunks: its chunks now; none deletes the document.

        Returns:
            How many chunks were stored.

        Raises:
            ArgumentError: if a chunk belongs to another document.
            PreheatError: whatever else :meth:`add` raises.
        """
        batch = list(chunks)
        for chunk in batch:
            if chunk.document != document:
                raise ArgumentError(
                    f"chunk {chunk.id!r} belongs to document {chunk.document!r}, not to {document!r}; "
                    "replace each document by its own chunks"
                )
        return await self._store(batch, replacing=document)

    async def _store(self, chunks: Iterable[Chunk], replacing: str | None) -> int:
        # In one order for everybody, so that two batches with the same ids never wait for each other.
        batch = sorted({chunk.id: chunk for chunk in chunks}.values(), key=attrgetter("id"))
        if not batch:
            if replacing is not None:
                await self.delete(document=replacing)
            return 0
        dimensions = self.dimensions or await self.create()
        type = self._collection.stored_as
        rows = partial(copy_rows, batch, dimensions, type)
        if not self._collection.is_known:
            packed = list(rows())  # whatever cannot be stored is found here, before anything is made
            await self.create()
            rows = partial(iter, packed)
            if self._collection.stored_as != type:
                rows = partial(copy_rows, batch, dimensions, self._collection.stored_as)
        merge = partial(self._collection.merge, rows=rows, replacing=replacing)
        try:
            await self._run(merge)
        except Exception as error:
            if sqlstate(error) not in (UNDEFINED_TABLE, INVALID_SCHEMA):
                raise
            self._collection.is_known = False  # somebody has dropped it meanwhile
            await self.create()
            await self._run(merge)
        return len(batch)

    async def delete(self, ids: Sequence[str] | None = None, *, document: str | None = None) -> int:
        """Delete chunks by id, or all chunks of a document.

        Args:
            ids: the ids of the chunks to delete; those that are not there are passed over.
            document: the key of the document whose chunks to delete.

        Returns:
            How many chunks were deleted.

        Raises:
            ArgumentError: unless exactly one of the two is given.
        """
        if (ids is None) == (document is None):
            raise ArgumentError("delete takes either ids or document; give one of them")
        if ids is not None:
            column, values = "id", check_texts("ids", ids)
        else:
            column, values = "document", check_texts("document", [document])
        rows = await self._fetch(statements.delete(self._names, column), values)
        return int(rows[0]["gone"]) if rows else 0
