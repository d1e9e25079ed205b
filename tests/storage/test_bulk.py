"""Bulk loads: an index that is made afterwards, and batches that meet rows that are there."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from preheat import HNSW, ArgumentError, Chunk, IndexProgress, VectorStorage
from preheat.storage import indexing
from preheat.storage.schema import index_sql

VECTOR = [1.0, 0.0, 0.0]


def chunks(first: int, last: int, word: str = "text") -> list[Chunk]:
    return [
        Chunk(f"{word} {number}", [1.0, float(number), 0.0], {}, "a.md", number, id=f"{number:03}")
        for number in range(first, last)
    ]


async def indexes(storage: VectorStorage) -> list[str]:
    async with storage.pool.lease() as lease:
        rows = await lease.fetch(
            "SELECT indexdef FROM pg_indexes WHERE tablename = $1 AND indexdef LIKE '%hnsw%'",
            f"preheat_{storage.collection}",
        )
        return [row["indexdef"] for row in rows]


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
async def test_the_index_can_be_made_after_a_bulk_load(dsn: str, collection: str, metric: str) -> None:
    async with VectorStorage(dsn, collection, 3, metric=metric, index=False) as storage:  # type: ignore[arg-type]
        await storage.add(chunks(0, 100))
        assert await indexes(storage) == []
        before = await storage.search(VECTOR, 3)

        await storage.create_index()
        await storage.create_index()

        assert len(await indexes(storage)) == 1
        assert [hit.id for hit in await storage.search(VECTOR, 3)] == [hit.id for hit in before]


async def test_a_batch_with_new_and_stored_ids_replaces_these_and_adds_those(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.add(chunks(0, 10))

        assert await storage.add(chunks(5, 15, "newer")) == 10

        stored = await storage.get([f"{number:03}" for number in range(15)])
        assert [chunk.text.split()[0] for chunk in stored] == ["text"] * 5 + ["newer"] * 10


async def test_a_document_takes_the_ids_of_another_document(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.add([Chunk("old", VECTOR, {}, "b.md", 0, id="001")])

        await storage.replace_document("a.md", chunks(0, 3))

        assert [chunk.document for chunk in await storage.get(["000", "001", "002"])] == ["a.md"] * 3
        assert await storage.count() == 3


async def test_batches_with_the_same_ids_at_the_same_time_never_wait_for_each_other(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, size=8) as storage:
        await storage.create()
        async with anyio.create_task_group() as tasks:
            for writer in range(8):
                batch = chunks(0, 60, f"writer{writer}")
                tasks.start_soon(storage.add, batch[writer:] + batch[:writer][::-1])

        stored = await storage.get([f"{number:03}" for number in range(60)])
        assert len(stored) == 60
        assert len({chunk.text.split()[0] for chunk in stored[8:]}) == 1


STEPS = ["the words of the texts", "the index of the words", "the index of the metadata", "the index of the vectors"]


@pytest.mark.parametrize("size", [1, 2])
async def test_the_making_of_indexes_can_be_watched(
    dsn: str, collection: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a second connection the server is asked how far it is; without, what is being made is all that is told."""
    monkeypatch.setattr("preheat.storage.indexing.LOOK_SECONDS", 0.001)
    seen: list[IndexProgress] = []
    vectors = np.random.default_rng(1).standard_normal((1500, 64), dtype=np.float32)
    hnsw = HNSW(m=32, ef_construction=200)  # so that it takes a while
    async with VectorStorage(dsn, collection, 64, size=size, index=False) as storage:
        assert not await storage.lacks_index()
        await storage.add(Chunk(f"text {n}", vector) for n, vector in enumerate(vectors))
        assert await storage.lacks_index()
    async with VectorStorage(dsn, collection, 64, size=size, index=hnsw) as storage:
        await storage.create_index(progress=seen.append)
        assert not await storage.lacks_index()

        assert list(dict.fromkeys(one.step for one in seen)) == STEPS
        assert all(0 <= one.done <= one.total for one in seen if one.phase)
        assert any(one.phase for one in seen) == (size > 1)
        assert seen[0].as_dict() == {"step": STEPS[0], "phase": "", "done": 0, "total": 0, "notice": ""}

        seen.clear()
        await storage.create_index(progress=seen.append)
        assert seen == []


