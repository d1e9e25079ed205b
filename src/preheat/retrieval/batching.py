"""Documents out of any iterable, cut into chunks and put together to batches, away from the event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio
from anyio import from_thread, to_thread

from ..errors import ArgumentError
from ..storage import Chunk
from ..storage.batch import Batch
from .documents import Document

__all__ = ("Batches", "DocumentSource", "batches")

DocumentSource: TypeAlias = Iterable[Document] | AsyncIterable[Document]
"""Where documents come from."""

MOST_DOCUMENTS = 256
"""How many documents a batch has at most, however small they are: each is locked while it is written."""

CLOSE_SECONDS = 1.0


class Batches:
    """Puts whole documents together, until they have so many chunks; one that has more is a batch of its own.

    Args:
        size: how many chunks.
        characters: the most characters of a chunk.
    """

    def __init__(self, size: int, characters: int) -> None:
        self._size = size
        self._characters = characters
        self._chunks: list[Chunk] = []
        self._keys: set[str] = set()

    def put(self, document: object) -> list[Batch]:
        """Cut a document, and return the batches that are complete with it, or for it: none, one or two.

        Raises:
            ArgumentError: if it is no document, or cannot be stored.
        """
        if not isinstance(document, Document):
            raise ArgumentError(f"{document!r} is no document; let the source give preheat.Document(key, text)")
        chunks = document.chunks(self._characters)
        full: list[Batch] = []
        too_much = bool(self._keys) and len(self._chunks) + len(chunks) > self._size
        if too_much or document.key in self._keys or len(self._keys) == MOST_DOCUMENTS:
            full += self.rest()
        self._keys.add(document.key)
        self._chunks += chunks
        return full + self.rest() if len(self._chunks) >= self._size else full

    def rest(self) -> list[Batch]:
        """What there is so far, if there is anything, as a batch."""
        if not self._keys:
            return []
        chunks, keys, self._chunks, self._keys = self._chunks, self._keys, [], set()
        return [Batch(chunks, keys)]


async def batches(source: DocumentSource, size: int, characters: int) -> AsyncGenerator[Batch]:
    """The documents of a source as batches, each made when it is asked for.

    A plain iterable is asked in worker threads, so that it may read files; it is asked for nothing more once whoever
    waits for it is cancelled, which waits for the document that it is just about to give.

    Raises:
        ArgumentError: if the source is none, or gives something else than documents.
        Exception: whatever the source raises.
    """
    put_together = Batches(size, characters)
    if isinstance(source, AsyncIterable):
        async with _closing(source) as documents:
            async for document in documents:
                for batch in await to_thread.run_sync(put_together.put, document):
                    yield batch
        for batch in await to_thread.run_sync(put_together.rest):
            yield batch
        return
    if not isinstance(source, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"{source!r} is no source of documents; give an iterable or an async iterable of them")
    iterator = iter(source)

    def fill() -> tuple[list[Batch], bool]:
        """In a thread."""
        for document in iterator:
            from_thread.check_cancelled()
            if full := put_together.put(document):
                return full, False
        return put_together.rest(), True

    try:
        ended = False
        while not ended:
            full, ended = await to_thread.run_sync(fill)
            for batch in full:
                yield batch
    finally:
        if isinstance(iterator, Generator):  # so that it closes what it has open, wherever it stopped
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(iterator.close)


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
