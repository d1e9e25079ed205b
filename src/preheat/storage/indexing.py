"""Create the indexes of a collection, as after a first bulk load, and report progress."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from ..errors import ArgumentError, describe, ungrouped
from ..pools import SQLConnection, hearing_notices
from .executor import Executor
from .schema import index_sql as statements
from .schema.collection import Collection, check_version
from .schema.index_sql import STEPS
from .schema.sql import analyze, create_indexes
from .schema.tables import DEFAULT_LANGUAGE, MAX_DIMENSIONS, locking
from .sqlstates import NO_MEMORY, sqlstate

logger: logging.Logger = logging.getLogger("preheat")

LOOK_SECONDS = 0.2
"""Seconds between two looks at the progress on the server."""


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """The progress of creating indexes."""

    step: str
    """What is being created, such as `the index of the vectors`."""
    phase: str = ""
    """The phase in the server's own words; empty while the server has not reported one."""
    done: int = 0
    """How much of the phase is done, in rows or pages of the table."""
    total: int = 0
    """How much the phase has to do in all; 0 if the server does not report it."""
    notice: str = ""
    """A notice of the server about the step, such as that the graph of the vectors no longer fits into memory; empty
    for a report of progress."""

    def as_dict(self) -> dict[str, Any]:
        """The record for logs and JSON."""
        return {"step": self.step, "phase": self.phase, "done": self.done, "total": self.total, "notice": self.notice}


MEMORY = re.compile(r"\d+ ?(kB|MB|GB|TB)")


async def create_index(
    executor: Executor, progress: Callable[[IndexProgress], object] | None, memory: str | None = None
) -> None:
    """See :meth:`preheat.VectorStorage.create_index`."""
    if memory is not None and not MEMORY.fullmatch(str(memory)):
        raise ArgumentError(f"memory is {memory!r}; give it as PostgreSQL writes it, such as '512MB' or '2GB'")
    await executor.create()
    maker = _Maker(executor.collection, memory)
    if progress is None:
        await executor.run(maker.make)
        return
    watcher = _Watcher(executor, maker, progress)
    with ungrouped():
        async with anyio.create_task_group() as group:
            group.start_soon(watcher.watch, name="preheat: watch the creation of indexes")
            await executor.run(maker.make)
            group.cancel_scope.cancel()
    watcher.tell_the_rest()


async def lacks_index(executor: Executor) -> bool:
    """See :meth:`preheat.VectorStorage.lacks_index`."""
    rows = await executor.fetch(statements.lacks_index)
    return bool(rows and rows[0]["lacks"])


class _Maker:
    """Creates the words and the indexes that are missing. The words have a transaction of their own, since readers wait
    for them."""

    def __init__(self, collection: Collection, memory: str | None) -> None:
        self._collection = collection
        self._memory = memory
        self.pid: int | None = None
        """The server's process id for the connection that creates them."""
        self.steps: list[str] = []
        """The steps that have begun, in order."""
        self.notices: list[tuple[str, str]] = []
        """What the server has noticed, each with its step."""

    async def make(self, connection: SQLConnection) -> None:
        """An operation."""
        known, identifiers = self._collection, self._collection.identifiers
        metric, type, language = known.metric or "cosine", known.stored_as, known.language or DEFAULT_LANGUAGE
        await check_version(connection, identifiers)
        (made,) = await connection.fetch(statements.made(identifiers))
        missing = [
            (step, statement)
            for step, statement in zip(
                STEPS, create_indexes(identifiers, metric, type, language, known.hnsw), strict=True
            )
            if not made[step]
        ]
        self.pid = (await connection.fetch(statements.backend()))[0]["pid"]
        words = [one for one in missing if one[0] == STEPS[0]]
        indexes = [one for one in missing if one[0] != STEPS[0]]
        with hearing_notices(connection, self._notice):
            if words:
                await self._run(connection, words)
            if indexes:
                try:
                    await self._run(connection, indexes, self._set_memory())
                except Exception as error:
                    if sqlstate(error) not in NO_MEMORY:
                        raise
                    # Processes that work together share the memory, and a container may have little for sharing.
                    logger.info("collection %s: creating its indexes with one process: %s", known.name, describe(error))
                    await self._run(connection, indexes, self._set_memory(), (statements.without_workers(),))
        if missing:
            await connection.execute(analyze(identifiers))

    async def _run(
        self, connection: SQLConnection, part: Sequence[tuple[str, str]], *settings: tuple[str, ...]
    ) -> None:
        """Create some of what is missing, in one transaction."""
        known, identifiers = self._collection, self._collection.identifiers
        async with locking(connection):
            await connection.fetch(statements.lock_indexes(), f"{identifiers.schema or ''} {known.name}")
            for setting in settings:
                await connection.fetch(*setting)
            for step, statement in part:
                self.steps.append(step)
                await connection.execute(statement)

    def _set_memory(self) -> tuple[str, ...]:
        """The statement that sets the memory for the indexes, with its arguments."""
        known = self._collection
        if self._memory is not None:
            return statements.set_given_memory(), self._memory
        dimensions = known.dimensions or MAX_DIMENSIONS[known.stored_as]
        return (statements.set_memory(known.identifiers, dimensions, known.stored_as, known.hnsw.m),)

    def _notice(self, text: str) -> None:
        if self.steps and "already exists" not in text:
            self.notices.append((self.steps[-1], text))
            logger.warning("collection %s: %s: %s", self._collection.name, self.steps[-1], text)


class _Watcher:
    """Reports the progress of a maker."""

    def __init__(self, executor: Executor, maker: _Maker, tell: Callable[[IndexProgress], object]) -> None:
        self._executor = executor
        self._maker = maker
        self._tell = tell
        self._told = 0
        self._latest: IndexProgress | None = None
        self._looks = executor.pool.size > 1

    async def watch(self) -> None:
        """Look at the progress until cancelled."""
        while True:
            self.tell_the_rest()
            seen = await self._look()
            if seen is not None and seen != self._latest:
                self._latest = seen
                self._tell(seen)
            await anyio.sleep(LOOK_SECONDS)

    def tell_the_rest(self) -> None:
        """Report the steps that have begun since the last report."""
        for step in self._maker.steps[self._told :]:
            self._told += 1
            self._tell(IndexProgress(step))
        notices, self._maker.notices = self._maker.notices, []
        for step, notice in notices:
            self._tell(IndexProgress(step, notice=notice))

    async def _look(self) -> IndexProgress | None:
        """The progress that the server reports for the current step; None if it reports none."""
        if not self._looks or self._maker.pid is None or not self._maker.steps:
            return None
        step = self._maker.steps[-1]
        try:
            rows = await self._executor.fetch(lambda _: statements.index_progress(), self._maker.pid)
        except Exception as error:  # a failed look must not end the work
            logger.debug(
                "pool %s: creating indexes without progress reports: %s", self._executor.pool.name, describe(error)
            )
            self._looks = False
            return None
        if not rows or step is not self._maker.steps[-1]:
            return None
        return IndexProgress(step, rows[0]["phase"], rows[0]["done"], rows[0]["total"])
