from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import numpy as np
import pytest
from tests.support.checks import assert_no_secrets, assert_one_sentence
from tests.support.models import AsyncWords, Words
from tests.support.network.ends import silent_port
from tests.support.server import PASSWORD, Server, free_port
from tests.support.waiting import PATIENCE
from tests.support.watched import Watched, chunk

from preheat import (
    ArgumentError,
    Chunk,
    CollectionError,
    ConnectError,
    DimensionError,
    EmbedderError,
    ExtensionError,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    open_pool,
    warm,
)
from preheat.testing import FakePool, run

VECTOR = [1.0, 2.0, 3.0]
NUMBERS = [math.nan, math.inf, -math.inf]


async def use(storage: VectorStorage, operation: str) -> Any:
    match operation:
        case "search":
            return await storage.search(VECTOR)
        case "add":
            return await storage.add([chunk(1)])
        case "get":
            return await storage.get(["1"])
        case "delete":
            return await storage.delete(["1"])
        case "count":
            return await storage.count()
        case "connection":
            async with storage.get_connection() as connection:
                return await connection.fetchval("SELECT 1")
        case "retrieve":
            return await ResearchRetriever(storage, Words()).retrieve("why?")
        case _:
            raise AssertionError(operation)


OPERATIONS = ["search", "add", "get", "delete", "count", "connection", "retrieve"]


# Connecting


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_unreachable_server_is_a_connect_error_that_names_it_and_a_remedy(
    server: Server, log: pytest.LogCaptureFixture, operation: str
) -> None:
    port = free_port()
    async with VectorStorage(server.dsn(port=port), "papers", 3, warm_timeout=0.5) as storage:
        with pytest.raises(ConnectError) as caught:
            await use(storage, operation)
    assert_one_sentence(caught.value, str(port), "127.0.0.1", "check|start|is it|running|listen")
    assert_no_secrets(log.text)


async def test_a_host_that_does_not_exist_is_a_connect_error(log: pytest.LogCaptureFixture) -> None:
    dsn = "postgresql://postgres:s3cret%2Fp%40ss@no-such-host.invalid/tests?sslmode=disable"
    async with VectorStorage(dsn, "papers", 3, warm="never") as storage:
        with pytest.raises(ConnectError) as caught, anyio.fail_after(PATIENCE):
            await storage.search(VECTOR)
    assert_one_sentence(caught.value, "no-such-host.invalid")
    assert_no_secrets(log.text)


async def test_a_server_that_never_speaks_is_a_connect_error_after_the_time_out_of_connecting(server: Server) -> None:
    with silent_port() as port, anyio.fail_after(PATIENCE):
        async with open_pool(server.dsn(port=port), size=2, connect_timeout=0.2) as pool:
            async with VectorStorage(pool, "papers", 3, warm="never") as storage:
                with pytest.raises(ConnectError) as caught:
                    await storage.search(VECTOR)
    assert_one_sentence(caught.value, str(port))


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_wrong_password_is_a_connect_error_that_does_not_tell_it(
    watched: Watched, log: pytest.LogCaptureFixture, operation: str
) -> None:
    dsn = watched.server.dsn(watched.name, password="wr0ng/p@ss")
    async with VectorStorage(dsn, "papers", 3) as storage:
        with pytest.raises(ConnectError) as caught:
            await use(storage, operation)
        report = storage.warm_report
    assert_one_sentence(caught.value, "password")
    secrets = ["wr0ng/p@ss", PASSWORD]
    assert_no_secrets(str(caught.value), repr(caught.value), log.text, secrets=secrets)
    if report is not None:
        assert_no_secrets(str(report), json.dumps(report.as_dict(), default=str), secrets=secrets)


