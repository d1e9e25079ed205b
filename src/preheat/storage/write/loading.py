"""Store a batch in three steps: look up what is stored, embed the texts that are new, write the changes.

The look-up and the embedding hold no connection and no lock, as a model may be slow. Another writer may change the
chunks meanwhile. That is safe: the write looks up again, under the locks of its documents, and decides by the second
look-up. If texts need a vector then that did not at first, nothing is written, and the batch is embedded once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from anyio import from_thread, to_thread

from ..._concurrency.offload import own_limiter
from ...errors import CollectionNotFoundError, DatabaseError
from ...pools import SQLConnection
from ..encoding.vectors import NoDirectionError
from ..executor import Executor, rerun
from ..identifiers import check_metric
from ..models import Chunk
from ..schema.diagnosis import WRITES
from ..schema.sql import collection_row
from ..sqlstates import LIMIT_EXCEEDED, SERIALIZATION_FAILURE
from . import sql as statements
from .batch import Batch, Stored
from .changing import changing, copy
from .chunks import too_long

T = TypeVar("T")

Embed: TypeAlias = Callable[[list[str]], Awaitable[Sequence[Any]]]
"""Returns a vector for each text, in order."""


QUICK_CHUNKS = 32
QUICK_CHARACTERS = 100_000
"""A batch up to this size takes about a millisecond; a thread costs a tenth of that."""


def is_quick(chunks: Sequence[Chunk]) -> bool:
    """Whether a batch is too small for a thread to be worth its cost."""
    return (
        len(chunks) <= QUICK_CHUNKS
        and sum(len(str(getattr(chunk, "text", ""))) for chunk in chunks) <= QUICK_CHARACTERS
    )


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a worker thread.

    Cancellation: leaves at once. The thread goes on until it looks whether it is cancelled, which
    :func:`anyio.from_thread.check_cancelled` does.
    """
    return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=own_limiter())


async def packed(
    executor: Executor, rows: Callable[[], Iterable[bytes]], *, quick: bool, keep: bool = True
) -> list[bytes]:
    """Pack a batch before its collection is created or checked, so that an invalid batch creates nothing.

    Args:
        rows: packs the batch for what is known of the collection.
        quick: whether to do without a thread.
        keep: False only checks the batch, and returns an empty list.

    Raises:
        ArgumentError: if a chunk cannot be stored. If the metric is not known, a zero vector is an error only if the
            collection's metric turns out to be cosine.
    """

    def work() -> list[bytes]:
        pieces: list[bytes] = []
        for piece in rows():
            if not quick:
                from_thread.check_cancelled()
            if keep:
                pieces.append(piece)
        return pieces

    try:
        return work() if quick else await in_thread(work)
    except NoDirectionError:
        collection = executor.collection
        if collection.metric is not None:
            raise
        found = await executor.fetch(collection_row, collection.name)
        if not found or found[0]["metric"] == "cosine":
            raise
        collection.metric = check_metric(found[0]["metric"])
    return work() if quick else await in_thread(work)


class Loader:
    """Stores batches in a collection.

    Args:
        executor: runs statements on the collection.
        index: whether a collection that is made has its indexes from the start.
    """

    def __init__(self, executor: Executor, *, index: bool = True) -> None:
        self._executor = executor
        self._collection = executor.collection
        self._index = index

    async def store(self, batch: Batch, embed: Embed | None) -> Stored:
        """All three steps. What is unchanged is neither embedded nor written.

        Args:
            embed: embeds texts; None for a batch that is embedded later.

        Raises:
            ArgumentError: if `embed` gives too many or too few vectors.
        """
        await self.look_up(batch)
        stored: Stored | None = None
        while stored is None:
            await self.embed(batch, embed)
            stored = await self.write(batch)
        return stored

    async def look_up(self, batch: Batch) -> None:
        """Let the batch know what of it is stored: one statement.

        Raises:
            CollectionError: if the collection is missing and the storage was opened without `dimensions`.
            EmbedderError: if the collection's vectors come from another model.
        """
        if self._collection.dimensions is None:
            await self._executor.create()
        if batch.documents or len(batch):
            try:
                batch.learn(await self._executor.fetch(statements.look_up, *batch.arguments(), rights=WRITES))
            except CollectionNotFoundError:
                if self._collection.dimensions is None:
                    raise
                batch.learn([])  # another process has dropped the collection meanwhile: it is made anew
        if batch.is_known:
            await self._executor.create()  # it is there: see whether its vectors come from this model

    async def embed(self, batch: Batch, embed: Embed | None) -> None:
        """Give the batch the vectors that it lacks, all in one call."""
        texts = batch.missing
        if not texts:
            return
        assert embed is not None  # a batch without has nothing to embed
        batch.take(texts, await embed(texts))

    async def write(self, batch: Batch) -> Stored | None:
        """Write what has changed, in one transaction, or nothing at all if nothing has.

        Returns:
            What was done; None if nothing was, because there are texts that need a vector now.
        """
        if batch.missing:
            return None
        if batch.is_stored:
            return batch.outcome
        if self._executor.embedder not in self._collection.checked_for:
            await packed(self._executor, partial(self._rows, batch), quick=len(batch) <= QUICK_CHUNKS, keep=False)
            await self._make()

        async def run(alone: bool) -> Stored | None:
            return await self._executor.run(partial(self._write, batch=batch, alone=alone))

        try:
            return await rerun(run, self._make)
        except DatabaseError as error:
            if error.sqlstate == LIMIT_EXCEEDED and (told := too_long(batch.given)) is not None:
                raise told from error
            raise

    async def _make(self) -> None:
        await self._executor.make(index=self._index)

    async def _write(self, connection: SQLConnection, *, batch: Batch, alone: bool) -> Stored | None:
        """An operation."""
        identifiers = self._collection.identifiers
        async with changing(self._collection, connection, batch.keys, alone=alone):
            batch.learn(await connection.fetch(statements.look_up(identifiers), *batch.arguments()))
            if batch.missing:
                return None
            if gone := batch.gone:
                await connection.execute(statements.delete_in_order(identifiers), gone)
            moved = batch.moved()
            if moved[0]:
                (row,) = await connection.fetch(statements.update(identifiers), *moved)
                if row["written"] != len(moved[0]):
                    raise _OvertakenError("another writer has changed a chunk meanwhile")
            if batch.writes:
                await copy(self._collection, connection, partial(self._rows, batch))
        return batch.outcome

    def _rows(self, batch: Batch) -> Any:
        known = self._collection
        return batch.rows(self._collection.dimensions or 0, known.stored_as, known.metric or "cosine")


class _OvertakenError(Exception):
    """Another writer has changed a chunk between two statements of the transaction."""

    sqlstate = SERIALIZATION_FAILURE
