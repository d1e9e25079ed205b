"""Local models: the real model2vec, and small fakes of the heavy libraries with their documented names."""

from __future__ import annotations

import importlib.machinery
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import anyio
import numpy as np
import pytest

from preheat import (
    ArgumentError,
    DimensionError,
    FastEmbedEmbedder,
    MissingExtraError,
    Model2VecEmbedder,
    ResearchRetriever,
    SentenceTransformerEmbedder,
    VectorStorage,
    WordLlamaEmbedder,
)
from preheat.testing import FakePool


class SentenceTransformer:
    """The part of sentence-transformers 6.2 that is used."""

    made: ClassVar[list[SentenceTransformer]] = []

    def __init__(
        self, model_name_or_path: str | None = None, *, device: str | None = None, truncate_dim: int | None = None
    ) -> None:
        self.model_name_or_path, self.device, self.truncate_dim = model_name_or_path, device, truncate_dim
        self.loaded_in = threading.current_thread()
        self.batches: list[tuple[list[str], int, bool | None]] = []
        self.made.append(self)

    def encode(
        self, inputs: Any, prompt: str | None = None, batch_size: int = 32, show_progress_bar: bool | None = None
    ) -> Any:
        self.batches.append((inputs, batch_size, show_progress_bar))
        self.worked_in = threading.current_thread()
        return np.array([[len(text)] * (self.truncate_dim or 3) for text in inputs], dtype=np.float64)