async def test_a_database_that_does_not_exist_is_a_connect_error_that_names_it(server: Server) -> None:
    async with VectorStorage(server.dsn("nowhere"), "papers", 3, warm="never") as storage:
        with pytest.raises(ConnectError) as caught:
            await storage.search(VECTOR)
    assert_one_sentence(caught.value, "nowhere")


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "not a dsn",
        "mysql://postgres:s3cret%2Fp%40ss@127.0.0.1/tests",
        "postgresql://postgres:s3cret%2Fp%40ss@127.0.0.1:port/tests",
        "postgresql://postgres:s3cret%2Fp%40ss@127.0.0.1:99999/tests",
        "postgresql://postgres:s3cret%2Fp%40ss@127.0.0.1/tests?sslmode=perhaps",
        "postgresql://postgres:s3cret/p@ss@127.0.0.1/tests",
    ],
)
async def test_a_bad_dsn_is_a_typed_error_that_does_not_tell_the_password(
    dsn: str, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(PreheatError) as caught, anyio.fail_after(PATIENCE):
        async with VectorStorage(dsn, "papers", 3, warm="never") as storage:
            await storage.search(VECTOR)
    assert_one_sentence(caught.value)
    assert_no_secrets(log.text)


async def test_a_pool_that_is_no_pool_is_a_typed_error() -> None:
    with pytest.raises(PreheatError) as caught:
        await warm(object())
    assert_one_sentence(caught.value, "pool")
    with pytest.raises(PreheatError) as caught:
        async with VectorStorage(object(), "papers", 3) as storage:
            await storage.search(VECTOR)
    assert_one_sentence(caught.value, "pool")


# The extension


async def test_a_database_without_pgvector_and_no_right_to_create_it_says_what_to_run(
    server: Server, database: str, role: str, log: pytest.LogCaptureFixture
) -> None:
    async with VectorStorage(server.dsn(database, user=role), "papers", 3) as storage:
        with pytest.raises(ExtensionError) as caught:
            await storage.add([chunk(1)])
    assert_one_sentence(caught.value, "CREATE EXTENSION", "vector")
    assert_no_secrets(log.text)


async def test_searching_a_database_without_pgvector_gives_nothing_or_says_what_to_run(
    server: Server, database: str, role: str
) -> None:
    async with VectorStorage(server.dsn(database, user=role), "papers", 3) as storage:
        for operation in ("search", "retrieve"):
            try:
                assert await use(storage, operation) == []
            except PreheatError as error:
                assert_one_sentence(error)


async def test_the_extension_is_created_where_that_is_allowed(server: Server, database: str) -> None:
    async with VectorStorage(server.dsn(database), "papers", 3) as storage:
        assert await storage.add([chunk(1)]) == 1
        assert [hit.text for hit in await storage.search(VECTOR)] == ["text 1"]


async def test_a_role_that_may_not_create_tables_gets_a_typed_error(watched: Watched, role: str) -> None:
    async with VectorStorage(watched.server.dsn(watched.name, user=role), "papers", 3) as storage:
        with pytest.raises(PreheatError) as caught:
            await storage.add([chunk(1)])
    assert_one_sentence(caught.value, "GRANT|privilege|right|permission|allowed")


# Dimensions, collections, embedders


@pytest.mark.parametrize("embedding", [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0], np.ones(4, np.float32), []])
async def test_an_embedding_of_another_dimension_is_refused_with_both_numbers(
    dsn: str, collection: str, embedding: Any
) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(DimensionError) as caught:
            await storage.add([chunk(1, embedding=embedding)])
        assert_one_sentence(caught.value, r"\b3\b", rf"\b{len(embedding)}\b", "embed|dimensions=|collection")
        await storage.add([chunk(1)])
        with pytest.raises(DimensionError) as caught:
            await storage.search(embedding)
        assert_one_sentence(caught.value, r"\b3\b", rf"\b{len(embedding)}\b", "embed|dimensions=|collection")
        assert await storage.count() == 1


@pytest.mark.parametrize("operation", ["search", "add", "retrieve"])
async def test_opening_a_collection_with_other_dimensions_is_refused_with_both_numbers(
    dsn: str, collection: str, operation: str
) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.add([chunk(1)])
    async with VectorStorage(dsn, collection, 4) as storage:
        attempts = {
            "search": lambda: storage.search([1.0, 2.0, 3.0, 4.0]),
            "add": lambda: storage.add([chunk(2, embedding=[1.0, 2.0, 3.0, 4.0])]),
            "retrieve": lambda: ResearchRetriever(storage, Words(dimensions=4)).retrieve("why?"),
        }
        with pytest.raises(DimensionError) as caught:
            await attempts[operation]()
    assert_one_sentence(caught.value, r"\b3\b", r"\b4\b")


