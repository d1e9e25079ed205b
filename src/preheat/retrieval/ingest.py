"""Ingest documents: read, look up, embed and write them in batches, in four tasks that work at the same time.

Each task passes its batch on to the next one. So while one batch is written, the next one is embedded. A task waits
until the next one takes its batch, so only a few batches are in memory, however many documents there are.

An error about one document does not end the ingest: the document is left out, and the report names it. An error about
all documents does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..errors import ArgumentError, ItemError, MissingExtraError, ungrouped
from ..storage import Batch, Chunk, Embed, IndexProgress, Loader, Stored, VectorStorage, about
from .batching import Batches, DocumentSource, read
from .documents import Document
from .failures import IngestFailure, failure, is_about_rows
from .refusals import Sieve

__all__ = ("Ingest", "IngestReport", "Progress", "Steps", "ingest")

Progress: TypeAlias = Callable[["IngestReport"], object]
"""A function that is called in the event loop with the report so far. It must not take long."""

EMBEDDED_AT_ONCE = 1000
"""How many texts of a large document are embedded before the progress is reported."""

AHEAD = 1
"""How many batches may wait for each task."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The result of an ingest, complete or so far."""

    documents: int = 0
    """How many documents were looked up and are stored now. Those in `failures` are not counted."""
    added: int = 0
    """How many of their chunks were not stored before."""
    changed: int = 0
    """How many were stored with another text, other metadata or another position."""
    unchanged: int = 0
    """How many were stored already; they were neither embedded nor written."""
    deleted: int = 0
    """How many stored chunks were deleted because their documents no longer have them."""
    seconds: float = 0.0
    """The duration so far."""
    index: IndexProgress | None = None
    """The latest progress of creating indexes; None if none were created."""
    found: int = 0
    """How many chunks the documents have that were read so far."""
    embedded: int = 0
    """How many of them have an embedding by now, stored or not."""
    failures: tuple[IngestFailure, ...] = ()
    """The documents that could not be stored, in the order in which the errors occurred."""

    @property
    def chunks(self) -> int:
        """How many chunks the documents have."""
        return self.added + self.changed + self.unchanged

    def as_dict(self) -> dict[str, Any]:
        """The report for logs and JSON."""
        return {
            "documents": self.documents,
            "chunks": self.chunks,
            "added": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "seconds": self.seconds,
            "failures": [failure.as_dict() for failure in self.failures],
        }


class Steps(Protocol):
    """The steps that store a batch, in this order; :class:`preheat.storage.Loader` has them."""

    async def look_up(self, batch: Batch) -> None:
        """Mark the chunks of the batch that are stored already."""
        ...

    async def embed(self, batch: Batch, embed: Embed | None) -> None:
        """Embed the texts of the batch that need a vector."""
        ...

    async def write(self, batch: Batch) -> Stored | None:
        """Write what has changed; None, and nothing is written, if more texts need a vector now."""
        ...


@dataclass(slots=True)
class _Load:
    """A batch and its counts."""

    batch: Batch
    documents: int
    """How many of its documents are stored, or will be."""
    unchanged: int = 0
    """How many chunks were removed from the batch because their documents are stored without a change."""


