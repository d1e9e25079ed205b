"""What `add` does with chunks whose ids are stored already: replace, skip, or raise an error."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from preheat import ArgumentError, Chunk, ChunkExistsError, VectorStorage

POLICIES = ("replace", "skip", "error")


def chunks(text: str, ids: Sequence[str], x: float = 1) -> list[Chunk]:
    return [Chunk(text, [x, 1], {"by": text}, f"{text}.md", 0, id) for id in ids]


async def texts(storage: VectorStorage) -> dict[str, str]:
    return {chunk.id: chunk.text async for chunk in storage.chunks()}


@pytest.mark.parametrize("policy", POLICIES)
async def test_new_chunks_are_stored_with_every_policy(dsn: str, collection: str, policy: Any) -> None:
    async with VectorStorage(dsn, collection, 2, index=False, warm="never") as storage:
        assert await storage.add(chunks("new", "ab"), on_conflict=policy) == 2
        assert await storage.add(chunks("new", "cd"), on_conflict=policy) == 2
        assert await storage.add([], on_conflict=policy) == 0
        assert await texts(storage) == dict.fromkeys("abcd", "new")


async def test_replace_is_the_default_and_replaces_the_embedding_too(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, index=False, warm="never") as storage:
        await storage.add(chunks("old", "ab"))
        assert await storage.add(chunks("new", "bc", x=3)) == 2
        assert await texts(storage) == {"a": "old", "b": "new", "c": "new"}
        (stored,) = await storage.get(["b"])
        assert (stored.embedding, stored.metadata, stored.document) == ([3, 1], {"by": "new"}, "new.md")


async def test_skip_leaves_stored_chunks_as_they_are(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, index=False, warm="never") as storage:
        await storage.add(chunks("old", "ab"))
        assert await storage.add(chunks("new", "bc", x=3), on_conflict="skip") == 1
        assert await texts(storage) == {"a": "old", "b": "old", "c": "new"}
        (stored,) = await storage.get(["b"])
        assert (stored.embedding, stored.metadata, stored.document) == ([1, 1], {"by": "old"}, "old.md")
        assert await storage.add(chunks("new", "abc"), on_conflict="skip") == 0


async def test_error_names_the_chunk_and_stores_nothing(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, index=False, warm="never") as storage:
        await storage.add(chunks("old", "c"))
        with pytest.raises(ChunkExistsError, match=r"^chunk 'c' of document 'new.md' \(index 1 of the batch\)") as told:
            await storage.add(chunks("new", "dcba"), on_conflict="error")
        assert (told.value.chunk, told.value.index, told.value.sqlstate) == ("c", 1, "23505")
        assert await texts(storage) == {"c": "old"}


async def test_two_chunks_with_one_id_in_a_batch(dsn: str, collection: str) -> None:
    batch = [*chunks("first", "ab"), *chunks("second", "b")]
    async with VectorStorage(dsn, collection, 2, index=False, warm="never") as storage:
        assert await storage.add(batch) == 2
        assert await texts(storage) == {"a": "first", "b": "second"}
        await storage.clear()
        assert await storage.add(batch, on_conflict="skip") == 2
        assert await texts(storage) == {"a": "first", "b": "first"}
        await storage.clear()
        with pytest.raises(ArgumentError, match="an earlier chunk of the batch has the same id") as told:
            await storage.add(batch, on_conflict="error")
        assert told.value.index == 2
        assert await texts(storage) == {}


async def test_another_policy_is_refused(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, warm="never") as storage:
        with pytest.raises(ArgumentError, match="on_conflict is 'ignore'; choose one of replace, skip, error"):
            await storage.add(chunks("new", "a"), on_conflict="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_batch_with_an_invalid_chunk_stores_nothing(dsn: str, collection: str, policy: Any) -> None:
    async with VectorStorage(dsn, collection, 2, index=False, warm="never") as storage:
        await storage.add(chunks("old", "a"))
        with pytest.raises(ArgumentError) as told:
            await storage.add([*chunks("new", "ab"), Chunk("zero", [0, 0], id="c")], on_conflict=policy)
        assert told.value.index == 2
        assert await texts(storage) == {"a": "old"}


@pytest.mark.parametrize("policy", POLICIES)
async def test_writers_of_the_same_ids_at_the_same_time(dsn: str, collection: str, policy: Any) -> None:
    """Each batch is stored whole, skipped or refused: with `"error"` by all writers but one."""
    ids = [str(number) for number in range(40)]
    written: list[int] = []
    refused: list[str] = []
    async with VectorStorage(dsn, collection, 2, size=6, index=False, warm="never") as storage:
        await storage.create()

        async def write(who: int) -> None:
            shuffled = random.Random(who).sample(ids, len(ids))
            try:
                written.append(await storage.add(chunks(str(who), shuffled), on_conflict=policy))
            except ChunkExistsError as error:
                refused.append(str(error.chunk))

        async with anyio.create_task_group() as tasks:
            for who in range(6):
                tasks.start_soon(write, who)
        stored = await texts(storage)
    assert sorted(stored) == sorted(ids)
    assert len(set(stored.values())) == 1  # a batch that has written one of the ids has written all
    assert Counter(written) == {"replace": {40: 6}, "skip": {40: 1, 0: 5}, "error": {40: 1}}[policy]
    assert len(refused) == (5 if policy == "error" else 0)


@asynccontextmanager
async def uncommitted(dsn: str, collection: str) -> AsyncIterator[Any]:
    """The connection of another client that has inserted the chunk `b` and not committed it."""
    async with (
        VectorStorage(dsn, collection, size=1, warm="never") as storage,
        storage.get_connection() as connection,
    ):
        await connection.execute("BEGIN")
        await connection.execute(
            f'INSERT INTO "preheat_{collection}" (id, document, position, text, metadata, embedding) '
            "VALUES ('b', '', 0, 'other', '{}', '[1, 1]')"
        )
        yield connection
        await connection.execute("ROLLBACK")


async def is_waiting(connection: Any) -> None:
    """Return when some session waits for this one."""
    blocked = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    with anyio.fail_after(20):
        while not await connection.fetch(blocked):
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_an_uncommitted_chunk_is_waited_for(dsn: str, collection: str, policy: Any, end: str) -> None:
    outcome: list[Any] = []
    async with VectorStorage(dsn, collection, 2, index=False, warm="never") as storage:
        await storage.create()

        async def add() -> None:
            try:
                outcome.append(await storage.add(chunks("new", "abc"), on_conflict=policy))
            except ChunkExistsError as error:
                outcome.append(error.chunk)

        async with uncommitted(dsn, collection) as connection, anyio.create_task_group() as tasks:
            tasks.start_soon(add)
            await is_waiting(connection)
            await connection.execute(end)
        stored = await texts(storage)
    if end == "ROLLBACK" or policy == "replace":
        assert (outcome, stored) == ([3], dict.fromkeys("abc", "new"))
    elif policy == "skip":
        assert (outcome, stored) == ([2], {"a": "new", "b": "other", "c": "new"})
    else:
        assert (outcome, stored) == (["b"], {"b": "other"})


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_cancelled_add_has_stored_nothing(dsn: str, collection: str, policy: Any) -> None:
    async with VectorStorage(dsn, collection, 2, size=2, index=False, warm="never") as storage:
        await storage.create()
        async with uncommitted(dsn, collection) as connection, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: storage.add(chunks("new", "abc"), on_conflict=policy))
            await is_waiting(connection)
            tasks.cancel_scope.cancel()
        assert await texts(storage) == {}
        assert await storage.add(chunks("new", "abc"), on_conflict=policy) == 3


@pytest.mark.parametrize("policy", ["skip", "error"])
async def test_a_chunk_that_is_deleted_meanwhile_is_stored(
    dsn: str, collection: str, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COPY meets a stored chunk, which is gone before the policy looks at it."""
    from preheat.storage.write import changing

    async with VectorStorage(dsn, collection, 2, size=2, index=False, warm="never") as storage:
        await storage.add(chunks("old", "b"))
        copied, copy = 0, changing.copy

        async def copy_then_delete(*arguments: Any) -> None:
            nonlocal copied
            copied += 1
            try:
                await copy(*arguments)
            finally:
                if copied == 1:
                    connection = arguments[1]
                    await connection.execute(f'DELETE FROM "preheat_{collection}"')

        monkeypatch.setattr(changing, "copy", copy_then_delete)
        assert await storage.add(chunks("new", "abc"), on_conflict=policy) == 3
        assert await texts(storage) == dict.fromkeys("abc", "new")
