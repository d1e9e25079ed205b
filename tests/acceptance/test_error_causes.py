"""Every public call tells every kind of server error as a `PreheatError` with `sqlstate` and a remedy for this cause.

The errors come out of the driver's connection, below the pool, as the driver raises them; those that a server can be
made to say are said by one further down."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import asyncpg
import pytest
from tests.support.models import Words
from tests.support.server import Server
from tests.support.tiers import slow_except

from preheat import (
    AccessError,
    Chunk,
    CollectionBusyError,
    ConnectError,
    DatabaseError,
    Document,
    F,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    collections,
    open_pool,
    reembed,
)
from preheat.storage import executor
from preheat.storage.answers.table import AnswerTable
from preheat.warming import engine

VECTOR = [1.0, 0.0, 0.0]


async def all_of(pages: Any) -> list[Any]:
    return [one async for one in pages]


async def embed(texts: list[str]) -> list[list[float]]:
    return [VECTOR] * len(texts)


async def research(query: str) -> str:
    return "an answer"


def chunks() -> list[Chunk]:
    return [Chunk(f"text {number}", VECTOR, {"n": number}, document="d", id=str(number)) for number in range(2)]


@dataclass
class Scene:
    """What calls are made on."""

    dsn: str
    storage: VectorStorage

    @cached_property
    def retriever(self) -> ResearchRetriever:
        return ResearchRetriever(self.storage, Words(), query_cache=0)

    async def fresh(self, call: Callable[[VectorStorage], Awaitable[Any]]) -> Any:
        """A call on a storage that knows nothing yet."""
        async with VectorStorage(self.storage.pool, "x", warm="never") as storage:
            return await call(storage)

    async def leased(self, sql: str) -> Any:
        async with self.storage.pool.lease() as lease:
            await lease.execute(sql)

    async def run(self, sql: str) -> Any:
        return await self.storage.pool.run(lambda connection: connection.fetch(sql))


Call = Callable[[Scene], Awaitable[Any]]
STATEMENT = 'SELECT FROM "preheat_x"'

STORAGE: dict[str, Call] = {
    "create": lambda on: on.fresh(lambda storage: storage.create()),
    "add": lambda on: on.storage.add(chunks()),
    "add, new": lambda on: on.storage.add([Chunk("new", VECTOR)]),
    "add, fresh": lambda on: on.fresh(lambda storage: storage.add(chunks())),
    "upsert": lambda on: on.storage.upsert(chunks()),
    "upsert, new": lambda on: on.storage.upsert([Chunk("new")], embed),
    "upsert, fresh": lambda on: on.fresh(lambda storage: storage.upsert([Chunk("new")], embed)),
    "replace_document": lambda on: on.storage.replace_document("d", chunks()),
    "replace_document, embedding": lambda on: on.storage.replace_document("d", [Chunk("a", document="d")], embed),
    "replace_document, with nothing": lambda on: on.storage.replace_document("d", []),
    "embed_missing": lambda on: on.storage.embed_missing(embed),
    "delete": lambda on: on.storage.delete(["1"]),
    "delete, a document": lambda on: on.storage.delete(document="d"),
    "delete, by filter": lambda on: on.storage.delete(filter=F("n") == 1),
    "clear": lambda on: on.storage.clear(),
    "drop": lambda on: on.storage.drop(),
    "count": lambda on: on.storage.count(),
    "count, by filter": lambda on: on.storage.count(filter=F("n") == 1),
    "update_metadata": lambda on: on.storage.update_metadata({"n": 2}, filter=F("n") == 1),
    "metadata_keys": lambda on: on.storage.metadata_keys(),
    "metadata_values": lambda on: on.storage.metadata_values("n"),
    "get": lambda on: on.storage.get(["1"]),
    "search": lambda on: on.storage.search(VECTOR),
    "search, filtered": lambda on: on.storage.search(VECTOR, filter=F("n") == 1),
    "search, words alone": lambda on: on.storage.search(text="text"),
    "search, with words": lambda on: on.storage.search(VECTOR, text="text"),
    "search, diverse": lambda on: on.storage.search(VECTOR, mmr=0.5),
    "search, exact": lambda on: on.storage.search(VECTOR, metric="l2"),
    "search, fresh": lambda on: on.fresh(lambda storage: storage.search(VECTOR)),
    "more_like": lambda on: on.storage.more_like("1"),
    "explain": lambda on: on.storage.explain(VECTOR),
    "neighbors": lambda on: on.storage.neighbors(chunks()[0]),
    "documents": lambda on: all_of(on.storage.documents()),
    "chunks": lambda on: all_of(on.storage.chunks()),
    "create_index": lambda on: on.storage.create_index(),
    "create_index, watched": lambda on: on.storage.create_index(progress=print),
    "lacks_index": lambda on: on.storage.lacks_index(),
}
ANSWERS: dict[str, Call] = {
    "answers, create": lambda on: on.storage.answer_table.create(),
    "answers, create_index": lambda on: on.storage.answer_table.create_index(2),
    "answers, exact": lambda on: on.storage.answer_table.exact("key"),
    "answers, nearest": lambda on: on.storage.answer_table.nearest(VECTOR, "", "m", 0.9, 5),
    "answers, store": lambda on: on.storage.answer_table.store("key", "", "m", "why?", VECTOR, '"a"', None),
    "answers, sweep": lambda on: on.storage.answer_table.sweep(),
    "answers, clear": lambda on: on.storage.answer_table.clear(),
}
RETRIEVER: dict[str, Call] = {
    "retrieve": lambda on: on.retriever.retrieve("why?"),
    "retrieve_many": lambda on: on.retriever.retrieve_many(["why?", "how?"]),
    "retriever.explain": lambda on: on.retriever.explain("why?"),
    "retriever.add": lambda on: on.retriever.add("d", "some text"),
    "retriever.upsert": lambda on: on.retriever.upsert([Chunk("new")]),
    "retriever.embed_missing": lambda on: on.retriever.embed_missing(),
    "ingest": lambda on: on.retriever.ingest([Document("e.md", "some text")]),
    "reembed": lambda on: reembed(on.storage, Words("another")),
}
POOL: dict[str, Call] = {
    "collections": lambda on: collections(on.storage.pool),
    "pool.fetch": lambda on: on.storage.pool.fetch(STATEMENT),
    "pool.run": lambda on: on.run(STATEMENT),
    "lease.execute": lambda on: on.leased(STATEMENT),
}
CALLS = {**STORAGE, **ANSWERS, **RETRIEVER, **POOL}
ELSEWHERE = {
    "open", "close", "warm_pool", "wait_warm", "get_connection", "locked", "retrieve_or_research",
}  # fmt: skip
"""What raises no such error, or the driver's own; each has a test of its own below or elsewhere."""


