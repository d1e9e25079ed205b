"""Settings of a search that policies for rows read, on a real PostgreSQL with a role that the policies bind."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.pgbouncer import pgbouncer
from tests.support.server import Server

from preheat import ArgumentError, Chunk, F, VectorStorage

TENANTS = ("a", "b")
EACH = 40
SEARCHES: list[dict[str, Any]] = [
    {"vector": [1.0, 0.1]},
    {"vector": [1.0, 0.1], "k": EACH},
    {"vector": [1.0, 0.1], "k": 2000},
    {"vector": [1.0, 0.1], "filter": F("even") == 0},
    {"vector": [1.0, 0.1], "filter": (F("even") == 0) | (F("even") == 1), "k": EACH},
    {"vector": [1.0, 0.1], "text": "kettle"},
    {"vector": [1.0, 0.1], "text": "kettle", "mmr": 0.5},
    {"vector": [1.0, 0.1], "mmr": 0.5},
    {"vector": [1.0, 0.1], "without": ["pan"]},
    {"vector": [1.0, 0.1], "metric": "l2"},
    {"vector": [1.0, 0.1], "iterative_scan": "off", "ef_search": 1},
    {"text": "kettle", "k": EACH},
]
WAYS = [
    "",
    "&enable_seqscan=off",
    "&enable_seqscan=off&enable_sort=off",
    "&enable_indexscan=off&enable_bitmapscan=off",
    "&enable_nestloop=off&enable_tidscan=off",
    "&plan_cache_mode=force_generic_plan",
]
POLICY = """
ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants ON "{table}" USING ({condition});
"""
CONDITIONS = {
    "a value": "metadata ->> 'tenant' = current_setting('app.tenant', true)",
    "containment": "metadata @> jsonb_build_object('tenant', current_setting('app.tenant', true))",
    "a subquery": "metadata ->> 'tenant' = (SELECT current_setting('app.tenant', true))",
}


@asynccontextmanager
async def tenants(
    server: Server, dsn: str, collection: str, condition: str = CONDITIONS["a value"]
) -> AsyncGenerator[str]:
    """A collection with the rows of two tenants, and the DSN of a role that sees those of the tenant that is set."""
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(
            [
                Chunk(
                    f"kettle {number}", [1.0, number / EACH], {"tenant": name, "even": number % 2}, id=f"{name}{number}"
                )
                for name in TENANTS
                for number in range(EACH)
            ]
        )
    server.sql(POLICY.format(table=f"preheat_{collection}", condition=condition), "tests")
    yield server.role(f"{collection}_role", "tests", "SELECT ON ALL TABLES IN SCHEMA public")


@pytest.mark.parametrize(
    ("condition", "ways"),
    [
        pytest.param(CONDITIONS["a value"], ["", "&enable_nestloop=off&enable_tidscan=off"], id="few plans"),
        *(pytest.param(condition, WAYS, id=name, marks=pytest.mark.slow) for name, condition in CONDITIONS.items()),
    ],
)
async def test_rows_of_other_tenants_are_never_returned_whatever_the_plan(
    server: Server, dsn: str, collection: str, condition: str, ways: list[str]
) -> None:
    async with tenants(server, dsn, collection, condition) as role:
        for way in ways:
            async with VectorStorage(role + way, collection, 2, size=1) as storage:
                for options in SEARCHES:
                    found = {}
                    for tenant in (*TENANTS, "a", "nobody"):
                        hits = await storage.search(**options, settings={"app.tenant": tenant})
                        assert {hit.metadata["tenant"] for hit in hits} == ({tenant} & set(TENANTS)), (way, options)
                        found[tenant] = [hit.id[1:] for hit in hits]
                    assert found["a"] == found["b"], (way, options)
                    assert found["a"], (way, options)
                like = await storage.more_like("a3", 2, settings={"app.tenant": "a"})
                assert {hit.id for hit in like} == {"a2", "a4"}
                with pytest.raises(LookupError, match="no chunk with the id 'a3'"):
                    await storage.more_like("a3", settings={"app.tenant": "b"})


async def test_no_session_keeps_a_setting(server: Server, dsn: str, collection: str) -> None:
    async with tenants(server, dsn, collection) as role, VectorStorage(role, collection, 2, size=2) as storage:
        await storage.warm_pool()
        for _ in range(3):
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(
                        lambda: storage.search([1.0, 0.1], settings={"app.tenant": "a", "app.user.id": "1"})
                    )
            assert await storage.search([1.0, 0.1]) == []
            async with storage.pool.lease() as one, storage.pool.lease() as other:
                for lease in (one, other):
                    (row,) = await lease.fetch("SELECT current_setting('app.tenant', true) AS tenant")
                    assert row["tenant"] in (None, "")


async def test_settings_cost_no_round_trip(server: Server, dsn: str, collection: str) -> None:
    async with tenants(server, dsn, collection):
        with RoundTripMeter(server.port) as meter:
            through = server.dsn("tests", port=meter.port)
            async with VectorStorage(through, collection, 2, size=1) as storage:
                for options in SEARCHES:
                    round_trips = []
                    for tenant in ("a", "b", "a"):
                        await storage.search(**options, settings={"app.tenant": tenant})
                        round_trips.append(sum(meter.round_trips))
                    assert round_trips[2] - round_trips[1] == 1, options


async def test_no_session_behind_a_pooler_keeps_a_setting(server: Server, dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([Chunk("kettle", [1.0, 0.0])])
    with pgbouncer(server, "transaction", default_pool_size=1) as pooled:
        async with VectorStorage(pooled, collection, 2, size=3) as storage:
            for _ in range(3):
                async with anyio.create_task_group() as group:
                    for tenant in TENANTS:
                        group.start_soon(partial(storage.search, [1.0, 0.1], settings={"app.tenant": tenant}))
                (row,) = await storage.pool.fetch("SELECT current_setting('app.tenant', true) AS tenant")
                assert row["tenant"] in (None, "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"role": "a"}, "'role' is not a setting of an application; give a name with a dot"),
        ({"statement_timeout": "0"}, "'statement_timeout' is not a setting"),
        ({"app.tenant'; --": "a"}, "is not a setting"),
        ({"app.": "a"}, "is not a setting"),
        ({5: "a"}, "5 is not a setting"),
        ({"app.tenant": 5}, "the setting app.tenant is 5; give a string"),
        ({"app.tenant": "\0"}, "the setting app.tenant holds a NUL character"),
    ],
)
async def test_an_invalid_setting_is_refused(dsn: str, collection: str, settings: Any, message: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        with pytest.raises(ArgumentError, match=message):
            await storage.search([1.0, 0.0], settings=settings)


async def test_a_value_is_bound_and_never_sql(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([Chunk("x", [1.0, 0.0])])
        value = "'; DROP TABLE x; -- $1 %s"
        assert len(await storage.search([1.0, 0.0], settings={"app.tenant": value})) == 1
        assert value not in (await storage.explain([1.0, 0.0], settings={"app.tenant": value})).statement
