"""Who is measured: preheat, and what its users would pick instead, each as its own documentation sets it up."""

# A module of this package has
#
#   opened(job)    an async context manager that opens the contestant and yields an object with
#                    warm(connections)       its own way to be ready before the first caller
#                    search(vector)          the ids of the K nearest; text and metadata have come along
#                    create()                its table for an ingest: empty, without a vector index
#                    ingest(texts, vectors)  its own bulk way, for one batch
#   prepare(job)   where it has a table of its own layout: make it, fill it out of preheat's, index it
#
# What a contestant cannot do is missing. The module is imported in the contestant's environment only, and imports
# nothing of preheat unless it is preheat.

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Literal

Environment = Literal["preheat", "peers", "peers-langchain", "peers-llama-index"]


@dataclass(frozen=True)
class Contestant:
    """One line of the results."""

    name: str
    module: str
    """In this package."""
    environment: Environment
    """preheat's own, or the requirements file of that name."""
    distributions: tuple[str, ...]
    """What to name the version of."""
    backend: Literal["asyncio", "uvloop", "trio"] = "asyncio"
    imports: tuple[str, ...] = ()
    """What opening or searching would import: importing is no part of what is measured, of nobody."""
    connects_in_turn: bool = False
    """Whether a first answer opens one connection after the other, and waits for the round trips of all; others open
    theirs at the same time."""
    searches: bool = True
    ingests: bool = True
    own_table: bool = False
    """Whether it searches a table of its own layout instead of preheat's."""

    def load(self) -> ModuleType:
        """Import its module, and whatever it would import later."""
        for name in self.imports:
            import_module(name)
        return import_module(f"benchmarks.contestants.{self.module}")


_PREHEAT = ("preheat", "asyncpg", "pgvector")
# Not trio's on asyncio too: a process that has imported trio-asyncio runs asyncio on a loop of its.
_ON_ASYNCIO = ("preheat.pools.asyncpg.pool", "anyio._backends._asyncio")
_ON_TRIO = ("preheat.pools.trio.pool", "anyio._backends._trio")
_LLAMA_INDEX = ("llama-index-vector-stores-postgres", "llama-index-core")
_ASYNCPG_DIALECT = ("asyncpg", "sqlalchemy.dialects.postgresql.asyncpg")

CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("preheat on asyncio", "preheat_storage", "preheat", _PREHEAT, imports=_ON_ASYNCIO),
    Contestant(
        "preheat on uvloop", "preheat_storage", "preheat", (*_PREHEAT, "uvloop"), backend="uvloop", imports=_ON_ASYNCIO
    ),
    Contestant(
        "preheat on trio",
        "preheat_storage",
        "preheat",
        (*_PREHEAT, "trio", "trio-asyncio"),
        backend="trio",
        imports=_ON_TRIO,
    ),
    Contestant("asyncpg pool", "asyncpg_pool", "peers", ("asyncpg", "pgvector")),
    Contestant("asyncpg pool, min_size=N", "asyncpg_min_size", "peers", ("asyncpg", "pgvector"), ingests=False),
    Contestant("psycopg_pool", "psycopg_async", "peers", ("psycopg", "psycopg-pool", "pgvector")),
    Contestant(
        "SQLAlchemy", "sqlalchemy_engine", "peers", ("sqlalchemy", "asyncpg", "pgvector"), imports=_ASYNCPG_DIALECT
    ),
    Contestant(
        "langchain-postgres",
        "langchain_store",
        "peers-langchain",
        ("langchain-postgres", "langchain-core", "sqlalchemy", "asyncpg", "pgvector"),
        imports=_ASYNCPG_DIALECT,
        own_table=True,
    ),
    Contestant(
        "llama-index",
        "llama_index_store",
        "peers-llama-index",
        (
            "llama-index-vector-stores-postgres",
            "llama-index-core",
            "sqlalchemy",
            "asyncpg",
            "psycopg2-binary",
            "pgvector",
        ),
        imports=(*_ASYNCPG_DIALECT, "sqlalchemy.dialects.postgresql.psycopg2", "psycopg2.extras"),
        connects_in_turn=True,
        own_table=True,
    ),
    Contestant("triopg", "triopg_pool", "peers", ("triopg", "asyncpg", "trio", "trio-asyncio"), backend="trio"),
    Contestant("bare COPY", "bare_copy", "peers", ("asyncpg", "pgvector"), searches=False),
)


def by_name(name: str) -> Contestant:
    """The contestant of this name.

    Raises:
        ValueError: if there is none; the message lists them.
    """
    for contestant in CONTESTANTS:
        if contestant.name == name:
            return contestant
    raise ValueError(f"no contestant is called {name!r}; there are {', '.join(one.name for one in CONTESTANTS)}")
