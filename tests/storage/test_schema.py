"""Tables and pgvector in any schema, types and parameters, against a real PostgreSQL."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.answers import Angles, Research
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.server import Server

import preheat
from preheat import (
    HNSW,
    AccessError,
    ArgumentError,
    Chunk,
    CollectionError,
    CollectionNotFoundError,
    DimensionError,
    EmbedderError,
    ExtensionError,
    F,
    ResearchRetriever,
    VectorStorage,
    open_pool,
)
from preheat.storage.identifiers import Identifiers, check_schema, quoted
from preheat.storage.search import sql as search_statements
from preheat.testing import FakePool

RNG = np.random.default_rng(5)


def some_chunks(n: int, dimensions: int) -> list[Chunk]:
    vectors = RNG.standard_normal((n, dimensions), dtype=np.float32)
    return [Chunk(f"text {i}", vectors[i], {"n": i}, "d", i) for i in range(n)]


# Schemas


def is_schema(name: str) -> bool:
    try:
        check_schema(name)
    except ArgumentError:
        return False
    return True


schemas = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.text(st.sampled_from("ab\"'\\. $%{}E"), min_size=1, max_size=63),
).filter(is_schema)


@pytest.mark.timeout(300)
def test_property_any_name_will_do_for_a_schema(server: Server, database: str, backend: str) -> None:
    """Whatever a schema is called, a collection in it does all that one without does, and nothing comes to light
    elsewhere."""
    dsn = server.dsn(database)

    async def use(schema: str) -> None:
        async with open_pool(dsn, size=1) as pool, VectorStorage(pool, "things", 2, schema=schema) as storage:
            await storage.add([Chunk("one", [1, 0], id="a"), Chunk("two", [0, 1], {"n": 2}, id="b")])
            await storage.add([Chunk("uno", [1, 0], id="a")])
            assert [hit.text for hit in await storage.search([1, 0])] == ["uno", "two"]
            assert [hit.text for hit in await storage.search([1, 0], filter=F("n") == 2)] == ["two"]
            assert [chunk.text for chunk in await storage.get(["b"])] == ["two"]
            assert await storage.replace_document("", [Chunk("three", [1, 1], id="c")]) == 1
            assert (await storage.count(), await storage.delete(["c"])) == (1, 1)
            assert await storage.warm_pool()
            await storage.create_index()
            table = storage.answer_table
            await table.store("key", "", "m", "question", [1, 0], '"answer"', None)
            assert (await table.exact("key")) is not None
            assert len(await table.nearest([1, 0], "", "m", 0.9, 5)) == 1
            assert [info.name for info in await preheat.collections(pool, schema)] == ["things"]
            assert await preheat.collections(pool) == []
            async with storage.get_connection() as connection:
                await connection.execute(f"DROP SCHEMA {quoted(schema)} CASCADE")
            with pytest.raises(CollectionNotFoundError, match="is gone: the schema"):
                await storage.search([1, 0])

    with start_blocking_portal(backend) as portal:

        @settings(
            max_examples=max(10, settings.default.max_examples // 5),
            suppress_health_check=[HealthCheck.filter_too_much],
        )
        @given(schemas)
        @example('x"; DROP TABLE y; --')
        @example("a.b\\'c\"d")
        @example("ä" * 31 + "a")
        @example("\\" * 63)
        @example('"' * 63)
        @example(" ")
        @example("SELECT")
        @example("$1 %s {name}")
        def look(schema: str) -> None:
            portal.call(use, schema)

        server.sql("CREATE SCHEMA apart; CREATE EXTENSION vector SCHEMA apart;", database)
        look()


async def test_collections_of_one_name_in_several_schemas_keep_apart(server: Server, database: str) -> None:
    dsn = server.dsn(database)
    where = [None, "first", "Second", "th.ird"]
    async with open_pool(dsn, size=3) as pool:
        for number, schema in enumerate(where, start=1):
            async with VectorStorage(pool, "same", number, schema=schema, embedder=f"model {number}") as storage:
                await storage.add([Chunk(f"{schema} {n}", [1.0] * number, document="d") for n in range(number)])
        for number, schema in enumerate(where, start=1):
            (info,) = await preheat.collections(pool, schema)
            assert (info.name, info.chunks, info.dimensions, info.embedder) == (
                "same",
                number,
                number,
                f"model {number}",
            )
            async with VectorStorage(pool, "same", schema=schema) as storage:
                hits = await storage.search([1.0] * number)
                assert {hit.text for hit in hits} == {f"{schema} {n}" for n in range(number)}
                assert storage.schema == schema
                await storage.replace_document("d", [])
            assert [info.chunks for info in await preheat.collections(pool, where[-1])] == [
                4 if schema != where[-1] else 0
            ]
        async with VectorStorage(pool, "missing", schema="first") as storage:
            with pytest.raises(CollectionError, match=r"in the schema 'first' of this database; there are same;"):
                await storage.count()


async def test_a_schema_is_made_if_it_is_missing_and_used_without_that_right_if_it_is_there(
    server: Server, vector_database: str
) -> None:
    dsn = server.role(f"{vector_database}_role", vector_database)
    async with VectorStorage(dsn, "x", 1, schema="hers") as storage:
        assert await storage.search([1]) == []
        with pytest.raises(CollectionError, match='CREATE SCHEMA IF NOT EXISTS "hers"; GRANT USAGE, CREATE'):
            await storage.add([Chunk("x", [1])])
        server.sql(f"CREATE SCHEMA hers; GRANT USAGE ON SCHEMA hers TO {vector_database}_role;", vector_database)
        with pytest.raises(CollectionError, match=f'GRANT CREATE ON SCHEMA "hers" TO "{vector_database}_role"$'):
            await storage.add([Chunk("x", [1])])
        server.sql(f"GRANT CREATE ON SCHEMA hers TO {vector_database}_role;", vector_database)
        await storage.add([Chunk("x", [1])])
        assert len(await storage.search([1])) == 1
    async with VectorStorage(server.dsn(vector_database), "x", 1, schema="made") as storage:
        await storage.add([Chunk("x", [1])])


async def test_the_error_for_a_schema_that_may_not_be_used_has_the_grant(server: Server, database: str) -> None:
    async with VectorStorage(server.dsn(database), "x", 1, schema="theirs") as storage:
        await storage.add([Chunk("x", [1])])
    dsn = server.role(f"{database}_role", database)
    async with VectorStorage(dsn, "x", 1, schema="theirs") as storage:
        for call, rights in (
            (partial(storage.search, [1]), "SELECT"),
            (partial(storage.add, [Chunk("y", [1])]), "SELECT, INSERT, UPDATE, DELETE"),
            (storage.count, "SELECT"),
        ):
            to = f'TO "{database}_role"'
            usage = f'GRANT USAGE ON SCHEMA "theirs" {to}'
            with pytest.raises(AccessError, match=f'{usage}; .*; GRANT {rights} ON "theirs"."preheat_x" {to}$'):
                await call()


# pgvector elsewhere


async def test_pgvector_off_the_search_path_does_all_it_does_on_it(server: Server, database: str) -> None:
    server.sql("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions;", database)
    dsn = server.dsn(database)
    chunks = some_chunks(60, 2)
    for number, metric in enumerate(("cosine", "l2", "inner_product")):
        async with VectorStorage(dsn, f"c{number}", 2, metric=metric, size=3) as storage:
            assert await storage.search([1, 0]) == []
            assert await storage.add(chunks) == 60
            hits = await storage.search(chunks[0].embedding, k=60)
            assert len(hits) == 60
            assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
            await storage.create_index()
        for call in ("search", "filtered", "add", "delete", "get"):  # each the first on a fresh storage
            async with VectorStorage(dsn, f"c{number}", size=3) as storage:
                if call == "search":
                    assert [hit.id for hit in await storage.search(chunks[0].embedding, k=60)] == [
                        hit.id for hit in hits
                    ]
                elif call == "filtered":
                    assert {hit.metadata["n"] for hit in await storage.search([1, 0], filter=F("n") < 3)} == {0, 1, 2}
                elif call == "add":
                    await storage.add([Chunk("new", [1, 1], id="new"), chunks[1]])
                elif call == "delete":
                    assert await storage.delete(["new"]) == 1
                else:
                    assert len(await storage.get([chunks[0].id])) == 1
        async with VectorStorage(dsn, f"c{number}", size=3) as storage:
            assert await storage.warm_pool()
            assert storage.warm_report is not None
            assert storage.warm_report.hot == 3
            statement = search_statements.search(storage.executor.collection.identifiers, storage.metric or "cosine")
            assert "OPERATOR(" in statement


async def test_answers_are_kept_with_pgvector_off_the_search_path(server: Server, database: str) -> None:
    server.sql('CREATE SCHEMA "ext ensions"; CREATE EXTENSION vector SCHEMA "ext ensions";', database)
    research = Research()
    for tier, question in (("fresh", "10?"), ("exact", "10?"), ("semantic", "12?")):
        async with VectorStorage(server.dsn(database), "x", 2, schema="mine") as storage:
            answer = await ResearchRetriever(storage, Angles()).retrieve_or_research(question, research)
            assert (answer.tier, answer.value) == (tier, {"to": "10?"})
            assert await storage.answer_table.sweep() == 0
    async with VectorStorage(server.dsn(database), "x", 2, schema="mine") as storage:
        assert await storage.answer_table.clear() == 1


async def test_where_pgvector_is_costs_a_warm_connection_nothing(server: Server, database: str) -> None:
    server.sql("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions;", database)
    async with VectorStorage(server.dsn(database), "x", 2) as storage:
        await storage.add(some_chunks(50, 2))
    with RoundTripMeter(server.port) as proxy:
        dsn = server.dsn(database, port=proxy.port)
        async with VectorStorage(dsn, "x", 2, size=1) as storage:
            await storage.search([1, 0])
            before = sum(proxy.round_trips)
            await storage.search([0, 1])
            assert sum(proxy.round_trips) == before + 1
        async with VectorStorage(dsn, "x", 2, size=2, warm_connections=2) as storage:
            assert await storage.warm_pool()
            before = sum(proxy.round_trips)
            await storage.search([0, 1])
            assert sum(proxy.round_trips) == before + 1


async def test_an_index_serves_pgvector_off_the_search_path(server: Server, database: str) -> None:
    server.sql("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions;", database)
    async with VectorStorage(server.dsn(database) + "&enable_seqscan=off", "x", 2, schema="mine") as storage:
        await storage.add(some_chunks(50, 2))
        assert "Index Scan" in await plan_of(storage, [1.0, 0.0])


async def plan_of(storage: VectorStorage, vector: list[float]) -> str:
    """How the server runs the storage's own search."""
    statement = search_statements.search(storage.executor.collection.identifiers, storage.metric or "cosine")
    async with storage.get_connection() as connection:
        await connection.execute(f"PREPARE looked_at AS {statement}")
        rows = await connection.fetch(
            f"EXPLAIN EXECUTE looked_at('{vector}', 5, '{storage.collection}', NULL, NULL)",
        )
        await connection.execute("DEALLOCATE looked_at")
    return "\n".join(row["QUERY PLAN"] for row in rows)


