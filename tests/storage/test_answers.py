"""The table of answers and its locks against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import numpy as np
import pytest
from tests.support.answers import TRYING
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

from preheat import ArgumentError, DatabaseError, VectorStorage, open_pool
from preheat.storage.answers import locks as answer_locks
from preheat.storage.answers import sql
from preheat.storage.answers.table import answer_key, answer_text, normalized
from preheat.testing import FakePool, cancel_everywhere

ADVISORY = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND granted"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Why  is\tthe sky\nblue?", " why is the SKY blue? ", True),
        ("caf\u00e9", "CAFE\u0301", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("a\u00a0b", "a b", True),
        ("10\u00b2", "102", False),
        ("\u00bd", "1/2", False),
        ("C++?", "C?", False),
        ("really?", "really!", False),
        ("ab", "a b", False),
    ],
)
def test_normalization_decides_which_questions_are_the_same(one: str, other: str, same: bool) -> None:
    assert (normalized(one) == normalized(other)) is same
    assert (answer_key("s", "m", one) == answer_key("s", "m", other)) is same
    assert normalized(normalized(one)) == normalized(one)


def test_keys_of_different_places_differ() -> None:
    keys = {answer_key(*place, "q") for place in (("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"), ('a", "b', ""))}
    assert len(keys) == 5


def test_an_answer_travels_as_ascii() -> None:
    assert answer_text("\0é\ud800") == '"\\u0000\\u00e9\\ud800"'
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ArgumentError, match="not JSON"):
        answer_text(nested)


async def put(storage: VectorStorage, key: str, question: str = "q", ttl: float | None = None) -> None:
    await storage.answer_table.store(key, "s", "m", question, [1.0, 0.0], "1", ttl)


async def test_many_who_store_the_first_answer_at_once_all_succeed(
    server: Server, database: str, collection: str
) -> None:
    """In a database that has no pgvector yet either."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(VectorStorage(server.dsn(database), collection, 2, size=2))
            for _ in range(8)
        ]
        assert await opened[0].answer_table.exact("k0") is None
        assert await opened[0].answer_table.nearest([1, 0], "s", "m", 0.5, 9) == []
        async with anyio.create_task_group() as tasks:
            for number, storage in enumerate(opened):
                tasks.start_soon(put, storage, f"k{number}")
        assert len(await opened[0].answer_table.nearest([1, 0], "s", "m", 0.5, 9)) == 8


