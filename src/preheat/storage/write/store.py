"""Store chunks in a collection, and delete them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar, get_args
from uuid import UUID

from ...errors import ArgumentError, DatabaseError, ItemError
from ...pools import Row
from ..encoding.jsonb import json_text
from ..executor import Executor, Statement, rerun
from ..filters.everything import passes_everything
from ..filters.folding import ALWAYS
from ..filters.sql import NOTHING, Condition, condition
from ..filters.tree import FilterLike, with_scope
from ..models import Chunk, OnConflict, Upserted
from ..schema.diagnosis import CHANGES, DELETES, Rights
from ..sqlstates import INVALID_SCHEMA, LIMIT_EXCEEDED, UNDEFINED_TABLE, sqlstate
from ..validation import about
from . import changing
from . import sql as statements
from .batch import Batch
from .chunks import as_chunks, list_of, too_long
from .loading import Embed, Loader, in_thread, is_quick, packed

T = TypeVar("T")


async def add(
    executor: Executor, chunks: Iterable[Chunk], on_conflict: OnConflict = "replace", replacing: str | None = None
) -> int:
    """See :meth:`preheat.VectorStorage.add`.

    Args:
        replacing: the key of the document of which these chunks are the whole content.
    """
    if on_conflict not in get_args(OnConflict):
        raise ArgumentError(f"on_conflict is {on_conflict!r}; choose one of {', '.join(get_args(OnConflict))}")
    given, batch = await _worked(partial(_sorted, replacing, on_conflict), list_of(chunks))
    if not batch:
        if replacing is not None:
            await delete(executor, None, replacing, None)
        return 0
    try:
        return await _store(executor, batch, on_conflict, replacing)
    except ItemError as error:
        if error.chunk is not None:
            indexes = [index for index, chunk in enumerate(given) if chunk.id == error.chunk]
            error.index = indexes[0 if on_conflict == "skip" else -1]
        raise
    except DatabaseError as error:
        if error.sqlstate == LIMIT_EXCEEDED and (told := too_long(given)) is not None:
            raise told from error
        raise


async def _store(executor: Executor, batch: list[Chunk], on_conflict: OnConflict, replacing: str | None) -> int:
    known = executor.collection
    dimensions = known.dimensions or await executor.create()
    pieces: list[bytes] = []
    packed_as = known.stored_as
    if executor.embedder not in known.checked_for:
        pieces = await packed(executor, lambda: changing.packed_rows(known, batch, dimensions), quick=is_quick(batch))
        await executor.make()

    def rows() -> Iterable[bytes]:
        return pieces if pieces and packed_as == known.stored_as else changing.packed_rows(known, batch, dimensions)

    async def run(alone: bool) -> int:
        merge = partial(
            changing.merge, known, batch=batch, rows=rows, replacing=replacing, on_conflict=on_conflict, alone=alone
        )
        return await executor.run(merge)

    return await rerun(run, executor.make)


async def upsert(executor: Executor, chunks: Iterable[Chunk], embed: Embed | None) -> Upserted:
    """See :meth:`preheat.VectorStorage.upsert`."""
    batch = await _worked(partial(Batch, embeds=embed is not None), list_of(chunks))
    stored = await Loader(executor).store(batch, embed)
    return Upserted(stored.added, stored.changed, stored.unchanged)


async def replace_document(executor: Executor, document: str, chunks: Iterable[Chunk], embed: Embed | None) -> int:
    """See :meth:`preheat.VectorStorage.replace_document`."""
    if embed is None:
        return await add(executor, chunks, replacing=document)
    loaded = await _worked(lambda given: Batch(_of_document(document, given), [document]), list_of(chunks))
    await Loader(executor).store(loaded, embed)
    return len(loaded)


async def delete(
    executor: Executor, ids: Sequence[str | UUID] | None, document: str | None, filter: FilterLike | None
) -> int:
    """See :meth:`preheat.VectorStorage.delete`."""
    where = check_delete(ids, document, filter)
    if where.sql == NOTHING:
        return 0

    rows = await _written(executor, partial(statements.delete, condition=where.sql), where.parameters, DELETES)
    return int(rows[0]["gone"]) if rows else 0


async def update_metadata(
    executor: Executor,
    metadata: Mapping[str, Any],
    ids: Sequence[str | UUID] | None,
    document: str | None,
    filter: FilterLike | None,
    *,
    replace: bool,
) -> int:
    """See :meth:`preheat.VectorStorage.update_metadata`."""
    if not isinstance(metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"the metadata is {metadata!r:.100}; give a dict")
    given = json_text("metadata", dict(metadata))
    if ids is None and document is None and filter is None:
        raise ArgumentError("update_metadata needs ids, document or filter; give filter={} for all chunks")
    where = condition(with_scope(filter, ids, document), 2) or Condition("", ())
    if where.sql == NOTHING:
        return 0
    write = partial(statements.update_metadata, condition=where.sql, replaces=replace)
    rows = await _written(executor, write, (given, *where.parameters), CHANGES)
    return int(rows[0]["written"]) if rows else 0


async def _written(executor: Executor, write: Statement, values: Sequence[Any], rights: Rights) -> Sequence[Row]:
    """Run a statement that changes rows wherever they are, in one round trip. If another writer was in the way, it runs
    again without other writers."""

    async def run(alone: bool) -> Sequence[Row]:
        if alone:
            return await executor.run(partial(changing.alone, executor.collection, write=write, values=values), rights)
        return await executor.fetch(write, *values, rights=rights)

    return await rerun(run)


async def clear(executor: Executor) -> int:
    """See :meth:`preheat.VectorStorage.clear`."""
    if executor.collection.dimensions is None:
        await executor.create()
    try:
        return await rerun(lambda _: executor.run(partial(changing.clear, executor.collection), DELETES))
    except Exception as error:
        if sqlstate(error) not in (UNDEFINED_TABLE, INVALID_SCHEMA):
            raise
        return 0


async def drop(executor: Executor) -> bool:
    """See :meth:`preheat.VectorStorage.drop`."""
    return await rerun(lambda _: executor.run(partial(changing.drop, executor.collection)))


async def _worked(work: Callable[[list[Chunk]], T], given: list[Chunk]) -> T:
    """What `work` makes of a batch, in a thread if that takes long."""
    return work(given) if is_quick(given) else await in_thread(partial(work, given))


def _sorted(document: str | None, on_conflict: OnConflict, given: list[Chunk]) -> tuple[list[Chunk], list[Chunk]]:
    """The chunks of a batch, and those to store, one for each id.

    All writers store in the order of the ids. So of two writers with the same ids the second waits for the first, and
    they do not deadlock.
    """
    chunks = _of_document(document, given)
    by_id = {chunk.id: chunk for chunk in (reversed(chunks) if on_conflict == "skip" else chunks)}
    if on_conflict == "error" and len(by_id) < len(chunks):
        seen: set[str] = set()
        for index, chunk in enumerate(chunks):
            if chunk.id in seen:
                error = ArgumentError("an earlier chunk of the batch has the same id; give each an id of its own")
                raise about(error, chunk, index)
            seen.add(chunk.id)
    return chunks, sorted(by_id.values(), key=attrgetter("id"))


def _of_document(document: str | None, given: list[Chunk]) -> list[Chunk]:
    """The chunks of a batch, if they belong to the document; None for any."""
    chunks = as_chunks(given)
    for index, chunk in enumerate(chunks):
        if document is not None and chunk.document != document:
            words = f"it belongs to document {chunk.document!r}, not to {document!r}"
            raise about(ArgumentError(f"{words}; replace each document by its own chunks"), chunk, index)
    return chunks


def check_delete(ids: Sequence[str | UUID] | None, document: str | None, filter: FilterLike | None) -> Condition:
    """The condition on the chunks to delete.

    Raises:
        ArgumentError: as :meth:`preheat.VectorStorage.delete`.
    """
    if sum(given is not None for given in (ids, document, filter)) != 1:
        raise ArgumentError("delete takes either ids, document or filter; give one of them")
    tree = with_scope(filter, ids, document)
    where = None if filter is not None and passes_everything(tree) else condition(tree, 1)
    if where is None:
        what = "an empty filter" if tree == ALWAYS else "the filter is as good as an empty one: it"
        raise ArgumentError(
            f"{what} passes every chunk, and delete would leave none; say which chunks are to go, "
            "or use clear() to delete all of them"
        )
    return where