# pgvector and roles


async def test_a_role_without_the_right_to_add_pgvector_works_where_it_is(server: Server, database: str) -> None:
    server.sql("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions;", database)
    dsn = server.role(f"{database}_role", database, "USAGE ON SCHEMA extensions", "USAGE, CREATE ON SCHEMA public")
    async with VectorStorage(dsn, "x", 1) as storage:
        await storage.add([Chunk("x", [1])])
        assert len(await storage.search([1])) == 1


async def test_a_missing_pgvector_that_the_role_may_not_add_is_reported_with_the_remedy(
    server: Server, database: str
) -> None:
    dsn = server.role(f"{database}_role", database, "USAGE, CREATE ON SCHEMA public", "CREATE ON DATABASE " + database)
    async with VectorStorage(dsn, "x", 1, schema="mine") as storage:
        assert await storage.search([1]) == []
        for _ in range(2):
            with pytest.raises(ExtensionError, match="CREATE EXTENSION vector"):
                await storage.add([Chunk("x", [1])])
        server.sql("CREATE EXTENSION vector;", database)
        await storage.add([Chunk("x", [1])])
        assert len(await storage.search([1])) == 1


# Types


@pytest.mark.parametrize("arrays", [True, False])
async def test_a_halfvec_is_stored_searched_and_given_back(dsn: str, collection: str, arrays: bool) -> None:
    chunks = some_chunks(80, 4)
    if not arrays:
        chunks = [Chunk(c.text, [float(x) for x in c.embedding], c.metadata, c.document, c.position) for c in chunks]
    name = f"{collection}_{arrays}"
    async with VectorStorage(dsn, name, 4, vector_type="halfvec") as storage:
        await storage.add(chunks)
        await storage.add(chunks[:3])  # by way of the staging table
        assert storage.vector_type == "halfvec"
        hits = await storage.search(chunks[7].embedding, k=1)
        assert [hit.id for hit in hits] == [chunks[7].id]
        (stored,) = await storage.get([chunks[7].id])
        assert list(stored.embedding) == [float(np.float16(x)) for x in chunks[7].embedding]
        assert await storage.warm_pool()
    async with VectorStorage(dsn, name) as storage:
        await storage.search([1, 0, 0, 0])
        await storage.add([Chunk("later", [1, 0, 0, 0])])
        assert storage.vector_type == "halfvec"
    async with VectorStorage(dsn + "&enable_seqscan=off", name) as storage:
        assert "Index Scan" in await plan_of(storage, [1.0, 0.0, 0.0, 0.0])


