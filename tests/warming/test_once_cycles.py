"""A guard whose function waits for the guard: told at once, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from preheat import PreheatError, WarmOnce
from preheat.testing import run

OWN = "orders waits for itself: its function awaits its own result; await it outside of the function"


def ask(backend: str, main: Callable[[Any], Any], *, owned: bool) -> None:
    """Run `main` with an owner for its guards, or none; no virtual time may pass."""

    async def timed() -> None:
        began = anyio.current_time()
        async with anyio.create_task_group() as owner:
            await main(owner if owned else None)
        assert anyio.current_time() == pytest.approx(began)

    run(backend, timed)


ownership = pytest.mark.parametrize("owned", [True, False], ids=["owned", "inline"])


@ownership
def test_a_function_that_awaits_its_own_guard_fails_at_once(
    backend: str, owned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(owner: Any) -> None:
        async def work() -> None:
            await guard()

        guard = WarmOnce(work, task_group=owner, name="orders")

        assert await guard() is None
        assert guard.outcome == "failed"
        assert isinstance(guard.error, PreheatError)
        assert str(guard.error) == OWN

    ask(backend, main, owned=owned)
    assert "orders" in caplog.text
    assert OWN in caplog.text


@ownership
def test_a_function_may_go_on_when_it_was_told(backend: str, owned: bool) -> None:
    async def main(owner: Any) -> None:
        async def work() -> str:
            with anyio.CancelScope(shield=True), pytest.raises(PreheatError, match="waits for itself"):
                await guard()
            return "warm"

        guard = WarmOnce(work, task_group=owner)

        assert await guard() == "warm"

    ask(backend, main, owned=owned)


@ownership
def test_a_task_that_the_function_waits_for_fails_as_well(backend: str, owned: bool) -> None:
    async def main(owner: Any) -> None:
        async def inner() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(guard)

        async def work() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(inner)

        guard = WarmOnce(work, task_group=owner, name="orders")
        await guard()

        assert guard.outcome == "failed"
        assert OWN in repr(guard.error)

    ask(backend, main, owned=owned)


@ownership
def test_a_plain_asyncio_task_fails_as_well(owned: bool) -> None:
    async def main(owner: Any) -> None:
        async def work() -> None:
            await asyncio.gather(guard(), asyncio.sleep(0))

        guard = WarmOnce(work, task_group=owner, name="orders")
        await guard()

        assert str(guard.error) == OWN

    ask("asyncio", main, owned=owned)


@ownership
def test_a_task_in_a_group_of_such_a_task_fails_as_well(owned: bool) -> None:
    async def main(owner: Any) -> None:
        async def inner() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(guard)

        async def work() -> None:
            await asyncio.gather(inner(), inner())

        guard = WarmOnce(work, task_group=owner, name="orders")
        await guard()

        assert OWN in repr(guard.error)

    ask("asyncio", main, owned=owned)


@ownership
def test_so_is_a_shielded_task(backend: str, owned: bool) -> None:
    async def main(owner: Any) -> None:
        async def work() -> None:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(guard)

        guard = WarmOnce(work, task_group=owner, name="orders")
        await guard()

        assert OWN in repr(guard.error)

    ask(backend, main, owned=owned)


@ownership
def test_guards_that_await_each_other_are_told(backend: str, owned: bool) -> None:
    async def main(owner: Any) -> None:
        async def begin_again() -> None:
            await orders()

        items = WarmOnce(begin_again, task_group=owner, name="items")
        users = WarmOnce(items, task_group=owner, name="users")
        orders = WarmOnce(users, task_group=owner, name="orders")

        await orders()

        assert [guard.outcome for guard in (orders, users, items)] == ["finished", "finished", "failed"]
        assert str(items.error) == (
            "orders waits for itself, through users, items; await one of them outside of the others"
        )

    ask(backend, main, owned=owned)


@ownership
@pytest.mark.parametrize("seed", range(5))
def test_guards_of_different_callers_that_await_each_other_fail(backend: str, owned: bool, seed: int) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as owner:

            async def await_other(other: Callable[[], WarmOnce[None]]) -> None:
                await anyio.sleep(1)
                await other()()

            task_group = owner if owned else None
            orders: WarmOnce[None] = WarmOnce(lambda: await_other(lambda: users), task_group=task_group, name="orders")
            users: WarmOnce[None] = WarmOnce(lambda: await_other(lambda: orders), task_group=task_group, name="users")
            async with anyio.create_task_group() as callers:
                callers.start_soon(orders)
                callers.start_soon(users)

            assert anyio.current_time() == pytest.approx(1)
            assert sorted([str(orders.outcome), str(users.outcome)]) == ["failed", "finished"]
            assert "waits for itself, through" in str(orders.error or users.error)

    run(backend, main, seed=seed)


@ownership
def test_a_function_may_await_another_guard(backend: str, owned: bool) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as owner:
            task_group = owner if owned else None
            slow = WarmOnce(lambda: anyio.sleep(1), task_group=task_group)
            first = WarmOnce(slow, task_group=task_group)
            second = WarmOnce(slow, task_group=task_group)
            async with anyio.create_task_group() as callers:
                for guard in (first, second, slow, first):
                    callers.start_soon(guard)

            assert [guard.outcome for guard in (slow, first, second)] == ["finished"] * 3
            assert anyio.current_time() == pytest.approx(1)

    run(backend, main)


@ownership
def test_a_task_that_the_function_starts_elsewhere_may_await_the_guard(backend: str, owned: bool) -> None:
    async def main() -> None:
        through: list[str | None] = []

        async def keeper() -> None:
            await guard()
            through.append(guard.outcome)

        async with anyio.create_task_group() as application:

            async def work() -> None:
                application.start_soon(keeper)
                await anyio.sleep(1)

            guard = WarmOnce(work, task_group=application if owned else None)
            await guard()

        assert through == ["finished"]
        assert anyio.current_time() == pytest.approx(1)

    run(backend, main)


@ownership
def test_a_task_that_outlives_the_function_may_await_the_guard_after_a_reset(backend: str, owned: bool) -> None:
    async def main() -> None:
        starts: list[str] = []
        again = anyio.Event()

        async def keeper() -> None:
            await again.wait()
            guard.reset()
            await guard()

        async with anyio.create_task_group() as application:

            async def work() -> None:
                starts.append("start")
                if len(starts) == 1:
                    application.start_soon(keeper)

            guard = WarmOnce(work, task_group=application if owned else None)
            await guard()
            again.set()

        assert guard.outcome == "finished"
        assert len(starts) == 2

    run(backend, main)


@ownership
def test_a_task_with_its_own_timeout_fails_as_well(backend: str, owned: bool) -> None:
    async def main() -> None:
        await anyio.sleep(7)

        async def limited() -> None:
            with anyio.fail_after(0.5):
                await guard()

        async def work() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(limited)

        async with anyio.create_task_group() as owner:
            guard = WarmOnce(work, task_group=owner if owned else None, name="orders")
            await guard()

        assert OWN in repr(guard.error)
        assert anyio.current_time() == pytest.approx(7)

    run(backend, main)


@ownership
@pytest.mark.parametrize("limit", [0, 0.5])
def test_a_task_elsewhere_that_runs_out_of_time_leaves_the_function_alone(
    backend: str, owned: bool, limit: float
) -> None:
    async def main() -> None:
        await anyio.sleep(7)
        left: list[bool] = []

        async def keeper() -> None:
            with anyio.move_on_after(limit) as scope:
                await guard()
            left.append(scope.cancelled_caught)

        async with anyio.create_task_group() as application:

            async def work() -> str:
                application.start_soon(keeper)
                await anyio.sleep(1)
                return "warm"

            guard = WarmOnce(work, task_group=application if owned else None)
            assert await guard() == "warm"

        assert left == [True]

    run(backend, main)
