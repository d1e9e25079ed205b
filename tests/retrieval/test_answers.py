"""Stored answers, on a real PostgreSQL, and without it when it fails."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from tests.support.answers import Angles, Research, callers_of
from tests.support.server import Server, free_port
from tests.support.waiting import until

import preheat
from preheat import Answer, ArgumentError, PreheatError, ResearchRetriever, VectorStorage
from preheat.retrieval import answers as tiers
from preheat.storage import Hit
from preheat.storage.answers.table import AnswerTable
from preheat.testing import Caller, FakePool, FaultPlan, arrive, fail, hang, run


def retriever_on(storage: VectorStorage, model: str = "angles") -> ResearchRetriever:
    return ResearchRetriever(storage, Angles(model))


async def test_a_first_question_is_fresh_the_same_one_exact_and_a_similar_one_semantic(
    dsn: str, collection: str
) -> None:
    research = Research()
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        fresh = await retriever.retrieve_or_research("How far is 10?", research)
        assert retriever.pool_warmed
        exact = await retriever.retrieve_or_research("  how FAR\tis 10? ", research)
        semantic = await retriever.retrieve_or_research("And how far is 20?", research)
        far = await retriever.retrieve_or_research("How far is 40?", research)

    assert fresh == Answer({"to": "How far is 10?"}, "fresh", 1.0, 0.0, "How far is 10?")
    assert (exact.value, exact.tier, exact.score, exact.question) == (fresh.value, "exact", 1.0, "How far is 10?")
    assert (semantic.value, semantic.tier) == (fresh.value, "semantic")
    assert semantic.score == pytest.approx(math.cos(math.radians(10)), abs=1e-6)
    assert 0 <= exact.age <= semantic.age < 30
    assert (far.tier, far.value) == ("fresh", {"to": "How far is 40?"})
    assert research.returned.total() == 2
    statistics = retriever.answer_statistics
    assert (statistics.exact, statistics.semantic, statistics.fresh, statistics.errors) == (1, 1, 2, 0)
    assert statistics.seconds > 0
    assert statistics.as_dict() == {
        "exact": 1,
        "semantic": 1,
        "fresh": 2,
        "errors": 0,
        "seconds": statistics.seconds,
    }
    assert exact.as_dict()["tier"] == "exact"


async def test_an_exact_answer_needs_no_model(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, warm="never") as storage:
        await retriever_on(storage).retrieve_or_research("What is 1?", Research())
        retriever = retriever_on(storage)
        assert (await retriever.retrieve_or_research("what is 1?", Research())).tier == "exact"
        assert retriever.embedder.texts == []


async def test_threshold_decides_which_questions_are_similar(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        await retriever.retrieve_or_research("0", Research())
        cosine = math.cos(math.radians(60))
        for threshold, tier in ((cosine - 1e-4, "semantic"), (cosine + 1e-4, "fresh")):
            answer = await retriever.retrieve_or_research("60", Research(), threshold=threshold)
            assert answer.tier == tier
        assert (await retriever.retrieve_or_research("just 0", Research(), threshold=1)).tier == "fresh"


async def test_accept_gets_the_next_similar_answer_after_it_rejects_one(dsn: str, collection: str) -> None:
    offered: list[tuple[str, Answer]] = []

    def refuse(query: str, answer: Answer) -> bool:
        offered.append((query, answer))
        return False

    async def only_three(query: str, answer: Answer) -> bool:
        return answer.question == "3"

    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        for number in range(4):
            await retriever.retrieve_or_research(f"{number}", Research(), threshold=1)
        near = await retriever.retrieve_or_research("to 0", Research(), accept=only_three)
        assert (near.tier, near.question) == ("semantic", "3")
        assert (await retriever.retrieve_or_research("to 0", Research(), accept=refuse)).tier == "fresh"
        assert [(query, answer.question) for query, answer in offered] == [("to 0", f"{n}") for n in range(4)]
        assert {answer.tier for _, answer in offered} == {"semantic"}
        assert (await retriever.retrieve_or_research("to 0", Research(), accept=refuse)).tier == "exact"

        def broken(query: str, answer: Answer) -> bool:
            raise LookupError("planned")

        with pytest.raises(LookupError, match="planned"):
            await retriever.retrieve_or_research("and 0", Research(), accept=broken)
        assert retriever.answer_statistics.errors == 1


async def test_scopes_and_models_do_not_share_answers(dsn: str, collection: str) -> None:
    places = [("", "angles"), ("a", "angles"), ("b", "angles"), ("A", "angles")]
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        for scope, _ in places:
            answer = await retriever.retrieve_or_research("10", Research(value=scope), scope=scope, threshold=0.1)
            assert (answer.tier, answer.value) == ("fresh", scope)
        for question, tier in (("10", "exact"), ("near 11", "semantic")):
            for scope, _ in places:
                answer = await retriever.retrieve_or_research(question, Research(), scope=scope, threshold=0.1)
                assert (answer.tier, answer.value) == (tier, scope)
        assert await storage.answer_table.clear("a") == 1
        assert (await retriever.retrieve_or_research("10", Research(), scope="b")).tier == "exact"
        assert await storage.answer_table.clear() == 3

    async with VectorStorage(dsn, collection, 2) as storage:
        await retriever_on(storage, "one").retrieve_or_research("10", Research(value="one"))
    async with VectorStorage(dsn, collection, 2) as storage:
        for question in ("10", "near 10"):
            answer = await retriever_on(storage, "two").retrieve_or_research(question, Research(value="two"))
            assert answer.value == "two"


async def test_scopes_and_models_with_ambiguous_names_do_not_share_answers(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        await retriever.retrieve_or_research('b"]', Research(), scope='a", "angles", "')
        answer = await retriever.retrieve_or_research('", "b"]', Research(), scope='a", "angles')
        assert answer.tier == "fresh"


async def test_expired_answers_are_not_returned_and_are_deleted(dsn: str, collection: str) -> None:
    table = f'"preheat_{collection}.answers"'
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        assert await storage.answer_table.sweep() == 0
        assert await storage.answer_table.clear() == 0

        async def sql(statement: str) -> Any:
            async with storage.get_connection() as connection:
                return await connection.fetchval(statement)

        for number in range(0, 120, 40):
            await retriever.retrieve_or_research(f"{number}", Research(), ttl=60)
        await retriever.retrieve_or_research("160", Research(), ttl=math.inf)
        await sql(f"UPDATE {table} SET created_at = now() - interval '1 h', expires_at = expires_at + interval '1 h'")
        aged = await retriever.retrieve_or_research("0", Research())
        assert (aged.tier, 3600 <= aged.age < 3700) == ("exact", True)

        await sql(f"UPDATE {table} SET expires_at = now() - interval '1 ms' WHERE question <> '160'")
        again = await retriever.retrieve_or_research("0", Research())
        assert again.tier == "fresh"
        assert await sql(f"SELECT count(*) FROM {table}") == 2, "storing has swept the others"
        assert await sql(f"SELECT expires_at IS NULL FROM {table} WHERE question = '0'")
        assert (await retriever.retrieve_or_research("to 40", Research())).tier == "fresh"

        await sql(f"UPDATE {table} SET expires_at = now() WHERE question <> '160'")
        assert (await retriever.retrieve_or_research("near 0", Research(), threshold=0.99, ttl=1e300)).tier == "fresh"
        await sql(f"UPDATE {table} SET expires_at = now()")
        assert await storage.answer_table.sweep() == 2
        assert await sql(f"SELECT count(*) FROM {table}") == 0


HOSTILE = [
    "'; DROP TABLE preheat_collections; --",
    '"; DROP TABLE x; --',
    "$1 $2 %s {} \\",
    "⁣\u202e\U0001f600 ﷽",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_text_is_stored_as_text(dsn: str, collection: str, text: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        scope = text[:255]
        for tier in ("fresh", "exact"):
            answer = await retriever.retrieve_or_research(text, Research(), scope=scope)
            assert (answer.tier, answer.question, answer.value) == (tier, text, {"to": text})
        assert (await retriever.retrieve_or_research(text, Research())).tier == "fresh"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query": ""}, "empty"),
        ({"query": " \n"}, "empty"),
        ({"query": "a\0b"}, "NUL"),
        ({"query": "\ud800"}, "Unicode"),
        ({"query": None}, "string"),
        ({"scope": "a\0b"}, "NUL"),
        ({"scope": "\ud800"}, "Unicode"),
        ({"scope": "x" * 256}, "256 characters"),
        ({"scope": None}, "string"),
        ({"ttl": 0}, "ttl is 0"),
        ({"ttl": math.nan}, "ttl is nan"),
        ({"threshold": 0}, "threshold is 0"),
        ({"threshold": 1.01}, "threshold is 1.01"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"research": None}, "research is None"),
        ({"accept": 3}, "accept is 3"),
    ],
)
async def test_invalid_arguments_are_refused_before_any_io(changes: dict[str, Any], words: str) -> None:
    pool = FakePool()
    async with VectorStorage(pool, "x", 2) as storage:
        retriever = retriever_on(storage)
        call: dict[str, Any] = {"query": "why?", "research": Research(), **changes}
        with pytest.raises(ArgumentError, match=words):
            await retriever.retrieve_or_research(**call)
        assert (pool.opens, retriever.answer_statistics.errors) == (0, 0)


VALUES = [
    None,
    True,
    0,
    -1.5e300,
    2**80,
    "",
    "NUL \0 and \ud800",
    [],
    {"b": 1, "a": [None, {"é": "\\u0000"}]},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_any_json_value_is_returned_unchanged(dsn: str, collection: str, value: Any) -> None:
    async def research(query: str) -> Any:
        return value

    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        found = [(await retriever.retrieve_or_research("why?", research)).value for _ in range(2)]
    assert [repr(one) for one in found] == [repr(value)] * 2
    assert retriever.answer_statistics.exact == 1


@pytest.mark.parametrize("value", [{1, 2}, math.nan, b"bytes", object()], ids=lambda value: type(value).__name__)
async def test_an_answer_that_is_not_json_is_an_error_and_is_not_stored(dsn: str, collection: str, value: Any) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        with pytest.raises(ArgumentError, match="the answer of research is not JSON"):
            await retriever.retrieve_or_research("why?", Research(value=value))
        assert (await retriever.retrieve_or_research("why?", Research())).tier == "fresh"


async def test_research_that_is_not_async_is_an_error() -> None:
    async with VectorStorage(FakePool(), "x", 2) as storage:
        with pytest.raises(ArgumentError, match="returned a str at once; make it an async function"):
            await retriever_on(storage).retrieve_or_research("why?", str.upper)


def test_an_asyncpg_pool_with_its_own_json_codec_works(dsn: str, collection: str) -> None:
    async def main() -> None:
        async def init(connection: Any) -> None:
            await connection.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

        async with asyncpg.create_pool(dsn, min_size=0, max_size=2, init=init) as pool:
            async with VectorStorage(pool, collection, 2) as storage:
                retriever = retriever_on(storage)
                found = [await retriever.retrieve_or_research("why?", Research()) for _ in range(2)]
                assert [(answer.tier, answer.value) for answer in found] == [
                    ("fresh", {"to": "why?"}),
                    ("exact", {"to": "why?"}),
                ]

    anyio.run(main)


async def test_callers_do_not_share_the_value(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        research = Research(waits_for=lambda: callers_of(storage) == 3)
        calls = await arrive([Caller()] * 3, lambda: retriever.retrieve_or_research("why?", research))
        answers = [call.result for call in calls if call.result is not None]
        assert len({id(answer.value) for answer in answers}) == 3
        assert retriever.answer_statistics.fresh == 3


async def test_ten_concurrent_callers_research_once(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        research = Research(waits_for=lambda: callers_of(storage) == 10)
        retrievers = [retriever_on(storage) for _ in range(2)]
        found: list[Answer] = []

        async def ask(number: int) -> None:
            found.append(await retrievers[number % 2].retrieve_or_research("What is new?", research))

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, number)

    assert research.started == {"What is new?": 1}
    assert {(answer.tier, str(answer.value)) for answer in found} == {("fresh", "{'to': 'What is new?'}")}


@pytest.mark.parametrize("pool_size", [1, 2, 5])
async def test_two_storages_as_two_processes_research_once(dsn: str, collection: str, pool_size: int) -> None:
    """A pool of one connection has none to spare for the lock, so each process may research."""
    async with (
        VectorStorage(dsn, collection, 2, size=pool_size) as one,
        VectorStorage(dsn, collection, 2, size=pool_size) as two,
    ):
        research = Research(waits_for=lambda: callers_of(one) == callers_of(two) == 10 or research.returned)
        retrievers = [retriever_on(one), retriever_on(two)]
        asked = iter(range(20))

        async def ask() -> Answer:
            return await retrievers[next(asked) % 2].retrieve_or_research("What is new?", research)

        calls = await arrive([Caller()] * 20, ask)
        assert {call.outcome for call in calls} == {"returned"}
        assert research.started.total() <= (2 if pool_size == 1 else 1)


async def test_an_error_of_research_reaches_all_callers_and_nothing_is_stored(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        broken = Research(waits_for=lambda: callers_of(storage) == 5, error=LookupError("planned"))
        calls = await arrive([Caller()] * 5, lambda: retriever.retrieve_or_research("why?", broken))
        assert [repr(call.error) for call in calls] == [repr(broken.error)] * 5
        assert broken.started.total() == 1
        assert retriever.answer_statistics.errors == 5
        assert (await retriever.retrieve_or_research("why?", Research())).tier == "fresh"


async def test_many_researches_may_use_the_pool_at_the_same_time(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, size=2) as storage:
        retriever = retriever_on(storage)

        async def research(query: str) -> list[Hit]:
            async with storage.get_connection() as connection:
                await connection.fetchval("SELECT 1")
            return list(await retriever.retrieve(query))

        numbers = iter(range(0, 180, 20))
        with anyio.fail_after(30):
            calls = await arrive(
                [Caller()] * 9, lambda: retriever.retrieve_or_research(f"{next(numbers)}", research, threshold=1)
            )
        assert [call.error for call in calls] == [None] * 9
        async with storage.get_connection(), storage.get_connection():
            pass  # every connection is back


async def test_two_storages_on_one_small_pool_do_not_take_its_last_connection(dsn: str, collection: str) -> None:
    async with preheat.open_pool(dsn, size=2) as pool:
        async with VectorStorage(pool, f"{collection}_a", 2) as one, VectorStorage(pool, f"{collection}_b", 2) as two:
            started = []

            async def research(query: str) -> int:
                started.append(query)
                await until(lambda: len(started) == 2)
                return await one.count() + await two.count()

            retrievers = [retriever_on(one), retriever_on(two)]
            asked = iter(range(4))
            with anyio.fail_after(30):
                calls = await arrive(
                    [Caller()] * 4,
                    lambda: retrievers[next(asked) % 2].retrieve_or_research("why?", research),
                )
            assert [call.error for call in calls] == [None] * 4


async def test_research_that_asks_its_own_question_is_an_error(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)

        async def research(query: str) -> Any:
            return (await retriever.retrieve_or_research("WHY?", research)).value

        with anyio.fail_after(30):
            with pytest.raises(PreheatError, match="waits for itself"):
                await retriever.retrieve_or_research("why?", research)


async def test_answers_are_researched_while_the_database_is_down(caplog: pytest.LogCaptureFixture) -> None:
    dsn = f"postgresql://u:secret@127.0.0.1:{free_port()}/db"
    research = Research()
    async with VectorStorage(dsn, "x", 2, warm_timeout=0.5) as storage:
        retriever = retriever_on(storage)
        for _ in range(2):
            assert (await retriever.retrieve_or_research("why?", research)).tier == "fresh"
        assert research.returned == {"why?": 2}
        assert retriever.answer_statistics.fresh == 2
    warnings = [record for record in caplog.records if "without the database" in record.getMessage()]
    assert len(warnings) == 2
    assert "secret" not in caplog.text


async def test_an_answer_that_cannot_be_stored_is_returned(
    server: Server, dsn: str, collection: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)

        async def pull_the_plug(query: str) -> str:
            async with storage.get_connection() as connection:
                own = await connection.fetchval("SELECT pg_backend_pid()")
                await connection.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> $1::int", own
                )
                await connection.execute(f'DROP TABLE IF EXISTS "preheat_{collection}.answers"')
                await connection.execute(f'CREATE TABLE "preheat_{collection}.answers" (key text)')
            return "found"

        for _ in range(2):
            answer = await retriever.retrieve_or_research("why?", pull_the_plug)
            assert (answer.value, answer.tier) == ("found", "fresh")
        async with storage.get_connection() as connection:
            await connection.execute(f'DROP TABLE "preheat_{collection}.answers"')
        assert (await retriever.retrieve_or_research("why?", Research())).tier == "fresh"
        assert (await retriever.retrieve_or_research("why?", Research())).tier == "exact"
    assert "storing an answer failed" in caplog.text


def test_a_database_that_never_answers_delays_research_by_a_bounded_time(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(probe=hang()))
        async with VectorStorage(pool, "x", 2, warm_timeout=3) as storage:
            research = Research(takes=1)
            started = anyio.current_time()
            answer = await retriever_on(storage).retrieve_or_research("why?", research)
            assert answer.tier == "fresh"
            assert anyio.current_time() - started == pytest.approx(3 + tiers.LOOKUP_SECONDS + 1)
        pool.assert_no_leaks()

    run(backend, main)


def test_concurrent_callers_research_once_while_the_database_fails(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(probe=fail(OSError("planned"))))
        async with VectorStorage(pool, "x", 2) as storage:
            retriever = retriever_on(storage)
            research = Research(takes=1)
            await arrive([Caller(0.1 * n) for n in range(5)], lambda: retriever.retrieve_or_research("why?", research))
            assert research.started.total() == 1
        pool.assert_no_leaks()

    run(backend, main)


def test_a_cancelled_first_caller_does_not_end_the_research(backend: str) -> None:
    async def main() -> None:
        pool = FakePool()
        async with VectorStorage(pool, "x", 2) as storage:
            retriever = retriever_on(storage)
            research = Research(takes=1)
            crowd = [Caller(timeout=0.5), Caller(0.1), Caller(0.2, timeout=0.2, how="native")]
            calls = await arrive(crowd, lambda: retriever.retrieve_or_research("why?", research))
            assert [call.outcome for call in calls] == ["cancelled", "returned", "cancelled"]
            assert research.started.total() == research.returned.total() == 1
            statistics = retriever.answer_statistics
            assert (statistics.fresh, statistics.errors, statistics.seconds) == (1, 0, pytest.approx(0.9))

            with anyio.move_on_after(0.5):
                await retriever.retrieve_or_research("why not?", research)
            await anyio.sleep(1)
            assert research.returned["why not?"] == 0, "nobody waited for it"
        pool.assert_no_leaks()

    run(backend, main)


async def test_an_answer_is_not_stored_after_its_last_caller_has_left(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the research ignores its cancellation."""
    stored: list[str] = []
    monkeypatch.setattr(AnswerTable, "store", lambda _, key, *_values: stored.append(key))
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        ended: list[str] = []
        for number in range(10):
            with anyio.CancelScope() as scope:

                async def research(query: str, scope: anyio.CancelScope = scope) -> str:
                    scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await until(lambda: callers_of(storage) == 0)
                    ended.append(query)
                    return "too late"

                await retriever.retrieve_or_research(f"and {number * 15 + 20}", research)
        await until(lambda: len(ended) == 10)
        await anyio.wait_all_tasks_blocked()
        assert stored == []


