"""The soak, `just soak`: many tasks on one storage while its servers and their network fail, and a table of the result.

The servers are a primary and two standbys with synchronous replication, so that an acknowledged write survives the loss
of the primary. The storage reaches each of them through a network of its own, and keeps its pool warm.
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import asyncpg
import psutil
from anyio import to_thread
from rich.console import Console
from rich.table import Table
from tests.support.ledger import DIMENSIONS, Ledger, chunks_of, growth, is_expected, mistakes_of, name_of
from tests.support.replication import Node, dsn_of, replicated
from tests.support.server import Server

from preheat import VectorStorage
from preheat.pools import PoolStatistics
from preheat.testing import FaultyNetwork

T = TypeVar("T")

PAGES = Path(__file__).parents[1] / "docs" / "explanation" / "reliability"
EVENTS = ("latency", "slow", "refuse", "reset", "close", "close after", "mute", "half-open", "terminate")
TASKS = 200
SIZE = 10
MOST_DOCUMENTS = 6
"""How many documents a task keeps, so that the table does not grow."""
SECONDS_TO_ANSWER = 30.0
"""No call may take longer, whatever fails: the sum of all limits is below."""
LIMITS = {"connect_timeout": 3.0, "acquire_timeout": 5.0, "statement_timeout": 3.0}
SAMPLE_SECONDS = 5.0
DOWN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises for a server that goes down while it is asked."""
MOST_GROWTH = 32 * 2**20
"""Bytes that the process may grow by after it has settled. The allocator of C gives little back after each storm of
connections, so a small leak shows in the number of objects first."""
MOST_OBJECTS = 20_000
"""By how much the objects of Python may become more: some 50 for each of the calls under way, with a margin."""


@dataclass(frozen=True)
class Step:
    """One event of a soak, and its times in seconds."""

    pause: float
    kind: str
    hold: float
    """How long it lasts before all faults are healed."""


def plan(seconds: float, seed: int) -> list[Step]:
    """The events of a soak, drawn at random, with a fail-over in the middle and a restart before and after it."""
    rng = random.Random(seed)
    steps: list[Step] = []
    clock = 0.0
    due = [(0.75, "restart"), (0.5, "fail-over"), (0.25, "restart")]
    while due or clock < seconds:
        kind = rng.choice(EVENTS)
        # A half-open connection has to last longer than the limit of a statement.
        step = Step(rng.uniform(0.5, 2), kind, 4.0 if kind == "half-open" else rng.uniform(0.2, 2))
        if due and clock + step.pause >= due[-1][0] * seconds:
            step = Step(step.pause, due.pop()[1], rng.uniform(0.2, 2))
        clock += step.pause + step.hold
        steps.append(step)
    return steps


class Cluster:
    """A primary with standbys, each behind a network that fails."""

    def __init__(self, nodes: list[Node], networks: list[FaultyNetwork], seed: int) -> None:
        self._nodes = nodes
        self._networks = networks
        self._random = random.Random(seed)
        servers = [Server(network.port, node.folder) for node, network in zip(nodes, networks, strict=True)]
        self.dsn: str = dsn_of(*servers, words="target_session_attrs=read-write")
        for node in nodes:  # the standbys, too: one of them will be the primary
            node.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
            node.sql("SELECT pg_reload_conf()")

    @property
    def primary(self) -> Node:
        """The server that takes writes."""
        return self._nodes[0]

    @property
    def links(self) -> int:
        """How many connections lead through the networks."""
        return sum(network.connections for network in self._networks)

    async def happen(self, step: Step) -> None:
        """Let something happen to the primary or its network, and heal it."""
        network = self._networks[0]
        if step.kind == "latency":
            network.latency, network.jitter = 0.03, 0.02
        elif step.kind == "slow":
            network.bandwidth = 50_000
        elif step.kind in ("refuse", "mute"):
            network.refuse() if step.kind == "refuse" else network.mute()
            network.reset()
        elif step.kind in ("reset", "close"):
            network.reset() if step.kind == "reset" else network.close()
        elif step.kind == "close after":
            network.close_after(self._random.randrange(3000), reset=self._random.random() < 0.5)
        elif step.kind == "half-open":
            network.half_open()
        elif step.kind == "terminate":
            await to_thread.run_sync(self._terminate)
        elif step.kind == "restart":
            await to_thread.run_sync(self.primary.stop)
        elif step.kind == "fail-over":
            await to_thread.run_sync(self.primary.stop, signal.SIGKILL)
        await anyio.sleep(step.hold)
        if step.kind == "restart":
            await to_thread.run_sync(self.primary.start)
        elif step.kind == "fail-over":
            await to_thread.run_sync(self._fail_over)
        elif step.kind == "half-open":
            network.reset()  # else the server would keep its sessions
        network.heal()

    def cut(self) -> None:
        """Reset all connections."""
        for network in self._networks:
            network.reset()

    def sessions(self) -> int:
        """How many sessions the primary has for the pool."""
        rows = self.primary.sql("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'preheat'")
        count: int = rows[0]["n"]
        return count

    def _terminate(self) -> None:
        sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'preheat' ORDER BY random() LIMIT 4"
        self.primary.sql(f"SELECT pg_terminate_backend(pid) FROM ({sessions}) AS chosen")

    def _fail_over(self) -> None:
        """Promote the standby that has received most; the other one follows it."""

        def received(node: Node) -> int:
            while node.sql("SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'"):
                time.sleep(0.05)  # it has not noticed the end of the primary
            [row] = node.sql("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint AS bytes")
            count: int = row["bytes"]
            return count

        heir, other = sorted(self._nodes[1:], key=received, reverse=True)
        heir.promote()
        other.follow(heir)
        networks = dict(zip([node.port for node in self._nodes], self._networks, strict=True))
        self._nodes = [heir, other, self.primary]
        self._networks = [networks[node.port] for node in self._nodes]


