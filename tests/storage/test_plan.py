"""How a search was run, as PostgreSQL tells it."""

from __future__ import annotations

import json
from typing import Any

import anyio
import numpy as np
import pytest

from preheat import ArgumentError, Chunk, CollectionError, DimensionError, F, Plan, VectorStorage
from preheat.storage.identifiers import Identifiers
from preheat.storage.search.plan import read_plan
from preheat.storage.search.sql import search

ROWS, DIMENSIONS = 2000, 4
RNG = np.random.default_rng(41)
VECTORS = RNG.standard_normal((ROWS, DIMENSIONS)).astype(np.float32)
NAME = "explained"


@pytest.fixture(scope="module")
def many(dsn: str) -> str:
    async def store() -> None:
        async with VectorStorage(dsn, NAME, DIMENSIONS, index=False, warm="never") as storage:
            await storage.add(
                Chunk(f"kettle {n}", VECTORS[n], {"n": n, "tenth": n % 10}, "d", n, id=f"{n}") for n in range(ROWS)
            )
            await storage.create_index()
            async with storage.get_connection() as connection:
                await connection.execute(f'ANALYZE "preheat_{NAME}"')

    anyio.run(store)
    return dsn


EMBEDDING, WORDS, METADATA = (f"preheat_{NAME}.{index}" for index in ("embedding", "words", "metadata"))
BY_THE_METADATA = "&enable_seqscan=off&enable_indexscan=off"
CASES: dict[str, tuple[str, dict[str, Any], str | None, set[str]]] = {
    "plain": ("", {}, EMBEDDING, {EMBEDDING}),
    "ef_search": ("", {"ef_search": 100, "min_score": 0.5}, EMBEDDING, {EMBEDDING}),
    "many": ("", {"k": 1500}, None, set()),
    "another metric": ("", {"metric": "l2"}, None, set()),
    "words": ("", {"text": "1234"}, EMBEDDING, {EMBEDDING, WORDS}),
    "diverse": ("", {"mmr": 0.5}, EMBEDDING, {EMBEDDING}),
    "an order": ("", {"filter": F("n") > 3}, EMBEDDING, {EMBEDDING}),
    "an equality": (BY_THE_METADATA, {"filter": F("n") == 3}, None, {METADATA}),
    "by the table": ("&enable_indexscan=off", {}, None, set()),
}


@pytest.mark.parametrize(("way", "options", "index", "indexes"), CASES.values(), ids=CASES)
async def test_it_tells_which_indexes_served(
    many: str, way: str, options: dict[str, Any], index: str | None, indexes: set[str]
) -> None:
    async with VectorStorage(many + way, NAME, metric="cosine", size=1, warm="never") as storage:
        plan = await storage.explain(VECTORS[0], **options)
    assert plan.index == index
    assert set(plan.indexes) == indexes
    assert len(plan.indexes) == len(indexes)
    assert 0 < plan.planning_seconds < plan.seconds
    assert plan.seconds == plan.planning_seconds + plan.execution_seconds
    first, *steps = str(plan).splitlines()
    assert first == plan.summary
    assert (f"index {index} served the vectors" in first) == (index is not None)
    assert all(name in first for name in indexes)
    assert len(steps) == len(list(plan.tree.walk()))
    assert [step.index(node.title) % 2 for step, node in zip(steps, plan.tree.walk(), strict=True)] == [0] * len(steps)
    assert json.loads(json.dumps(plan.as_dict()))["index"] == index


async def test_it_is_the_very_statement(many: str) -> None:
    async with VectorStorage(many, NAME, size=1, warm="never") as storage:
        plan = await storage.explain(VECTORS[0], 7)
        assert plan.statement == search(Identifiers(NAME), "cosine")
        assert plan.tree.rows == 7
        [scan] = [node for node in plan.tree.walk() if node.index == EMBEDDING]
        assert (scan.kind, scan.relation, scan.loops) == ("Index Scan", f"preheat_{NAME}", 1)
        assert storage.metric == "cosine"  # it was looked up
        narrow = await storage.explain(VECTORS[0], 7, filter=F("tenth") == 3, text="kettle")
        assert "websearch_to_tsquery" in narrow.statement
        assert "not run" in str(narrow) or all(node.loops for node in narrow.tree.walk())


async def test_errors_are_those_of_a_search(many: str, dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, index=False, size=1, warm="never") as storage:
        with pytest.raises(CollectionError, match="nothing is stored in collection"):
            await storage.explain([1])
        with pytest.raises(ArgumentError, match="k is 0"):
            await storage.explain([1], 0)
        await storage.add([Chunk("one", [1])])
        with pytest.raises(CollectionError, match=r"create_index\(\)"):
            await storage.explain([1], text="one")
        assert (await storage.explain([1])).index is None
    async with VectorStorage(many, NAME, size=1, warm="never") as storage:
        with pytest.raises(DimensionError):
            await storage.explain([1])


def test_a_plan_out_of_the_servers_words() -> None:
    heap = {"Node Type": "Bitmap Heap Scan", "Relation Name": "preheat_x", "Actual Rows": 1.5, "Actual Loops": 2}
    index = {"Node Type": "Bitmap Index Scan", "Actual Rows": 3, "Actual Loops": 1, "Actual Total Time": 0.5}
    both = {"Node Type": "BitmapAnd", "Actual Rows": 0, "Actual Loops": 1, "Actual Total Time": 1.0}
    told = {
        "Node Type": "Append",
        "Actual Rows": 1,
        "Actual Loops": 1,
        "Actual Total Time": 9.0,
        "Plans": [
            {
                **heap,
                "Actual Total Time": 2.0,
                "Plans": [{**both, "Plans": [{**index, "Index Name": "one"}, {**index, "Index Name": "two"}]}],
            },
            {**index, "Node Type": "Index Scan", "Index Name": "key", "Relation Name": "registry"},
            {**index, "Node Type": "Index Scan", "Index Name": "idle", "Relation Name": "preheat_x", "Actual Loops": 0},
            {**index, "Node Type": "Index Scan", "Index Name": "one", "Relation Name": "preheat_x", "Order By": "e"},
        ],
    }
    text = json.dumps([{"Plan": told, "Planning Time": 1.0, "Execution Time": 10.0}])

    plan = read_plan("SELECT", text, "preheat_x")

    assert isinstance(plan, Plan)
    assert (plan.index, plan.indexes, plan.seconds) == ("one", ("one", "two"), 0.011)
    assert str(plan).splitlines() == [
        "index one served the vectors; others that served: two; planned in 1.00 ms, run in 10.00 ms",
        "Append (1 row, 9.00 ms)",
        "  Bitmap Heap Scan on preheat_x (3 rows, 4.00 ms, 2 times)",
        "    BitmapAnd on preheat_x (0 rows, 1.00 ms)",
        "      Bitmap Index Scan by one on preheat_x (3 rows, 0.50 ms)",
        "      Bitmap Index Scan by two on preheat_x (3 rows, 0.50 ms)",
        "  Index Scan by key on registry (3 rows, 0.50 ms)",
        "  Index Scan by idle on preheat_x (not run)",
        "  Index Scan by one on preheat_x (3 rows, 0.50 ms)",
    ]
