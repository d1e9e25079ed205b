"""Chunks into a collection, and out of it for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import TypeVar
from uuid import UUID

from ...errors import ArgumentError, DatabaseError
from ...pools import Row
from ..executor import OpenCollection
from ..filters.everything import passes_everything
from ..filters.folding import ALWAYS
from ..filters.sql import NOTHING, Condition, condition
from ..filters.tree import FilterLike, as_filter
from ..models import Chunk, Upserted
from ..schema.diagnosis import DELETES
from ..sqlstates import INVALID_SCHEMA, LIMIT_EXCEEDED, UNDEFINED_TABLE, sqlstate
from ..validation import about, check_ids, check_text
from . import changing
from . import sql as statements
from .batch import Batch
from .chunks import as_chunks, list_of, too_long
from .loading import Embed, Loader
from .packing import in_thread, is_quick, packed
from .rerunning import rerun

__all__ = ("Writing", "chosen")

T = TypeVar("T")


class Writing(OpenCollection):
    """What stores chunks and deletes them."""

    async def add(self, chunks: Iterable[Chunk]) -> int:
        """Store chunks, all of them or none; one with the id of a stored one replaces it.

        The first time it makes the collection if it is missing.

        Args:
            chunks: what to store, each with its embedding; of two with the same id the later one counts.

        Returns:
            How many chunks were stored.

        Raises:
            DimensionError: if an embedding has another number of dimensions than the collection.
            ArgumentError: if an embedding is missing, or holds a NaN or infinity, or a text or metadata cannot be
                stored.
            CollectionError: if the collection is not what the storage was opened for.
            EmbedderError: if the collection's vectors come from another model.
            ExtensionError: if pgvector is missing and cannot be added.
            ConnectError: if there is no connection.
        """
        return await self._store(chunks, replacing=None)

    async def upsert(self, chunks: Iterable[Chunk], embed: Embed | None = None) -> Upserted:
        """Store chunks where they have changed, all of them or none: what is stored as it is costs a look-up only.

        A chunk is unchanged if what is stored under its id has the same text, metadata, document and position. The
        server compares a hash of the text, so that no text goes over the wire. If the text alone is the same, the rest
        is written and the embedding stays, as it belongs to the text; :meth:`add` replaces that, too.

        The look-up is one statement outside of any transaction, and nothing is locked while texts are embedded. The
        transaction that writes looks again, under locks of the documents that it shares with all other calls of
        `upsert` and `replace_document`: what another writer has changed meanwhile is written, too, and embedded first
        if need be. Of two writers who store different texts under one id, the later one counts.

        Args:
            chunks: what to store; of two with the same id the later one counts.
            embed: an async function that gives each text its vector, in order. It is called with the texts that have
                changed and whose chunks have no embedding, all of them at once, and not at all if there are none.
                :meth:`preheat.ResearchRetriever.upsert` gives the retriever's model.

        Returns:
            How many chunks were added, changed and left alone.

        Raises:
            ArgumentError: if a chunk has to be embedded and there is no `embed`, or whatever else :meth:`add` raises.
            PreheatError: whatever else :meth:`add` raises.
        """
        stored = await Loader(self).store(await _worked(Batch, list_of(chunks)), embed)
        return Upserted(stored.added, stored.changed, stored.unchanged)

    async def replace_document(self, document: str, chunks: Iterable[Chunk], embed: Embed | None = None) -> int:
        """Store the chunks of a document in place of all that is stored under its key, in one transaction.

        Args:
            document: the key of the document.
            chunks: its chunks now; none deletes the document.
            embed: with it chunks are stored as :meth:`upsert` does, so that those that have not changed are neither
                embedded nor written.

        Returns:
            How many chunks the document has now.

        Raises:
            ArgumentError: if a chunk belongs to another document.
            PreheatError: whatever else :meth:`add` raises.
        """
        if embed is None:
            return await self._store(chunks, replacing=document)
        loaded = await _worked(partial(_batch_of, document), list_of(chunks))
        await Loader(self).store(loaded, embed)
        return len(loaded)

    async def _store(self, chunks: Iterable[Chunk], replacing: str | None) -> int:
        given, batch = await _worked(partial(_sorted, replacing), list_of(chunks))
        if not batch:
            if replacing is not None:
                await self.delete(document=replacing)
            return 0
        try:
            await self._store_sorted(batch, replacing)
        except ArgumentError as error:
            if error.chunk is not None:
                error.index = max(index for index, chunk in enumerate(given) if chunk.id == error.chunk)
            raise
        except DatabaseError as error:
            if error.sqlstate == LIMIT_EXCEEDED and (told := too_long(given)) is not None:
                raise told from error
            raise
        return len(batch)

    async def _store_sorted(self, batch: list[Chunk], replacing: str | None) -> None:
        dimensions = self.dimensions or await self.create()
        known = self._collection
        pieces: list[bytes] = []
        packed_as = known.stored_as
        if not known.is_known:
            pieces = await packed(self, lambda: changing.packed_rows(known, batch, dimensions), quick=is_quick(batch))
            await self.create()

        def rows() -> Iterable[bytes]:
            return pieces if pieces and packed_as == known.stored_as else changing.packed_rows(known, batch, dimensions)

        async def run(alone: bool) -> None:
            await self._run(partial(changing.merge, known, rows=rows, replacing=replacing, alone=alone))

        await rerun(run, self._make_again)

    async def _make_again(self) -> None:
        """Somebody has dropped the collection meanwhile."""
        self._collection.is_known = False
        await self.create()

    async def delete(
        self,
        ids: Sequence[str | UUID] | None = None,
        *,
        document: str | None = None,
        filter: FilterLike | None = None,
    ) -> int:
        """Delete chunks by id, all chunks of a document, or those that pass a filter; :meth:`clear` deletes all.

        A filter that passes every chunk whatever metadata it has is refused, in whatever form it is written:
        `{}`, `{"$and": [{}]}`, `{"lang": {"$nin": []}}`, `F("lang").exists() | F("lang").missing()`. One that passes
        every chunk only because of what is stored is not refused: `{"lang": {"$exists": False}}` deletes everything
        where no chunk has a `lang`. No ids, or a filter that passes nothing, delete nothing and ask nothing of the
        server.

        Args:
            ids: the ids of the chunks to delete; those that are not there are passed over.
            document: the key of the document whose chunks to delete.
            filter: which chunks to delete, by their metadata: an expression of :class:`preheat.F`, or a dict.

        Returns:
            How many chunks were deleted.

        Raises:
            ArgumentError: unless exactly one of the three is given, or if the filter is invalid, or passes everything.
        """
        where = chosen(ids, document, filter)
        if where.sql == NOTHING:
            return 0

        async def run(alone: bool) -> Sequence[Row]:
            if alone:
                return await self._run(partial(changing.delete, self._collection, where=where), DELETES)
            return await self._fetch(statements.delete(self._names, where.sql), *where.parameters, rights=DELETES)

        rows = await rerun(run)
        return int(rows[0]["gone"]) if rows else 0

    async def clear(self) -> int:
        """Delete all chunks. The collection stays, with its model and its indexes, and so do the answers that are kept
        beside it, which :meth:`answer_table.clear() <preheat.storage.AnswerTable.clear>` deletes.

        All of them go in one transaction, in which nobody else writes. If this role may truncate the table, that is
        quick however many chunks there are, and searches wait for it; otherwise each chunk is deleted.

        Returns:
            How many chunks were deleted; 0 for a collection that has not been made yet.

        Raises:
            AccessError: if this role may not delete chunks.
            CollectionNotFoundError: if the collection is missing and the storage was opened without `dimensions`.
            ConnectError: if there is no connection.
        """
        if self.dimensions is None:
            await self.create()
        try:
            return await rerun(lambda _: self._run(partial(changing.clear, self._collection), DELETES))
        except Exception as error:
            if sqlstate(error) not in (UNDEFINED_TABLE, INVALID_SCHEMA):
                raise
            return 0

    async def drop(self) -> bool:
        """Drop the collection: its chunks and their table, its answers, and its entry in the list of collections, in
        one transaction. Searches and writers wait for it.

        The storage stays open, and :meth:`add` makes the collection again, empty, as this storage was opened for it.

        Returns:
            Whether there was a collection; False if nothing has been stored yet.

        Raises:
            AccessError: if this role does not own the tables.
            CollectionError: if something else depends on them, such as a view.
            ConnectError: if there is no connection.
        """
        return await rerun(lambda _: self._run(partial(changing.drop, self._collection)))


async def _worked(work: Callable[[list[Chunk]], T], given: list[Chunk]) -> T:
    """What `work` makes of a batch, in a thread if that takes long."""
    return work(given) if is_quick(given) else await in_thread(partial(work, given))


def _sorted(document: str | None, given: list[Chunk]) -> tuple[list[Chunk], list[Chunk]]:
    """The chunks of a batch, and those that are stored: of two with one id the later one. They are in one order for
    everybody, so that two batches with the same ids never wait for each other."""
    chunks = _of_document(document, given)
    return chunks, sorted({chunk.id: chunk for chunk in chunks}.values(), key=attrgetter("id"))


def _batch_of(document: str, given: list[Chunk]) -> Batch:
    return Batch(_of_document(document, given), [document])


def _of_document(document: str | None, given: list[Chunk]) -> list[Chunk]:
    """The chunks of a batch, if they belong to the document; None for any."""
    chunks = as_chunks(given)
    for index, chunk in enumerate(chunks):
        if document is not None and chunk.document != document:
            words = f"it belongs to document {chunk.document!r}, not to {document!r}"
            raise about(ArgumentError(f"{words}; replace each document by its own chunks"), chunk, index)
    return chunks


def chosen(ids: Sequence[str | UUID] | None, document: str | None, filter: FilterLike | None) -> Condition:
    """Which chunks are to be deleted.

    Raises:
        ArgumentError: as :meth:`Writing.delete`.
    """
    if sum(given is not None for given in (ids, document, filter)) != 1:
        raise ArgumentError("delete takes either ids, document or filter; give one of them")
    if ids is not None:
        known = check_ids(ids)
        return Condition(statements.BY_ID if known else NOTHING, (known,) if known else ())
    if document is not None:
        check_text("document", document)
        return Condition(statements.OF_DOCUMENT, (document,))
    tree = as_filter({} if filter is None else filter)
    where = None if passes_everything(tree) else condition(tree, 1)
    if where is None:
        what = "an empty filter" if tree == ALWAYS else "the filter is as good as an empty one: it"
        raise ArgumentError(
            f"{what} passes every chunk, and delete would leave none; say which chunks are to go, "
            "or use clear() to delete all of them"
        )
    return where