async def test_above_2000_dimensions_vectors_are_halfvecs_that_the_index_serves(dsn: str, collection: str) -> None:
    chunks = some_chunks(30, 3072)
    async with VectorStorage(dsn + "&enable_seqscan=off", collection, 3072) as storage:
        await storage.add(chunks)
        assert storage.vector_type == "halfvec"
        assert [hit.id for hit in await storage.search(chunks[3].embedding, k=1)] == [chunks[3].id]
        assert "Index Scan" in await plan_of(storage, [1.0] + [0.0] * 3071)
        with pytest.raises(DimensionError, match="3072 dimensions, not 2"):
            await storage.search([1, 0])
    async with VectorStorage(dsn, collection) as storage:
        assert await storage.warm_pool()
        assert len(await storage.search(chunks[3].embedding)) == 5


@pytest.mark.parametrize("wrap", [list, lambda row: np.asarray(row, dtype=np.float32), np.asarray])
async def test_a_number_outside_float16_is_refused_in_a_sentence(dsn: str, collection: str, wrap: Any) -> None:
    name = f"{collection}_half"
    async with VectorStorage(dsn, name, 2, vector_type="halfvec") as storage:
        await storage.add([Chunk("largest", wrap([65504.0, -65519.0]), id="a")])
        assert list((await storage.get(["a"]))[0].embedding) == [65504.0, -65504.0]
        for bad in (65520.0, -1e30):
            with pytest.raises(ArgumentError, match=r"dimension 1 of the embedding is .*float16 cannot hold"):
                await storage.add([Chunk("x", wrap([1.0, bad]))])
            with pytest.raises(ArgumentError, match="float16 cannot hold"):
                await storage.search(wrap([1.0, bad]))
    async with VectorStorage(dsn, name) as storage:
        with pytest.raises(ArgumentError, match="float16 cannot hold"):
            await storage.search(wrap([1.0, 1e9]), filter=F("n") != 1)