def test_waiting_callers_get_an_error_when_the_storage_closes(backend: str) -> None:
    async def main() -> None:
        pool = FakePool()
        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            async with VectorStorage(pool, "x", 2) as storage:
                retriever = retriever_on(storage)

                async def waits() -> None:
                    with pytest.raises(PreheatError, match="closed before"):
                        await retriever.retrieve_or_research("why?", Research(takes=100))

                tasks.start_soon(waits)
                await anyio.sleep(1)
            with pytest.raises(PreheatError, match="not open"):
                await retriever.retrieve_or_research("why?", Research())
            assert anyio.current_time() - started == pytest.approx(1)
        pool.assert_no_leaks()

    run(backend, main)


async def test_a_storage_without_answers_is_an_error() -> None:
    class Plain:
        async def warm_pool(self) -> bool:
            return True

        async def search(self, vector: Any, k: int = 5) -> list[Hit]:
            return []

        async def replace_document(self, document: str, chunks: Any) -> int:
            return 0

    with pytest.raises(ArgumentError, match="a Plain keeps no answers"):
        await ResearchRetriever(Plain(), Angles()).retrieve_or_research("why?", Research())


async def test_a_role_without_privileges_still_gets_answers(
    server: Server, dsn: str, collection: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    role = f"role_{collection}"
    server.sql(f"CREATE ROLE {role} LOGIN PASSWORD 's3cret/p@ss'")
    try:
        async with VectorStorage(server.dsn("tests", user=role), collection, 2, warm="never") as storage:
            assert (await retriever_on(storage).retrieve_or_research("why?", Research())).tier == "fresh"
            assert f'GRANT CREATE ON SCHEMA "public" TO "{role}"' in caplog.text
        async with VectorStorage(dsn, collection, 2, warm="never") as storage:
            await retriever_on(storage).retrieve_or_research("why?", Research())
        async with VectorStorage(server.dsn("tests", user=role), collection, 2, warm="never") as storage:
            assert (await retriever_on(storage).retrieve_or_research("why?", Research())).tier == "fresh"
            assert f'GRANT SELECT, INSERT, UPDATE, DELETE ON "public"."preheat_{collection}.answers"' in caplog.text
    finally:
        server.sql(f"DROP ROLE {role}")


PROCESS = """
import sys, anyio
from contextvars import ContextVar
from pathlib import Path
from preheat import ResearchRetriever, VectorStorage
from tests.support.answers import TRYING, Angles
from tests.support.waiting import until

dsn, collection, log = sys.argv[1:]

async def research(query):
    with open(log, "a") as lines:
        lines.write(query + "\\n")
    await until(both_have_asked)
    return query.upper()

async def both_have_asked():
    return (await storage.pool.fetch(TRYING))[0]["n"] == 2

async def main():
    global storage
    async with VectorStorage(dsn, collection, 2, size=2) as storage:
        print((await ResearchRetriever(storage, Angles()).retrieve_or_research("why?", research)).value)

anyio.run(main)
"""


def test_processes_with_the_same_question_research_once(dsn: str, collection: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, dsn, collection, str(tmp_path / "log")]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for process in processes:
        out, error = process.communicate(timeout=50)
        assert (out, process.returncode) == ("WHY?\n", 0), error
    assert (tmp_path / "log").read_text() == "why?\n"


# Callers who come together


class Counted:
    """Counts the look-ups of the tiers, and holds the first one up until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, holds: bool = False) -> None:
        self.exact = self.nearest = 0
        self.arrived, self.go_on = anyio.Event(), anyio.Event()
        exact, nearest = AnswerTable.exact, AnswerTable.nearest

        async def counted_exact(table: AnswerTable, key: str) -> Any:
            self.exact += 1
            first = self.exact == 1
            found = await exact(table, key)
            if holds and first:
                self.arrived.set()
                await self.go_on.wait()
            return found

        async def counted_nearest(table: AnswerTable, *args: Any) -> Any:
            self.nearest += 1
            return await nearest(table, *args)

        monkeypatch.setattr(AnswerTable, "exact", counted_exact)
        monkeypatch.setattr(AnswerTable, "nearest", counted_nearest)


async def test_callers_with_one_question_look_it_up_once(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        await retriever.retrieve_or_research("at 90", Research())
        counted = Counted(monkeypatch)
        research = Research(waits_for=lambda: callers_of(storage) == 200)
        calls = await arrive([Caller()] * 200, lambda: retriever.retrieve_or_research("at 0", research))
        assert {call.result.tier for call in calls if call.result is not None} == {"fresh"}
        assert (counted.exact, counted.nearest) == (2, 1)  # exact once more under the lock of the question
        assert retriever.embedder.texts == ["at 90", "at 0"]

        calls = await arrive([Caller()] * 200, lambda: retriever.retrieve_or_research("at 0", research))
        assert {call.result.tier for call in calls if call.result is not None} == {"exact"}
        assert (counted.exact, counted.nearest) == (3, 1)
        calls = await arrive([Caller()] * 200, lambda: retriever.retrieve_or_research("just 1", research))
        assert {call.result.tier for call in calls if call.result is not None} == {"semantic"}
        assert (counted.exact, counted.nearest) == (4, 2)
        assert len({id(call.result.value) for call in calls if call.result is not None}) == 200
        assert retriever.answer_statistics.semantic == 200


async def test_a_first_caller_that_leaves_during_the_look_up_costs_the_others_nothing(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch, holds=True)
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        found: list[Answer] = []

        async def ask() -> None:
            found.append(await retriever.retrieve_or_research("at 0", Research()))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as others, anyio.create_task_group() as first:
                first.start_soon(ask)
                await counted.arrived.wait()
                for _ in range(3):
                    others.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
                counted.go_on.set()
        assert [answer.tier for answer in found] == ["fresh"] * 3
        assert (counted.exact, counted.nearest) == (2, 1)


async def test_a_look_up_that_its_last_caller_has_left_ends(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch, holds=True)
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retriever.retrieve_or_research, "at 0", Research())
            await counted.arrived.wait()
            tasks.cancel_scope.cancel()
        await until(lambda: storage.answer_table.flights._flights == {})
        assert (await retriever.retrieve_or_research("at 0", Research())).tier == "fresh"


async def test_a_caller_after_a_change_does_not_share_a_look_up_from_before_it(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        await retriever.retrieve_or_research("at 0", Research(value="old"))
        counted = Counted(monkeypatch, holds=True)
        found: list[Answer] = []

        async def ask() -> None:
            found.append(await retriever.retrieve_or_research("at 0", Research(value="new")))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await counted.arrived.wait()
                assert await storage.answer_table.clear() == 1
                await ask()
                counted.go_on.set()
        assert [answer.value for answer in found] == ["new", "old"]


async def test_an_error_of_the_model_reaches_all_callers_that_share_the_look_up(dsn: str, collection: str) -> None:
    class Broken(Angles):
        async def embed(self, texts: Any) -> Any:
            self.texts += texts
            await until(lambda: waiting(storage) == 5)
            raise LookupError("planned")

    def waiting(storage: VectorStorage) -> int:
        return sum(flight.waiters for flight in storage.answer_table.flights._flights.values())

    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = ResearchRetriever(storage, Broken())
        calls = await arrive([Caller()] * 5, lambda: retriever.retrieve_or_research("why?", Research()))
        assert [repr(call.error) for call in calls] == ["LookupError('planned')"] * 5
        assert len({id(call.error) for call in calls}) == 1
        assert retriever.embedder.texts == ["why?"]


async def test_each_caller_accepts_for_itself_in_its_own_context(dsn: str, collection: str) -> None:
    caller: ContextVar[str] = ContextVar("caller")
    seen: list[str] = []

    def accept(query: str, answer: Answer) -> bool:
        seen.append(caller.get())
        return caller.get() == "b"

    async with VectorStorage(dsn, collection, 2) as storage:
        retriever = retriever_on(storage)
        await retriever.retrieve_or_research("at 0", Research())
        found: dict[str, Answer] = {}

        async def ask(name: str) -> None:
            caller.set(name)
            found[name] = await retriever.retrieve_or_research("to 1", Research(), accept=accept)

        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(ask, name)
        assert sorted(seen) == ["a", "b", "c"]
        assert {name: answer.tier for name, answer in found.items()} == {"a": "fresh", "b": "semantic", "c": "fresh"}
