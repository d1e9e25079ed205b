"""Embed the texts of a collection again with another model, while the collection is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Literal, TypeAlias

import anyio

from ..errors import ArgumentError, PreheatError, ungrouped
from ..storage import Chunk, Reembedding, VectorStorage, VectorType
from .embedders import AsyncEmbedder, Embedder, as_async, known_dimensions, vectors_of
from .refusals import naming

__all__ = ("ReembedProgress", "ReembedReport", "reembed")

PAGE = 2000
"""How many chunks one statement reads."""
PASSES = 10
"""The most rounds of catching up. After them, writers that are quicker than the model wait for the last round."""
TRIES = 5

Stage: TypeAlias = Literal["embedding", "indexing", "catching up", "switching", "done"]


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """The result of a re-embedding, complete or so far."""

    collection: str
    """The collection's name."""
    embedder: str
    """The name of the new model."""
    dimensions: int
    """The number of dimensions of the new vectors."""
    stage: Stage = "embedding"
    """The current stage. There may be several rounds of catching up with writers."""
    chunks: int = 0
    """The number of chunks at the beginning."""
    looked_at: int = 0
    """How many of the chunks have been read in this stage."""
    embedded: int = 0
    """How many texts were embedded. A text is embedded again only if it was changed meanwhile. Texts that an earlier
    run has embedded are not counted."""
    seconds: float = 0.0
    """Seconds since the beginning."""

    def as_dict(self) -> dict[str, Any]:
        """The report for logs and JSON."""
        return {
            "collection": self.collection,
            "embedder": self.embedder,
            "dimensions": self.dimensions,
            "stage": self.stage,
            "chunks": self.chunks,
            "looked_at": self.looked_at,
            "embedded": self.embedded,
            "seconds": self.seconds,
        }


ReembedProgress: TypeAlias = Callable[[ReembedReport], object]
"""A function that is called with the report so far."""


async def reembed(
    storage: VectorStorage,
    embedder: Embedder,
    *,
    vector_type: VectorType | None = None,
    batch_size: int = 256,
    progress: ReembedProgress | None = None,
) -> ReembedReport:
    """Embed the texts of a collection with another model, while the collection is searched and written to.

    A new table is filled next to the one in use, and indexed. Then one transaction replaces the old table with it, so
    that a search sees either the one or the other. From then on the collection belongs to the new model: calls with
    the former model raise :class:`EmbedderError`. Chunks that are stored, changed or deleted meanwhile are processed in
    further rounds; writers wait only for the last round.

    If the run is interrupted, the collection is unchanged, and the next run with the same model continues from there.

    Args:
        storage: the collection, open, for any model. One connection of its pool is used.
        embedder: the new model.
        vector_type: the type of the new vectors; by default that of the old ones, or `"halfvec"` above 2,000
            dimensions.
        batch_size: how many texts the model is given at once.
        progress: called with the report so far after each batch.

    Returns:
        The report. No text is embedded if the collection belongs to the new model already.

    Raises:
        ArgumentError: if `batch_size` is below 1, or a vector cannot be stored; it names the chunk.
        CollectionError: if the collection is missing, belongs to another role, or is being embedded again by another
            process.
        DimensionError: if the vectors of the model have another number of dimensions than the model says.
        ConnectError: if there is no connection, or it is lost.
        EndpointError: if an endpoint refuses a text; it names the chunk.
        Exception: whatever else the model or `progress` raises.

    Cancellation: leaves promptly. The collection is unchanged, or belongs to the new model as a whole.
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size is {batch_size}; give the model at least 1 text at a time")
    model = as_async(embedder)
    dimensions = known_dimensions(embedder) or len((await vectors_of(model, ["dimensions"]))[0])
    try:
        async with Reembedding.begin(storage.executor, embedder.name, dimensions, vector_type) as job:
            run = _Run(job, model, batch_size, progress, ReembedReport(storage.collection, embedder.name, dimensions))
            if not job.is_done:
                found = await run.to_the_end()
                if storage.embedder in (None, embedder.name):
                    storage.executor.collection.accept(found, storage.embedder)
            return run.tell(stage="done")
    except _CallersError as wrapped:
        raise wrapped.error from wrapped.error.__cause__


class _CallersError(PreheatError):
    """Wraps an error of the model or of `progress`.

    Such an error ends the run while the connection may be in use, so the connection is dropped. The wrapper tells
    :class:`Reembedding` that the connection is not the cause.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _callers_own() -> Generator[None]:
    """Wrap an error of the caller's code."""
    try:
        yield
    except Exception as error:
        raise _CallersError(error) from error


