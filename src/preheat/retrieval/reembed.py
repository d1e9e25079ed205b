"""A collection's texts, embedded again by another model, while it is in use."""

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
"""How many chunks are looked at with one statement."""
PASSES = 10
"""After so many, writers that are quicker than the model are held up for the last one."""
TRIES = 5

Stage: TypeAlias = Literal["embedding", "indexing", "catching up", "switching", "done"]


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What has been done so far, or in all."""

    collection: str
    """The collection's name."""
    embedder: str
    """The name of the model that its vectors come from then."""
    dimensions: int
    """Their number of dimensions."""
    stage: Stage = "embedding"
    """What is being done. There may be several rounds of catching up with writers."""
    chunks: int = 0
    """How many chunks the collection had at the beginning."""
    looked_at: int = 0
    """How many of them have been looked at in this stage."""
    embedded: int = 0
    """How many texts were embedded; none twice, unless it was changed meanwhile. What an earlier run has done is not
    among them."""
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
"""Is told what has been done so far."""


async def reembed(
    storage: VectorStorage,
    embedder: Embedder,
    *,
    vector_type: VectorType | None = None,
    batch_size: int = 256,
    progress: ReembedProgress | None = None,
) -> ReembedReport:
    """Embed the texts of a collection with another model, while it is searched and written to.

    A new table is filled beside the one in use, and indexed. Then it takes its place in one transaction: a search sees
    the one or the other. From then on the collection belongs to the new model; who still uses the former gets an
    :class:`EmbedderError`, and opens a storage anew. What is stored, changed and deleted meanwhile is caught up with,
    and writers wait for the last such round alone.

    If it ends before its time, whatever the reason, the collection is as it was, and the next run with the same model
    goes on where this one stopped.

    Args:
        storage: the collection, open; for whatever model. It needs one connection.
        embedder: the new model.
        vector_type: how its vectors are stored; by default as the old ones, and as `"halfvec"` above 2,000 dimensions.
        batch_size: how many texts the model is given at once.
        progress: is called with the report so far after each batch.

    Returns:
        What was done. Nothing, if the collection belongs to that model already.

    Raises:
        ArgumentError: if `batch_size` is below 1, or a vector cannot be stored; it names the chunk.
        CollectionError: if the collection is missing, is not this role's, or is being embedded again by somebody else.
        DimensionError: if the model gives vectors of another number of dimensions than it says.
        ConnectError: if there is no connection, or it is lost.
        EndpointError: if an endpoint refuses a text; it names the chunk.
        Exception: whatever else the model or `progress` raises.

    Cancellation: leaves promptly. The collection is as it was, or wholly of the new model.
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
    """What the model or `progress` has raised. It tells nothing of the connection, which may be lost because it was in
    use when this put an end to everything."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _callers_own() -> Generator[None]:
    """What is raised here is the caller's to see as it is."""
    try:
        yield
    except Exception as error:
        raise _CallersError(error) from error


class _Run:
    """One collection on its way."""

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
        """The report as it is now, which `progress` is told as well."""
        self._report = replace(self._report, seconds=perf_counter() - self._started, **news)
        if self._progress is not None:
            with _callers_own():
                self._progress(self._report)
        return self._report

    async def to_the_end(self) -> Any:
        """Fill the new table, index it, and put it in place of the other."""
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
        """Look at all chunks and embed those that the new table lacks; how many these were. While a batch is written
        the next one is embedded."""
        before = self._report.embedded
        send, receive = anyio.create_memory_object_stream[tuple[list[Chunk], Any]](0)
        with ungrouped(), send, receive:  # closed here, so that who is cancelled does not find a stream without an end
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
