"""What preheat is for, in one page: warm a pool at the same time, exactly once, and never at the application's expense.

Each test runs on asyncio and on trio, in virtual time, on a pool that fails as planned.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from hypothesis import given
from hypothesis import strategies as st

from preheat import ResearchRetriever, VectorStorage, WarmOnce, warm
from preheat.testing import FakePool, FaultPlan, backends, fail, fault_plans, pool_sizes, run, seeds, succeed

SLOW = succeed(0.2)
REFUSED = FaultPlan.all(connect=fail(ConnectionRefusedError("connection refused")))


class Lengths:
    """An embedder that knows only how long a text is."""

    name, dimensions = "lengths", 3

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        await anyio.lowlevel.checkpoint()
        return [[1.0, 1.0, len(text)] for text in texts]


def test_storage_warm_pool(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=5)
        async with VectorStorage(pool, "papers", dimensions=3, warm_connections=4) as storage:
            assert await storage.warm_pool() is True
            assert storage.warm_report is not None
            assert storage.warm_report.hot == 4
        assert len({connection.pid for connection in pool.connections if connection.probes}) == 4
        pool.assert_no_leaks()

    run(backend, main)


def test_storage_warm_pool_handles_errors(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=REFUSED)
        async with VectorStorage(pool, "papers", dimensions=3) as storage:
            assert await storage.warm_pool() is False  # reported and logged, not raised
            assert storage.warm_report is not None
            assert "connection refused" in str(storage.warm_report)
        pool.assert_no_leaks()

    run(backend, main)


def test_retriever_warms_pool_on_first_use(backend: str) -> None:
    async def main() -> None:
        pool = FakePool()
        async with VectorStorage(pool, "papers", dimensions=3) as storage:
            retriever = ResearchRetriever(storage, Lengths())
            assert not retriever.pool_warmed
            await retriever.retrieve("why is the first query slow?")
            assert retriever.pool_warmed
            report = storage.warm_report
            await retriever.retrieve("and the second?")
            assert storage.warm_report is report is not None  # later questions warm nothing
            assert pool.opens == report.hot == 3

    run(backend, main)


def test_retriever_continues_on_warming_failure(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan((REFUSED.rest,) * 3))  # the database comes up right after the warm-up
        async with VectorStorage(pool, "papers", dimensions=3) as storage:
            retriever = ResearchRetriever(storage, Lengths())
            assert await retriever.retrieve("is anybody there?") == []
            assert retriever.pool_warmed
            assert storage.warm_report is not None
            assert not storage.warm_report.ok

    run(backend, main)


def test_warm_pool_concurrency(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(connect=SLOW, probe=SLOW))
        started = anyio.current_time()
        report = await warm(pool, connections=10)
        assert report.ok
        assert pool.most_connecting == 10
        assert round(anyio.current_time() - started, 6) == 0.4  # as long as one connection, not ten

    run(backend, main)


@given(backend=backends(), size=pool_sizes(), seed=seeds())
def test_every_pool_size_is_warmed_whole(backend: str, size: int, seed: int) -> None:
    """All connections of a pool of any size are hot, each opened once."""
    pool = FakePool(size)
    report = run(backend, lambda: warm(pool, connections=size), seed=seed)
    assert report.ok
    assert report.hot == size == pool.opens
    pool.assert_no_leaks()


@given(backend=backends(), plan=fault_plans(5), seed=seeds())
def test_no_pattern_of_failures_raises_or_leaks(backend: str, plan: FaultPlan, seed: int) -> None:
    """Whatever fails or hangs, the warm-up ends in time, with a second for cleaning up, and every lease is back."""
    pool = FakePool(5, plan)
    report = run(backend, lambda: warm(pool, connections=5, timeout=2.0), seed=seed)
    assert report.seconds <= 3.0
    assert report.ok == (report.hot == 5)
    pool.assert_no_leaks()


@given(backend=backends(), callers=st.integers(1, 50), fails=st.booleans(), seed=seeds())
def test_any_number_of_first_callers_share_one_warm_up(backend: str, callers: int, fails: bool, seed: int) -> None:
    """The warm-up runs exactly once, and each caller leaves with its result, whether it succeeds or fails."""

    async def main() -> None:
        pool = FakePool(plan=REFUSED if fails else FaultPlan.all(connect=SLOW))
        warm_once = WarmOnce(lambda: warm(pool))
        results = []

        async def first_request() -> None:
            results.append(await warm_once())

        async with anyio.create_task_group() as tasks:
            for _ in range(callers):
                tasks.start_soon(first_request)
        assert pool.opens == 3
        assert results == [warm_once.result] * callers

    run(backend, main, seed=seed)
