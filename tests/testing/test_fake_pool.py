from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings

from preheat.testing import (
    Caller,
    FakeConnection,
    FakePool,
    Fault,
    FaultPlan,
    arrive,
    backends,
    callers,
    fail,
    fault_plans,
    hang,
    pool_sizes,
    run,
    seeds,
    succeed,
)


async def _all_slots_are_there(pool: FakePool) -> None:
    """Every slot can be leased at the same time."""
    pool.plan = FaultPlan()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            everybody_has_one = anyio.Event()

            async def hold() -> None:
                async with pool.lease():
                    if pool.in_use == pool.size:
                        everybody_has_one.set()
                    await everybody_has_one.wait()

            for _ in range(pool.size):
                tasks.start_soon(hold)
    pool.assert_no_leaks()


# Counts


async def test_a_pool_counts_what_is_done_to_it() -> None:
    pool = FakePool(size=2)

    async with pool.lease() as one, pool.lease() as two:
        assert (pool.opens, pool.leases, pool.releases, pool.in_use) == (2, 2, 0, 2)
        assert one.pid != two.pid
    async with pool.lease() as lease:
        lease.discard()

    assert (pool.opens, pool.leases, pool.releases) == (2, 3, 3)
    assert (pool.terminations, pool.in_use, pool.most_in_use) == (1, 0, 2)
    assert len(pool.connections) == 2
    assert len(pool.idle) == 1
    pool.assert_no_leaks()


async def test_nothing_is_opened_before_somebody_asks() -> None:
    pool = FakePool()
    pool.lease()

    assert (pool.opens, pool.leases, pool.connections) == (0, 0, [])
    pool.assert_no_leaks()


async def test_a_connection_that_does_not_open_is_an_open_and_no_lease() -> None:
    pool = FakePool(size=1, plan=FaultPlan((Fault(connect=fail(OSError("refused"))),)))

    with pytest.raises(OSError, match="refused"):
        async with pool.lease():
            raise AssertionError("not reached")

    assert (pool.opens, pool.leases, pool.releases, pool.in_use, pool.connecting) == (1, 0, 0, 0, 0)
    await _all_slots_are_there(pool)


def test_the_size_is_never_exceeded_and_further_callers_wait(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=2, plan=FaultPlan.all(connect=succeed(1)))

        async def use() -> None:
            async with pool.lease():
                await anyio.sleep(1)

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(use)

        assert anyio.current_time() - started == pytest.approx(4)  # one connect, and three times two leases
        assert (pool.opens, pool.leases, pool.releases, pool.most_in_use) == (2, 6, 6, 2)
        pool.assert_no_leaks()

    started = run(backend, _now)
    run(backend, main, seed=1)


async def _now() -> float:
    return anyio.current_time()


def test_the_most_connecting_is_how_many_connect_at_once(backend: str) -> None:
    async def main() -> int:
        pool = FakePool(size=5, plan=FaultPlan.all(connect=succeed(1)))

        async def use() -> None:
            async with pool.lease():
                pass

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(use)
        assert pool.connecting == 0
        return pool.most_connecting

    assert run(backend, main) == 3


@pytest.mark.parametrize(("order", "expected"), [("lifo", [2, 1, 0]), ("fifo", [0, 1, 2])])
async def test_idle_connections_are_lent_in_the_order_of_choice(
    order: Literal["lifo", "fifo"], expected: list[int]
) -> None:
    pool = FakePool(size=3, order=order)
    leases = [await pool.check_out() for _ in range(3)]
    pids = [lease.pid for lease in leases]
    for lease in leases:
        await pool.check_in(lease)

    again = [await pool.check_out() for _ in range(3)]

    assert [lease.pid for lease in again] == [pids[n] for n in expected]
    for lease in again:
        await pool.check_in(lease)
    pool.assert_no_leaks()


async def test_lifo_is_the_default() -> None:
    assert FakePool().order == "lifo"


