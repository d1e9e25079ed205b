"""A real pool on a real PostgreSQL, cancelled at every point and at random moments: nothing is lost or left behind.

How many points a sweep of real sockets has differs a little from run to run; `pytest -rP` shows how many there were.
The pools have two connections, so that the 200 points that trio has for each sweep are passed in a few seconds.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Literal, TypeVar

import anyio
import asyncpg
import pytest
from tests.support.models import AsyncWords, Words
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until
from tests.support.watched import chunk

from preheat import ResearchRetriever, VectorStorage, open_pool, warm
from preheat.pools import SQLPool, as_sql_pool
from preheat.testing import Call, Caller, Sweep, arrive, cancel_everywhere

pytestmark = pytest.mark.slow

T = TypeVar("T")
How = Literal["scope", "native"]
Work = Callable[[], Awaitable[object]]

SIZE = 2
STORED = 4
ROUNDS = 300
CALLERS = 4
MANY = 50  # more than 40 hits
K = (5, MANY)
SEED = 20_240_229


class Backends:
    """The backends of one test, seen from a connection in another thread.

    Asking takes no step of the event loop of the test, so that a sweep does not cancel the question.
    """

    def __init__(self, server: Server, name: str, dsn: str) -> None:
        self.name = name
        self.dsn = f"{dsn}&application_name={name}"
        self._thread = ThreadPoolExecutor(1)
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._connection = self._elsewhere(lambda: asyncpg.connect(server.dsn()))

    def close(self) -> None:
        self._elsewhere(self._connection.close)
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def count(self) -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 OR state = 'starting'"
        found: int = self._elsewhere(lambda: self._connection.fetchval(query, self.name))
        return found

    async def are(self, number: int) -> None:
        """Wait, for a bounded time, until there are so many: a connection that was closed takes a moment to end."""
        await until(lambda: self.count() == number)

    async def are_gone(self) -> None:
        await self.are(0)

    def _elsewhere(self, function: Callable[[], Awaitable[Any]]) -> Any:
        async def call() -> Any:
            return await function()

        return self._thread.submit(lambda: self._runner.run(call())).result()


@pytest.fixture
def backends(server: Server, dsn: str, collection: str) -> Iterator[Backends]:
    backends = Backends(server, f"cancelled_{collection}", dsn)
    yield backends
    backends.close()


@pytest.fixture(params=["scope", "native"])
def how(request: pytest.FixtureRequest, anyio_backend: Any) -> How:
    if request.param == "native" and anyio_backend[0] == "trio":
        pytest.skip("on trio every cancellation is a scope's")
    return request.param


@pytest.fixture(autouse=True)
def _nothing_is_reported(log: pytest.LogCaptureFixture) -> Iterator[None]:
    """No error that nobody saw, no task that was destroyed, no connection that was dropped, no pool closed by force.

    Warm-ups that share a pool may say that they found the other connections in use.
    """
    yield
    gc.collect()
    reported = [record.getMessage() for record in log.get_records("call") if record.levelno >= logging.WARNING]
    assert [message for message in reported if not message.endswith("hot already; the others are in use")] == []


async def hold_all(pool: SQLPool) -> None:
    """No holder is lost: all connections can be held at the same time, and each of them works."""
    with anyio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            leases = [await stack.enter_async_context(pool.lease()) for _ in range(pool.size)]
            for lease in leases:
                await lease.ping()
            assert len({lease.pid for lease in leases}) == pool.size == SIZE


def checked(function: Work, check: Work) -> Work:
    """The function, and a check behind a shield if it is cancelled: so all points of its sweep are its own."""

    async def run() -> None:
        try:
            await function()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await check()
            raise

    return run


def accept(sweep: Sweep, at_least: int) -> None:
    """The sweep went as far as it should."""
    print(f"points: {sweep.points}, of these returned: {len(sweep.completed)}, slowest: {sweep.slowest:.3f} s")
    assert sweep.points >= at_least


async def store(dsn: str, collection: str) -> None:
    """Put a few rows where there is nothing yet."""
    async with VectorStorage(dsn, collection, 3, warm="never") as storage:
        assert await storage.add([chunk(number) for number in range(STORED)]) == STORED


async def test_a_warm_up_of_a_cold_pool_cancelled_anywhere_lets_the_pool_close_and_leaves_no_backend(
    backends: Backends, how: How
) -> None:
    """The pool is opened, warmed and closed in the swept function, and closed at once after a cancellation."""

    async def cold() -> None:
        async with open_pool(backends.dsn, size=SIZE) as pool:
            assert (await warm(pool)).ok

    accept(await cancel_everywhere(checked(cold, backends.are_gone), how=how), at_least=12)
    await backends.are_gone()


async def test_a_warm_up_of_a_cold_pool_cancelled_anywhere_loses_no_connection(backends: Backends, how: How) -> None:
    """The pool is opened in the swept function, and all of it can be leased after a cancellation."""

    async def cold() -> None:
        async with open_pool(backends.dsn, size=SIZE) as pool:
            await checked(lambda: warm(pool), lambda: hold_all(pool))()

    accept(await cancel_everywhere(checked(cold, backends.are_gone), how=how), at_least=12)
    await backends.are_gone()


async def test_a_warm_up_of_a_hot_pool_cancelled_anywhere_loses_no_connection(backends: Backends, how: How) -> None:
    """The pool is opened once; after each attempt all of it is hot again, and idle."""
    async with open_pool(backends.dsn, size=SIZE) as pool:

        async def hot() -> None:
            assert (await warm(pool)).ok

        await hold_all(pool)
        accept(await cancel_everywhere(checked(hot, lambda: hold_all(pool)), how=how), at_least=6)
        await hold_all(pool)
        await backends.are(SIZE)
    await backends.are_gone()


@pytest.mark.parametrize("state", ["cold", "hot"])
async def test_a_warm_up_of_the_applications_own_pool_cancelled_anywhere_loses_no_connection(
    backends: Backends, how: How, anyio_backend: Any, state: str
) -> None:
    """The pool is asyncpg's, which resets its connections itself; it grows cold by forgetting them."""
    if anyio_backend[0] == "trio":
        pytest.skip("a pool of asyncpg's own needs asyncio")
    async with asyncpg.create_pool(backends.dsn, min_size=0, max_size=SIZE) as own:
        pool = as_sql_pool(own)

        async def attempt() -> None:
            if state == "cold":
                await own.expire_connections()
            assert (await warm(own)).ok

        await hold_all(pool)
        accept(await cancel_everywhere(checked(attempt, lambda: hold_all(pool)), how=how), at_least=6)
        await hold_all(pool)
        await backends.are(SIZE)
    await backends.are_gone()