class Ingest:
    """One ingest.

    Args:
        steps: store a batch.
        embed: embeds texts.
        progress: called after each batch, and while a large document is embedded.
    """

    def __init__(self, steps: Steps, embed: Embed, progress: Progress | None = None) -> None:
        self._steps = steps
        self._sieve = Sieve(embed)
        self._failures: list[IngestFailure] = []
        self._tell = progress or (lambda _: None)
        self._started = anyio.current_time()
        self.report: IngestReport = IngestReport()

    async def run(self, source: DocumentSource, *, batch_size: int, chunk_size: int) -> IngestReport:
        """Ingest all documents of a source."""
        if batch_size < 1:
            raise ArgumentError(
                f"batch_size is {batch_size}; write at least 1 chunk at a time, and about 1,000 are quick"
            )
        if chunk_size < 1:
            raise ArgumentError(f"chunk_size is {chunk_size}; a chunk needs at least 1, and a few hundred search well")
        with ExitStack() as streams, ungrouped():
            to_look_up, from_read = _pipe(streams)
            to_embed, from_look_up = _pipe(streams)
            to_write, from_embed = _pipe(streams)
            async with anyio.create_task_group() as group:
                group.start_soon(self._read, source, batch_size, chunk_size, to_look_up, name="preheat: read documents")
                group.start_soon(self._look_up_all, from_read, to_embed, name="preheat: look up what is stored")
                group.start_soon(self._embed_all, from_look_up, to_write, name="preheat: embed what is not")
                group.start_soon(self._write_all, from_embed, name="preheat: write what has changed")
        return self._update(seconds=anyio.current_time() - self._started)

    async def make_index(self, storage: VectorStorage) -> IngestReport:
        """Create the indexes of a collection that has none yet."""
        if await storage.lacks_index():
            await storage.create_index(progress=self._tell_index)
        return self._update(seconds=anyio.current_time() - self._started)

    # The four tasks. A task closes its stream only when it has succeeded. When it fails, the task group cancels the
    # others; with a closed stream they might take the failure for the end of the documents, and finish.

    async def _read(
        self, source: DocumentSource, batch_size: int, chunk_size: int, out: MemoryObjectSendStream[_Load]
    ) -> None:
        batches = Batches(batch_size, chunk_size)

        def put(document: object, check_cancelled: Callable[[], None]) -> list[Batch]:
            """Cut a document, in a worker thread. Appending a failure is atomic, and the event loop copies the list."""
            try:
                return batches.put(document, check_cancelled)
            except MissingExtraError:
                raise
            except Exception as error:
                key = document.key if isinstance(document, Document) else ""
                self._failures.append(failure(str(key), error))
                return []

        async def deliver(batch: Batch) -> None:
            self._update(found=self.report.found + len(batch))
            await out.send(_Load(batch, len(batch.documents)))

        await read(source, put, batches.rest, deliver)
        out.close()

    async def _look_up_all(self, inbox: MemoryObjectReceiveStream[_Load], out: MemoryObjectSendStream[_Load]) -> None:
        async for load in inbox:
            await self._steps.look_up(load.batch)
            load.unchanged = load.batch.settle().unchanged
            await out.send(load)
        out.close()

    async def _embed_all(self, inbox: MemoryObjectReceiveStream[_Load], out: MemoryObjectSendStream[_Load]) -> None:
        async for load in inbox:
            has_embedding = self.report.embedded + len(load.batch) + load.unchanged
            await self._embed(load)
            self._update(embedded=has_embedding)
            await out.send(load)
        out.close()

    async def _write_all(self, inbox: MemoryObjectReceiveStream[_Load]) -> None:
        async for load in inbox:
            stored = await self._write(load)
            before = self.report
            self._tell(
                self._update(
                    documents=before.documents + load.documents,
                    added=before.added + stored.added,
                    changed=before.changed + stored.changed,
                    unchanged=before.unchanged + stored.unchanged + load.unchanged,
                    deleted=before.deleted + stored.deleted,
                    seconds=anyio.current_time() - self._started,
                )
            )

    # Embed and write, and leave out the documents that cannot be stored.

    async def _embed(self, load: _Load) -> None:
        """Embed the texts of a batch that need a vector."""
        failures: dict[str, IngestFailure] = {}
        owners: dict[str, list[Chunk]] = {}
        for chunk in load.batch.to_embed:
            owners.setdefault(chunk.text, []).append(chunk)

        def needless(text: str) -> bool:
            return all(chunk.document in failures for chunk in owners[text])

        def refuse(text: str, error: ItemError) -> None:
            for chunk in owners[text]:
                if chunk.document not in failures:
                    told = about(copy(error), chunk)
                    failures[chunk.document] = failure(chunk.document, told, chunk.position)

        others = self.report.embedded + len(load.batch) + load.unchanged

        async def embed(texts: list[str]) -> list[Any]:
            vectors: list[Any] = []
            for start in range(0, len(texts), EMBEDDED_AT_ONCE):
                if start:
                    embedded = min(others - len(texts) + start, self.report.found)  # a batch may be embedded twice
                    self._tell(self._update(embedded=embedded))
                vectors += await self._sieve.embed(texts[start : start + EMBEDDED_AT_ONCE], needless, refuse)
            return vectors

        await self._steps.embed(load.batch, embed)
        self._leave_out(load, failures)

    async def _write(self, load: _Load) -> Stored:
        """Write a batch. If the database refuses it and does not name the document, write it in halves, to find it."""
        try:
            stored = await self._steps.write(load.batch)
            while stored is None:  # another writer has changed documents of the batch since they were looked up
                await self._embed(load)
                stored = await self._steps.write(load.batch)
            return stored
        except Exception as error:
            if not is_about_rows(error):
                raise
            refused = error
        documents = sorted(load.batch.documents)
        named = getattr(refused, "document", None)
        if named in documents or len(documents) == 1:
            key = named if named in documents else documents[0]
            self._leave_out(load, {key: failure(key, refused)})
            return await self._write(load) if load.batch.documents else Stored()
        middle = len(documents) // 2
        stored = Stored()
        for others in (documents[middle:], documents[:middle]):
            half = _Load(load.batch.without(others), 0)
            some = await self._write(half)
            load.documents += half.documents
            stored = Stored(*(one + other for one, other in zip(stored, some, strict=True)))
        return stored

    def _leave_out(self, load: _Load, failures: Mapping[str, IngestFailure]) -> None:
        if failures:
            self._failures += failures.values()
            load.batch = load.batch.without(failures)
            load.documents -= len(failures)

    def _tell_index(self, index: IndexProgress) -> None:
        self._tell(self._update(index=index, seconds=anyio.current_time() - self._started))

    def _update(self, **changes: Any) -> IngestReport:
        failures = self.report.failures
        if len(failures) < len(self._failures):
            failures = tuple(self._failures)
        self.report = replace(self.report, failures=failures, **changes)
        return self.report


def _pipe(streams: ExitStack) -> tuple[MemoryObjectSendStream[_Load], MemoryObjectReceiveStream[_Load]]:
    """A stream from one task to the next; `streams` closes both of its ends."""
    send, receive = anyio.create_memory_object_stream[_Load](AHEAD)
    return streams.enter_context(send), streams.enter_context(receive)


async def ingest(
    storage: VectorStorage,
    embed: Embed,
    source: DocumentSource,
    *,
    batch_size: int,
    chunk_size: int,
    progress: Progress | None,
) -> IngestReport:
    """Ingest documents; a new collection gets its indexes at the end."""
    run = Ingest(Loader(storage.executor, index=False), embed, progress)
    report = await run.run(source, batch_size=batch_size, chunk_size=chunk_size)
    return await run.make_index(storage) if storage.indexed else report