def test_no_call_is_forgotten() -> None:
    for kind in (VectorStorage, AnswerTable, ResearchRetriever):
        for name, member in inspect.getmembers(kind, inspect.isroutine):
            is_call = inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
            if name.startswith("_") or name in ELSEWHERE or not is_call:
                continue
            assert any(name in call for call in CALLS), f"{kind.__name__}.{name} is not among the calls"


@dataclass(frozen=True)
class Cause:
    """A kind of error."""

    kind: type[PreheatError]
    remedy: str
    ends: bool = False
    """Whether the connection ends with it."""


CAUSES: dict[str, Cause] = {
    "40P01": Cause(DatabaseError, "try again"),
    "40001": Cause(DatabaseError, "try again"),
    "55P03": Cause(DatabaseError, "try again"),
    "25006": Cause(DatabaseError, "connect to the primary"),
    "53100": Cause(DatabaseError, "free some space on the disk"),
    "53200": Cause(DatabaseError, "more memory"),
    "53400": Cause(DatabaseError, "raise the limit"),
    "42501": Cause(AccessError, "grant|GRANT|owner"),
    "57014": Cause(DatabaseError, "statement_timeout"),
    "XX001": Cause(DatabaseError, "restore the table from a backup"),
    "58030": Cause(DatabaseError, "log of the server"),
    "53300": Cause(ConnectError, "use a smaller pool", ends=True),
    "57P01": Cause(ConnectError, "once the server is back", ends=True),
    "57P02": Cause(ConnectError, "once the server is back", ends=True),
    "08006": Cause(ConnectError, "try again", ends=True),
}
BUSY = ("40P01", "40001", "55P03")


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, sqlstate: str) -> Iterator[list[str]]:
    """The driver's connection raises an error at each statement on one of preheat's tables."""
    cause, met = CAUSES[sqlstate], []

    def fail(connection: Any, sql: str) -> None:
        if "preheat" not in sql or ("pg_class" in sql and '"preheat' not in sql):
            return
        met.append(sql)
        if cause.ends:
            connection.terminate()
        severity = "FATAL" if cause.ends else "ERROR"
        raise asyncpg.PostgresError.new({"S": severity, "V": severity, "C": sqlstate, "M": f"it is {sqlstate}"})

    with monkeypatch.context() as patch:
        for name in ("_execute", "execute", "_copy_in"):
            original = getattr(asyncpg.Connection, name)

            async def wrapped(self: Any, sql: str, *args: Any, _original: Any = original, **options: Any) -> Any:
                fail(self, sql)
                return await _original(self, sql, *args, **options)

            patch.setattr(asyncpg.Connection, name, wrapped)
        patch.setattr(executor, "FIRST_WAIT_SECONDS", 0)
        yield met