async def rolled_back(pool: SQLPool, scope: anyio.CancelScope) -> None:
    async def operation(connection: Any) -> None:
        async with connection.transaction():
            scope.cancel()
            await connection.execute("SELECT 1")

    await pool.run(operation)


async def reset(pool: SQLPool, scope: anyio.CancelScope) -> None:
    async with pool.lease() as lease:
        scope.cancel()
        await lease.connection.fetch("SELECT 1")


async def discarded(pool: SQLPool, scope: anyio.CancelScope) -> None:
    async with pool.lease() as lease:
        lease.discard()
        scope.cancel()
        await lease.ping()


@pytest.mark.parametrize("interrupted", [rolled_back, reset, discarded])
async def test_a_second_cancellation_anywhere_in_the_clean_up_of_the_first_loses_no_connection(
    backends: Backends, how: How, interrupted: Callable[[SQLPool, anyio.CancelScope], Awaitable[None]]
) -> None:
    """The swept function cancels itself in the middle of its work, so most of its points are in its clean-up."""
    async with open_pool(backends.dsn, size=SIZE) as pool:

        async def gives_up() -> None:
            with anyio.CancelScope() as scope:
                await interrupted(pool, scope)

        await hold_all(pool)
        accept(await cancel_everywhere(checked(gives_up, lambda: hold_all(pool)), how=how), at_least=2)
        await hold_all(pool)
        await backends.are(SIZE)
    await backends.are_gone()


