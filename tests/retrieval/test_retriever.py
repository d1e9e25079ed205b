from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from tests.support.models import AsyncLetters, Letters
from tests.support.server import free_port

from preheat import (
    ArgumentError,
    Chunk,
    ConnectError,
    DimensionError,
    Document,
    EmbedderError,
    F,
    Hit,
    ResearchRetriever,
    VectorStorage,
    WordLlamaEmbedder,
)
from preheat.retrieval import split
from preheat.testing import FakePool, FaultPlan, hang, run, succeed


class PlainStorage:
    """A storage with only the methods of the protocol, and without a guard."""

    def __init__(self) -> None:
        self.warmed = 0
        self.searches: list[int] = []

    async def warm_pool(self) -> bool:
        self.warmed += 1
        await anyio.lowlevel.checkpoint()
        return False

    async def search(self, vector: Any, k: int = 5) -> list[Hit]:
        assert self.warmed == 1
        self.searches.append(k)
        return []

    async def replace_document(self, document: str, chunks: Any) -> int:
        return len(chunks)


@pytest.mark.parametrize("embedder", [Letters, AsyncLetters])
async def test_a_stored_text_is_found(dsn: str, collection: str, embedder: Any) -> None:
    async with VectorStorage(dsn, collection, 26) as storage:
        retriever = ResearchRetriever(storage, embedder())
        assert await retriever.add("a.md", "aaaa aaaa", {"lang": "x"}) == 1
        await retriever.add("b.md", "bbbb bbbb")
        assert not retriever.pool_warmed

        hits = await retriever.retrieve("aaaa", k=1)

        assert retriever.pool_warmed
        assert [(hit.document, hit.text, hit.metadata) for hit in hits] == [
            ("a.md", "aaaa aaaa", {"lang": "x", "start": 0})
        ]
        assert storage.warm_report is not None
        assert storage.warm_report.ok


async def test_a_retrieval_takes_a_filter_and_a_minimum_score(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 26) as storage:
        retriever = ResearchRetriever(storage, Letters())
        for letter in "abc":
            await retriever.add(f"{letter}.md", letter * 9, {"vowel": letter == "a"})
        assert [hit.text[0] for hit in await retriever.retrieve("bbbbbbbbb", filter=F("vowel") == True)] == ["a"]  # noqa: E712
        assert [hit.text[0] for hit in await retriever.retrieve("bbbbbbbbb", filter={"vowel": False})] == ["b", "c"]
        assert [hit.text[0] for hit in await retriever.retrieve("bbbbbbbbb", min_score=0.99)] == ["b"]


async def test_an_invalid_filter_or_score_is_refused_before_anything_is_embedded() -> None:
    embedder = Letters()
    async with VectorStorage(FakePool(), "x", 26) as storage:
        retriever = ResearchRetriever(storage, embedder)
        for wrong in ({"filter": "vowels"}, {"filter": {"a": {"$regex": "b"}}}, {"min_score": float("nan")}):
            with pytest.raises(ArgumentError):
                await retriever.retrieve("why?", **wrong)
    assert embedder.batches == []


async def test_adding_a_document_again_replaces_it(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 26) as storage:
        retriever = ResearchRetriever(storage, Letters())
        await retriever.add("a.md", "first words", chunk_size=6)
        assert await storage.count() == 2
        assert await retriever.add("a.md", "second") == 1
        assert await storage.count() == 1
        assert await retriever.add("a.md", "   ") == 0
        assert await storage.count() == 0


async def test_adding_a_document_again_embeds_and_writes_only_changes(dsn: str, collection: str) -> None:
    embedder = Letters()
    async with VectorStorage(dsn, collection, 26) as storage:
        retriever = ResearchRetriever(storage, embedder)
        await retriever.add("a.md", "first words and more", chunk_size=6)
        asked = sum(map(len, embedder.batches))
        stored = {chunk.id for chunk in [one async for one in storage.chunks()]}
        assert await retriever.add("a.md", "first words and less", chunk_size=6) == asked
        assert embedder.batches[1:] == [["less"]]
        assert len({chunk.id for chunk in [one async for one in storage.chunks()]} & stored) == asked - 1

        upserted = await retriever.upsert([Chunk("less", document="a.md", position=9), Chunk("else")])
        assert (upserted.added, upserted.changed) == (1, 1)
        assert embedder.batches[2:] == [["else"]]