async def test_an_operation_runs_on_one_connection_and_its_result_comes_back() -> None:
    pool = FakePool()

    async def operation(connection: Any) -> str:
        assert pool.in_use == 1
        await connection.execute("INSERT 1")
        assert await connection.fetch("SELECT 1") == []
        return "result"

    assert await pool.run(operation) == "result"
    assert pool.connections[0].statements == ["INSERT 1", "SELECT 1"]
    assert (pool.leases, pool.releases) == (1, 1)
    pool.assert_no_leaks()


async def test_an_operation_that_fails_gives_its_connection_back() -> None:
    pool = FakePool()

    async def operation(connection: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await pool.run(operation)
    pool.assert_no_leaks()


# Faults


def test_each_step_takes_its_time(backend: str) -> None:
    async def main() -> list[float]:
        times = [anyio.current_time()]
        pool = FakePool(plan=FaultPlan.all(connect=succeed(1), probe=succeed(2), release=succeed(0.5)))
        async with pool.lease() as lease:
            times.append(anyio.current_time())
            await lease.ping()
            times.append(anyio.current_time())
        times.append(anyio.current_time())
        pool.assert_no_leaks()
        assert len(pool.idle) == 1
        return [after - before for before, after in itertools.pairwise(times)]

    assert run(backend, main) == pytest.approx([1, 2, 0.5])


def test_each_connection_has_the_fault_of_its_number(backend: str) -> None:
    plan = FaultPlan(
        (Fault(), Fault(connect=fail(OSError("second"))), Fault(probe=fail(KeyError("third")))),
        rest=Fault(connect=fail(ValueError("rest"))),
    )

    async def main() -> None:
        pool = FakePool(size=4, plan=plan)
        async with pool.lease() as first:
            await first.ping()
            with pytest.raises(OSError, match="second"):
                await pool.check_out()
            async with pool.lease() as third:
                with pytest.raises(KeyError, match="third"):
                    await third.ping()
                third.discard()
            for _ in range(2):
                with pytest.raises(ValueError, match="rest"):
                    await pool.check_out()
        assert pool.opens == 5
        pool.assert_no_leaks()

    run(backend, main)


@pytest.mark.parametrize("statement", ["ping", "fetch", "execute", "connection.fetch", "connection.execute"])
async def test_a_connection_whose_statement_failed_says_so_and_can_be_discarded(statement: str) -> None:
    pool = FakePool(size=1, plan=FaultPlan((Fault(probe=fail(OSError("broken"))),)))
    async with pool.lease() as lease:
        run_it: Any = lease
        for part in statement.split("."):
            run_it = getattr(run_it, part)
        with pytest.raises(OSError, match="broken"):
            await (run_it() if statement == "ping" else run_it("SELECT 1"))
        broken = lease.pid
        assert lease.connection.interrupted
        assert lease.connection.probes == 0
        lease.discard()

    assert (pool.terminations, pool.idle) == (1, [])
    async with pool.lease() as lease:
        assert lease.pid != broken
    pool.assert_no_leaks()


def test_a_connection_whose_statement_was_cancelled_says_so_and_can_be_discarded(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=1, plan=FaultPlan((Fault(probe=hang()),)))
        with anyio.move_on_after(1):
            async with pool.lease() as lease:
                try:
                    await lease.ping()
                finally:
                    assert lease.connection.interrupted
                    lease.discard()
        assert (pool.terminations, pool.idle) == (1, [])
        await _all_slots_are_there(pool)

    run(backend, main)


def test_a_connection_that_is_lost_while_idle_is_replaced_by_the_pool(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=1, plan=FaultPlan((Fault(idle="lost"),)))
        async with pool.lease() as lease:
            await lease.ping()
            await lease.ping()
            lost = lease.pid

        async with pool.lease() as lease:
            assert lease.pid != lost
            await lease.ping()

        assert pool.opens == 2
        assert [connection.closed for connection in pool.connections] == [True, False]
        pool.assert_no_leaks()

    run(backend, main)


def test_a_replacement_of_a_lost_connection_may_fail_and_loses_no_slot(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=1, plan=FaultPlan((Fault(idle="lost"), Fault(connect=fail(OSError("down"))))))
        async with pool.lease():
            pass

        with pytest.raises(OSError, match="down"):
            await pool.check_out()

        await _all_slots_are_there(pool)

    run(backend, main)


def test_a_half_open_connection_is_lent_and_then_every_statement_on_it_hangs(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=1, plan=FaultPlan((Fault(idle="half-open"),)))
        async with pool.lease() as lease:
            await lease.ping()  # it is fine until nobody has it
            first = lease.pid

        async with pool.lease() as lease:
            assert lease.pid == first
            for statement in (
                lease.ping,
                lambda: lease.fetch("SELECT 1"),
                lambda: lease.connection.execute("SELECT 1"),
            ):
                with anyio.move_on_after(100) as scope:
                    await statement()
                assert scope.cancelled_caught

        assert pool.opens == 1
        assert pool.terminations == 1
        await _all_slots_are_there(pool)

    run(backend, main)


def test_a_half_open_connection_is_noticed_only_when_it_is_used(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=1, plan=FaultPlan((Fault(idle="half-open"),)))
        async with pool.lease() as lease:
            first = lease.pid

        started = anyio.current_time()
        async with pool.lease() as lease:
            assert lease.pid == first
            assert anyio.current_time() == started
            assert (pool.opens, pool.terminations) == (1, 0)

        assert anyio.current_time() - started <= 1.001  # to put it back is bounded as ever
        await _all_slots_are_there(pool)

    run(backend, main)


# Release


@pytest.mark.parametrize(
    ("release", "takes", "goes_back"),
    [
        (succeed(), 0, True),
        (succeed(0.3), 0.3, True),
        (fail(OSError("no")), 0, False),
        (fail(OSError("no"), 0.4), 0.4, False),
        (succeed(5), 1, False),
        (hang(), 1, False),
    ],
)
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_release_ends_within_a_second_if_its_caller_is_cancelled(
    backend: str, release: Any, takes: float, goes_back: bool, cancelled: bool
) -> None:
    async def main() -> None:
        pool = FakePool(size=1, plan=FaultPlan.all(release=release))
        with anyio.CancelScope() as scope:
            async with pool.lease():
                started = anyio.current_time()
                if cancelled:
                    scope.cancel()
            # a release is no place where a cancellation comes out
        assert anyio.current_time() - started == pytest.approx(takes)
        assert len(pool.idle) == goes_back
        assert pool.terminations == (not goes_back)
        assert (pool.in_use, pool.releases) == (0, 1)
        await _all_slots_are_there(pool)

    run(backend, main)


def test_an_error_inside_a_lease_comes_out_though_the_release_fails(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(release=fail(OSError("release"))))
        with pytest.raises(KeyError, match="mine"):
            async with pool.lease():
                raise KeyError("mine")
        pool.assert_no_leaks()

    run(backend, main)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("release", [succeed(0.5), hang(), fail(OSError("no"), 0.5)])
def test_native_cancellation_in_a_release_loses_no_slot_and_is_not_swallowed(release: Any, times: int) -> None:
    async def main() -> None:
        pool = FakePool(size=2, plan=FaultPlan.all(release=release))

        async def use() -> None:
            async with pool.lease():
                pass
            await asyncio.sleep(0)
            raise AssertionError("the cancellation was swallowed")

        task = asyncio.create_task(use())
        await asyncio.sleep(0.1)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await task

        assert pool.in_use == 0
        assert pool.releases == 1
        pool.assert_no_leaks()
        await _all_slots_are_there(pool)

    run("asyncio", main)


@pytest.mark.parametrize("how", ["scope", "native"])
@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
def test_a_cancellation_at_any_time_loses_no_slot(backend: str, when: float, how: Literal["scope", "native"]) -> None:
    plan = FaultPlan.all(connect=succeed(1), probe=succeed(1), release=succeed(0.5))

    async def main() -> None:
        pool = FakePool(size=1, plan=plan)

        async def use() -> None:
            async with pool.lease() as lease:
                await lease.ping()

        for seed in range(3):
            await arrive([Caller(timeout=when, how=how), Caller(arrival=0.5 * seed)], use)
        assert pool.connecting == 0
        assert pool.leases == pool.releases
        await _all_slots_are_there(pool)

    for seed in range(4):
        run(backend, main, seed=seed)


@settings(max_examples=60)
@given(backends(), seeds(), pool_sizes(4), fault_plans(8, longest=2.0), callers(8))
def test_property_several_callers_loses_no_slot_whatever_goes_wrong(
    backend: str, seed: int, size: int, plan: FaultPlan, callers: list[Caller]
) -> None:
    """After any callers on any plan, every slot of the pool can be leased again and every count is true."""

    async def main() -> None:
        pool = FakePool(size=size, plan=plan)

        async def use() -> None:
            with anyio.move_on_after(7):
                async with pool.lease() as lease:
                    assert pool.in_use <= size
                    await lease.ping()

        await arrive(callers, use)
        assert pool.leases == pool.releases
        assert pool.most_in_use <= size
        assert (pool.in_use, pool.connecting) == (0, 0)
        assert pool.terminations == sum(connection.closed for connection in pool.connections)
        assert not any(connection.closed for connection in pool.idle)
        pool.assert_no_leaks()
        await _all_slots_are_there(pool)

    run(backend, main, seed=seed)


# Misuse


async def _refused(pool: FakePool, misuse: Callable[[], Awaitable[object]]) -> None:
    """It is refused, and whoever swallows that is told at the end."""
    with pytest.raises(AssertionError):
        await misuse()
    with contextlib.suppress(BaseException):
        await misuse()
    with pytest.raises(AssertionError):
        pool.assert_no_leaks()


async def test_a_lease_that_is_released_twice_is_refused() -> None:
    pool = FakePool(size=1)
    lease = await pool.check_out()
    await pool.check_in(lease)
    pool.assert_no_leaks()

    await _refused(pool, lambda: pool.check_in(lease))

    assert pool.releases == 1
    assert len(pool.idle) == 1
    assert pool.misuses


def test_a_second_release_while_the_first_is_under_way_is_refused(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=1, plan=FaultPlan.all(release=succeed(0.5)))
        lease = await pool.check_out()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.check_in, lease)
            await anyio.sleep(0.2)
            with pytest.raises(AssertionError):
                await pool.check_in(lease)
        assert (pool.releases, pool.in_use, len(pool.idle)) == (1, 0, 1)
        assert pool.misuses

    run(backend, main)


