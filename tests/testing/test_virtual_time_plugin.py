"""anyio's own pytest plugin, on virtual time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from preheat.testing import FakePool, FaultPlan, backend_options, succeed


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param, backend_options(request.param, seed=1)


@pytest.fixture
async def pool() -> AsyncIterator[FakePool]:
    pool = FakePool(plan=FaultPlan.all(succeed(600), release=succeed(0.5)))
    yield pool
    await anyio.sleep(3600)
    pool.assert_no_leaks()


async def test_a_fixture_and_a_test_share_a_virtual_clock(pool: FakePool) -> None:
    started = anyio.current_time()

    async with pool.lease() as lease:
        await lease.ping()

    assert anyio.current_time() - started == pytest.approx(600.5)


async def test_the_next_test_has_a_clock_of_its_own(pool: FakePool) -> None:
    with anyio.move_on_after(60) as scope:
        async with pool.lease():
            raise AssertionError("not reached")

    assert scope.cancelled_caught


def test_a_deadlock_in_a_test_of_the_plugin_fails_that_test_alone(folder: Path, backend: str) -> None:
    folder.mkdir()
    (folder / "test_it.py").write_text(f"""
import anyio, pytest
from preheat.testing import backend_options

@pytest.fixture
def anyio_backend():
    return "{backend}", backend_options("{backend}")

async def test_deadlock():
    await anyio.Event().wait()

async def test_fine():
    await anyio.sleep(100)
""")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "anyio_mode=auto", "test_it.py"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True, timeout=50)

    assert "1 failed, 1 passed" in answer.stdout, answer.stdout + answer.stderr
    assert "DeadlockError" in answer.stdout