@pytest.mark.parametrize("goes_on", [False, True], ids=["closes", "goes on"])
async def test_a_first_retrieval_cancelled_anywhere_leaves_the_next_one_and_the_pool_intact(
    backends: Backends, collection: str, how: How, goes_on: bool
) -> None:
    """The storage is opened and closed in the swept function; after a cancellation it is closed at once, or used."""
    await store(backends.dsn, collection)
    await backends.are_gone()

    async def cold() -> None:
        async with VectorStorage(backends.dsn, collection, 3, size=SIZE) as storage:
            retriever = ResearchRetriever(storage, Words())

            async def first() -> None:
                assert len(await retriever.retrieve("why?", MANY)) == STORED

            async def next_one() -> None:
                if goes_on:
                    with anyio.fail_after(PATIENCE):
                        await first()
                    await hold_all(storage.pool)
                assert storage.warm_once.safety_net_used == 0

            await checked(first, next_one)()

    accept(await cancel_everywhere(checked(cold, backends.are_gone), how=how), at_least=20)
    await backends.are_gone()


@pytest.mark.parametrize("k", [5, MANY], ids=["few", "many"])
async def test_a_hot_retrieval_cancelled_anywhere_leaves_the_next_one_and_the_pool_intact(
    backends: Backends, collection: str, how: How, k: int
) -> None:
    """The storage is opened and warmed once."""
    await store(backends.dsn, collection)
    await backends.are_gone()
    async with VectorStorage(backends.dsn, collection, 3, size=SIZE) as storage:
        retriever = ResearchRetriever(storage, AsyncWords(), query_cache=0)  # each time, to be cancelled in

        async def hot() -> None:
            assert len(await retriever.retrieve("why?", k)) == STORED

        async def next_one() -> None:
            with anyio.fail_after(PATIENCE):
                await hot()
            await hold_all(storage.pool)

        await next_one()
        accept(await cancel_everywhere(checked(hot, next_one), how=how), at_least=2)
        await next_one()
        assert storage.warm_once.safety_net_used == 0
        await backends.are(SIZE)
    await backends.are_gone()


async def test_after_300_rounds_of_callers_who_give_up_at_random_the_pool_is_whole_and_closes(
    backends: Backends, collection: str
) -> None:
    """Each round is a new storage on the one pool; callers warm it or ask it, and most give up within 20 ms."""
    await store(backends.dsn, collection)
    await backends.are_gone()
    random = Random(SEED)
    calls: list[Call[None]] = []
    async with open_pool(backends.dsn, size=SIZE) as pool:

        async def heat() -> None:
            await warm(pool)

        for _ in range(ROUNDS):
            async with VectorStorage(pool, collection, 3) as storage:
                retriever = ResearchRetriever(storage, random.choice([Words, AsyncWords])())

                async def ask(retriever: ResearchRetriever = retriever, k: int = random.choice(K)) -> None:
                    assert len(await retriever.retrieve("why?", k)) == STORED

                callers = [
                    Caller(
                        # One gives up at once, however quick the machine is.
                        timeout=random.choices([random.uniform(0, 0.02), math.inf], [7, 1])[0] if number else 0.0,
                        how=random.choice(["scope", "native"]),
                    )
                    for number in range(CALLERS)
                ]
                work = iter(random.choices([ask, heat], k=CALLERS))
                with anyio.fail_after(PATIENCE):
                    calls += await arrive(callers, lambda work=work: next(work)())
            assert storage.warm_once.safety_net_used == 0

        slowest = max(call.took - call.caller.timeout for call in calls)
        cancelled = sum(call.outcome == "cancelled" for call in calls)
        print(f"calls: {len(calls)}, of these cancelled: {cancelled}, slowest after its timeout: {slowest:.3f} s")
        assert len(calls) == ROUNDS * CALLERS
        assert [call.error for call in calls if call.error is not None] == []
        assert all(call.outcome == "returned" for call in calls if not call.cancel_requested)
        assert cancelled >= ROUNDS
        await hold_all(pool)
        await backends.are(SIZE)
    await backends.are_gone()
