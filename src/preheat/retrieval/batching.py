"""Documents out of any iterable, cut into chunks and put together to batches, away from the event loop."""

from __future__ import annotations

import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio
from anyio import from_thread, to_thread
from anyio.streams.memory import MemoryObjectSendStream

from ..errors import ArgumentError, ungrouped
from ..storage import Batch, Chunk
from .documents import Document

__all__ = ("Batches", "Deliver", "DocumentSource", "Put", "read")

DocumentSource: TypeAlias = Iterable[Document] | AsyncIterable[Document]
"""Where documents come from."""
Put: TypeAlias = Callable[[object], list[Batch]]
"""Takes in what a source gives, and returns the batches that are complete with it. It is called in a worker thread."""
Deliver: TypeAlias = Callable[[Batch], Coroutine[Any, Any, None]]
"""Takes a batch on its way."""

MOST_DOCUMENTS = 256
"""How many documents a batch has at most, however small they are: each is locked while it is written."""

_END = object()

CLOSE_SECONDS = 1.0
"""How long a source is waited for once its reader has failed or was cancelled."""


class Batches:
    """Puts whole documents together, until they have so many chunks; one that has more is a batch of its own.

    Args:
        batch_size: how many chunks.
        chunk_size: the most characters of a chunk.
    """

    def __init__(self, batch_size: int, chunk_size: int) -> None:
        self._batch_size = batch_size
        self._chunk_size = chunk_size
        self._documents: dict[str, Batch] = {}
        self._chunks = 0

    def put(self, document: object, stop: Callable[[], object] = lambda: None) -> list[Batch]:
        """Cut a document, and return the batches that are complete with it, or for it: none, one or two.

        Args:
            stop: is called for each chunk; what it raises is raised.

        Raises:
            ArgumentError: if it is no document, or cannot be stored. Then nothing of it is taken in.
        """
        if not isinstance(document, Document):
            raise ArgumentError(f"{document!r:.100} is no document; let the source give preheat.Document(key, text)")
        chunks: list[Chunk] = []
        for chunk in document.cut(self._chunk_size):
            stop()
            chunks.append(chunk)
        batch = Batch(chunks, [document.key])
        full: list[Batch] = []
        too_much = bool(self._documents) and self._chunks + len(batch) > self._batch_size
        if too_much or document.key in self._documents or len(self._documents) == MOST_DOCUMENTS:
            full += self.rest()
        self._documents[document.key] = batch
        self._chunks += len(batch)
        return full + self.rest() if self._chunks >= self._batch_size else full

    def rest(self) -> list[Batch]:
        """What there is so far, if there is anything, as a batch."""
        if not self._documents:
            return []
        documents, self._documents, self._chunks = self._documents, {}, 0
        return [Batch.together(documents.values())]


async def read(source: DocumentSource, put: Put, rest: Callable[[], list[Batch]], deliver: Deliver) -> None:
    """Read the documents of a source, and deliver them as batches, each read when the one before was taken.

    A plain iterable is asked in one worker thread from its beginning to its end, so that it may read files, and use
    what belongs to the thread that has opened it. A generator is closed in there, too.

    Args:
        rest: what there is at the end.

    Raises:
        ArgumentError: if the source is none.
        Exception: whatever the source raises.

    Cancellation: the source is asked for nothing more. One that is just about to give a document is waited for, for a
    second at most; its thread closes it when it has given it.
    """
    if isinstance(source, AsyncIterable):
        async with _closing(source) as documents:
            async for document in documents:
                for batch in await to_thread.run_sync(put, document):
                    await deliver(batch)
        for batch in await to_thread.run_sync(rest):
            await deliver(batch)
    elif isinstance(source, (str, bytes, Mapping, Document)) or not hasattr(source, "__iter__"):
        raise ArgumentError(f"{source!r:.100} is no source of documents; give an iterable or an async iterable of them")
    else:
        await _Reading(source, put, rest).run(deliver)


class _Reading:
    """A plain iterable in its thread. The thread and the event loop take turns: it waits while a batch is delivered."""

    def __init__(self, source: Iterable[object], put: Put, rest: Callable[[], list[Batch]]) -> None:
        self._source = source
        self._put = put
        self._rest = rest
        self._delivered = threading.Semaphore(0)
        self._change = threading.Lock()
        self._running = False
        self._left = False
        self._ended = threading.Event()

    async def run(self, deliver: Deliver) -> None:
        """Read it to its end."""
        send, receive = anyio.create_memory_object_stream[Batch](1)
        with ungrouped(), send, receive:
            async with anyio.create_task_group() as group:
                group.start_soon(self._work, send, name="preheat: a thread reads documents")
                async for batch in receive:
                    await deliver(batch)
                    self._delivered.release()

    async def _work(self, send: MemoryObjectSendStream[Batch]) -> None:
        try:
            await to_thread.run_sync(
                self._work_in_thread, send, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )
        finally:
            with self._change:
                self._left = True
                running = self._running
            self._delivered.release()
            if running:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(self._ended.wait, CLOSE_SECONDS, limiter=anyio.CapacityLimiter(1))
        send.close()

    # In the thread

    def _work_in_thread(self, send: MemoryObjectSendStream[Batch]) -> None:
        with self._change:
            if self._left:
                return
            self._running = True
        try:
            self._read(send)
        finally:
            with self._change:
                self._running = False
            self._ended.set()

    def _read(self, send: MemoryObjectSendStream[Batch]) -> None:
        iterator = iter(self._source)
        try:
            while not self._left:
                document = next(iterator, _END)
                if document is _END:
                    self._hand_over(self._rest(), send)
                    return
                self._hand_over(self._put(document), send)
        finally:
            if isinstance(iterator, Generator):  # so that it closes what it has open, wherever it stopped
                iterator.close()

    def _hand_over(self, batches: list[Batch], send: MemoryObjectSendStream[Batch]) -> None:
        for batch in batches:
            if not self._left:
                from_thread.run_sync(send.send_nowait, batch)
                self._delivered.acquire()


@asynccontextmanager
async def _closing(source: AsyncIterable[Any]) -> AsyncGenerator[AsyncIterator[Any]]:
    """The iterator of an async iterable; an async generator is closed at the end, wherever it stopped."""
    iterator = aiter(source)
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await iterator.aclose()