async def test_a_progress_that_raises_ends_the_making_of_indexes(dsn: str, collection: str) -> None:
    def progress(_: IndexProgress) -> None:
        raise KeyError("progress")

    async with VectorStorage(dsn, collection, 3, index=False) as storage:
        await storage.add(chunks(0, 3))
        with pytest.raises(KeyError, match="progress"):
            await storage.create_index(progress=progress)
        await storage.create_index()


async def test_indexes_that_are_made_twice_at_the_same_time_are_made_once(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, index=False) as storage:
        await storage.add(chunks(0, 100))
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(storage.create_index)
        assert len(await indexes(storage)) == 1


async def test_who_cannot_look_how_far_it_is_does_not_end_it(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preheat.storage.schema.index_sql.index_progress", lambda: "SELECT nonsense")
    seen: list[IndexProgress] = []
    async with VectorStorage(dsn, collection, 3, index=False) as storage:
        await storage.add(chunks(0, 3))
        await storage.create_index(progress=seen.append)
        assert [one.step for one in seen] == STEPS


async def test_the_memory_for_the_index_is_estimated_and_a_notice_that_it_is_too_small_is_reported(
    dsn: str, collection: str, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = np.random.default_rng(1).standard_normal((1500, 64), dtype=np.float32)
    seen: list[IndexProgress] = []
    small = f"{dsn}&maintenance_work_mem=1MB"
    async with VectorStorage(small, collection, 64, size=1, index=False) as storage:
        await storage.add(Chunk(f"text {n}", vector) for n, vector in enumerate(vectors))
        await storage.create_index(progress=seen.append)
        assert [one.notice for one in seen if one.notice] == []

        async with storage.get_connection() as connection:
            assert await connection.fetchval("SHOW maintenance_work_mem") == "1MB", "it was set for the index alone"
            await connection.execute(f'DROP INDEX "preheat_{collection}.embedding"')
        await storage.create_index(progress=seen.append, memory="1MB")
    (notice,) = [one for one in seen if one.notice]
    assert notice.step == STEPS[-1]
    assert "no longer fits into maintenance_work_mem" in notice.notice
    assert notice.notice in caplog.text


@pytest.mark.parametrize(
    ("rows", "session", "machine", "expected"),
    [(100, "1MB", "4GB", "1599kB"), (100, "64MB", "4GB", "64MB"), (5000, "1MB", "8MB", "2MB")],
    ids=["the estimate", "at least what the session has", "at most a quarter of the machine"],
)
async def test_the_memory_for_the_index_has_bounds(
    dsn: str, collection: str, rows: int, session: str, machine: str, expected: str
) -> None:
    settings = f"{dsn}&maintenance_work_mem={session}&effective_cache_size={machine}"
    async with VectorStorage(settings, collection, 3, size=1, index=False) as storage:
        await storage.add(chunks(0, rows))
        statement = index_sql.set_memory(storage.executor.collection.identifiers, 1000, "vector", 16)
        assert (await storage.pool.fetch(statement))[0]["memory"] == expected


async def test_without_shared_memory_one_process_creates_the_index(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    workers = index_sql.without_workers()
    monkeypatch.setattr(index_sql, "without_workers", lambda: (tried.append("alone"), workers)[1])
    failing = (
        "DO $$ BEGIN IF current_setting('max_parallel_maintenance_workers') <> '0' THEN "
        "RAISE EXCEPTION 'could not resize shared memory segment' USING ERRCODE = '53100'; END IF; END $$"
    )
    create = indexing.create_indexes
    monkeypatch.setattr(
        indexing, "create_indexes", lambda *args: (*create(*args)[:-1], f"{failing}; {create(*args)[-1]}")
    )
    async with VectorStorage(dsn, collection, 3, index=False) as storage:
        await storage.add(chunks(0, 3))
        await storage.create_index()
        assert not await storage.lacks_index()
    assert tried == ["alone"]


async def test_memory_that_is_not_a_size_is_refused(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        for memory in ("", "2", "2 gigabytes", "-1GB", 3):
            with pytest.raises(ArgumentError, match="such as '512MB' or '2GB'"):
                await storage.create_index(memory=memory)  # type: ignore[arg-type]
