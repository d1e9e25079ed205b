"""VectorStorage against a real PostgreSQL with pgvector, and against a brute-force oracle."""

from __future__ import annotations

import logging
import socket
from typing import Any

import anyio
import numpy as np
import pytest
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.server import Server, free_port

import preheat
from preheat import (
    ArgumentError,
    Chunk,
    CollectionError,
    CollectionMismatchError,
    CollectionNotFoundError,
    ConnectError,
    DimensionError,
    EmbedderError,
    ExtensionError,
    PreheatError,
    VectorStorage,
)
from preheat.testing import FakePool, FaultPlan, fail

RNG = np.random.default_rng(7)


def some_chunks(n: int, dimensions: int = 8, document: str = "d") -> list[Chunk]:
    vectors = RNG.standard_normal((n, dimensions), dtype=np.float32)
    return [Chunk(f"text {i}", vectors[i], {"n": i}, document, i) for i in range(n)]


def distances(metric: str, query: Any, chunks: list[Chunk]) -> dict[str, float]:
    vectors = np.array([chunk.embedding for chunk in chunks], dtype=np.float64)
    if metric == "l2":
        found = np.linalg.norm(vectors - query, axis=1)
    elif metric == "inner_product":
        found = -vectors @ query
    else:
        found = 1 - vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return {chunk.id: float(distance) for chunk, distance in zip(chunks, found, strict=True)}


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
async def test_a_search_agrees_with_brute_force(dsn: str, collection: str, metric: Any) -> None:
    chunks = some_chunks(200)
    query = RNG.standard_normal(8).astype(np.float32)
    oracle = distances(metric, query.astype(np.float64), chunks)
    nearest = sorted(oracle, key=oracle.__getitem__)[:10]

    async with VectorStorage(dsn, collection, 8, metric=metric) as storage:
        assert await storage.add(chunks) == 200
        hits = await storage.search(query, k=10)

    assert [hit.id for hit in hits] == nearest
    assert [hit.distance for hit in hits] == pytest.approx([oracle[id] for id in nearest], abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    best = hits[0]
    assert (best.document, best.text, best.metadata["n"]) == ("d", f"text {best.position}", best.position)
    assert best.as_dict()["score"] == best.score


async def test_another_metric_for_one_search_scans(dsn: str, collection: str) -> None:
    chunks = some_chunks(30)
    async with VectorStorage(dsn, collection, 8) as storage:
        await storage.add(chunks)
        hits = await storage.search(chunks[3].embedding, k=30, metric="l2")

    oracle = distances("l2", np.asarray(chunks[3].embedding, dtype=np.float64), chunks)
    assert [hit.id for hit in hits] == sorted(oracle, key=oracle.__getitem__)


async def test_adding_again_replaces_and_deleting_deletes(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([Chunk("one", [1, 0], id="a"), Chunk("two", [0, 1], id="b", document="x")])
        await storage.add([Chunk("uno", [1, 1], {"v": 2}, id="a"), Chunk("due", [0, 1], id="c", document="x")])

        (stored,) = await storage.get(["a", "nobody"])
        assert (stored.text, list(stored.embedding), stored.metadata) == ("uno", [1.0, 1.0], {"v": 2})
        assert await storage.count() == 3
        assert await storage.delete(document="x") == 2
        assert await storage.delete(["a", "nobody"]) == 1
        assert await storage.count() == 0
        assert await storage.add([]) == 0


async def test_the_later_of_two_chunks_with_one_id_is_kept(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1) as storage:
        assert await storage.add([Chunk("first", [1], id="a"), Chunk("second", [1], id="a")]) == 1
        assert [chunk.text for chunk in await storage.get(["a"])] == ["second"]


async def test_replacing_a_document_leaves_no_stale_chunk(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1) as storage:
        await storage.add([Chunk("old one", [1], document="d"), Chunk("other", [1], document="e")])
        assert await storage.replace_document("d", [Chunk("new", [2], document="d")]) == 1
        assert {hit.text for hit in await storage.search([1])} == {"new", "other"}
        assert await storage.replace_document("d", []) == 0
        assert await storage.count() == 1
        with pytest.raises(ArgumentError, match="belongs to document 'e'"):
            await storage.replace_document("d", [Chunk("x", [1], document="e")])


async def test_a_batch_with_one_bad_chunk_stores_nothing(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add([Chunk("here", [1, 0], id="a")])
        for bad, error in ((Chunk("x", [1, float("nan")]), ArgumentError), (Chunk("y", [1, 2, 3]), DimensionError)):
            with pytest.raises(error):
                await storage.add([Chunk("replaced", [1, 0], id="a"), Chunk("new", [1, 0]), bad])
        assert await storage.count() == 1
        assert (await storage.get(["a"]))[0].text == "here"


async def test_a_batch_that_the_server_refuses_half_way_stores_nothing(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1) as storage:
        await storage.add([Chunk("here", [1], id="a", document="d")])
        async with storage.get_connection() as connection:
            await connection.execute(f"ALTER TABLE \"preheat_{collection}\" ADD CHECK (text <> 'poison')")
        with pytest.raises(Exception, match="check constraint"):
            await storage.replace_document("d", [Chunk("new", [1], document="d"), Chunk("poison", [1], document="d")])
        assert [chunk.text for chunk in await storage.get(["a"])] == ["here"]
        assert await storage.count() == 1


async def test_nothing_stored_yet_means_no_hits(server: Server, database: str, dsn: str, collection: str) -> None:
    for where in (dsn, server.dsn(database)):
        async with VectorStorage(where, collection, 3) as storage:
            assert await storage.search([1, 0, 0]) == []
            assert await storage.get(["a"]) == []
            assert await storage.count() == 0
            assert await storage.delete(document="d") == 0
            assert await storage.warm_pool()  # hot for `SELECT 1`: there is nothing else to be hot for


async def test_a_collection_that_must_exist_and_does_not_is_an_error_that_names_the_others(
    server: Server, database: str, collection: str
) -> None:
    dsn = server.dsn(database)  # with few collections: the error names ten of them at most
    async with VectorStorage(dsn, f"{collection}_other", 3) as other:
        await other.add([Chunk("x", [1, 0, 0])])
    async with VectorStorage(dsn, collection) as storage:
        for call in (storage.search([1, 0, 0]), storage.count(), storage.add([Chunk("x", [1, 0, 0])])):
            with pytest.raises(CollectionError, match=f"no collection '{collection}'.*{collection}_other"):
                await call


async def test_a_collection_is_opened_by_its_name_alone(dsn: str, collection: str) -> None:
    chunks = some_chunks(20)
    async with VectorStorage(dsn, collection, 8, metric="l2", embedder="m") as storage:
        await storage.add(chunks)
    oracle = distances("l2", np.asarray(chunks[0].embedding, dtype=np.float64), chunks)

    async with VectorStorage(dsn, collection) as storage:
        hits = await storage.search(chunks[0].embedding, k=20)
        assert [hit.id for hit in hits] == sorted(oracle, key=oracle.__getitem__)
        assert storage.metric == "l2"
    async with VectorStorage(dsn, collection) as storage:
        assert await storage.warm_pool()
        assert (storage.dimensions, storage.metric) == (8, "l2")
    async with VectorStorage(dsn, collection, 8) as storage:  # the metric is learned from the first search
        assert [hit.id for hit in await storage.search(chunks[0].embedding, k=20)] == [hit.id for hit in hits]


async def test_a_search_with_the_default_metric_is_made_again_if_another_has_learned_the_metric_meanwhile(
    dsn: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with VectorStorage(dsn, collection, 2, metric="l2") as storage:
        await storage.add([Chunk("near", [1.0, 0.1]), Chunk("far", [9.0, 0.0])])
    async with VectorStorage(dsn, collection, 2) as storage:
        fetch, answered, learned = storage.executor.fetch, anyio.Event(), anyio.Event()
        found: list[str] = []

        async def held(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(storage.executor, "fetch", fetch)
            rows = await fetch(*args, **options)
            answered.set()
            await learned.wait()
            return rows

        async def search() -> None:
            found.extend(hit.text for hit in await storage.search([1.0, 0.0]))

        monkeypatch.setattr(storage.executor, "fetch", held)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(search)
            await answered.wait()
            assert [hit.text for hit in await storage.search([1.0, 0.0])] == ["near", "far"]
            assert storage.metric == "l2"
            learned.set()
        assert found == ["near", "far"]  # by cosine it is the other way round


async def test_another_metric_than_the_collections_is_an_error(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1, metric="l2") as storage:
        await storage.add([Chunk("x", [1])])
    async with VectorStorage(dsn, collection, 1, metric="cosine") as storage:
        with pytest.raises(CollectionError, match="metric='l2'"):
            await storage.search([1])
        with pytest.raises(CollectionError, match="metric='l2'"):
            await storage.add([Chunk("y", [1])])


async def test_other_dimensions_than_the_collections_name_both_and_the_remedy(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.add([Chunk("x", [1, 0, 0])])
        with pytest.raises(DimensionError, match="3 dimensions, not 2"):
            await storage.search([1, 0])
    async with VectorStorage(dsn, collection, 2) as storage:
        with pytest.raises(DimensionError, match="3 dimensions, not 2"):
            await storage.add([Chunk("x", [1, 0])])
        with pytest.raises(DimensionError, match="dimensions=2"):
            await storage.search([1, 0])
    async with VectorStorage(dsn, collection) as storage:
        with pytest.raises(DimensionError):
            await storage.search([1, 0])


async def test_another_model_than_the_collections_is_an_error(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1) as storage:
        await storage.add([Chunk("x", [1])])
    async with VectorStorage(dsn, collection, 1, embedder="first") as storage:
        await storage.add([Chunk("y", [1])])  # a collection without a model takes the first
        assert len(await storage.search([1])) == 2
    async with VectorStorage(dsn, collection, 1, embedder="second") as storage:
        with pytest.raises(EmbedderError, match=r"'first'.*'second'"):
            await storage.search([1])
        with pytest.raises(EmbedderError):
            await storage.add([Chunk("z", [1])])


@pytest.mark.parametrize(
    "arguments",
    [
        {"dimensions": 0},
        {"dimensions": 4001},
        {"dimensions": 2001, "vector_type": "vector"},
        {"vector_type": "text"},
        {"schema": "pg_x"},
        {"schema": ""},
        {"metric": "chess"},
        {"collection": "no/name"},
        {"warm": "sometimes"},
        {"warm_timeout": 0},
        {"warm_timeout": float("nan")},
        {"warm_connections": 0},
        {"warm_connections": 4, "size": 3},
    ],
)
async def test_an_argument_that_cannot_be_right_is_refused_before_anything_else(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=";"):  # what is wrong; what to do
        VectorStorage("postgresql://nowhere/x", **{"collection": "x", "dimensions": 3, **arguments})


async def test_k_must_be_positive(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(ArgumentError, match="k is 0"):
            await storage.search([1, 0, 0], k=0)
        with pytest.raises(ArgumentError, match="one of them"):
            await storage.delete()
        with pytest.raises(ArgumentError, match="list"):
            await storage.get("abc")


async def test_a_storage_that_is_not_open_says_so(dsn: str) -> None:
    storage = VectorStorage(dsn, "x", 3)
    with pytest.raises(PreheatError, match="async with"):
        await storage.search([1, 0, 0])
    async with storage:
        with pytest.raises(PreheatError, match="open already"):
            await storage.__aenter__()
    with pytest.raises(PreheatError, match="async with"):
        await storage.count()


async def test_the_error_for_a_role_that_may_not_add_pgvector_says_who_can(server: Server, database: str) -> None:
    server.sql(f"CREATE ROLE {database}_role LOGIN PASSWORD 's3cret/p@ss';")
    server.sql(f"GRANT ALL ON SCHEMA public TO {database}_role;", database)
    async with VectorStorage(server.dsn(database, user=f"{database}_role"), "x", 1) as storage:
        with pytest.raises(ExtensionError, match="CREATE EXTENSION vector"):
            await storage.add([Chunk("x", [1])])


async def test_a_role_that_may_not_make_tables_is_reported(server: Server, database: str) -> None:
    server.sql("CREATE EXTENSION vector;", database)
    server.sql(f"CREATE ROLE {database}_role LOGIN PASSWORD 's3cret/p@ss';")
    async with VectorStorage(server.dsn(database, user=f"{database}_role"), "x", 1) as storage:
        with pytest.raises(CollectionError, match="GRANT CREATE"):
            await storage.add([Chunk("x", [1])])


async def test_ten_storages_may_make_the_schema_at_once(server: Server, database: str) -> None:
    async def store(number: int) -> None:
        async with VectorStorage(server.dsn(database), f"c{number % 3}", 1, size=1) as storage:
            await storage.add([Chunk(f"text {number}", [1])])

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(store, number)

    infos = await preheat.collections(server.dsn(database))
    assert [(info.name, info.chunks) for info in infos] == [("c0", 4), ("c1", 3), ("c2", 3)]
    assert infos[0].as_dict()["dimensions"] == 1


async def test_a_collection_that_another_client_dropped_is_made_again(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 1) as storage:
        await storage.add([Chunk("x", [1])])
        async with storage.get_connection() as connection:
            await connection.execute(f'DROP TABLE "preheat_{collection}"')
        (info,) = [info for info in await preheat.collections(dsn) if info.name == collection]
        assert (info.chunks, info.bytes) == (0, 0)
        assert info.missing is not None
        assert f"'{collection}' is gone: the list of collections has it" in info.missing
        assert info.missing.endswith("store its chunks again; to take it off the list, drop the collection")
        with pytest.raises(CollectionNotFoundError, match=f"'{collection}' is gone: .*store its chunks again"):
            await storage.search([1])
        await storage.add([Chunk("y", [1])])
        assert await storage.count() == 1
    async with VectorStorage(dsn, collection, 1) as storage, storage.get_connection() as connection:
        await connection.execute(f'DROP TABLE "preheat_{collection}"')
    async with VectorStorage(dsn, collection, 2) as storage:  # what is gone does not bind its successor
        await storage.add([Chunk("z", [1, 0])])
        assert await storage.count() == 1
    assert {info.name: info.dimensions for info in await preheat.collections(dsn)}[collection] == 2


@pytest.mark.parametrize("schema", [None, "shelf"])
async def test_a_lost_list_of_collections_is_an_error(server: Server, database: str, schema: str | None) -> None:
    async with VectorStorage(server.dsn(database), "papers", 2, schema=schema) as storage:
        await storage.add([Chunk("x", [1, 0])])
    server.sql(f"DROP TABLE {schema or 'public'}.preheat_collections; CREATE TABLE preheat_mine (id text)", database)

    with pytest.raises(CollectionMismatchError, match="is gone, and there are tables of papers; put each"):
        await preheat.collections(server.dsn(database), schema)
    async with VectorStorage(server.dsn(database), "papers", 2, schema=schema) as storage:
        await storage.create()
    assert [info.chunks for info in await preheat.collections(server.dsn(database), schema)] == [1]


async def test_a_table_without_an_entry_in_the_list_keeps_its_own_dimensions(
    server: Server, vector_database: str
) -> None:
    dsn = server.dsn(vector_database)
    async with VectorStorage(dsn, "papers", 2, vector_type="halfvec") as storage:
        await storage.add([Chunk("x", [1, 0])])
    server.sql("DROP TABLE preheat_collections", vector_database)

    with pytest.raises(DimensionError, match="2"):
        async with VectorStorage(dsn, "papers", 3) as storage:
            await storage.create()
    async with VectorStorage(dsn, "papers") as storage:
        assert [hit.text for hit in await storage.search([1, 0], k=1)] == ["x"]
    (info,) = await preheat.collections(dsn)
    assert (info.dimensions, info.chunks) == (2, 1)


async def test_collections_of_a_database_without_any(server: Server, database: str) -> None:
    assert await preheat.collections(server.dsn(database)) == []


async def test_more_hits_than_an_index_scan_yields_by_itself(dsn: str, collection: str) -> None:
    chunks = some_chunks(1200)
    async with VectorStorage(dsn, collection, 8) as storage:
        await storage.add(chunks)
        for k in (40, 41, 300, 1100):
            hits = await storage.search(chunks[0].embedding, k=k)
            assert len({hit.id for hit in hits}) == k
        assert len(await storage.search(chunks[0].embedding, k=5000)) == 1200
        with pytest.raises(ArgumentError, match="k is"):
            await storage.search(chunks[0].embedding, k=2**31)


@pytest.mark.parametrize("names", [("b_embedding", "b"), ("a", "a_document"), ("x", "x_pkey"), ("y", "y_id")])
async def test_collections_whose_names_resemble_tables_and_indexes_live_together(
    server: Server, database: str, names: tuple[str, str]
) -> None:
    for name in names:
        async with VectorStorage(server.dsn(database), name, 1) as storage:
            await storage.add([Chunk(name, [1])])
    for name in names:
        async with VectorStorage(server.dsn(database), name, 1) as storage:
            assert [hit.text for hit in await storage.search([1])] == [name]
            async with storage.get_connection() as connection:
                rows = await connection.fetch(f"SELECT 1 FROM pg_indexes WHERE tablename = 'preheat_{name}'")
                assert len(rows) == 5


@pytest.mark.parametrize("name", ["collections", "staging"])
async def test_the_names_of_preheats_own_tables_are_reserved(name: str) -> None:
    with pytest.raises(ArgumentError, match="not a name"):
        VectorStorage(FakePool(), name, 1)


async def test_writers_of_the_same_ids_in_another_order_do_not_wait_for_each_other(dsn: str, collection: str) -> None:
    batch = [Chunk(f"text {number}", [number + 1]) for number in range(300)]
    async with VectorStorage(dsn, collection, 1) as storage:
        await storage.create()
        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(storage.add, batch if number % 2 else batch[::-1])
        assert await storage.count() == 300


async def test_one_of_two_concurrent_replacements_wins_completely(dsn: str, collection: str) -> None:
    versions = [[Chunk(f"{v} {number}", [1], document="d") for number in range(20)] for v in ("one", "two", "three")]
    async with VectorStorage(dsn, collection, 1) as storage:
        await storage.create()
        for _ in range(5):
            async with anyio.create_task_group() as tasks:
                for version in versions:
                    tasks.start_soon(storage.replace_document, "d", version)
            assert len({hit.text.split()[0] for hit in await storage.search([1], k=40)}) == 1
            assert await storage.count() == 20


async def test_entering_twice_at_once_is_refused(dsn: str) -> None:
    storage = VectorStorage(dsn, "x", 1)
    refused: list[PreheatError] = []

    async def enter() -> None:
        try:
            async with storage:
                await anyio.wait_all_tasks_blocked()
        except PreheatError as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
        tasks.start_soon(enter)
    assert len(refused) == 1
    async with storage:
        assert await storage.warm_pool()


# Warming


async def test_warming_runs_the_search_once_on_each_of_several_connections(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 8, size=5) as storage:
        await storage.add(some_chunks(50))
        assert await storage.warm_pool()
        report = storage.warm_report
        assert report is not None
        assert (report.hot, report.requested) == (3, 3)
        assert len({connection.pid for connection in report.connections}) == 3

        seen = set()
        async with anyio.create_task_group() as tasks:

            async def look() -> None:
                async with storage.pool.lease() as lease:
                    rows = await lease.fetch("SELECT statement FROM pg_prepared_statements")
                    if any("AS distance" in row["statement"] for row in rows):
                        seen.add(lease.pid)
                    await everybody.wait()

            everybody = anyio.Event()
            for _ in range(3):
                tasks.start_soon(look)
            with anyio.fail_after(30):
                while len(seen) < 3:
                    await anyio.lowlevel.checkpoint()
            everybody.set()

    assert seen == {connection.pid for connection in report.connections}


async def test_a_warmed_search_is_one_round_trip_and_a_cold_one_six(server: Server, dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 8) as storage:
        await storage.add(some_chunks(50))
    with RoundTripMeter(server.port) as proxy:
        async with VectorStorage(server.dsn("tests", port=proxy.port), collection, 8, size=1) as storage:
            await storage.search([1.0] * 8)
            assert sum(proxy.round_trips) == 6
            await storage.search([1.0] * 8)
            assert sum(proxy.round_trips) == 7
        async with VectorStorage(server.dsn("tests", port=proxy.port), collection, 8, size=1) as storage:
            await storage.warm_pool()
            warmed = sum(proxy.round_trips)
            await storage.search([2.0] * 8)
            assert sum(proxy.round_trips) == warmed + 1


async def test_a_server_that_is_down_is_a_false_and_a_warning_not_an_error(caplog: pytest.LogCaptureFixture) -> None:
    dsn = f"postgresql://user:secret-word@127.0.0.1:{free_port()}/db"
    async with VectorStorage(dsn, "x", 3, warm="startup", warm_timeout=0.5) as storage:
        assert storage.warm_once.done
        assert await storage.warm_pool() is False
        with pytest.raises(ConnectError):
            await storage.search([1, 0, 0])

    assert storage.warm_report is not None
    assert "ConnectError" in str(storage.warm_report.as_dict())
    assert "WARNING" in {record.levelname for record in caplog.records}
    assert "secret-word" not in caplog.text + str(storage.warm_report.as_dict())


async def test_a_pool_that_was_cold_works_once_the_server_does(server: Server, dsn: str, collection: str) -> None:
    port = free_port()
    async with VectorStorage(server.dsn("tests", port=port), collection, 3, warm_timeout=0.5) as storage:
        assert not await storage.warm_pool()
        with socket.create_server(("127.0.0.1", port)) as listener:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_relay, listener, server.port)
                assert await storage.search([1, 0, 0]) == []
                assert await storage.warm_pool()
                tasks.cancel_scope.cancel()


async def _relay(listener: socket.socket, port: int) -> None:
    """Forward what comes in to a server, so that an address comes to life."""

    async def copy(source: Any, sink: Any) -> None:
        try:
            async for piece in source:
                await sink.send(piece)
            await sink.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async def serve(client: Any) -> None:
        async with client, await anyio.connect_tcp("127.0.0.1", port) as upstream, anyio.create_task_group() as tasks:
            tasks.start_soon(copy, client, upstream)
            tasks.start_soon(copy, upstream, client)

    listener.setblocking(False)
    async with await anyio.abc.SocketListener.from_socket(listener) as accepting:
        await accepting.serve(serve)


async def test_a_listener_that_never_speaks_costs_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db?sslmode=disable"
        async with VectorStorage(dsn, "x", 3, warm_timeout=0.3) as storage:
            with anyio.fail_after(30):
                assert not await storage.warm_pool()
            assert storage.warm_report is not None
            assert storage.warm_report.timed_out


@pytest.mark.parametrize("policy", ["startup", "background", "first-use", "never"])
async def test_policies(policy: Any) -> None:
    pool = FakePool()
    async with VectorStorage(pool, "x", 3, warm=policy) as storage:
        assert storage.warm_once.done == (policy == "startup")
        await anyio.wait_all_tasks_blocked()
        assert storage.warm_once.done == (policy in ("startup", "background"))
        assert pool.opens == (3 if policy in ("startup", "background") else 0)
        assert await storage.warm_pool()
    pool.assert_no_leaks()


async def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREHEAT_WARM", "startup")
    monkeypatch.setenv("PREHEAT_WARM_CONNECTIONS", "5")
    monkeypatch.setenv("PREHEAT_WARM_TIMEOUT", "1.5")
    pool, small = FakePool(), FakePool(size=2)
    async with VectorStorage(pool, "x", 3), VectorStorage(small, "x", 3):
        assert (pool.opens, small.opens) == (5, 2)

    monkeypatch.setenv("PREHEAT_WARM_TIMEOUT", "soon")
    with pytest.raises(ArgumentError, match="PREHEAT_WARM_TIMEOUT is 'soon'"):
        VectorStorage(pool, "x", 3)


async def test_connections_above_the_size_of_a_given_pool_are_refused_on_entering() -> None:
    with pytest.raises(ArgumentError, match="from 1 to 2"):
        async with VectorStorage(FakePool(size=2), "x", 3, warm_connections=3):
            raise AssertionError("not reached")


async def test_leaving_a_storage_ends_its_warm_up_and_wakes_who_waits() -> None:
    plan = FaultPlan.all(connect=preheat.testing.hang())
    pool = FakePool(plan=plan)
    woken = anyio.Event()

    async def wait(storage: VectorStorage) -> None:
        await storage.warm_once()
        woken.set()

    async with anyio.create_task_group() as tasks:
        async with VectorStorage(pool, "x", 3, warm="background", warm_timeout=60) as storage:
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(wait, storage)
            await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(30):
            await woken.wait()
    assert storage.warm_once.outcome == "cancelled"
    pool.assert_no_leaks()


async def test_an_exception_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with VectorStorage(FakePool(), "x", 3, warm="background"):
            raise KeyError("mine")


async def test_a_cancelled_block_is_cancelled() -> None:
    pool = FakePool()
    with anyio.move_on_after(0) as scope:
        async with VectorStorage(pool, "x", 3, warm="background"):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    pool.assert_no_leaks()


async def test_a_failing_pool_is_a_false(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool(plan=FaultPlan.all(connect=fail(OSError("no route"))))
    async with VectorStorage(pool, "x", 3) as storage:
        with caplog.at_level(logging.WARNING, "preheat"):
            assert await storage.warm_pool() is False
    assert "no route" in caplog.text


async def test_missing_rights_on_a_collection_are_told_with_the_grant(server: Server, database: str) -> None:
    async with VectorStorage(server.dsn(database), "x", 1) as storage:
        await storage.add([Chunk("x", [1])])
    server.sql(f"CREATE ROLE {database}_reader LOGIN PASSWORD 's3cret/p@ss';")
    async with VectorStorage(server.dsn(database, user=f"{database}_reader"), "x", 1) as storage:
        for call in (storage.search([1]), storage.add([Chunk("y", [1])]), storage.count()):
            with pytest.raises(CollectionError, match="GRANT SELECT"):
                await call