def test_use_of_a_lease_while_it_is_being_released_is_refused(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(size=1, plan=FaultPlan.all(release=succeed(0.5)))
        lease = await pool.check_out()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.check_in, lease)
            await anyio.sleep(0.2)
            with pytest.raises(AssertionError):
                await lease.ping()

    run(backend, main)


async def test_a_context_that_is_left_twice_is_refused() -> None:
    pool = FakePool(size=1)
    context = pool.lease()
    await context.__aenter__()
    await context.__aexit__(None, None, None)

    await _refused(pool, lambda: context.__aexit__(None, None, None))

    assert len(pool.idle) == 1


@pytest.mark.parametrize("use", ["ping", "fetch", "execute"])
async def test_use_of_a_lease_after_its_release_is_refused(use: str) -> None:
    pool = FakePool()
    async with pool.lease() as lease:
        pass
    probes = pool.connections[0].probes

    await _refused(pool, lambda: getattr(lease, use)(*[] if use == "ping" else ["SELECT 1"]))

    assert pool.connections[0].probes == probes


async def test_discarding_a_lease_after_its_release_is_refused() -> None:
    pool = FakePool()
    async with pool.lease() as lease:
        pass

    with pytest.raises(AssertionError):
        lease.discard()
    with pytest.raises(AssertionError):
        pool.assert_no_leaks()


