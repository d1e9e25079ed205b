"""Ctrl-C reaches the user's code, and never the driver."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.pools.interrupted import PROGRAMS, ends

from preheat import open_pool
from preheat.pools.trio.bridge import drive, uninterrupted

TRIO = pytest.mark.parametrize("anyio_backend", [pytest.param("trio", id="trio")])

protected = trio.lowlevel.currently_ki_protected


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="os.kill sends no Ctrl-C there")
@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_ends_a_program_wherever_it_is(dsn: str, folder: Path, backend: str, program: str) -> None:
    assert ends(program, backend, str(folder) if program == "embedded" else dsn) == "KeyboardInterrupt"

    assert not (folder / "postmaster.pid").exists()


@TRIO
async def test_ctrl_c_interrupts_neither_an_operation_nor_the_loop_that_it_runs_in(dsn: str) -> None:
    seen: dict[str, bool] = {}

    async def operation(connection: Any) -> None:
        seen["operation"] = protected()
        loop = asyncio.get_running_loop()
        mine, others = socket.socketpair()
        with mine, others:
            readable = loop.create_future()

            def read() -> None:
                seen["reader"] = protected()
                loop.remove_reader(mine)
                readable.set_result(None)

            loop.add_reader(mine, read)
            os.write(others.fileno(), b"!")
            await readable
        called = loop.create_future()

        def call() -> None:
            seen["callback"] = protected()
            called.set_result(None)

        loop.call_later(0.001, call)
        await called

        async def from_trio() -> None:
            seen["trio's task in the loop"] = protected()

        await loop.trio_as_future(from_trio)  # type: ignore[attr-defined]
        await connection.fetch("SELECT 1")

    async with open_pool(dsn, size=1) as pool:
        await pool.run(operation)

    assert seen == dict.fromkeys(("operation", "reader", "callback", "trio's task in the loop"), True)


@TRIO
async def test_ctrl_c_interrupts_the_blocks_of_pool_lease_and_transaction(dsn: str) -> None:
    assert not protected()
    async with open_pool(dsn, size=1) as pool:
        await pool.fetch("SELECT 1")
        assert not protected()
        async with pool.lease() as lease:
            assert not protected()
            async with lease.connection.transaction():
                await lease.connection.fetch("SELECT 1")
                assert not protected()
    assert not protected()


@TRIO
async def test_a_coroutine_that_is_driven_is_not_interrupted() -> None:
    async def answer() -> bool:
        return protected()

    assert await drive(answer())


@TRIO
async def test_entering_and_leaving_are_not_interrupted() -> None:
    seen = []

    @uninterrupted
    async def manager() -> Any:
        seen.append(protected())
        yield
        seen.append(protected())

    async with manager():
        seen.append(protected())

    assert seen == [True, False, True]
