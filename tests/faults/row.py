"""A row of the table of faults: the outcome that its docstring states, and the outcome that is seen."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from tests.faults.stated import parsed
from tests.support.server import Server
from tests.support.waiting import wait_until

from preheat import Chunk, PreheatError, SQLPool, VectorStorage, open_pool

PATIENCE = 20.0
"""Seconds past its bound after which a call is taken for one that never ends."""
OVERRUN = 1.0
"""Seconds past its bound that a call may take on a machine under load. The table has the time that it took."""
HOT_SECONDS = 2.0
"""The least that a warm-up is given which must succeed."""
VECTOR = [1.0, 0.0, 0.0]

_numbers = itertools.count()


def name_of(error: PreheatError) -> str:
    """An error in the words of the table."""
    words = type(error).__name__
    if error.sqlstate and not error.sqlstate.startswith("08"):  # a lost connection, as the driver names it
        words += f" {error.sqlstate}"
    return f"{words} (transient)" if getattr(error, "transient", False) else words


class Row:
    """One fault on one backend. Each outcome is compared with the docstring as soon as it is seen."""

    def __init__(self, docstring: str, server: Server) -> None:
        self.fault, stated = parsed(docstring)
        self.stated = {column: words.split(", then ") for column, words in stated.items()}
        self.seen: dict[str, list[str]] = {column: [] for column in stated}
        self.servers = [server]
        """Servers on which no connection may be left."""
        self.name = f"fault_{next(_numbers)}_{id(self)}"
        """The collection, and the name of its connections."""
        self.tasks_left = 0
        self.overrun = 0.0
        self.healed_in: float | None = None
        self.stored: set[str] = set()
        self.tried: set[str] = set()
        self.options: dict[str, Any] = {}

    def saw(self, column: str, outcome: str, error: BaseException | None = None) -> None:
        """Compare an outcome with the next one that the docstring states."""
        self.seen[column].append(outcome)
        expected = self.stated[column][: len(self.seen[column])]
        assert self.seen[column] == expected, f"{column}: expected {expected[-1]!r}, saw {outcome!r} {error or ''}"

    @asynccontextmanager
    async def storage(self, dsn: Any, **options: Any) -> AsyncGenerator[VectorStorage]:
        """A storage with short bounds that keeps its pool warm.

        Args:
            options: of :class:`VectorStorage`. `seconds` sets each time-out; that of one connection is half of it.
        """
        seconds = options.pop("seconds", 5.0)
        names = ("acquire_timeout", "statement_timeout", "warm_timeout")
        times = {"connect_timeout": seconds / 2, **dict.fromkeys(names, seconds)}
        self.options = {"size": 3, "keep_warm": True, **times, **options}
        if "hot" in self.stated.get("warm-up", ()):  # which a machine under load must have the time for
            self.options["warm_timeout"] = max(self.options["warm_timeout"], HOT_SECONDS)
        if isinstance(dsn, str):
            async with (
                self._leaving_no_task(),
                VectorStorage(self._named(dsn), self.name, 3, **self.options) as storage,
            ):
                yield storage
        else:
            self.options = {name: self.options[name] for name in ("keep_warm", "warm_timeout")}
            async with VectorStorage(dsn, self.name, 3, **self.options) as storage:
                yield storage

    @asynccontextmanager
    async def pool(self, dsn: str, **options: Any) -> AsyncGenerator[SQLPool]:
        """A pool of three connections, for a storage with options that only a pool has."""
        async with self._leaving_no_task(), open_pool(self._named(dsn), size=3, **options) as pool:
            yield pool

    def _named(self, dsn: str) -> str:
        return f"{dsn}{'&' if '?' in dsn else '?'}application_name={self.name}"

    @asynccontextmanager
    async def _leaving_no_task(self) -> AsyncGenerator[None]:
        before = {task.id for task in anyio.get_running_tasks()}
        yield
        self.tasks_left += len({task.id for task in anyio.get_running_tasks()} - before)

    async def prepare(self, dsn: str) -> None:
        """Store the first chunk before there is a fault."""
        async with VectorStorage(dsn, self.name, 3, size=1) as storage:
            assert await self._write(storage) == "stored"

    async def warm_up(self, storage: VectorStorage) -> None:
        """Warm the pool: `hot`, `cold`, or `2 of 3 hot`."""
        outcome, error = await self._outcome(lambda: self._warm(storage), self.options["warm_timeout"])
        self.saw("warm-up", outcome, error)

    async def read(self, storage: VectorStorage) -> None:
        """Search: `answer`, or the error."""
        self.saw("reads", *await self.outcome_of_read(storage))

    async def outcome_of_read(self, storage: VectorStorage) -> tuple[str, BaseException | None]:
        """The outcome of a search, which is not compared with the docstring."""
        return await self._outcome(lambda: self._read(storage), self._bound())

    async def write(self, storage: VectorStorage, more: str = "") -> None:
        """Store a chunk, which may be given a longer text: `stored`, or the error."""
        outcome, error = await self._outcome(lambda: self._write(storage, more), self._bound(3))
        self.saw("writes", outcome, error)

    async def heal(self, storage: VectorStorage) -> None:
        """Wait for the keeper: `warm without a call`. A search has to find all that was stored."""
        started = anyio.current_time()
        warm = await storage.wait_warm(PATIENCE)
        self.healed_in = anyio.current_time() - started
        outcome, error = await self._outcome(lambda: self._read(storage), self._bound())
        self.saw(
            "healing", "warm without a call" if warm and outcome == "answer" else f"{storage.state}, {outcome}", error
        )

    async def heal_by_call(self, storage: VectorStorage) -> None:
        """Search without waiting for a keeper: `the next read`."""
        outcome, error = await self.outcome_of_read(storage)
        self.saw("healing", "the next read" if outcome == "answer" else outcome, error)

    def pids(self, storage: VectorStorage) -> list[int]:
        """The server's processes for the connections that are hot."""
        assert storage.warm_report is not None
        return sorted(
            connection.pid or 0 for connection in storage.warm_report.connections if connection.status == "hot"
        )

    def leaks(self) -> int:
        """Connections and tasks that are left, once everything is closed."""
        question = f"SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = '{self.name}'"
        left = 0
        for server in self.servers:
            try:
                wait_until(lambda server=server: server.sql(question)[0]["n"] == 0)  # type: ignore[misc]
            except AssertionError:
                left += server.sql(question)[0]["n"]
        return left + self.tasks_left

    def _bound(self, statements: int = 1) -> float:
        """The seconds that a call of so many statements may take: a write checks the collection, writes and commits."""
        seconds: float = self.options.get("acquire_timeout", 30.0)
        return seconds + statements * self.options.get("statement_timeout", 60.0)

    async def _outcome(self, call: Callable[[], Awaitable[str]], bound: float) -> tuple[str, BaseException | None]:
        started = anyio.current_time()
        try:
            with anyio.fail_after(bound + PATIENCE):
                return await call(), None
        except PreheatError as error:
            return name_of(error), error
        except Exception as error:
            return f"{type(error).__name__}!", error
        finally:
            self.overrun = max(self.overrun, anyio.current_time() - started - bound)
            assert self.overrun < OVERRUN or sys.exc_info()[1], f"{self.overrun:.1f} s past a bound of {bound} s"

    async def _warm(self, storage: VectorStorage) -> str:
        await storage.warm_pool()
        report = storage.warm_report
        assert report is not None
        return "hot" if report.ok else f"{report.hot} of {report.requested} hot" if report.hot else "cold"

    async def _read(self, storage: VectorStorage) -> str:
        found = {hit.text for hit in await storage.search(VECTOR, k=100)}
        return "answer" if self.stored <= found <= self.tried else f"wrong answer: {sorted(found ^ self.stored)}"

    async def _write(self, storage: VectorStorage, more: str = "") -> str:
        number = len(self.tried)
        text = f"{number}{more}"
        self.tried.add(text)
        await storage.add([Chunk(text, [1.0, float(number), 0.0])])
        self.stored.add(text)
        return "stored"