@pytest.mark.timeout(300)
def test_property_a_packed_halfvec_is_what_the_server_makes_of_its_text(dsn: str, backend: str) -> None:
    """A `halfvec` that comes by binary COPY is bit for bit the one that the server reads from the same numbers."""
    halves = st.floats(-65519.0, 65519.0, width=32)
    name = f"halves_{backend}"

    async def compare(storage: VectorStorage, rows: list[list[float]]) -> None:
        chunks = [
            Chunk(str(n), np.asarray(row, dtype=np.float32) if n % 2 else row, id=str(n)) for n, row in enumerate(rows)
        ]
        await storage.replace_document("", chunks)
        texts = [str(row) for row in rows]
        found = await storage.pool.fetch(
            f"SELECT halfvec_send(embedding) AS packed, halfvec_send($1::text[][id::int + 1]::halfvec) AS read FROM "
            f'"preheat_{name}" ORDER BY id::int'.replace("$1::text[][id::int + 1]", "($1::text[])[id::int + 1]"),
            texts,
        )
        assert len(found) == len(rows)
        for row in found:
            assert bytes(row["packed"]) == bytes(row["read"])

    with (
        start_blocking_portal(backend) as portal,
        portal.wrap_async_context_manager(
            VectorStorage(dsn, name, 4, vector_type="halfvec", size=1, warm="never", index=False)
        ) as storage,
    ):

        @settings(max_examples=max(20, settings.default.max_examples // 2))
        @given(st.lists(st.lists(halves, min_size=3, max_size=3), min_size=1, max_size=8))
        @example([[2.0**-24, 2.0**-25, 65504.0], [2.0**-25 * 1.5, -0.0, 6.1e-5]])
        def look(rows: list[list[float]]) -> None:
            portal.call(compare, storage, [[*row, 1.0] for row in rows])  # so that rounding changes each but a little

        look()


# The index of the vectors, and the language


async def test_the_parameters_of_an_index_are_the_ones_asked_for(server: Server, dsn: str, collection: str) -> None:
    def options(name: str) -> list[str]:
        index = f"preheat_{name}.embedding"
        return server.sql(f"SELECT reloptions FROM pg_class WHERE relname = '{index}'", "tests")[0]["reloptions"]

    for name, index in ((f"{collection}_default", True), (f"{collection}_own", HNSW(m=24, ef_construction=200))):
        async with VectorStorage(dsn, name, 2, index=index) as storage:
            await storage.add(some_chunks(3, 2))
    async with VectorStorage(dsn, f"{collection}_later", 2, index=False) as storage:
        await storage.add(some_chunks(3, 2))
    async with VectorStorage(dsn, f"{collection}_later", index=HNSW(5, 10)) as storage:
        await storage.create_index()
    assert options(f"{collection}_default") == ["m=16", "ef_construction=64"]
    assert options(f"{collection}_own") == ["m=24", "ef_construction=200"]
    assert options(f"{collection}_later") == ["m=5", "ef_construction=10"]


@pytest.mark.parametrize("arguments", [(1, 64), (101, 1000), (16, 31), (2, 3), (16, 1001)])
def test_parameters_that_pgvector_does_not_take_are_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(ArgumentError, match="give a number from"):
        HNSW(*arguments)


@pytest.mark.parametrize("arguments", [(2, 4), (100, 200), (100, 1000), (16, 32)])
async def test_parameters_at_the_limits_are_pgvectors_own(
    dsn: str, collection: str, arguments: tuple[int, int]
) -> None:
    name = f"{collection}_{arguments[0]}_{arguments[1]}"
    async with VectorStorage(dsn, name, 2, index=HNSW(*arguments)) as storage:
        await storage.add(some_chunks(3, 2))


async def test_words_are_found_in_the_language_of_the_collection(server: Server, dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, language="german") as storage:
        await storage.add([Chunk("viele Häuser stehen leer", [1])])
    (row,) = server.sql(f"SELECT words @@ to_tsquery('german', 'Haus') AS found FROM \"preheat_{collection}\"", "tests")
    assert row["found"]


@pytest.mark.parametrize("language", ["klingon", "eng'lish", "pg_catalog.english", "", "x" * 100, "\\"])
async def test_the_error_for_an_unknown_language_lists_the_known_ones(dsn: str, collection: str, language: str) -> None:
    async with VectorStorage(dsn, collection, 1, language=language) as storage:
        with pytest.raises(CollectionError, match=r"knows no language .* choose one of english, .*german"):
            await storage.add([Chunk("x", [1])])
        assert await storage.search([1]) == []


async def test_another_type_or_language_than_the_collections_is_an_error(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, vector_type="halfvec", language="french") as storage:
        await storage.add([Chunk("x", [1])])
    for wrong, words in (
        ({"vector_type": "vector"}, "vector_type='halfvec' and was opened with vector_type='vector'; open it with"),
        ({"language": "english"}, "language='french' and was opened with language='english'; open it with"),
    ):
        async with VectorStorage(dsn, collection, 1, **wrong) as storage:  # type: ignore[arg-type]
            with pytest.raises(CollectionError, match=words):
                await storage.add([Chunk("y", [1])])


async def test_a_mismatch_of_model_and_dimensions_names_the_model(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, embedder="new") as storage:
        await storage.add([Chunk("x", [1, 0, 0])])
    for dimensions, vector_type in ((2, None), (2500, None), (2, "halfvec")):
        async with VectorStorage(
            dsn,
            collection,
            dimensions,
            embedder="old",
            vector_type=vector_type,  # type: ignore[arg-type]
        ) as storage:
            with pytest.raises(EmbedderError, match=r"'new'.*'old'"):
                await storage.search([1.0] * dimensions)
            with pytest.raises(EmbedderError, match=r"'new'.*'old'"):
                await storage.add([Chunk("y", [1.0] * dimensions)])


@pytest.mark.parametrize(
    "arguments",
    [
        {"schema": "a" * 64},
        {"schema": "information_schema"},
        {"schema": "a\0"},
        {"schema": "\ud800"},
        {"language": "\0"},
        {"dimensions": 4001, "vector_type": "halfvec"},
        {"vector_type": "bit"},
    ],
)
async def test_invalid_arguments_are_refused_before_any_connection(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=";"):
        VectorStorage(FakePool(), "x", **arguments)


async def test_ten_at_once_in_a_schema_that_is_missing_make_it_once(server: Server, database: str) -> None:
    async def store(number: int) -> None:
        async with VectorStorage(server.dsn(database), "x", 1, schema="new", size=1) as storage:
            await storage.add([Chunk(f"text {number}", [1])])

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(store, number)
    assert [info.chunks for info in await preheat.collections(server.dsn(database), "new")] == [10]


def test_the_names_of_a_collection_in_a_schema_are_quoted_once() -> None:
    names = Identifiers("c", 's"x', "e")
    assert names.table == '"s""x"."preheat_c"'
    assert names.registry == '"s""x"."preheat_collections"'
    assert names.operator("l2") == 'OPERATOR("e".<->)'
