"""Pack large batches in a worker thread, so that they do not block the event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from anyio import from_thread, to_thread

from ..._concurrency.offload import own_limiter
from ..encoding.vectors import NoDirectionError
from ..executor import Executor
from ..identifiers import check_metric
from ..models import Chunk
from ..schema.sql import collection_row

T = TypeVar("T")

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
