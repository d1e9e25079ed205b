"""Create the indexes of a collection, as after a first bulk load, and report progress."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from ..errors import describe, ungrouped
from ..pools import SQLConnection
from .executor import Executor
from .schema import index_sql as statements
from .schema.collection import Collection, check_version
from .schema.index_sql import STEPS
from .schema.sql import analyze, create_indexes
from .schema.tables import DEFAULT_LANGUAGE, locking

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

    def as_dict(self) -> dict[str, Any]:
        """The record for logs and JSON."""
        return {"step": self.step, "phase": self.phase, "done": self.done, "total": self.total}


async def create_index(executor: Executor, progress: Callable[[IndexProgress], object] | None) -> None:
    """See :meth:`preheat.VectorStorage.create_index`."""
    await executor.create()
    maker = _Maker(executor.collection)
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

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.pid: int | None = None
        """The server's process id for the connection that creates them."""
        self.steps: list[str] = []
        """The steps that have begun, in order."""

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
        for part in filter(None, (words, indexes)):
            async with locking(connection):
                await connection.fetch(statements.lock_indexes(), f"{identifiers.schema or ''} {known.name}")
                for step, statement in part:
                    self.steps.append(step)
                    await connection.execute(statement)
        if missing:
            await connection.execute(analyze(identifiers))


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
