"""What must be shown of answers: one research for a question, whoever asks at the same time and whoever gives up."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import Any

import anyio
import pytest
from tests.support.answers import Angles, Research, callers_of

from preheat import Answer, ResearchRetriever, VectorStorage
from preheat.testing import Caller, arrive

SEED = 20261123
TASKS, CALLS = 50, 20


async def test_ten_concurrent_calls_of_one_new_query_research_once(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        research = Research(waits_for=lambda: callers_of(storage) == 10)
        retriever = ResearchRetriever(storage, Angles())
        calls = await arrive([Caller()] * 10, lambda: retriever.retrieve_or_research("What is new?", research))
    assert research.started == research.returned == {"What is new?": 1}
    assert [(call.result.tier, call.result.value) for call in calls if call.result] == [
        ("fresh", {"to": "What is new?"})
    ] * 10


async def log_of_stores(storage: VectorStorage, collection: str) -> None:
    """Have the database write down each answer that is stored, also if it replaces one."""
    async with storage.get_connection() as connection:
        await connection.execute(
            f"""
            CREATE TABLE "log_{collection}" (key text, scope text, question text);
            CREATE FUNCTION "log_{collection}"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO "log_{collection}" VALUES (new.key, new.scope, new.question); RETURN new;
            END $$;
            CREATE TRIGGER log BEFORE INSERT OR UPDATE ON "preheat_{collection}.answers"
                FOR EACH ROW EXECUTE FUNCTION "log_{collection}"();
            """
        )


@pytest.mark.slow
@pytest.mark.parametrize("semantic", [False, True], ids=["exact", "semantic"])
async def test_a_thousand_mixed_calls_with_random_cancels(dsn: str, collection: str, semantic: bool) -> None:
    """50 tasks ask 20 times each, in 3 scopes and through two storages; a third of the calls give up at random."""
    random = Random(SEED)
    takes = 0.02
    researched: dict[str, Research] = {scope: Research(takes=takes) for scope in "abc"}
    served: list[tuple[str, str, Answer]] = []
    outcomes: Counter[str] = Counter()

    async with (
        VectorStorage(dsn, collection, 2, size=5) as one,
        VectorStorage(dsn, collection, 2, size=5) as two,
    ):
        await one.answer_table.store("first", "nobody", "angles", "q", [1.0, 0.0], "1", None)
        await log_of_stores(one, collection)
        retrievers = [ResearchRetriever(one, Angles()), ResearchRetriever(two, Angles())]

        async def ask(scope: str, query: str, retriever: ResearchRetriever) -> None:
            answer = await retriever.retrieve_or_research(
                query, researched[scope], scope=scope, threshold=0.999 if semantic else 1
            )
            served.append((scope, query, answer))

        async def task(choices: list[tuple[Any, ...]]) -> None:
            for scope, query, retriever, caller in choices:
                for call in await arrive([caller], lambda: ask(scope, query, retriever)):  # noqa: B023
                    assert call.error is None, call.error
                    assert call.outcome == "returned" or call.cancel_requested
                    outcomes[call.outcome] += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(TASKS):
                choices = [
                    (
                        random.choice("abc"),
                        f"what about {random.randrange(0, 180, 5)}",
                        random.choice(retrievers),
                        Caller(
                            timeout=random.choices([random.uniform(0, 2 * takes), math.inf], [1, 2])[0],
                            how=random.choice(["scope", "native"]),
                        ),
                    )
                    for _ in range(CALLS)
                ]
                tasks.start_soon(task, choices)

        stored = [(row["scope"], row["question"]) for row in await one.pool.fetch(f'SELECT * FROM "log_{collection}"')]

    assert outcomes.total() == TASKS * CALLS
    assert outcomes["cancelled"] > 50
    returned = Counter(
        {(scope, query): n for scope, research in researched.items() for query, n in research.returned.items()}
    )
    assert max(Counter(stored).values()) == 1, "nothing is stored twice"
    assert max(returned.values()) == 1, "nothing is researched twice to the end"
    assert set(stored) == set(returned), "what was researched is stored"
    for scope, query, answer in served:
        assert answer.question == query
        assert answer.value == {"to": query}
        assert (scope, query) in returned
    statistics = [retriever.answer_statistics for retriever in retrievers]
    assert sum(one.exact + one.semantic + one.fresh for one in statistics) == len(served)
    assert sum(one.errors for one in statistics) == 0
    print(f"calls: {dict(outcomes)}, pairs: {len(returned)}, tiers: {statistics}")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["scope", "native"])
async def test_a_call_cancelled_anywhere_leaves_the_next_call_and_the_pool_intact(
    dsn: str, collection: str, how: Any
) -> None:
    from preheat.testing import cancel_everywhere

    async with VectorStorage(dsn, collection, 2, size=3) as storage:
        retriever = ResearchRetriever(storage, Angles())
        questions = iter(range(1_000_000))

        async def attempt() -> None:
            question = f"number {next(questions)} at 90"
            try:
                await retriever.retrieve_or_research(question, Research(), threshold=1)
            finally:
                with anyio.CancelScope(shield=True), anyio.fail_after(30):
                    answer = await retriever.retrieve_or_research(question, Research(), threshold=1)
                    assert answer.value == {"to": question}
                    async with storage.get_connection(), storage.get_connection():
                        pass

        sweep = await cancel_everywhere(attempt, how=how)
        assert sweep.points >= 5
        async with storage.get_connection(), storage.get_connection(), storage.get_connection():
            pass
