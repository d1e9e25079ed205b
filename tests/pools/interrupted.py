"""A program that Ctrl-C interrupts in the middle of what its argument names: `interrupted.py WHAT BACKEND DSN`.

With fewer arguments, `just interrupt`, it starts itself many times on a server of its own and counts how it ended.
"""

from __future__ import annotations

import collections
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from preheat import Chunk, SQLPool, VectorStorage, open_pool, warm

VECTOR = [1.0, 0.0, 0.0]


def interrupt_after(seconds: float) -> None:
    """Press Ctrl-C so many seconds from now, wherever the program is then."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


async def again_and_again(call: Callable[[], Awaitable[object]], tasks: int = 4) -> None:
    """Call for ever, from several tasks, and press Ctrl-C once it is under way."""
    calls = itertools.count()

    async def caller() -> None:
        while True:
            await call()
            if next(calls) == 2 * tasks:
                interrupt_after(random.uniform(0, 0.2))

    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(caller)


async def searching(dsn: str, size: int = 4) -> None:
    async with VectorStorage(dsn, "interrupted", 3, size=size, warm="background") as storage:
        await storage.create()
        await again_and_again(lambda: storage.search(VECTOR))


async def queueing(dsn: str) -> None:
    await searching(dsn, size=1)


async def adding(dsn: str) -> None:
    chunks = [Chunk(f"text {number}", VECTOR) for number in range(100)]
    async with VectorStorage(dsn, "interrupted", 3) as storage:
        await storage.create()
        await again_and_again(lambda: storage.add(chunks), tasks=2)


async def using_connections(dsn: str) -> None:
    async def use() -> None:
        async with storage.get_connection() as connection, connection.transaction():
            await connection.fetch("SELECT 1")
            await connection.executemany("SELECT $1::int", [(number,) for number in range(30)])

    async with VectorStorage(dsn, "interrupted", 3, size=2) as storage:
        await again_and_again(use)


async def warming_and_closing(dsn: str) -> None:
    async def use() -> None:
        async with open_pool(dsn, size=2) as pool:
            await warm(pool)

    await again_and_again(use, tasks=2)


async def opening_and_closing_a_storage(dsn: str) -> None:
    async def use() -> None:
        async with VectorStorage(dsn, "interrupted", 3, size=2, warm="background"):
            pass

    await again_and_again(use, tasks=1)


async def connecting(dsn: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with open_pool(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db", connect_timeout=100) as pool:
            interrupt_after(0.1)
            await pool.fetch("SELECT 1")


async def waiting_for_the_server(dsn: str) -> None:
    async with open_pool(dsn) as pool:
        await pool.fetch("SELECT 1")
        interrupt_after(0.1)
        await pool.fetch("SELECT pg_sleep(100)")


async def computing(dsn: str) -> None:
    """A loop of the user's that never waits. (On asyncio it takes a second Ctrl-C.)"""

    async def use(pool: SQLPool) -> None:
        await pool.fetch("SELECT 1")
        interrupt_after(0.1)
        if anyio.lowlevel.current_token().backend_name == "asyncio":
            interrupt_after(0.3)
        while True:
            pass

    async with open_pool(dsn) as pool, anyio.create_task_group() as group:
        group.start_soon(use, pool)


async def embedded(dsn: str) -> None:
    """The argument is a folder here."""
    from preheat.embedded import embedded_postgres

    async with embedded_postgres(dsn) as own:
        await searching(own)


PROGRAMS: dict[str, Callable[[str], Awaitable[Any]]] = {
    program.__name__: program
    for program in (
        searching,
        queueing,
        adding,
        using_connections,
        warming_and_closing,
        opening_and_closing_a_storage,
        connecting,
        waiting_for_the_server,
        computing,
        embedded,
    )
}


def ends(program: str, backend: str, dsn: str, *, seconds: float = 50) -> str:
    """How a program ends: `"KeyboardInterrupt"`, or what else its process did."""
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", __file__, program, backend, dsn]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"did not end within {seconds} s"
    # 1 where a task group has wrapped it; where not, Python ends itself with the signal.
    if "KeyboardInterrupt" in done.stderr and done.returncode in (1, 130, -signal.SIGINT, 0xC000013A):
        return "KeyboardInterrupt"
    return f"exit code {done.returncode}: {done.stderr[-3000:]}"


def count(runs: int, backends: list[str]) -> None:
    from tests.support.server import running_server

    with tempfile.TemporaryDirectory(prefix="preheat-") as folder, running_server(Path(folder) / "data") as server:
        server.sql("CREATE EXTENSION vector;")
        for backend, program in itertools.product(backends, PROGRAMS):
            seen: collections.Counter[str] = collections.Counter()
            worst = 0.0
            for run in range(runs):
                began = time.perf_counter()
                where = str(Path(folder) / f"embedded{run % 3}") if program == "embedded" else server.dsn()
                seen[ends(program, backend, where)] += 1
                worst = max(worst, time.perf_counter() - began)
            print(f"{backend:8} {program:30} {worst:5.1f} s at most  {dict(seen)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
        anyio.run(PROGRAMS[sys.argv[1]], sys.argv[3], backend=sys.argv[2])
    else:
        count(int(sys.argv[1]) if len(sys.argv) > 1 else 50, sys.argv[2:] or ["trio", "asyncio"])
