"""What preheat itself adds: its guard to a retrieval, and its pool to the same SQL on a bare connection."""

from __future__ import annotations

import random
import timeit
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any, TypeVar

from tests.support.server import Server

from benchmarks.data.collection import COLLECTION, DIMENSIONS, Instant, K, questions
from benchmarks.report.records import Series
from benchmarks.runner.timing import quiet, run, timed
from preheat import ResearchRetriever, VectorStorage
from preheat.storage.encoding.vectors import vector_text
from preheat.storage.identifiers import Identifiers
from preheat.storage.search.sql import search

T = TypeVar("T")


def measure(server: Server, *, rounds: int, searches: int) -> Iterator[Series]:
    """All of it, on each backend."""
    for backend in ("asyncio", "uvloop", "trio"):
        who = f"preheat on {backend}"
        guards, calls = run(backend, _guard, server.dsn(), rounds)
        yield Series("costs", who, "guard on a warmed retrieve", "us", guards)
        yield Series("costs", who, "retrieve beyond embedding and searching", "us", calls)
    for backend in ("asyncio", "uvloop"):
        taken = run(backend, beside_bare, server.dsn(), COLLECTION, searches)
        yield Series("costs", f"preheat on {backend}", "steady search", "ms", taken["preheat"])
        yield Series("costs", f"bare asyncpg on {backend}", "steady search", "ms", taken["bare"])
        yield Series("costs", f"bare asyncpg on {backend}", "steady search, vector given as text", "ms", taken["text"])


async def _guard(dsn: str, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Microseconds of the question whether the pool is warm, and of all that `retrieve` does by itself."""
    async with VectorStorage(dsn, COLLECTION, DIMENSIONS, embedder="instant") as storage:
        retriever = ResearchRetriever(storage, Instant(), query_cache=0)
        await retriever.retrieve("warm")
        storage.search = _no_search  # type: ignore[method-assign]
        names = {"retriever": retriever}
        with quiet():
            asked = timeit.repeat("retriever.must_warm()", globals=names, number=100_000, repeat=rounds)
            empty = min(timeit.repeat("pass", number=100_000, repeat=rounds))
            added = [await _beyond(retriever) for _ in range(rounds)]
    return tuple(10 * (seconds - empty) for seconds in asked), tuple(added)


async def _no_search(_vector: Any, _k: int = K) -> list[Any]:
    return []


async def _beyond(retriever: ResearchRetriever, calls: int = 2000) -> float:
    started = perf_counter()
    for _ in range(calls):
        await _no_search((await retriever.embedder.embed(["why"]))[0], K)
    direct = perf_counter() - started
    started = perf_counter()
    for _ in range(calls):
        await retriever.retrieve("why", K)
    return 1e6 * (perf_counter() - started - direct) / calls


async def beside_bare(dsn: str, collection: str, searches: int) -> dict[str, tuple[float, ...]]:
    """Milliseconds of steady searches: preheat's, and the same statement on the bare connection, in turn.

    All are given the vector as a model gives it, which is then written as text in the quickest way there is; so that
    this can be told apart, the statement is also given one that is text already. It is one connection for all, as no
    two backends of a server are equally fast. Each vector has been searched for once before, so that nobody is the
    first to need its rows and pages.
    """
    statement, vectors = search(Identifiers(collection), "cosine"), questions(seed=random.randrange(2**32))
    taken: dict[str, list[float]] = {"preheat": [], "bare": [], "text": []}
    async with VectorStorage(dsn, collection, DIMENSIONS, warm="never", size=1) as storage:
        bare: Any = await storage.pool.run(_itself)
        for number in range(searches + 10):
            vector = next(vectors)
            text = vector_text(vector)
            ways: dict[str, Callable[[], Awaitable[object]]] = {
                "preheat": lambda vector=vector: storage.search(vector, K),
                "bare": lambda vector=vector: bare.fetch(statement, vector_text(vector), K, collection, None, None),
                "text": lambda text=text: bare.fetch(statement, text, K, collection, None, None),
            }
            await ways["text"]()
            for who in random.sample(list(ways), k=len(ways)):
                seconds = await timed(ways[who])
                if number >= 10:
                    taken[who].append(1000 * seconds)
    return {who: tuple(samples) for who, samples in taken.items()}


async def _itself(connection: T) -> T:
    return connection
