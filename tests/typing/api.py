"""Never run: type checkers read it, so that the public API keeps the types that users rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import date
from pathlib import Path
from typing import Any, Literal, assert_type
from uuid import UUID

import anyio
from hypothesis.strategies import SearchStrategy

import preheat
from preheat import (
    Answer,
    AnswerStatistics,
    Chunk,
    Document,
    DocumentInfo,
    F,
    Filter,
    IngestReport,
    Lease,
    Plan,
    Pool,
    ResearchRetriever,
    SQLPool,
    Upserted,
    ValueCount,
    VectorStorage,
    WarmOnce,
    WarmReport,
)
from preheat.embedded import embedded_postgres
from preheat.integrations.opentelemetry import Telemetry
from preheat.pools import HTTPPool, OpenablePool
from preheat.retrieval import ThreadedEmbedder
from preheat.testing import (
    Call,
    Caller,
    FakePool,
    FaultPlan,
    Sweep,
    arrive,
    callers,
    cancel_everywhere,
    fault_plans,
    hang,
    run,
)


class MyLease:
    pid: int | None = None
    connection: object = None

    async def ping(self) -> None: ...
    def discard(self) -> None: ...


class MyPool:
    size = 3

    def lease(self) -> AbstractAsyncContextManager[MyLease]:
        raise AssertionError


class MyEmbedder:
    name = "mine"
    dimensions = 3

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        raise AssertionError


class MyAsyncEmbedder:
    name = "mine"
    dimensions = 3

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        raise AssertionError


async def my_probe(lease: MyLease) -> None: ...


async def my_research(query: str) -> dict[str, str]:
    raise AssertionError


async def my_accept(query: str, answer: Answer) -> bool:
    raise AssertionError


async def use() -> None:
    mine: Pool[Lease] = MyPool()
    assert_type(await preheat.warm(mine), WarmReport)
    assert_type(await preheat.warm(MyPool(), connections=2, timeout=1.0, probe=my_probe), WarmReport)

    guard = WarmOnce(lambda: preheat.warm(mine))
    assert_type(guard, WarmOnce[WarmReport])
    assert_type(await guard(), WarmReport | None)
    assert_type(guard.done, bool)
    assert_type(guard.result, WarmReport | None)

    async with anyio.create_task_group() as tasks:
        WarmOnce(lambda: preheat.warm(mine), task_group=tasks)

    by_hand = preheat.open_pool("postgresql:///x")
    assert_type(await by_hand.open(), OpenablePool)
    as_pool: SQLPool = by_hand
    assert_type(await VectorStorage(as_pool, "papers", 3).open(), VectorStorage)
    assert_type(await by_hand.close(), None)

    async with embedded_postgres("data") as dsn, preheat.open_pool(dsn, size=2) as pool:
        assert_type(dsn, str)
        assert_type(pool, SQLPool)
        async with VectorStorage(pool, collection="papers", dimensions=3, warm="background") as storage:
            assert_type(storage, VectorStorage)
            assert_type(await storage.warm_pool(), bool)
            assert_type(storage.warm_report, WarmReport | None)
            assert_type(storage.state, Literal["cold", "warming", "warm", "degraded", "closed"])
            assert_type(await storage.wait_warm(5.0), bool)
            assert_type(await storage.add([Chunk("text", [1.0, 2.0, 3.0], {"year": 2026}, "a.md")]), int)
            assert_type(await storage.search([1.0, 0.0, 0.0], k=5), preheat.Hits)
            assert_type(F("year") >= 2020, Filter)
            assert_type((F("lang") == "en") & ~F("author", "name").in_(["Ada"]) | (F("year") != None), Filter)  # noqa: E711
            assert_type(await storage.search([1.0], filter=F("year") < 2020, min_score=0.5), preheat.Hits)
            assert_type(await storage.search([1.0], filter={"year": {"$gte": 2020}}), preheat.Hits)
            [hit] = await storage.search([1.0], text="kettle", without=["cold"], mmr=0.5)
            assert_type(hit.vector_rank, int | None)
            assert_type(hit.offsets, tuple[int, int] | None)
            assert_type(await storage.more_like(hit.id, 3, mmr=0.5, filter=F("year") < 2020), preheat.Hits)
            plan = await storage.explain([1.0], text="kettle")
            assert_type(plan, Plan)
            assert_type(plan.index, str | None)
            assert_type(await storage.delete(document="a.md"), int)
            assert_type(await storage.count(filter={"year": 2026}), int)
            assert_type(await storage.search(text="kettle", settings={"app.tenant": "a"}), preheat.Hits)
            assert_type(await storage.search([1.0], ids=[UUID(int=1)], document="a.md"), preheat.Hits)
            assert_type(F.document.startswith("a") | F("at").between(date(2026, 1, 1), date(2027, 1, 1)), Filter)
            assert_type(await storage.update_metadata({"year": 2027}, filter=F.id == "a"), int)
            assert_type(await storage.metadata_values("year", filter=F.text.like("%a%")), list[ValueCount])
            assert_type(await storage.metadata_keys(), dict[str, frozenset[str]])
            assert_type(await storage.embed_missing(embed_texts, batch_size=10), int)
            assert_type(Chunk("text", id=UUID(int=1)).id, str)
            assert_type(await storage.upsert([Chunk("text")], embed_texts), Upserted)
            assert_type(await storage.replace_document("a.md", [Chunk("text")], embed_texts), int)
            assert_type([document async for document in storage.documents("a")], list[DocumentInfo])
            assert_type([chunk async for chunk in storage.chunks(document="a.md", batch_size=10)], list[Chunk])
            assert_type(await storage.neighbors(Chunk("text")), list[Chunk])
            await storage.create_index(progress=lambda index: print(index.step, index.done, index.total))
            async with storage.get_connection() as connection:
                assert_type(connection, Any)
            retriever = ResearchRetriever(storage, MyEmbedder())
            ResearchRetriever(storage, MyAsyncEmbedder())
            assert_type(await retriever.upsert([Chunk("text")]), Upserted)
            assert_type(await retriever.embed_missing(), int)
            report = await retriever.ingest([Document("a.md", "text")], progress=lambda report: print(report.chunks))
            assert_type(report, IngestReport)
            await retriever.ingest(my_documents(), batch_size=10)
            ResearchRetriever(storage, preheat.WordLlamaEmbedder(), query_cache=0)
            sync: preheat.SyncEmbedder = MyEmbedder()
            ResearchRetriever(storage, sync)
            models: list[preheat.AsyncEmbedder] = [
                MyAsyncEmbedder(),
                ThreadedEmbedder(sync),
                preheat.WordLlamaEmbedder(),
                preheat.SentenceTransformerEmbedder("org/model", device="cpu"),
                preheat.FastEmbedEmbedder("org/model", threads=2),
                preheat.Model2VecEmbedder(Path("folder"), name="mine", dimensions=256),
            ]
            ResearchRetriever(storage, models[0])
            async with preheat.OpenAIEmbedder("model", base_url="http://localhost/v1", batch_size=8) as embedder:
                assert_type(embedder, preheat.OpenAIEmbedder)
                ResearchRetriever(storage, embedder)
            assert_type(await retriever.retrieve("why?", k=5), preheat.Hits)
            assert_type(await retriever.retrieve("why?", filter=F("lang") == "en", min_score=0.2), preheat.Hits)
            assert_type(await retriever.retrieve("why?", hybrid=True, mmr=0.5), preheat.Hits)
            assert_type(await retriever.retrieve_many(["why?", "when?"], hybrid=True), list[preheat.Hits])
            assert_type(await retriever.explain("why?", mmr=0.5), Plan)
            assert_type(retriever.pool_warmed, bool)
            assert_type(await retriever.retrieve_or_research("why?", my_research), Answer)
            answer = await retriever.retrieve_or_research(
                "why?", my_research, scope="a", ttl=60, threshold=0.9, accept=my_accept
            )
            assert_type(answer.tier, Literal["exact", "semantic", "fresh"])
            assert_type(answer.score, float)
            await retriever.retrieve_or_research("why?", my_research, accept=lambda _, answer: answer.age < 60)
            assert_type(retriever.answer_statistics, AnswerStatistics)
            assert_type(await storage.answer_table.sweep(), int)
            await storage.answer_table.create()
            assert_type(await preheat.reembed(storage, MyEmbedder(), progress=print), preheat.ReembedReport)
            again = await preheat.reembed(storage, MyAsyncEmbedder(), vector_type="halfvec", batch_size=8)
            assert_type(again.stage, Literal["embedding", "indexing", "catching up", "switching", "done"])
        async with VectorStorage(
            pool, dimensions=3, schema="mine", vector_type="halfvec", language="german", index=preheat.HNSW(m=24)
        ) as storage:
            assert_type(storage.schema, str | None)
            assert_type(storage.vector_type, Literal["vector", "halfvec"] | None)
        assert_type(await preheat.collections(pool, "mine"), list[preheat.CollectionInfo])
        assert_type(preheat.schema_script("papers", 3, schema="mine", index=preheat.HNSW(m=24)), str)


async def embed_texts(texts: Sequence[str]) -> list[list[float]]:
    raise AssertionError


async def my_documents() -> AsyncIterator[Document]:
    yield Document("a.md", "text", {"year": 2026}, "markdown")


async def answers(number: int) -> str:
    raise AssertionError


async def use_the_testing_kit() -> None:
    pool = FakePool(3, FaultPlan.all(connect=hang()), "fifo")
    mine: Pool[Lease] = pool
    with_sql: SQLPool = pool
    assert_type(await preheat.warm(mine), WarmReport)
    VectorStorage(with_sql)
    assert_type(run("trio", answers, 3, seed=1), str)
    assert_type(await cancel_everywhere(answers, 3, how="native"), Sweep)
    assert_type(await arrive([Caller(1.0, 2.0, "native")], lambda: answers(3)), list[Call[str]])
    assert_type(fault_plans(), SearchStrategy[FaultPlan])
    assert_type(callers(), SearchStrategy[list[Caller]])


async def other_libraries(client: Any, engine: Any) -> None:
    pool: Pool[Lease] = HTTPPool(client, "https://api.example/", method="GET")
    assert_type(await preheat.warm(pool), WarmReport)
    assert_type(await preheat.warm(engine), WarmReport)
    telemetry = Telemetry()
    assert_type(await telemetry.warm(engine, connections=2), WarmReport)
    with telemetry.watch(engine), telemetry.retrieval("search", k=5) as span:
        span.set_attribute("hits", 5)