@contextmanager
def cluster(seed: int) -> Iterator[Cluster]:
    """Run the servers and their networks."""
    with tempfile.TemporaryDirectory(prefix="preheat-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)  # the servers may run as another user
        nodes = stack.enter_context(replicated(Path(folder)))
        networks = [stack.enter_context(FaultyNetwork(node.dsn("tests"), seed=seed)) for node in nodes]
        yield Cluster(nodes, networks, seed)


class Soak:
    """The tasks, what they count, and the checks."""

    def __init__(self, cluster: Cluster, storage: VectorStorage, ledger: Ledger, seed: int) -> None:
        self._cluster = cluster
        self._storage = storage
        self._ledger = ledger
        self._seed = seed
        self._began = time.monotonic()
        self._before: PoolStatistics | None = None
        self.is_over = False
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.cancelled: int = 0
        self.slowest: float = 0.0
        self.events: Counter[str] = Counter()
        self.memory: list[int] = []
        self.objects: list[int] = []
        self.sessions: list[int] = []

    async def call(self, kind: str, work: Callable[[], Awaitable[T]], limit: float = math.inf) -> T | None:
        """Make one call of the storage; None if it was cancelled after `limit` seconds or has failed."""
        began = time.monotonic()
        with anyio.move_on_after(min(limit, SECONDS_TO_ANSWER)):
            try:
                result = await work()
                self.answers[kind] += 1
                return result
            except Exception as error:
                self.errors[name_of(error)] += 1
                if not is_expected(error):
                    self._ledger.fault(f"{kind} raised {name_of(error)}: {error}")
                return None
            finally:
                self.slowest = max(self.slowest, time.monotonic() - began)
        if limit < SECONDS_TO_ANSWER:
            self.cancelled += 1
        else:
            self._ledger.fault(f"{kind} had no answer within {SECONDS_TO_ANSWER:g} s")
        return None

    async def work(self, number: int) -> None:
        """One task: store, delete, read and search until the soak is over."""
        rng = random.Random(f"{self._seed} {number}")
        storage, ledger = self._storage, self._ledger
        stored: list[int] = []
        gone: list[int] = []
        while not self.is_over:
            await anyio.sleep(rng.uniform(0, 1.5))
            limit = rng.uniform(0, 0.05) if rng.random() < 0.1 else math.inf
            choice = rng.random()
            if choice < 0.2 or not stored:
                document = ledger.storing()
                written = await self.call("add", partial(storage.add, chunks_of(document)), limit)
                if written is not None:
                    ledger.has_stored(document, written)
                    stored.append(document)
            if choice < 0.1 or len(stored) > MOST_DOCUMENTS:
                if not stored:
                    continue
                document = stored.pop(rng.randrange(len(stored)))
                ledger.deleting(document)
                count = await self.call("delete", partial(storage.delete, document=str(document)), limit)
                if count is not None:
                    ledger.has_deleted(document, count)
                    gone = [*gone[-MOST_DOCUMENTS:], document]
            elif choice < 0.4 and stored:
                document = rng.choice(stored)
                ids = [chunk.id for chunk in chunks_of(document)]
                chunks = await self.call("get", partial(storage.get, ids), limit)
                if chunks is not None:
                    ledger.check_document(document, chunks)
            elif stored:
                is_stored = not gone or rng.random() < 0.7
                asked = rng.choice(chunks_of(rng.choice(stored if is_stored else gone)))
                since = ledger.now
                assert asked.embedding is not None
                hits = await self.call("search", partial(storage.search, asked.embedding, k=3), limit)
                if hits is not None:
                    ledger.check_hits(asked, hits, since, is_stored=is_stored)

    async def run(self, steps: list[Step], console: Console) -> None:
        """Let everything happen while the tasks are at work."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, console)
            for number in range(TASKS):
                group.start_soon(self.work, number)
            for step in steps:
                await anyio.sleep(step.pause)
                self.events[step.kind] += 1
                await self._cluster.happen(step)
            self.is_over = True

    async def _watch(self, console: Console) -> None:
        """Take samples, and tell how it goes."""
        process = psutil.Process()
        while not self.is_over:
            await anyio.sleep(SAMPLE_SECONDS)
            gc.collect()
            self.memory.append(process.memory_info().rss)
            self.objects.append(len(gc.get_objects()))
            with suppress(*DOWN):
                self.sessions.append(await to_thread.run_sync(self._cluster.sessions))
            self.check_statistics()
            minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
            console.print(
                f"{minutes}:{seconds:02}  {self.answers.total():,} answers, {self.errors.total():,} errors, "
                f"{self.cancelled:,} cancelled, {self.events.total()} events, pool {self._storage.state}, "
                f"{self.memory[-1] / 2**20:.0f} MB, {len(self._ledger.faults)} faults",
                soft_wrap=True,
            )

    def statistics(self) -> PoolStatistics:
        """The statistics of the pool."""
        statistics: PoolStatistics = self._storage.pool.statistics()  # type: ignore[attr-defined]
        return statistics

    def check_statistics(self) -> None:
        """Check that the statistics of the pool add up."""
        now = self.statistics()
        for mistake in mistakes_of(now, self._before):
            self._ledger.fault(f"the statistics of the pool are wrong: {mistake}")
        self._before = now

    async def check_end(self) -> float:
        """Check what is left when all faults are healed.

        Returns:
            The seconds that the keeper took to warm the pool again after the loss of all its connections.
        """
        storage, ledger = self._storage, self._ledger
        await storage.wait_warm(SECONDS_TO_ANSWER)
        healed, before = time.monotonic(), self.statistics()
        self._cluster.cut()
        with anyio.move_on_after(SECONDS_TO_ANSWER):
            while self.statistics().lost < before.lost + before.open:
                await anyio.sleep(0.01)
        if not await storage.wait_warm(SECONDS_TO_ANSWER) or storage.state != "warm":
            ledger.fault(f"the pool is {storage.state} at the end, not warm")
        seconds = time.monotonic() - healed

        async def read() -> int:
            ledger.check_all([chunk async for chunk in storage.chunks(embeddings=False)])
            return 0

        if await self.call("chunks", read) is None:
            ledger.fault("the documents could not be read at the end")
        for document in ledger.stored[:500]:
            asked = chunks_of(document)[0]
            assert asked.embedding is not None
            hits = await self.call("search", partial(storage.search, asked.embedding, k=3))
            ledger.check_hits(asked, hits or [], ledger.now, is_stored=True)
        self.check_statistics()
        await self.check_sessions(lambda: self.statistics().open)
        if growth(self.memory) > MOST_GROWTH:
            ledger.fault(f"the process grew by {growth(self.memory) / 2**20:.0f} MB")
        if growth(self.objects) > MOST_OBJECTS:
            ledger.fault(f"the process has {growth(self.objects):,} objects more than when it had settled")
        if growth(self.sessions) > SIZE:
            ledger.fault(f"the sessions of the server grew by {growth(self.sessions)}")
        return seconds

    async def check_sessions(self, expected: Callable[[], int]) -> None:
        """Check that the server has a session for each connection of the pool, and no more."""
        with anyio.move_on_after(SECONDS_TO_ANSWER):
            while (found := await to_thread.run_sync(self._cluster.sessions)) != expected():
                await anyio.sleep(0.1)  # a server takes a while to end a session
            return
        self._ledger.fault(f"the server has {found} sessions for {expected()} connections of the pool")


class UnretrievedErrors(logging.Handler):
    """Makes a fault of what asyncio has to log: an error of a task that nobody saw."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.ERROR)
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of one."""
        self._ledger.fault(f"asyncio logged: {record.getMessage()}")


async def soak(seconds: float, seed: int, ledger: Ledger, console: Console) -> list[tuple[str, str]]:
    """Run everything and return the rows of the table."""
    with cluster(seed) as servers:
        tasks = len(anyio.get_running_tasks())
        options: dict[str, Any] = {"size": SIZE, "warm": "startup", "warm_connections": SIZE, **LIMITS}
        # Without an index a search is exact: what it misses is a fault, and never the recall of an index.
        async with VectorStorage(servers.dsn, "soak", DIMENSIONS, index=False, keep_warm=True, **options) as storage:
            await storage.create()
            run = Soak(servers, storage, ledger, seed)
            await run.run(plan(seconds, seed), console)
            healed = await run.check_end()
            statistics = run.statistics()
            state = storage.state
            began = time.monotonic()
        closing = time.monotonic() - began
        await run.check_sessions(lambda: 0)
        if left := len(anyio.get_running_tasks()) - tasks:
            ledger.fault(f"{left} tasks are left after the storage was closed")
        if servers.links:
            ledger.fault(f"{servers.links} connections are left after the storage was closed")
    return [
        ("answers", f"{run.answers.total():,}: {listed(run.answers)}"),
        ("calls cancelled", f"{run.cancelled:,}"),
        ("errors", f"{run.errors.total():,}: {listed(run.errors)}"),
        ("slowest call", f"{run.slowest:.1f} s"),
        ("events", f"{run.events.total()}: {listed(run.events)}"),
        ("writes acknowledged", f"{ledger.now:,}"),
        ("documents stored at the end", f"{len(ledger.stored):,}"),
        ("connections", f"{statistics.opened} opened, {statistics.lost} lost, {statistics.closed} closed"),
        ("sessions of the server", f"{max(run.sessions, default=0)} at most, {statistics.open} at the end"),
        ("memory", f"{run.memory[-1] / 2**20:.0f} MB, {growth(run.memory) / 2**20:+.1f} MB since it settled"),
        ("objects of Python", f"{run.objects[-1]:,}, {growth(run.objects):+,} since it settled"),
        ("pool at the end", f"{state}, {healed:.2f} s after the loss of all connections; closed in {closing:.2f} s"),
        ("faults found", f"{len(ledger.faults):,}"),
    ]


def listed(counts: Counter[str]) -> str:
    """Counts in one line, the greatest first."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"


def markdown(title: str, backend: str, rows: list[tuple[str, str]]) -> str:
    """The table as a part of a page of the docs."""
    lines = [f"<!-- written by `just soak --docs --backend {backend}` -->", "", f"| | {title} |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def main() -> int:
    """Run the soak and print the table."""
    arguments = argparse.ArgumentParser(prog="just soak", description=__doc__)
    arguments.add_argument("--minutes", type=float, default=10.0, help="how long; 10 by default")
    arguments.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    arguments.add_argument("--seed", type=int, help="of the events and the tasks; any by default")
    arguments.add_argument("--docs", action="store_true", help="write the table into the docs")
    given = arguments.parse_args()
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed

    console, ledger = Console(highlight=False), Ledger()
    logging.getLogger("preheat").addHandler(logging.NullHandler())  # lost connections are no news here
    logging.getLogger("asyncio").addHandler(UnretrievedErrors(ledger))
    console.print(f"seed {seed}, {given.backend}, {TASKS} tasks, {given.minutes:g} minutes")
    rows = anyio.run(soak, given.minutes * 60, seed, ledger, console, backend=given.backend)

    table = Table("", given.backend, caption=f"seed {seed}")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if given.docs:
        title = f"{given.minutes:g} minutes on {given.backend}"
        PAGES.joinpath(f"soak-{given.backend}.md").write_text(markdown(title, given.backend, rows), encoding="utf-8")
    for fault in ledger.faults[:20]:
        console.print(f"fault: {fault}", markup=False, soft_wrap=True)
    return int(bool(ledger.faults))


if __name__ == "__main__":
    sys.exit(main())