async def test_an_embedder_of_other_dimensions_than_the_storage_is_refused_with_both_numbers(
    dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(DimensionError) as caught:
            await ResearchRetriever(storage, Words(dimensions=4)).add("a.md", "some text")
    assert_one_sentence(caught.value, r"\b3\b", r"\b4\b")


class LyingWords(Words):
    def embed(self, texts: Sequence[str]) -> Any:
        return np.ones((len(texts), self.dimensions + 1), np.float32)


class ForgetfulWords(Words):
    def embed(self, texts: Sequence[str]) -> Any:
        return super().embed(texts)[:-1]


async def test_an_embedder_that_returns_other_dimensions_than_it_promised_is_a_dimension_error(
    dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, LyingWords())
        for attempt in (retriever.add("a.md", "some text"), retriever.retrieve("why?")):
            with pytest.raises(DimensionError) as caught:
                await attempt
            assert_one_sentence(caught.value, r"\b3\b", r"\b4\b")
        assert await storage.count() == 0


async def test_an_embedder_that_returns_too_few_vectors_raises_and_nothing_is_stored(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(ValueError, match=r"."):
            await ResearchRetriever(storage, ForgetfulWords()).add("a.md", "some text")
        assert await storage.count() == 0


async def test_a_text_that_is_not_unicode_raises_and_nothing_is_stored(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(ValueError, match=r"."):
            await storage.add([chunk(1), chunk(2, text="\ud800")])
        with pytest.raises(ValueError, match=r"."):
            await ResearchRetriever(storage, Words()).add("a.md", "\ud800")
        assert await storage.count() == 0


async def test_another_embedding_model_than_the_collections_is_refused_with_both_names(
    dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        assert await ResearchRetriever(storage, Words("first-model")).add("a.md", "some text") == 1
    async with VectorStorage(dsn, collection, 3) as storage:
        retriever = ResearchRetriever(storage, Words("second-model"))
        with pytest.raises(EmbedderError) as caught:
            await retriever.retrieve("why?")
        assert_one_sentence(caught.value, "first-model", "second-model", collection)
        with pytest.raises(EmbedderError):
            await retriever.add("b.md", "some text")
        assert await storage.count() == 1


@pytest.mark.parametrize("operation", ["search", "get", "delete", "count", "retrieve"])
async def test_a_collection_that_does_not_exist_is_empty_or_a_clear_error(
    dsn: str, collection: str, operation: str
) -> None:
    for dimensions in (3, None):
        async with VectorStorage(dsn, collection, dimensions) as storage:
            try:
                assert await use(storage, operation) in ([], 0)
            except (CollectionError, ArgumentError) as error:
                assert_one_sentence(error, f"{collection}|dimensions")


async def test_an_empty_collection_has_no_hits(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.add([chunk(1)])
        assert await storage.delete(document="a.md") == 1
        assert await storage.search(VECTOR) == []
        assert await ResearchRetriever(storage, Words()).retrieve("why?") == []


@pytest.mark.parametrize(
    "name", ['x"; DROP TABLE documents; --', "naïve name", "Select", "a'b", "%s", "$1", "{}"], ids=range(7)
)
async def test_a_strange_collection_name_is_either_refused_or_just_a_name(watched: Watched, name: str) -> None:
    try:
        async with VectorStorage(watched.dsn, name, 3) as storage:
            assert await storage.add([chunk(1)]) == 1
            assert [hit.text for hit in await storage.search(VECTOR)] == ["text 1"]
        async with VectorStorage(watched.dsn, "other", 3) as storage:
            assert await storage.count() == 0
    except ArgumentError as error:
        assert_one_sentence(error)


@pytest.mark.parametrize("name", ["", "x" * 500])
async def test_an_empty_or_endless_collection_name_is_refused_or_works(watched: Watched, name: str) -> None:
    try:
        async with VectorStorage(watched.dsn, name, 3) as storage:
            assert name
            assert await storage.add([chunk(1)]) == 1
        async with VectorStorage(watched.dsn, name[:-1], 3) as storage:
            assert await storage.count() == 0, "another name is another collection"
    except ArgumentError as error:
        assert_one_sentence(error)


@pytest.mark.parametrize("dimensions", [0, -1, 100_000])
async def test_impossible_dimensions_are_refused(dsn: str, collection: str, dimensions: int) -> None:
    with pytest.raises(PreheatError) as caught:
        async with VectorStorage(dsn, collection, dimensions) as storage:
            await storage.add([chunk(1, embedding=[1.0] * max(dimensions, 0))])
    assert_one_sentence(caught.value, "dimensions")


# Arguments


@pytest.mark.parametrize("k", [0, -1])
async def test_k_below_one_is_refused(dsn: str, collection: str, k: int) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.add([chunk(1)])
        retriever = ResearchRetriever(storage, Words())
        with pytest.raises(ArgumentError) as caught:
            await storage.search(VECTOR, k=k)
        assert_one_sentence(caught.value, r"\bk\b", str(k), "1|one|positive")
        with pytest.raises(ArgumentError) as caught:
            await retriever.retrieve("why?", k=k)
        assert_one_sentence(caught.value, r"\bk\b", str(k), "1|one|positive")


@pytest.mark.parametrize("query", ["", "   ", "\n\t"])
async def test_an_empty_query_is_refused(dsn: str, collection: str, query: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises(ArgumentError) as caught:
            await ResearchRetriever(storage, Words()).retrieve(query)
    assert_one_sentence(caught.value, "query", "empty|text|question")


def test_bad_arguments_of_a_retrieval_are_refused_without_a_database(backend: str) -> None:
    async def go() -> FakePool:
        pool = FakePool()
        async with VectorStorage(pool, "papers", 3) as storage:
            retriever = ResearchRetriever(storage, AsyncWords())
            for query, k in [("why?", 0), ("", 5)]:
                with pytest.raises(ArgumentError):
                    await retriever.retrieve(query, k=k)
            for vector in ([math.nan, 1.0, 2.0], [1.0]):
                with pytest.raises(ArgumentError):
                    await storage.search(vector)
        return pool

    assert run(backend, go).leases == 0


@pytest.mark.parametrize("connections", [6, 0, -1])
def test_more_connections_than_the_pool_has_or_none_are_refused_before_any_connect(
    backend: str, connections: int
) -> None:
    async def go() -> tuple[ArgumentError, FakePool]:
        pool = FakePool(size=5)
        with pytest.raises(ArgumentError) as caught:
            await warm(pool, connections=connections)
        return caught.value, pool

    error, pool = run(backend, go)
    assert_one_sentence(error, "connections", str(connections), "size|least|positive|1")
    assert pool.opens == pool.leases == 0


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan])
def test_an_impossible_time_out_is_refused_before_any_connect(backend: str, timeout: float) -> None:
    async def go() -> tuple[ArgumentError, FakePool]:
        pool = FakePool(size=5)
        with pytest.raises(ArgumentError) as caught:
            await warm(pool, timeout=timeout)
        return caught.value, pool

    error, pool = run(backend, go)
    assert_one_sentence(error, "timeout")
    assert pool.opens == 0


@pytest.mark.parametrize(
    "options",
    [
        {"warm_connections": 11, "size": 10},
        {"warm_connections": 0},
        {"warm_timeout": -1.0},
        {"warm": "sometimes"},
        {"size": 0},
        {"metric": "manhattan-ish"},
    ],
    ids=str,
)
async def test_bad_options_of_a_storage_are_refused_when_it_is_made_or_entered(
    server: Server, options: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError) as caught:
        async with VectorStorage(server.dsn(port=free_port()), "papers", 3, **options):
            pass
    assert_one_sentence(caught.value)


async def test_more_connections_than_a_real_pool_has_are_refused_and_none_is_opened(watched: Watched) -> None:
    async with open_pool(watched.dsn, size=5) as pool:
        with pytest.raises(ArgumentError) as caught:
            await warm(pool, connections=6)
        assert await watched.pids() == set()
    assert_one_sentence(caught.value, "6", "5", "connections")


# Embeddings


@pytest.mark.parametrize("bad", NUMBERS, ids=str)
async def test_an_embedding_that_is_no_number_is_refused(dsn: str, collection: str, bad: float) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.add([chunk(1)])
        for vector in ([1.0, bad, 2.0], np.array([1.0, bad, 2.0], np.float32)):
            with pytest.raises(ArgumentError) as caught:
                await storage.add([chunk(2, embedding=vector)])
            assert_one_sentence(caught.value, "nan|inf|finite|number")
            with pytest.raises(ArgumentError) as caught:
                await storage.search(vector)
            assert_one_sentence(caught.value, "nan|inf|finite|number")
        assert await storage.count() == 1


@pytest.mark.parametrize("vector", ["abc", [[1.0, 2.0, 3.0]], ["a", "b", "c"], 3.0], ids=str)
async def test_an_embedding_that_is_no_vector_is_a_typed_error(dsn: str, collection: str, vector: Any) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        with pytest.raises((ArgumentError, TypeError)):
            await storage.add([chunk(1, embedding=vector)])
        with pytest.raises((ArgumentError, TypeError)):
            await storage.search(vector)
        assert await storage.count() == 0


# A batch that fails half-way


BAD = {
    "dimension": {"embedding": [1.0, 2.0]},
    "NaN": {"embedding": [1.0, math.nan, 2.0]},
    "overflow": {"embedding": [1.0, 1e300, 2.0]},
    "NUL in the text": {"text": "a\0b"},
    "NUL in the metadata": {"metadata": {"key": "a\0b"}},
    "metadata that is no JSON": {"metadata": {"key": object()}},
    "NaN in the metadata": {"metadata": {"key": math.nan}},
}


@pytest.mark.parametrize(("bad", "count"), [*((bad, 4) for bad in BAD), ("NUL in the text", 2500)])
async def test_a_batch_with_a_bad_chunk_is_a_typed_error_and_stores_nothing(
    dsn: str, collection: str, bad: str, count: int
) -> None:
    async with VectorStorage(dsn, collection, 3, warm="never") as storage:
        await storage.add([chunk(0, document="before.md", id="before")])
        batch = [chunk(n) for n in range(count)]
        batch[count - 2] = chunk(count - 2, **BAD[bad])
        with pytest.raises(PreheatError) as caught:
            await storage.add(batch)
        assert_one_sentence(caught.value)
        assert await storage.count() == 1
        assert [kept.id for kept in await storage.get(["before"])] == ["before"]


async def test_an_iterator_that_raises_half_way_stores_nothing(dsn: str, collection: str) -> None:
    def chunks() -> Iterator[Chunk]:
        for n in range(2500):
            yield chunk(n)
        raise LookupError("the file has ended early")

    async with VectorStorage(dsn, collection, 3, warm="never") as storage:
        with pytest.raises(LookupError, match="ended early"):
            await storage.add(chunks())
        assert await storage.count() == 0


@pytest.mark.parametrize("count", [10, 3000])
async def test_a_server_that_refuses_one_row_half_way_stores_nothing_and_changes_nothing(
    watched: Watched, count: int
) -> None:
    async with VectorStorage(watched.dsn, "papers", 3, warm="never") as storage:
        await storage.add([chunk(0, id="old", text="as it was")])
        table = await watched.embedding_table()
        await watched.sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW::text LIKE '%poison%' THEN RAISE EXCEPTION 'no poison here'; END IF; RETURN NEW; END $$; "
            f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse();"
        )
        batch = [chunk(0, id="old", text="changed"), *(chunk(n, id=f"n{n}") for n in range(count))]
        batch.insert(count - 2, chunk(99_999, id="bad", text="poison"))
        with pytest.raises(Exception, match="poison"):
            await storage.add(batch)
        assert await storage.count() == 1
        assert [kept.text for kept in await storage.get(["old"])] == ["as it was"]


class LateNaN(Words):
    def embed(self, texts: Sequence[str]) -> Any:
        vectors = super().embed(texts)
        vectors[-1, 0] = math.nan
        return vectors


class RaisingWords(Words):
    def embed(self, texts: Sequence[str]) -> Any:
        raise LookupError("the model is gone")


@pytest.mark.parametrize(("kind", "error"), [(LateNaN, ArgumentError), (RaisingWords, LookupError)])
async def test_a_document_whose_embedding_fails_is_not_stored_in_part(
    dsn: str, collection: str, kind: type[Words], error: type[Exception]
) -> None:
    text = "\n\n".join(f"Paragraph {n}. " + "It has several words. " * 20 for n in range(20))
    async with VectorStorage(dsn, collection, 3, warm="never") as storage:
        with pytest.raises(error):
            await ResearchRetriever(storage, kind()).add("a.md", text)
        assert await storage.count() == 0
        assert await ResearchRetriever(storage, Words()).add("a.md", text) > 1


async def test_a_failed_replacement_of_a_document_leaves_the_old_one(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, warm="never") as storage:
        before = await ResearchRetriever(storage, Words()).add("a.md", "The first edition.")
        with pytest.raises(ArgumentError):
            await ResearchRetriever(storage, LateNaN()).add("a.md", "The second edition.")
        assert await storage.count() == before
        assert [hit.text for hit in await storage.search(VECTOR)] == ["The first edition."]


async def test_an_empty_batch_is_nothing(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3) as storage:
        assert await storage.add([]) == 0
        assert await storage.count() == 0


async def test_values_never_become_sql(dsn: str, collection: str) -> None:
    nasty = "'); DROP TABLE documents; -- \\ \" $1 %s {} \t \r\n \\N é 🦆"
    async with VectorStorage(dsn, collection, 3) as storage:
        await storage.add([chunk(1, id=nasty, text=nasty, document=nasty, metadata={nasty: nasty})])
        hit = (await storage.search(VECTOR))[0]
        assert (hit.id, hit.text, hit.document, hit.metadata) == (nasty, nasty, nasty, {nasty: nasty})
        assert [kept.text for kept in await storage.get([nasty])] == [nasty]
        assert await storage.delete(document=nasty) == 1
        assert await storage.count() == 0