class _Run:
    """One run."""

    def __init__(
        self,
        job: Reembedding,
        model: AsyncEmbedder,
        batch_size: int,
        progress: ReembedProgress | None,
        report: ReembedReport,
    ) -> None:
        self._job = job
        self._model = model
        self._batch_size = batch_size
        self._progress = progress
        self._report = report
        self._started = perf_counter()

    def tell(self, **news: Any) -> ReembedReport:
        """Update the report, and call `progress` with it."""
        self._report = replace(self._report, seconds=perf_counter() - self._started, **news)
        if self._progress is not None:
            with _callers_own():
                self._progress(self._report)
        return self._report

    async def to_the_end(self) -> Any:
        """Fill the new table, index it, and replace the old table with it.

        Other writers change the old table until `last_look`, which holds them up. So each round finds what they have
        changed since the round before. The rounds end when one was small enough, or after :data:`PASSES`: the rest is
        embedded inside the transaction, and writers wait for that.

        The transaction may meet a deadlock, since it locks tables that other transactions have locked in another order.
        The server then rolls it back whole, and it is run again.
        """
        self.tell(chunks=await self._job.prepare())
        await self._round()
        self.tell(stage="indexing")
        await self._job.build()
        for _ in range(PASSES):
            self.tell(stage="catching up", looked_at=0)
            if await self._round() <= self._batch_size:
                break
        self.tell(stage="switching")
        for tries_left in reversed(range(TRIES)):
            try:
                async with self._job.last_look():
                    while chunks := await self._job.rest(self._batch_size):
                        await self._job.write(chunks, await self._vectors(chunks))
                    return await self._job.switch()
            except Exception as error:
                if not (tries_left and self._job.met_another(error)):
                    raise
        raise AssertionError("not reached")

    async def _round(self) -> int:
        """Read all chunks, and embed those that the new table lacks. Returns how many texts were embedded.

        While a batch is written, the next one is embedded. Reader and writer share one connection, and a lock of
        :class:`Reembedding` lets only one of them use it at a time. The stream has no buffer, so at most one batch
        waits to be written.
        """
        before = self._report.embedded
        send, receive = anyio.create_memory_object_stream[tuple[list[Chunk], Any]](0)
        with ungrouped(), send, receive:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, receive, name="preheat: write what was embedded")
                await self._read(send)
                send.close()
        return self._report.embedded - before

    async def _read(self, send: Any) -> None:
        last: str | None = None
        seen = PAGE
        while seen == PAGE:
            seen, last, chunks = await self._job.page(last, PAGE)
            looked_at = self._report.looked_at
            for start in range(0, len(chunks), self._batch_size):
                batch = chunks[start : start + self._batch_size]
                await send.send((batch, await self._vectors(batch)))
                self.tell(
                    looked_at=looked_at + seen * (start + len(batch)) // len(chunks),
                    embedded=self._report.embedded + len(batch),
                )
            if not chunks:
                self.tell(looked_at=looked_at + seen)

    async def _write(self, receive: Any) -> None:
        async for chunks, vectors in receive:
            await self._job.write(chunks, vectors)

    async def _vectors(self, chunks: Sequence[Chunk]) -> Any:
        async def embed(texts: list[str]) -> Any:
            return await vectors_of(self._model, texts, self._report.dimensions)

        with _callers_own():
            return await naming(embed, chunks)([chunk.text for chunk in chunks])