async def test_use_of_the_bare_connection_after_the_release_is_refused() -> None:
    pool = FakePool()
    async with pool.lease() as lease:
        connection: FakeConnection = lease.connection

    await _refused(pool, lambda: connection.execute("SELECT 1"))


async def test_use_of_the_bare_connection_after_an_operation_is_refused() -> None:
    pool = FakePool()
    kept: list[Any] = []

    async def operation(connection: Any) -> None:
        kept.append(connection)

    await pool.run(operation)

    await _refused(pool, lambda: kept[0].fetch("SELECT 1"))


async def test_a_lease_of_another_pool_is_refused() -> None:
    one, other = FakePool(), FakePool()
    lease = await one.check_out()

    await _refused(other, lambda: other.check_in(lease))

    await one.check_in(lease)
    one.assert_no_leaks()


async def test_a_swallowed_misuse_is_reported_at_the_end_with_its_reason() -> None:
    pool = FakePool(name="orders")
    lease = await pool.check_out()
    await pool.check_in(lease)
    try:
        await pool.check_in(lease)
    except BaseException as error:
        reason = str(error)

    with pytest.raises(AssertionError) as caught:
        pool.assert_no_leaks()

    assert pool.misuses
    assert pool.misuses[0] in str(caught.value)
    assert pool.misuses[0] in reason