class TextEmbedding:
    """The part of fastembed 0.9 that is used."""

    made: ClassVar[list[TextEmbedding]] = []

    def __init__(
        self,
        model_name: str = "BAAI/bge-small-en-v1.5",
        cache_dir: str | None = None,
        threads: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.model_name, self.threads = model_name, threads
        self.batch_sizes: list[int] = []
        self.made.append(self)

    @classmethod
    def list_supported_models(cls) -> list[dict[str, Any]]:
        return [{"model": "BAAI/bge-base-en", "dim": 768}, {"model": "BAAI/bge-small-en-v1.5", "dim": 3}]

    def embed(self, documents: Iterable[str], batch_size: int = 256, parallel: int | None = None) -> Iterator[Any]:
        self.batch_sizes.append(batch_size)
        for text in documents:
            yield np.full(3, len(text), dtype=np.float32)


def stand_in(patch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(members)
    patch.setitem(sys.modules, name, module)


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> list[SentenceTransformer]:
    stand_in(monkeypatch, "sentence_transformers", SentenceTransformer=SentenceTransformer)
    monkeypatch.setattr(SentenceTransformer, "made", made := [])
    return made


@pytest.fixture
def text_embeddings(monkeypatch: pytest.MonkeyPatch) -> list[TextEmbedding]:
    stand_in(monkeypatch, "fastembed", TextEmbedding=TextEmbedding)
    monkeypatch.setattr(TextEmbedding, "made", made := [])
    return made


async def test_sentence_transformers_load_and_work_in_a_thread(transformers: list[SentenceTransformer]) -> None:
    embedder = SentenceTransformerEmbedder("org/model", batch_size=7, device="cpu")
    assert (embedder.name, embedder.known_dimensions, transformers) == ("org/model", None, [])

    vectors = await embedder.embed(["a", "bb"])

    assert (vectors.tolist(), vectors.dtype) == ([[1, 1, 1], [2, 2, 2]], np.float32)
    (model,) = transformers
    assert (model.model_name_or_path, model.device) == ("org/model", "cpu")
    assert threading.main_thread() not in (model.loaded_in, model.worked_in)
    assert model.batches == [(["a", "bb"], 7, False)]
    assert (embedder.dimensions, embedder.known_dimensions) == (3, 3)
    assert (await embedder.embed([])).shape == (0, 3)
    assert len(transformers) == 1


def test_reading_its_dimensions_loads_a_sentence_transformer(transformers: list[SentenceTransformer]) -> None:
    assert SentenceTransformerEmbedder("org/model", dimensions=3).dimensions == 3
    assert not transformers
    embedder = SentenceTransformerEmbedder("org/model")
    assert (embedder.dimensions, embedder.dimensions) == (3, 3)
    assert len(transformers) == 1


async def test_making_a_retriever_does_not_load_the_model(
    transformers: list[SentenceTransformer],
) -> None:
    async with VectorStorage(FakePool(), "x", 2) as storage:
        retriever = ResearchRetriever(storage, SentenceTransformerEmbedder("org/model"))
        assert (retriever.embedder.name, transformers) == ("org/model", [])
        with pytest.raises(DimensionError, match="2 dimensions, not 3"):
            await retriever.retrieve("why?")
    async with VectorStorage(FakePool(), "x", 2) as storage:
        with pytest.raises(DimensionError, match="2 dimensions, not 3"):
            ResearchRetriever(storage, SentenceTransformerEmbedder("org/model", dimensions=3))


async def test_a_model_with_other_dimensions_than_declared_is_reported(transformers: list[SentenceTransformer]) -> None:
    with pytest.raises(ArgumentError, match=r"shape \(1, 3\) for 1 texts of 4 dimensions; leave dimensions out"):
        await SentenceTransformerEmbedder("org/model", dimensions=4).embed(["a"])


async def test_fastembed_knows_dimensions_without_loading(text_embeddings: list[TextEmbedding]) -> None:
    embedder = FastEmbedEmbedder("baai/BGE-small-en-v1.5", threads=2, batch_size=5)
    assert (embedder.name, embedder.dimensions, text_embeddings) == ("baai/BGE-small-en-v1.5", 3, [])

    vectors = await embedder.embed(["a", "bb"])

    assert (vectors.tolist(), vectors.dtype) == ([[1, 1, 1], [2, 2, 2]], np.float32)
    (model,) = text_embeddings
    assert (model.model_name, model.threads, model.batch_sizes) == ("baai/BGE-small-en-v1.5", 2, [5])


async def test_a_loaded_fastembed_model_is_used(text_embeddings: list[TextEmbedding]) -> None:
    embedder = FastEmbedEmbedder(TextEmbedding("own"), name="my-own")
    assert (embedder.name, embedder.dimensions) == ("my-own", 3)
    assert (await embedder.embed(["abc"])).tolist() == [[3, 3, 3]]
    assert len(text_embeddings) == 1


@pytest.fixture
def static_model() -> Any:
    from model2vec import StaticModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ["[UNK]", "cat", "dog", "tax", "law"]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.array([[0, 0], [1, 0.1], [1, 0], [0, 1], [0.1, 1]], dtype=np.float32)
    return StaticModel(vectors, tokenizer, normalize=True)


async def test_model2vec_from_a_folder(static_model: Any, tmp_path: Path) -> None:
    static_model.save_pretrained(tmp_path / "pets")
    embedder = Model2VecEmbedder(tmp_path / "pets", name="pets")
    assert embedder.known_dimensions is None

    cat, dog, tax = await embedder.embed(["cat", "dog", "tax law"])

    assert (embedder.name, embedder.dimensions, embedder.known_dimensions) == ("pets", 2, 2)
    assert cat.dtype == np.float32
    assert np.linalg.norm(cat) == pytest.approx(1)
    assert cat @ dog > 0.9 > 0.2 > cat @ tax
    assert (await embedder.embed([])).shape == (0, 2)
    assert Model2VecEmbedder(tmp_path / "pets").name == str(tmp_path / "pets")


async def test_a_loaded_model2vec_model_is_used(static_model: Any) -> None:
    embedder = Model2VecEmbedder(static_model, name="pets")
    async with VectorStorage(FakePool(), "x", embedder.dimensions) as storage:
        assert await ResearchRetriever(storage, embedder).retrieve("cat") == []
    assert repr(embedder) == "<Model2VecEmbedder 'pets'>"


@pytest.mark.parametrize(
    ("make", "library", "extra"),
    [
        (SentenceTransformerEmbedder, "sentence_transformers", "sentence-transformers"),
        (FastEmbedEmbedder, "fastembed", "fastembed"),
        (Model2VecEmbedder, "model2vec", "model2vec"),
        (lambda _model: WordLlamaEmbedder(), "wordllama", "local"),
    ],
)
def test_a_missing_library_names_its_extra(
    make: Any, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'preheat\[{extra}\]'") as caught:
        make("model")
    assert caught.value.extra == extra


def test_contradictory_arguments_are_refused(static_model: Any) -> None:
    with pytest.raises(ArgumentError, match="has no name; give one with name="):
        Model2VecEmbedder(static_model)
    with pytest.raises(ArgumentError, match="so normalize would change nothing"):
        Model2VecEmbedder(static_model, name="pets", normalize=False)
    for nothing in ("", None):
        with pytest.raises(ArgumentError, match="Model2VecEmbedder has no model"):
            Model2VecEmbedder(nothing)
    with pytest.raises(ArgumentError, match="dimensions is 0"):
        Model2VecEmbedder("pets", dimensions=0)
    with pytest.raises(ArgumentError, match="batch_size is 0"):
        Model2VecEmbedder("pets", batch_size=0)


async def test_wordllama_works_after_a_cancelled_batch() -> None:
    embedder = WordLlamaEmbedder()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await embedder.embed(["a"] * 10)
    assert scope.cancelled_caught
    assert (await embedder.embed(["a dog barks"])).shape == (1, 256)
