"""Read documents from any iterable, cut them into chunks and group these into batches, in worker threads."""

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
from concurrent import futures
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import anyio
from anyio import from_thread, to_thread
from anyio.lowlevel import current_token
from anyio.streams.memory import MemoryObjectSendStream

from .._concurrency.daemon_thread import run_in_daemon_thread
from ..errors import ArgumentError, ungrouped
from ..storage import Batch, Chunk
from .documents import Document, cut

__all__ = ("Batches", "Deliver", "DocumentSource", "Put", "read")

DocumentSource: TypeAlias = Iterable[Document] | AsyncIterable[Document]
"""A source of documents."""
Put: TypeAlias = Callable[[object, Callable[[], None]], list[Batch]]
"""Takes one item of a source and returns the batches that it completes. It is called in a worker thread, with a
function that raises if the reader was cancelled."""
Deliver: TypeAlias = Callable[[Batch], Coroutine[Any, Any, None]]
"""Passes a batch on."""

MOST_DOCUMENTS = 256
"""The most documents of a batch: each document of a batch is locked while the batch is written."""

_END = object()

CLOSE_SECONDS = 1.0
"""How long to wait for a source after its reader has failed or was cancelled."""


class Batches:
    """Groups whole documents into batches. A document that is larger than a batch becomes a batch of its own.

    Args:
        batch_size: about how many chunks a batch has.
        chunk_size: the most characters of a chunk.
    """

    def __init__(self, batch_size: int, chunk_size: int) -> None:
        self._batch_size = batch_size
        self._chunk_size = chunk_size
        self._documents: dict[str, Batch] = {}
        self._chunks = 0

    def put(self, document: object, stop: Callable[[], object] = lambda: None) -> list[Batch]:
        """Cut a document, and return the batches that are complete now: none, one or two.

        Args:
            stop: called for each chunk; it may raise to stop the cutting.

        Raises:
            ArgumentError: if `document` is not a document, or cannot be stored. No batch has any of it then.
        """
        if not isinstance(document, Document):
            raise ArgumentError(f"{document!r:.100} is not a document; let the source give preheat.Document(key, text)")
        chunks: list[Chunk] = []
        for chunk in cut(document, self._chunk_size):
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
        """The batch that is not complete yet, unless it is empty."""
        if not self._documents:
            return []
        documents, self._documents, self._chunks = self._documents, {}, 0
        return [Batch.together(documents.values())]


async def read(source: DocumentSource, put: Put, rest: Callable[[], list[Batch]], deliver: Deliver) -> None:
    """Read the documents of a source, and deliver them in batches. While a batch is delivered, nothing is read.

    A plain iterable is read from its beginning to its end in one worker thread, so that it may read files, and use
    objects that are bound to the thread that made them. A generator is closed in the same thread.

    Args:
        rest: gives the last batch when the source has ended.

    Raises:
        ArgumentError: if `source` is not a source of documents.
        Exception: whatever the source raises.

    Cancellation: nothing more is read. If the source is just producing a document, the reader waits for it, for a
    second at most; after that the thread closes the source by itself.
    """
    if isinstance(source, AsyncIterable):
        async with _closing(source) as documents:
            async for document in documents:
                for batch in await to_thread.run_sync(put, document, from_thread.check_cancelled):
                    await deliver(batch)
        for batch in await to_thread.run_sync(rest):
            await deliver(batch)
    elif isinstance(source, (str, bytes, Mapping, Document)) or not hasattr(source, "__iter__"):
        raise ArgumentError(
            f"{source!r:.100} is not a source of documents; give an iterable or an async iterable of them"
        )
    else:
        await _Reading(source, put, rest).run(deliver)


class _AbandonedError(BaseException):
    """Ends the thread of a cancelled reader. It is not an Exception, so that it does not count as a failed document."""


class _Reading:
    """Reads a plain iterable in a thread, which does not delay the end of the process if the source blocks.

    The thread and the event loop never work at the same time. The thread sends a batch and waits for `_delivered`; the
    event loop delivers the batch and releases `_delivered`. So the stream is empty whenever the thread sends, and
    `send_nowait` cannot fail for a lack of room.
    """

    def __init__(self, source: Iterable[object], put: Put, rest: Callable[[], list[Batch]]) -> None:
        self._source = source
        self._put = put
        self._rest = rest
        self._delivered = threading.Semaphore(0)
        self._in_thread: Future[None] = Future()
        self._is_abandoned = False
        self._loop = current_token()

    async def run(self, deliver: Deliver) -> None:
        """Read the source to its end."""
        send, receive = anyio.create_memory_object_stream[Batch](1)
        with ungrouped(), send, receive:
            async with anyio.create_task_group() as group:
                group.start_soon(self._work, send, name="preheat: a thread reads documents")
                async for batch in receive:
                    await deliver(batch)
                    self._delivered.release()

    async def _work(self, send: MemoryObjectSendStream[Batch]) -> None:
        try:
            await run_in_daemon_thread(partial(self._work_in_thread, send))
        finally:
            # The flag is set before the release. So a thread that waits for a delivery, now or later, wakes up, sees
            # the flag and stops. A thread that has not begun never does, as its future is cancelled.
            self._is_abandoned = True
            self._delivered.release()
            if not (self._in_thread.cancel() or self._in_thread.done()):
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(
                        futures.wait, [self._in_thread], CLOSE_SECONDS, limiter=anyio.CapacityLimiter(1)
                    )
        send.close()

    # In the thread

    def _work_in_thread(self, send: MemoryObjectSendStream[Batch]) -> None:
        if self._in_thread.set_running_or_notify_cancel():
            try:
                self._read(send)
            finally:
                self._in_thread.set_result(None)

    def _read(self, send: MemoryObjectSendStream[Batch]) -> None:
        iterator = iter(self._source)
        try:
            while not self._is_abandoned:
                document = next(iterator, _END)
                if document is _END:
                    self._hand_over(self._rest(), send)
                    return
                self._hand_over(self._put(document, self._check), send)
        finally:
            if isinstance(iterator, Generator):  # so that it closes what it has open, wherever it stopped
                iterator.close()

    def _check(self) -> None:
        if self._is_abandoned:
            raise _AbandonedError

    def _hand_over(self, batches: list[Batch], send: MemoryObjectSendStream[Batch]) -> None:
        for batch in batches:
            if not self._is_abandoned:
                from_thread.run_sync(send.send_nowait, batch, token=self._loop)
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