async def test_a_lease_that_is_not_back_is_a_leak() -> None:
    pool = FakePool()
    lease = await pool.check_out()

    with pytest.raises(AssertionError):
        pool.assert_no_leaks()
    await pool.check_in(lease)
    pool.assert_no_leaks()


async def test_a_lease_that_is_forgotten_is_a_leak_also_after_a_collection() -> None:
    pool = FakePool()
    await pool.check_out()
    gc.collect()

    with pytest.raises(AssertionError):
        pool.assert_no_leaks()


async def test_a_connection_that_is_open_and_neither_lent_nor_idle_is_a_leak() -> None:
    pool = FakePool()
    async with pool.lease():
        pass
    pool.idle.clear()

    with pytest.raises(AssertionError):
        pool.assert_no_leaks()


@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_a_later_loop_is_refused(backend: str, other: str) -> None:
    pool = FakePool()

    async def use() -> None:
        async with pool.lease() as lease:
            await lease.ping()

    run(backend, use)
    pool.assert_no_leaks()

    for _ in range(5):  # addresses of loops that are gone come again
        gc.collect()
        with pytest.raises(AssertionError, match="loop"):
            run(other, use)
    assert (pool.opens, pool.leases, pool.in_use) == (1, 1, 0)
    with pytest.raises(AssertionError, match="loop"):
        pool.assert_no_leaks()


@pytest.mark.parametrize("other", ["asyncio", "trio"])
@pytest.mark.parametrize("use", ["lease", "run", "ping", "check_in"])
def test_a_loop_in_another_thread_is_refused_while_the_first_lives(backend: str, other: str, use: str) -> None:
    async def main() -> None:
        pool = FakePool()
        async with pool.lease() as lease:

            async def foreign() -> None:
                async def operation(connection: Any) -> None:
                    raise AssertionError("not reached")

                misuse: dict[str, Callable[[], Awaitable[Any]]] = {
                    "lease": pool.lease().__aenter__,
                    "run": lambda: pool.run(operation),
                    "ping": lease.ping,
                    "check_in": lambda: pool.check_in(lease),
                }
                with pytest.raises(AssertionError, match="loop"):
                    await misuse[use]()

            await anyio.to_thread.run_sync(run, other, foreign)

        assert (pool.leases, pool.releases, pool.in_use) == (1, 1, 0)
        with pytest.raises(AssertionError, match="loop"):
            pool.assert_no_leaks()

    run(backend, main)


async def test_a_refused_call_leaves_the_pool_unchanged() -> None:
    pool = FakePool(size=1)
    lease = await pool.check_out()
    await pool.check_in(lease)
    with pytest.raises(AssertionError):
        await pool.check_in(lease)

    with anyio.fail_after(5):
        one = await pool.check_out()
        with anyio.move_on_after(0.01) as scope:
            await pool.check_out()

    assert scope.cancelled_caught  # the second release made no second slot
    await pool.check_in(one)
