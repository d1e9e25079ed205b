"""Hostile keys, values and names at every public call: the database afterwards holds exactly what was meant.

Hypothesis writes a programme of calls on one or two collections. A model in Python says what each call means. After
each programme the tables that there are, all of their rows, and a table that has nothing to do with preheat are read
back by other means and compared.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.server import Server

from preheat import ArgumentError, Chunk, PreheatError, ResearchRetriever, VectorStorage, collections, open_pool
from preheat.storage.write.chunks import numbered

ATTACKS = (
    "'; DROP TABLE canary; --",
    '"; DROP TABLE canary; --',
    "'); DROP TABLE canary; --",
    "*/ DROP TABLE canary; /*",
    "\\'; DROP TABLE canary; --",
    "x' OR '1'='1",
    "' || (SELECT secret FROM canary) || '",
    '" OR true --',
    "$1",
    "$7::text",
    "%s",
    "{}",
    "{a,b}",
    "public.canary",
    'a"b',
    "a.b",
    "'",
    '"',
    "\\",
    "\0",
    "\ud800",
    "",
    " ",
    "-",
    "-x or -'y\"",
    "null",
    "🦊" * 20,
)
hostile = st.one_of(st.sampled_from(ATTACKS), st.text(max_size=12))
values: Any = st.recursive(
    st.one_of(hostile, st.none(), st.booleans(), st.integers(-9, 9), st.floats(-1e6, 1e6)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(hostile, inner, max_size=2)),
    max_leaves=4,
)
metadata = st.dictionaries(hostile, values, max_size=2)
filters: Any = st.one_of(
    st.builds(lambda key, value: {key: value}, hostile, values),
    st.builds(lambda key, word, value: {key: {word: value}}, hostile, st.sampled_from(["$eq", "$ne", "$gt"]), values),
    st.builds(lambda key, word, many: {key: {word: many}}, hostile, st.sampled_from(["$in", "$nin"]), st.lists(values)),
    st.builds(lambda key, value: {"$not": {key: {"$contains": value}}}, hostile, values),
    st.builds(lambda word, value: {word: value}, hostile, values),
)
chunks = st.builds(
    lambda text, metadata, document, key, x: Chunk(text, [1.0, x], metadata, document, 0, key),
    hostile,
    metadata,
    hostile,
    hostile,
    st.sampled_from([0.0, 1.0, 2.0]),
)

Rows: TypeAlias = dict[str, tuple[str, int, str, Any]]
"""What a collection holds: by id, the document, position, text and metadata."""


@dataclass
class Model:
    """What there should be."""

    tables: dict[str, Rows] = field(default_factory=dict)
    """By `schema.table`."""
    answers: set[str] = field(default_factory=set)
    """The tables of answers."""


def as_row(chunk: Chunk) -> tuple[str, int, str, Any]:
    return chunk.document, chunk.position, chunk.text, json.loads(json.dumps(dict(chunk.metadata)))


class Programme:
    """Calls on one storage, each with what it means."""

    def __init__(self, storage: VectorStorage, model: Model, table: str) -> None:
        self.storage = storage
        self.retriever = ResearchRetriever(storage, Fixed())
        self.model = model
        self.table = table

    @property
    def rows(self) -> Rows:
        """What the collection holds; nothing if it is missing."""
        return self.model.tables.get(self.table, {})

    def made(self) -> Rows:
        """The same, once the collection has been made."""
        return self.model.tables.setdefault(self.table, {})

    async def add(self, batch: list[Chunk]) -> None:
        await self.storage.add(batch)
        if batch:
            self.made().update({chunk.id: as_row(chunk) for chunk in numbered(batch)})

    async def upsert(self, batch: list[Chunk]) -> None:
        await self.storage.upsert(batch)
        if batch:
            self.made().update({chunk.id: as_row(chunk) for chunk in numbered(batch)})

    async def replace_document(self, document: str, batch: list[Chunk]) -> None:
        batch = [Chunk(one.text, one.embedding, one.metadata, document, 0, one.id) for one in batch]
        await self.storage.replace_document(document, batch)
        rows = self.made() if batch else self.rows
        for id in [id for id, row in rows.items() if row[0] == document]:
            del rows[id]
        rows.update({chunk.id: as_row(chunk) for chunk in numbered(batch)})

    async def delete_ids(self, ids: list[str]) -> None:
        gone = await self.storage.delete(ids)
        assert gone == sum(self.rows.pop(id, None) is not None for id in set(ids))

    async def delete_document(self, document: str) -> None:
        gone = await self.storage.delete(document=document)
        ids = [id for id, row in self.rows.items() if row[0] == document]
        assert gone == len(ids)
        for id in ids:
            del self.rows[id]

    async def delete_filter(self, filter: Any) -> None:
        """What passes is found by a search first; tests/storage/test_filtered_search.py has an oracle for that."""
        passing = [hit.id for hit in await self.storage.search([1.0, 0.0], 100, filter=filter)]
        gone = await self.storage.delete(filter=filter)
        assert gone == len(passing)
        for id in passing:
            del self.rows[id]

    async def get(self, ids: list[str]) -> None:
        got = await self.storage.get(ids)
        assert {chunk.id: as_row(chunk) for chunk in got} == {id: row for id, row in self.rows.items() if id in ids}

    async def count(self, document: str, filter: Any) -> None:
        assert await self.storage.count() == len(self.rows)
        expected = sum(row[0] == document for row in self.rows.values())
        assert await self.storage.count(document=document) == expected
        passing = await self.storage.search([1.0, 0.0], 100, filter=filter)
        assert await self.storage.count(filter=filter) == len(passing)

    async def iterate(self, filter: Any) -> None:
        everything = {chunk.id: as_row(chunk) async for chunk in self.storage.chunks(batch_size=2)}
        assert everything == self.rows
        keys = [info.key async for info in self.storage.documents()]
        assert sorted(keys) == sorted({row[0] for row in self.rows.values()})
        async for chunk in self.storage.chunks(filter=filter, batch_size=1):
            assert chunk.id in self.rows

    async def search(self, text: str, filter: Any) -> None:
        for asked in ({}, {"filter": filter}, {"text": text}, {"text": text, "filter": filter, "mmr": 0.5}):
            for hit in await self.storage.search([1.0, 0.0], 9, **asked):
                assert self.rows[hit.id] == (hit.document, hit.position, hit.text, hit.metadata)
        await self.storage.explain([1.0, 0.0], text=text, filter=filter)

    async def more_like(self, id: str) -> None:
        for hit in await self.storage.more_like(id):
            assert hit.id != id
            await self.storage.neighbors(hit)

    async def retrieve(self, query: str, filter: Any) -> None:
        await self.retriever.retrieve(query, filter=filter, hybrid=True)
        await self.retriever.retrieve_many([query, "x"], filter=filter)

    async def retriever_add(self, document: str, text: str, metadata: Any) -> None:
        await self.retriever.add(document, text, metadata)
        rows = self.made() if text.strip() else self.rows
        for id in [id for id, row in rows.items() if row[0] == document]:
            del rows[id]
        if text.strip():
            start = len(text) - len(text.lstrip())
            stored = Chunk(text.strip(), None, {**metadata, "start": start}, document)
            rows[stored.id] = as_row(stored)

    async def research(self, query: str, scope: str, answer: str) -> None:
        async def research(_query: str) -> str:
            return answer

        # A search tells whether this can be asked at all, so that nothing is researched otherwise.
        got = await self.retriever.retrieve_or_research(query, research, scope=scope, threshold=1)
        assert isinstance(got.value, str)
        self.model.answers.add(f"{self.table}.answers")
        again = await self.retriever.retrieve_or_research(query, research, scope=scope, threshold=1)
        assert (again.value, again.tier) == (got.value, "exact")
        await self.storage.answer_table.clear(scope)
        await self.storage.answer_table.sweep()

    async def create_index(self) -> None:
        await self.storage.create_index()
        self.made()


class Fixed:
    """A model that does not look at the texts."""

    name = "fixed"
    dimensions = 2

    async def embed(self, texts: list[str]) -> Any:
        return np.array([[1.0, 0.5]] * len(texts), dtype=np.float32)


def calls() -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    batch = st.lists(chunks, max_size=3)
    each: dict[str, tuple[Any, ...]] = {
        "add": (batch,),
        "upsert": (batch,),
        "replace_document": (hostile, batch),
        "delete_ids": (st.lists(hostile, max_size=2),),
        "delete_document": (hostile,),
        "delete_filter": (filters,),
        "get": (st.lists(hostile, max_size=2),),
        "count": (hostile, filters),
        "iterate": (filters,),
        "search": (hostile, filters),
        "more_like": (hostile,),
        "retrieve": (hostile, filters),
        "retriever_add": (hostile, hostile, metadata),
        "research": (hostile, hostile, hostile),
        "create_index": (),
    }
    return st.one_of(*(st.tuples(st.just(name), st.tuples(*arguments)) for name, arguments in each.items()))


programmes = st.tuples(
    st.one_of(st.none(), hostile),
    st.sampled_from(["papers", "x", "a-b", "null", "-", "a.b", "x; --"]),
    st.sampled_from([None, None, None, "german", *ATTACKS[:2]]),
    st.lists(calls(), min_size=1, max_size=8),
)


CHUNK = Chunk("' words", [1.0, 0.0], {"k": ATTACKS[0]}, ATTACKS[0], 0, "a")
EACH_CALL = (
    ("add", ([CHUNK],)),
    ("upsert", ([CHUNK],)),
    ("get", (["a", ATTACKS[0]],)),
    ("count", (ATTACKS[0], {"k": ATTACKS[0]})),
    ("iterate", ({"k": ATTACKS[0]},)),
    ("search", (ATTACKS[1], {"k": ATTACKS[0]})),
    ("more_like", ("a",)),
    ("retrieve", (ATTACKS[1], {"k": ATTACKS[0]})),
    ("retriever_add", (ATTACKS[1], ATTACKS[2], {ATTACKS[0]: ATTACKS[1]})),
    ("research", (ATTACKS[0], ATTACKS[1], ATTACKS[2])),
    ("create_index", ()),
    ("delete_filter", ({"k": ATTACKS[0]},)),
    ("replace_document", (ATTACKS[0], [CHUNK])),
    ("delete_ids", (["a"],)),
    ("delete_document", (ATTACKS[1],)),
)
"""A programme in which nothing is refused."""


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[str]:
    """A database with a table that nobody should touch."""
    server.sql("CREATE DATABASE hostile")
    server.sql(
        "CREATE EXTENSION vector; CREATE TABLE canary (secret text); INSERT INTO canary VALUES ('alive');", "hostile"
    )
    yield server.dsn("hostile")
    server.sql("DROP DATABASE hostile WITH (FORCE)")


RELATIONS = """
    SELECT nspname AS schema, relname AS name FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    AND nspname NOT LIKE 'pg_temp%'