async def test_ten_first_callers_on_two_retrievers_share_one_warm_up() -> None:
    pool = FakePool()
    async with VectorStorage(pool, "x", 26) as storage:
        retrievers = [ResearchRetriever(storage, AsyncLetters()) for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(retrievers[number % 2].retrieve, "why?")
        assert all(retriever.pool_warmed for retriever in retrievers)
        assert storage.warm_report is not None
        assert (storage.warm_report.hot, len(pool.tasks)) == (3, 3 + 10)
        assert storage.warm_once.safety_net_used == 0

        await retrievers[0].retrieve("again")
        assert len(pool.tasks) == 3 + 11
    pool.assert_no_leaks()


def test_first_callers_join_a_warm_up_in_the_background(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(connect=succeed(3)))
        async with VectorStorage(pool, "x", 26, warm="background") as storage:
            await anyio.sleep(1)
            assert pool.connecting == 3
            retriever = ResearchRetriever(storage, AsyncLetters())
            assert await retriever.retrieve("why?") == []
            assert retriever.pool_warmed
            assert pool.opens == 3

    run(backend, main)


async def test_a_storage_without_a_guard_is_warmed_once() -> None:
    storage = PlainStorage()
    retriever = ResearchRetriever(storage, Letters())
    assert not retriever.pool_warmed

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(retriever.retrieve, "why?", 2)

    assert retriever.pool_warmed
    assert (storage.warmed, storage.searches) == (1, [2] * 10)


async def test_retrieval_continues_after_a_failed_warm_up_and_does_not_repeat_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dsn = f"postgresql://u:secret@127.0.0.1:{free_port()}/db"
    async with VectorStorage(dsn, "x", 26, warm_timeout=0.5) as storage:
        retriever = ResearchRetriever(storage, Letters())
        for _ in range(2):
            with pytest.raises(ConnectError):
                await retriever.retrieve("why?")
        assert retriever.pool_warmed

    warnings = [record for record in caplog.records if "warm-up" in record.getMessage()]
    assert len(warnings) == 1
    assert "secret" not in caplog.text


async def test_the_warm_up_of_a_cancelled_first_caller_goes_on_for_the_others() -> None:
    pool = FakePool()
    scope = anyio.CancelScope()
    async with VectorStorage(pool, "x", 26) as storage:
        slow = anyio.Event()

        class Slow(AsyncLetters):
            async def embed(self, texts: Sequence[str]) -> Any:
                await slow.wait()
                return await super().embed(texts)

        impatient = ResearchRetriever(storage, Slow())
        async with anyio.create_task_group() as tasks:

            async def first() -> None:
                with scope:
                    await impatient.retrieve("never mind")

            tasks.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
        assert await ResearchRetriever(storage, Letters()).retrieve("why?") == []
        assert storage.warm_report is not None
        assert storage.warm_report.ok


def test_embedding_and_warming_overlap(backend: str) -> None:
    class Slow(AsyncLetters):
        async def embed(self, texts: Sequence[str]) -> Any:
            await anyio.sleep(2)
            return await super().embed(texts)

    async def main() -> None:
        async with VectorStorage(FakePool(plan=FaultPlan.all(connect=succeed(2))), "x", 26) as storage:
            started = anyio.current_time()
            await ResearchRetriever(storage, Slow()).retrieve("why?")
            assert anyio.current_time() - started == pytest.approx(2)

    run(backend, main)


def test_a_database_that_never_answers_delays_a_first_caller_by_the_timeout(backend: str) -> None:
    async def main() -> None:
        pool = FakePool(plan=FaultPlan.all(connect=hang()))
        async with VectorStorage(pool, "x", 26, warm_timeout=3) as storage:
            retriever = ResearchRetriever(storage, AsyncLetters())
            started = anyio.current_time()
            with anyio.move_on_after(10):
                await retriever.retrieve("why?")
            assert retriever.pool_warmed
            assert storage.warm_report is not None
            assert storage.warm_report.seconds == pytest.approx(3)
            assert anyio.current_time() - started == pytest.approx(10)

    run(backend, main)


async def test_an_error_of_the_embedder_is_raised_unchanged() -> None:
    class Broken(AsyncLetters):
        async def embed(self, texts: Sequence[str]) -> Any:
            raise KeyError("model")

    async with VectorStorage(FakePool(), "x", 26) as storage:
        retriever = ResearchRetriever(storage, Broken())
        for _ in range(2):
            with pytest.raises(KeyError, match="model"):
                await retriever.retrieve("why?")


@pytest.mark.parametrize("error", [SystemExit(3), ExceptionGroup("mine", [KeyError(1)])])
async def test_an_error_of_the_model_is_raised_without_a_group(error: BaseException) -> None:
    class Broken(AsyncLetters):
        async def embed(self, texts: Sequence[str]) -> Any:
            raise error

    async with VectorStorage(FakePool(), "x", 26) as storage:
        with pytest.raises(type(error)) as caught:
            await ResearchRetriever(storage, Broken()).retrieve("why?")
    assert repr(caught.value) == repr(error)


async def test_too_few_vectors_are_an_error_that_names_the_model() -> None:
    class Short(Letters):
        def embed(self, texts: Sequence[str]) -> Any:
            return super().embed(texts)[1:]

    async with VectorStorage(FakePool(), "x", 26) as storage:
        retriever = ResearchRetriever(storage, Short())
        with pytest.raises(ArgumentError, match="'letters' gave 0 vectors for 1 texts"):
            await retriever.retrieve("why?")
        with pytest.raises(ArgumentError, match="gave 0 vectors"):
            await retriever.add("d", "text")
        with pytest.raises(ArgumentError, match="Unicode"):
            await retriever.retrieve("\ud800")


async def test_with_the_policy_never_nothing_is_warmed() -> None:
    pool = FakePool()
    async with VectorStorage(pool, "x", 26, warm="never") as storage:
        retriever = ResearchRetriever(storage, Letters())
        await retriever.retrieve("why?")
        assert (pool.opens, retriever.pool_warmed) == (1, False)


@pytest.mark.parametrize("query", ["", "  \n"])
async def test_an_empty_query_is_refused(query: str) -> None:
    async with VectorStorage(FakePool(), "x", 26) as storage:
        with pytest.raises(ArgumentError, match="empty"):
            await ResearchRetriever(storage, Letters()).retrieve(query)
        with pytest.raises(ArgumentError, match="k is 0"):
            await ResearchRetriever(storage, Letters()).retrieve("why?", 0)


async def test_a_model_that_does_not_fit_the_storage_is_refused() -> None:
    with pytest.raises(DimensionError, match="3 dimensions, not 26"):
        ResearchRetriever(VectorStorage(FakePool(), "x", 3), Letters())
    with pytest.raises(EmbedderError, match="'other'"):
        ResearchRetriever(VectorStorage(FakePool(), "x", 26, embedder="other"), Letters())
    storage = VectorStorage(FakePool(), "x", 26)
    ResearchRetriever(storage, Letters())
    assert storage.embedder is None
    assert storage.bound_to("letters").embedder == "letters"
    with pytest.raises(EmbedderError, match=r"'letters'.*'other'"):
        storage.bound_to("letters").bound_to("other")


async def test_two_retrievers_with_two_models_on_one_storage_are_told_apart(dsn: str, collection: str) -> None:
    class Vowels(Letters):
        name = "vowels"

    async with VectorStorage(dsn, collection, 26) as storage:
        letters, vowels = ResearchRetriever(storage, Letters()), ResearchRetriever(storage, Vowels())
        assert storage.embedder is None
        assert await vowels.retrieve("anything") == []
        await letters.add("a.md", "first words")

        assert len(await letters.retrieve("words")) == 1
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: vowels.retrieve("words"),
            lambda: vowels.retrieve("words", hybrid=True),
            lambda: vowels.add("b.md", "second words"),
            lambda: vowels.upsert([Chunk("third words")]),
            lambda: vowels.ingest([Document("c.md", "fourth words")]),
        ]
        for call in calls:
            with pytest.raises(EmbedderError, match=r"'letters'.*'vowels'"):
                await call()
        assert await storage.count() == 1
        assert len(await letters.retrieve("words")) == 1