class SlowPool:
    """A pool on which something happens between the failure of a statement and its report."""

    def __init__(self, pool: Any, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._pool = pool
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def fetch(self, query: str, *args: Any) -> Any:
        try:
            return await self._pool.fetch(query, *args)
        except DatabaseError:
            await self._meanwhile()
            raise


async def test_a_table_that_another_store_makes_meanwhile_is_used(dsn: str, collection: str) -> None:
    async with open_pool(dsn, size=2) as pool, VectorStorage(pool, collection, 2) as first:
        slow: Any = SlowPool(pool, lambda: put(first, "first"))
        async with VectorStorage(slow, collection, 2) as second:
            await put(second, "second")
        assert len(await first.answer_table.nearest([1, 0], "s", "m", 0.5, 9)) == 2


async def test_stores_that_sweep_at_once_do_not_wait_for_each_other(dsn: str, collection: str) -> None:
    """Each stores what the others would sweep."""
    async with VectorStorage(dsn, collection, 2) as storage:
        for number in range(10):
            await put(storage, f"k{number}", ttl=1e-6)
        for _ in range(10):
            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(put, storage, f"k{number}", "q", 1e-6)
        assert await storage.answer_table.sweep() <= 10


async def test_vectors_of_another_length_or_of_none_are_far(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        table = storage.answer_table
        await table.store("a", "s", "m", "two", [1.0, 0.0], "1", None)
        await table.store("b", "s", "m", "three", [1.0, 0.0, 0.0], "1", None)
        await table.store("c", "s", "m", "zero", [0.0, 0.0], "1", None)
        for vector, found in (([1, 0], ["two"]), ([1, 0, 0], ["three"]), ([1, 0, 0, 0], []), ([0, 0], [])):
            assert [one.question for one in await table.nearest(vector, "s", "m", 0.1, 9)] == found


async def test_a_lock_is_held_by_one_at_a_time_and_handed_on(dsn: str, collection: str) -> None:
    held = most = done = 0
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(VectorStorage(dsn, collection, 2, size=2)) for _ in range(3)]

        async def hold(storage: VectorStorage) -> None:
            nonlocal held, most, done
            async with storage.answer_table.locked("key") as is_held:
                assert is_held
                held += 1
                most = max(most, held)
                await until(others_have_tried)
                held -= 1
                done += 1

        async def others_have_tried() -> bool:
            return (await opened[0].pool.fetch(TRYING))[0]["n"] >= 3 - done

        async with anyio.create_task_group() as tasks:
            for storage in opened:
                tasks.start_soon(hold, storage)
        assert (most, done) == (1, 3)
        await nothing_is_held(opened[0])


async def nothing_is_held(storage: VectorStorage) -> None:
    """Locks are given back in the background, and all of the connections with them."""

    async def no_locks() -> bool:
        return not (await storage.pool.fetch(ADVISORY))[0]["n"]

    await until(no_locks)
    with anyio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            for _ in range(storage.pool.size):
                await stack.enter_async_context(storage.get_connection())


async def test_many_locks_take_one_connection(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, size=3) as storage:

        async def hold(number: int) -> None:
            async with storage.answer_table.locked(f"key {number}") as is_held:
                assert is_held
                here.append(number)
                await everybody.wait()

        here: list[int] = []
        everybody = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(hold, number)
            await until(lambda: len(here) == 20)
            rows = await storage.pool.fetch("SELECT count(DISTINCT pid) AS n FROM pg_locks WHERE locktype = 'advisory'")
            assert rows[0]["n"] == 1
            async with storage.get_connection(), storage.get_connection():
                pass  # the others are free
            everybody.set()
        await nothing_is_held(storage)


@pytest.mark.parametrize("how", ["scope", "native"])
@pytest.mark.parametrize("contended", [False, True])
async def test_a_holder_that_is_cancelled_anywhere_leaves_no_lock_behind(
    dsn: str, collection: str, how: Any, contended: bool
) -> None:
    async with (
        VectorStorage(dsn, collection, 2, size=2) as storage,
        VectorStorage(dsn, collection, 2, size=2) as other,
    ):

        async def hold() -> None:
            async with storage.answer_table.locked("key"):
                await anyio.lowlevel.checkpoint()

        async def attempt() -> None:
            try:
                await hold()
            finally:
                with anyio.CancelScope(shield=True):
                    await nothing_is_held(storage)

        if contended:
            async with other.answer_table.locked("key") as is_held:
                assert is_held
                for wait in (0, 0.001, 0.01, 0.05):
                    with anyio.move_on_after(wait):
                        await hold()
            await nothing_is_held(other)
        else:
            assert (await cancel_everywhere(attempt, how=how)).points >= 2


async def test_the_wait_for_a_lock_is_bounded(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answer_locks, "LOCK_SECONDS", 0.2)
    async with VectorStorage(dsn, collection, 2) as one, VectorStorage(dsn, collection, 2) as two:
        async with one.answer_table.locked("key") as first, two.answer_table.locked("key") as second:
            assert (first, second) == (True, False)
        assert "no lock within 0.2 s" in caplog.text
        await nothing_is_held(one)


async def test_a_lost_lease_loses_no_holder(dsn: str, collection: str, caplog: pytest.LogCaptureFixture) -> None:
    async with VectorStorage(dsn, collection, 2, size=3) as storage:
        async with storage.answer_table.locked("key") as is_held:
            assert is_held
            await storage.pool.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            async with storage.answer_table.locked("other") as is_held:
                assert not is_held
        assert "going on without locks" in caplog.text
        async with storage.answer_table.locked("key") as is_held:
            assert is_held
        await nothing_is_held(storage)


async def test_behind_a_pooler_there_are_no_locks(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pooler gives its clients process ids of its own."""
    caplog.set_level("INFO")
    monkeypatch.setattr("preheat.pools.asyncpg.adapter.AsyncpgLease.pid", 1)
    async with VectorStorage(dsn, collection, 2) as storage:
        for _ in range(2):
            async with storage.answer_table.locked("key") as is_held:
                assert not is_held
        await nothing_is_held(storage)
    assert caplog.text.count("its sessions are a pooler's") == 1


@pytest.mark.parametrize("size", [1, 2])
async def test_a_pool_with_no_connection_to_spare_has_no_locks(size: int, collection: str) -> None:
    pool = FakePool(size)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(VectorStorage(pool, collection, 2)) for _ in range(size)]
        for storage in opened:
            async with storage.answer_table.locked("key") as is_held:
                assert not is_held  # the pool that is not one knows no locks
    assert len(pool.connections) == size - 1
    pool.assert_no_leaks()


async def test_closing_the_storage_gives_the_locks_back(dsn: str, collection: str) -> None:
    """Also where the pool stays open."""
    async with open_pool(dsn, size=3) as pool, VectorStorage(pool, collection, 2) as witness:
        async with VectorStorage(pool, collection, 2) as storage:
            lock = storage.answer_table.locked("key")
            assert await lock.__aenter__()
        await lock.__aexit__(None, None, None)
        await nothing_is_held(witness)


async def test_a_generic_plan_parses_the_vector_once(dsn: str, collection: str) -> None:
    """The plan reads the vector of the parameter in one place, which is not the scan of the answers."""
    async with VectorStorage(dsn + "&plan_cache_mode=force_generic_plan", collection, 2, size=1) as storage:
        await put(storage, "k")
        statement = sql.nearest(storage.executor.collection.identifiers, 2)
        async with storage.get_connection() as connection:
            await connection.execute(f"PREPARE near AS {statement}")
            rows = await connection.fetch("EXPLAIN (VERBOSE) EXECUTE near('[1,0]', 's', 'm', '0.5', '5')")
        casts = [line for row in rows if "($1)::vector" in (line := row["QUERY PLAN"])]
        assert len(casts) == 1
        assert casts[0].strip().startswith("Output:")


# The index

KEPT = 600


async def fill(storage: VectorStorage, scopes: int) -> list[list[float]]:
    """Store answers in scopes by turns, and count them as autovacuum does."""
    vectors = np.random.default_rng(3).standard_normal((KEPT, 8)).tolist()
    for n, vector in enumerate(vectors):
        await storage.answer_table.store(f"k{n}", f"s{n % scopes}", "m", f"q{n}", vector, "1", None)
    async with storage.get_connection() as connection:
        await connection.execute(f'ANALYZE "preheat_{storage.collection}.answers"')
    return vectors


async def has_index(storage: VectorStorage) -> bool:
    rows = await storage.pool.fetch(f"SELECT to_regclass('\"preheat_{storage.collection}.answers.v8\"') AS index")
    return rows[0]["index"] is not None


async def way(storage: VectorStorage, vector: list[float], scope: str) -> str:
    statement = f"EXPLAIN {sql.nearest(storage.executor.collection.identifiers, 8)}"
    rows = await storage.pool.fetch(statement, str(vector), scope, "m", "0.5", "5")
    return "\n".join(row["QUERY PLAN"] for row in rows)


@pytest.mark.parametrize("scopes", [1, 3])
async def test_many_answers_get_an_index_that_finds_them(
    dsn: str, collection: str, scopes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "INDEXED_FROM", KEPT)
    by_index = f"{dsn}&enable_seqscan=off&enable_bitmapscan=off&enable_sort=off"
    async with VectorStorage(by_index, collection, 8, size=2) as storage:
        table = storage.answer_table
        vectors = await fill(storage, scopes)
        assert not await has_index(storage), "the server has not counted them yet"
        before = [await table.nearest(vector, "s0", "m", 0.7, 5) for vector in vectors[:50]]

        await table.store("k0", "s0", "m", "q0", vectors[0], "1", None)
        await until(lambda: has_index(storage))
        assert f"preheat_{collection}.answers.v8" in await way(storage, vectors[0], "s0")
        after = [await table.nearest(vector, "s0", "m", 0.7, 5) for vector in vectors[:50]]
        for was, now in zip(before, after, strict=True):
            assert [answer.question for answer in now] == [answer.question for answer in was]


async def test_one_session_at_a_time_creates_the_index(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 8, size=4) as storage:
        await storage.answer_table.store("k", "s", "m", "q", [1.0] * 8, "1", None)
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(storage.answer_table.create_index, 8)
        assert await has_index(storage)
        with pytest.raises(ArgumentError, match="1 to 2,000"):
            await storage.answer_table.create_index(3000)


async def test_a_role_that_may_not_create_the_index_goes_on_without_it(
    dsn: str, collection: str, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sql, "INDEXED_FROM", 1)
    async with VectorStorage(dsn, collection, 8) as storage:
        await storage.answer_table.store("k", "s", "m", "q", [1.0] * 8, "1", None)
        async with storage.get_connection() as connection:
            await connection.execute(f'ANALYZE "preheat_{collection}.answers"')
    role = f"writer_{collection}"
    writer = server.role(role, "tests", f'ALL ON "preheat_{collection}.answers"')
    try:
        async with VectorStorage(writer, collection, 8, warm="never") as storage:
            for _ in range(3):
                await storage.answer_table.store("k", "s", "m", "q", [1.0] * 8, "1", None)
            await until(lambda: "without an index of its answers" in caplog.text)
            assert len(await storage.answer_table.nearest([1.0] * 8, "s", "m", 0.5, 5)) == 1
        assert caplog.text.count("without an index of its answers") == 1
    finally:
        server.sql(f"DROP OWNED BY {role}; DROP ROLE {role};", "tests")