"""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def there_is(connection: Any) -> tuple[dict[str, Rows], set[str]]:
    """Every table of preheat's with its rows, and all other tables."""
    tables: dict[str, Rows] = {}
    others: set[str] = set()
    for relation in await connection.fetch(RELATIONS):
        schema, name = relation["schema"], relation["name"]
        if not name.startswith("preheat_") or name == "preheat_collections" or name.endswith(".answers"):
            others.add(f"{schema}.{name}")
            continue
        rows = await connection.fetch(f"SELECT * FROM {quoted(schema)}.{quoted(name)}")
        tables[f"{schema}.{name}"] = {
            row["id"]: (row["document"], row["position"], row["text"], json.loads(row["metadata"])) for row in rows
        }
    return tables, others


async def clean(connection: Any) -> None:
    for relation in await connection.fetch(RELATIONS):
        if relation["schema"] == "public" and relation["name"] != "canary":
            await connection.execute(f"DROP TABLE {quoted(relation['name'])}")
    for row in await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'"):
        if row["nspname"] not in ("public", "information_schema"):
            await connection.execute(f"DROP SCHEMA {quoted(row['nspname'])} CASCADE")


async def obey(pool: Any, done: set[str], schema: str | None, name: str, language: str | None, todo: list[Any]) -> None:
    """Run a programme; what is refused has changed nothing."""
    model = Model()
    home = "public" if schema is None else schema
    try:
        with suppress(ArgumentError):  # of a name that nothing can have
            async with VectorStorage(pool, name, 2, schema=schema, language=language, warm="never") as storage:
                programme = Programme(storage, model, f"{home}.preheat_{name}")
                for call, arguments in todo:
                    if await attempt(getattr(programme, call), arguments):
                        done.add(call)
            listed = {f"{home}.preheat_{info.name}" for info in await collections(pool, schema)}
            assert listed == set(model.tables)
        async with pool.lease() as lease:
            tables, others = await there_is(lease.connection)
            assert tables == model.tables
            assert others - {f"{home}.preheat_collections"} == {"public.canary", *model.answers}
            canary = await lease.connection.fetch("SELECT secret FROM canary")
            assert [row["secret"] for row in canary] == ["alive"]
    finally:
        async with pool.lease() as lease:
            await clean(lease.connection)


async def attempt(call: Callable[..., Awaitable[None]], arguments: tuple[Any, ...]) -> bool:
    with suppress(PreheatError):  # refused in a sentence; what that has left is looked at in the end
        await call(*arguments)
        return True
    return False


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.timeout(600)
def test_property_hostile_texts_do_what_was_meant(database: str, backend: str) -> None:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Any]:
        async with open_pool(database, size=2) as pool:
            yield pool

    done: set[str] = set()
    with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(opened()) as pool:

        @settings(suppress_health_check=list(HealthCheck))
        @given(programmes)
        @example((ATTACKS[0], "papers", None, list(EACH_CALL)))
        def look(programme: tuple[str | None, str, str | None, list[Any]]) -> None:
            portal.call(obey, pool, done, *programme)

        look()
    assert done == {name for name, _ in EACH_CALL}