async def test_wordllama_embeds_offline_with_unit_length() -> None:
    embedder = WordLlamaEmbedder()
    vectors = await embedder.embed(["a dog barks", "the hound howls", "tax law"] * 3)
    (again,) = await embedder.embed(["a dog barks"])

    assert vectors.shape == (9, embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0] * 9, abs=1e-5)
    assert again == pytest.approx(vectors[0], abs=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert (await embedder.embed([])).shape == (0, 256)


def test_the_tokenizer_of_wordllama_remembers_no_texts() -> None:
    """This uses a private method of the tokenizer. Without it an ingest needs a kilobyte more for each chunk."""
    embedder = WordLlamaEmbedder()
    embedder.load()
    tokenizer, _ = embedder._model
    assert callable(tokenizer.model._resize_cache)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [256, 64])
async def test_the_vectors_are_those_of_the_library(dimensions: int) -> None:
    """Collections hold vectors that the library itself has made."""
    import wordllama

    texts = ["a dog barks", "x", "Straße 東京 🚀 " * 50, *(f"text {n} " * (n % 9 + 1) for n in range(40))]
    folder = Path(wordllama.__file__).parent
    shorter = None if dimensions == 256 else dimensions
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True, trunc_dim=shorter)
    expected = model.embed(texts, norm=True, batch_size=16)
    assert np.array_equal(await WordLlamaEmbedder(dimensions).embed(texts), expected)


def test_loading_the_model_leaves_logging_alone_and_imports_nothing_for_downloads() -> None:
    import subprocess
    import sys

    code = (
        "import logging, sys, preheat\n"
        "preheat.WordLlamaEmbedder().load()\n"
        "assert not {'wordllama', 'requests', 'pydantic'} & set(sys.modules)\n"
        "print(logging.getLogger().handlers, logging.getLogger().level)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[] 30"


def test_pieces_cover_the_text_and_have_their_positions() -> None:
    text = "# Title\n\nFirst paragraph, long enough.\n\nSecond paragraph, " + "word " * 50
    for format in ("text", "markdown"):
        pieces = split(text, format=format, chunk_size=60)
        assert len(pieces) > 2
        assert all(len(piece.text) <= 60 for piece in pieces)
        assert all(text[piece.start : piece.start + len(piece.text)] == piece.text for piece in pieces)
        assert "".join(text.split()) == "".join("".join(piece.text for piece in pieces).split())
    assert split(" \n ") == []
    with pytest.raises(ArgumentError, match="chunk_size is 0"):
        split(text, chunk_size=0)