@pytest.mark.parametrize("sqlstate", slow_except(("40P01", "42501", "57014", "53300"), CAUSES))
async def test_every_call_reports_the_cause_and_its_remedy(
    server: Server, vector_database: str, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    cause, dsn = CAUSES[sqlstate], server.dsn(vector_database)
    wrong = []
    async with open_pool(dsn, size=3) as pool, VectorStorage(pool, "x", 3, warm="never") as storage:
        await storage.add(chunks())
        await storage.answer_table.create()
        scene = Scene(dsn, storage)
        for name, call in CALLS.items():
            with failing(monkeypatch, sqlstate) as met:
                try:
                    outcome: Any = await call(scene)
                except Exception as error:
                    outcome = error
            said = str(outcome)
            kind = CollectionBusyError if sqlstate in BUSY and name not in POOL else cause.kind
            is_told = isinstance(outcome, kind) and outcome.sqlstate == sqlstate and f"it is {sqlstate}" in said
            if not (met and is_told and any(word in said for word in cause.remedy.split("|"))):
                wrong.append(f"{name}: {outcome!r}")
        assert await storage.count() == 2
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("sqlstate", slow_except(("42501", "57014", "57P01"), CAUSES))
async def test_a_warm_up_reports_the_cause(
    server: Server, vector_database: str, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    monkeypatch.setattr(engine, "next_try", lambda *_: None)  # it would try again for five seconds
    async with VectorStorage(server.dsn(vector_database), "x", 3, size=2) as storage:
        await storage.add(chunks())
        with failing(monkeypatch, sqlstate):
            assert not await storage.warm_pool()
        assert storage.warm_report is not None
        errors = [connection.error for connection in storage.warm_report.connections]
        assert errors
        assert {getattr(error, "sqlstate", None) for error in errors} == {sqlstate}


@pytest.mark.parametrize("sqlstate", ["25006", "53100", "57P01", "57014"])
async def test_an_answer_is_given_all_the_same(
    server: Server, vector_database: str, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3, warm="never") as storage:
        retriever = ResearchRetriever(storage, Words())
        with failing(monkeypatch, sqlstate) as met:
            answer = await retriever.retrieve_or_research("why?", research)
        assert (answer.tier, answer.value) == ("fresh", "an answer")
        assert met


# Said by a real server


async def raises(call: Callable[[], Awaitable[Any]], kind: type[PreheatError], sqlstate: str, words: str) -> Any:
    with pytest.raises(kind, match=words) as caught:
        await call()
    assert caught.value.sqlstate == sqlstate
    assert isinstance(caught.value.__cause__, Exception)
    return caught.value


WRITES = [name for name in STORAGE if name.startswith(("add", "upsert, new", "replace_document", "delete"))]


@pytest.mark.parametrize(
    "sqlstate",
    slow_except(("25006", "40P01", "57P01"), ("53100", "53200", "25006", "57014", "40P01", "55P03", "57P01")),
)
async def test_an_error_of_a_trigger_is_reported_by_every_writer(
    server: Server, vector_database: str, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    monkeypatch.setattr(executor, "FIRST_WAIT_SECONDS", 0)
    dsn = server.dsn(vector_database)
    async with VectorStorage(dsn, "x", 3, warm="never") as storage:
        await storage.add(chunks())
        server.sql(
            f"CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'boom' USING "
            f"ERRCODE = '{sqlstate}'; END $$; "
            "CREATE TRIGGER boom BEFORE INSERT OR UPDATE OR DELETE ON preheat_x FOR EACH ROW EXECUTE FUNCTION boom();",
            vector_database,
        )
        scene = Scene(dsn, storage)
        kind = CollectionBusyError if sqlstate in BUSY else CAUSES[sqlstate].kind
        for name in WRITES:
            await raises(partial(CALLS[name], scene), kind, sqlstate, CAUSES[sqlstate].remedy)
        assert await storage.count() == 2


async def test_a_server_that_only_reads_says_where_to_write(server: Server, vector_database: str) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3, warm="never") as storage:
        await storage.add(chunks())
    server.sql(f"ALTER DATABASE {vector_database} SET default_transaction_read_only = on")
    async with VectorStorage(server.dsn(vector_database), "x", 3, warm="never") as storage:
        for write in (
            lambda: storage.add(chunks()),
            lambda: storage.upsert([Chunk("new")], embed),
            lambda: storage.replace_document("d", []),
            lambda: storage.delete(["1"]),
            storage.clear,
            storage.drop,
            lambda: reembed(storage, Words("another")),
        ):
            await raises(write, DatabaseError, "25006", "target_session_attrs=read-write")
        assert await storage.count() == 2


async def test_a_backend_that_dies_during_a_write_is_a_lost_connection(server: Server, vector_database: str) -> None:
    dsn = server.dsn(vector_database)
    async with VectorStorage(dsn, "x", 3, warm="never") as storage:
        await storage.add(chunks())
        server.sql(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$; "
            "CREATE TRIGGER die BEFORE INSERT OR UPDATE OR DELETE ON preheat_x FOR EACH ROW EXECUTE FUNCTION die();",
            vector_database,
        )
        scene = Scene(dsn, storage)
        for name in WRITES:
            with pytest.raises(ConnectError, match=r"try again") as caught:
                await CALLS[name](scene)
            assert caught.value.sqlstate in ("57P01", "08003", "08006")
        assert await storage.count() == 2


GRANTED = {
    "search": "SELECT",
    "search, with words": "SELECT",
    "get": "SELECT",
    "count": "SELECT",
    "delete": "SELECT, DELETE",
    "add": "SELECT, INSERT, UPDATE, DELETE",
    "add, new": "SELECT, INSERT, UPDATE, DELETE",
    "upsert, new": "SELECT, INSERT, UPDATE, DELETE",
    "replace_document": "SELECT, INSERT, UPDATE, DELETE",
    "clear": "SELECT, DELETE",
}


@pytest.mark.parametrize("name", slow_except(("search", "add", "delete"), GRANTED))
async def test_the_grant_in_the_message_is_all_that_the_call_needs(
    server: Server, vector_database: str, role: str, name: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3, schema="Their's") as storage:
        await storage.add(chunks())
    server.sql(f'ALTER ROLE {role} RENAME TO "{role} ""o\'r"')
    dsn = server.dsn(vector_database, user=f"{role}%20%22o%27r")
    server.sql(f"REVOKE TEMPORARY ON DATABASE {vector_database} FROM public")
    try:
        async with VectorStorage(dsn, "x", 3, schema="Their's", warm="never") as storage:
            scene = Scene(dsn, storage)
            asked = []
            for _ in range(3):  # one for the table, and one for what is only needed once that may be used
                try:
                    await CALLS[name](scene)
                    break
                except AccessError as error:
                    asked.append(error.remedy.partition("run: ")[2])
                    server.sql(f"{asked[-1]};", vector_database)
            else:
                pytest.fail(f"{asked} do not do")
        assert asked
        assert f'GRANT {GRANTED[name]} ON "Their\'s"."preheat_x"' in asked[0] or "USAGE" in asked[0]
        rights = " ".join(asked)
        assert ("INSERT" in rights) == ("INSERT" in GRANTED[name])
        assert ("TEMPORARY" in rights) == (name == "add")
    finally:
        server.sql(f'ALTER ROLE "{role} ""o\'r" RENAME TO {role}')


async def test_a_model_that_a_collection_is_given_needs_the_list_of_collections(
    server: Server, vector_database: str, role: str
) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
    server.sql(f"GRANT ALL ON preheat_x TO {role}; GRANT SELECT ON preheat_collections TO {role};", vector_database)
    async with VectorStorage(server.dsn(vector_database, user=role), "x", 3, embedder="m", warm="never") as storage:
        with pytest.raises(AccessError) as caught:
            await storage.add(chunks())
        grant = f'GRANT UPDATE ON "public"."preheat_collections" TO "{role}"'
        assert caught.value.remedy.partition("run: ")[2] == grant
        server.sql(f"{grant};", vector_database)
        await storage.add(chunks())


async def test_the_grant_for_making_a_collection_is_enough(server: Server, vector_database: str, role: str) -> None:
    for schema in (None, "Their's"):
        async with VectorStorage(
            server.dsn(vector_database, user=role), "x", 3, schema=schema, warm="never"
        ) as storage:
            with pytest.raises(AccessError) as caught:
                await storage.add(chunks())
            server.sql(f"{caught.value.remedy.partition('run: ')[2]};", vector_database)
            assert await storage.add(chunks()) == 2
            assert await storage.add(chunks()) == 2


async def test_a_call_that_needs_the_owner_names_the_owner(server: Server, vector_database: str, role: str) -> None:
    async with VectorStorage(server.dsn(vector_database), "x", 3, index=False) as storage:
        await storage.add(chunks())
    server.sql(f"GRANT ALL ON preheat_x, preheat_collections TO {role};", vector_database)
    async with VectorStorage(server.dsn(vector_database, user=role), "x", 3, warm="never") as storage:
        with pytest.raises(AccessError, match=r"let the owner of .*, the role 'postgres'") as caught:
            await storage.create_index()
        server.sql(f"{caught.value.remedy.partition('run: ')[2]};", vector_database)
        await storage.create_index()
    server.sql(f"REVOKE postgres FROM {role}")


# What is not the server's


class NoModelError(Exception):
    pass


class Broken(Words):
    def embed(self, texts: Any) -> Any:
        raise NoModelError("no such file")


@pytest.mark.parametrize(
    "error", [NoModelError(), OSError("no file"), ConnectionResetError("elsewhere"), TimeoutError()]
)
async def test_an_exception_of_the_callers_own_code_is_raised_unchanged(
    server: Server, vector_database: str, error: Exception
) -> None:

    class Model(Words):
        def embed(self, texts: Any) -> Any:
            raise error

    async def fails(texts: Any) -> Any:
        raise error

    async def sources() -> Any:
        yield "a.md", "some text"
        raise error

    async with VectorStorage(server.dsn(vector_database), "x", 3) as storage:
        await storage.add(chunks())
        broken, whole = ResearchRetriever(storage, Model()), ResearchRetriever(storage, Words())
        for call in (
            lambda: broken.retrieve("why?"),
            lambda: broken.add("d", "text"),
            lambda: broken.upsert([Chunk("new")]),
            lambda: whole.retrieve_or_research("why?", fails),
            lambda: storage.upsert([Chunk("new")], fails),
            lambda: storage.replace_document("d", [Chunk("new", document="d")], fails),
            lambda: reembed(storage, Model("another")),
            lambda: whole.ingest(sources()),
            lambda: storage.pool.run(fails),
        ):
            with pytest.raises(type(error)) as caught:
                await call()
            assert caught.value is error
        assert await storage.count() in (2, 3)
