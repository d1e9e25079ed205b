"""Texts are cut at their boundaries, completely, and in time proportional to their length."""

from __future__ import annotations

import threading
from typing import Any, Literal

import anyio
import pytest
import semantic_text_splitter
from hypothesis import example, given
from hypothesis import strategies as st

from preheat import ArgumentError, ResearchRetriever, VectorStorage
from preheat.retrieval import Piece, documents, split
from preheat.retrieval.chunking import SHORTEST_LINE, pieces
from preheat.testing import FakePool

Format = Literal["text", "markdown"]
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
E_ACUTE = "e\u0301"
THAI = "ภาษาไทยไม่มีช่องว่าง"
UNITS = [
    "x",
    "x" * 300,
    THAI,
    FAMILY,
    E_ACUTE,
    "\r\n",
    "\n",
    "\n\n",
    " ",
    "a word ",
    "It was. ",
    "# Head\n",
    "- item\n",
]
UNITS += ["```\n", "~~~\n", "```js\n", "| a | b |\n", "> said\n", "[", "*", "`", "<b>", "\u3000", "\u2028", "1. "]


def as_cut(text: str, format: Format, characters: int) -> list[Piece]:
    """The pieces, after checks that every result must pass."""
    cut = split(text, format=format, chunk_size=characters)
    end = 0
    for piece in cut:
        assert 1 <= len(piece.text) <= characters
        assert piece.text.strip()
        assert text[piece.start : piece.start + len(piece.text)] == piece.text
        assert not text[end : piece.start].strip()
        end = piece.start + len(piece.text)
    assert not text[end:].strip()
    return cut


runs = st.tuples(st.sampled_from(UNITS), st.integers(1, 200)).map(lambda run: run[0] * run[1])


@given(st.lists(runs, max_size=8).map("".join), st.sampled_from(["text", "markdown"]), st.integers(1, 900))
@example("```\n" + "x=1;" * 2000 + "\n```\n\n# Head\n\ntext", "markdown", 60)
@example("~~~\n" + "y" * 9000, "markdown", 100)
def test_pieces_are_the_whole_text_in_order_and_no_piece_is_too_long(
    text: str, format: Format, characters: int
) -> None:
    as_cut(text, format, characters)


class Counted:
    """Counts the characters that splitters were given, in all and at most in one call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.characters = self.most = self.calls = 0
        for name in ("TextSplitter", "MarkdownSplitter"):
            monkeypatch.setattr(semantic_text_splitter, name, self.wrapped(getattr(semantic_text_splitter, name)))

    def wrapped(self, splitter: Any) -> Any:
        counted = self

        class Counting:
            def __init__(self, *args: Any, **more: Any) -> None:
                self.splitter = splitter(*args, **more)

            def chunk_indices(self, text: str) -> list[tuple[int, str]]:
                counted.characters += len(text)
                counted.most = max(counted.most, len(text))
                counted.calls += 1
                return self.splitter.chunk_indices(text)

        return Counting


WITHOUT_SEAMS = {"letters": "x", "Thai": THAI, "minified": "f(a){b=c};", "families": FAMILY, "words": "word "}
LONG = {**WITHOUT_SEAMS, "lines": "a line\n", "list": "- item\n", "table": "| a | b |\n", "sections": "# A\n\ntext\n\n"}


@pytest.mark.parametrize("format", ["text", "markdown"])
@pytest.mark.parametrize("unit", LONG.values(), ids=LONG)
def test_the_splitter_gets_parts_of_bounded_length(monkeypatch: pytest.MonkeyPatch, unit: str, format: Format) -> None:
    """Its time is quadratic in the length of a part, so the time for the whole text is linear."""
    counts = []
    for length in (60_000, 120_000):
        with monkeypatch.context() as patch:
            counted = Counted(patch)
            as_cut((unit * length)[:length], format, 200)
        assert counted.characters <= 6 * length
        assert counted.most <= 2 * 128 * 200
        if unit in WITHOUT_SEAMS.values():
            assert counted.calls >= length / (16 * 200)
        counts.append(counted.characters)
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.1)


@pytest.mark.parametrize("before", ["", "# Head\n\n"])
def test_a_very_long_indented_line_is_cut_into_long_parts(monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """The splitter makes each tab a part of its own."""
    text = before + "\t" * 200_000 + "x"
    counted = Counted(monkeypatch)
    assert as_cut(text, "markdown", 200)[-1].text.endswith("x")
    assert counted.characters <= 6 * len(text)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ArgumentError, match="format is 'html'; give 'text' or 'markdown'"):
        split("<p>text</p>", format="html")  # type: ignore[arg-type]


def test_a_text_of_usual_length_is_cut_by_the_splitter_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "A sentence of some words.\n\n" * 3000
    counted = Counted(monkeypatch)
    found = split(text)
    assert counted.calls == 1
    assert [(piece.start, piece.text) for piece in found] == semantic_text_splitter.TextSplitter(800).chunk_indices(
        text
    )


@pytest.mark.parametrize("letter", [FAMILY, E_ACUTE, "\U0001f1e9\U0001f1ea", "\u1112\u1161\u11ab", "กำ"])
def test_graphemes_are_not_cut(letter: str) -> None:
    for before in range(len(letter) + 1):
        cut = as_cut("x" * before + letter * 8000, "text", 150)
        assert all(piece.text.lstrip("x") == letter * (len(piece.text.lstrip("x")) // len(letter)) for piece in cut)


def test_a_long_line_is_cut_at_the_ends_of_its_sentences() -> None:
    sentence = "The first search of a day is slow, and the second one is not. "
    cut = as_cut(sentence * 2000, "text", 200)
    assert {piece.text[-1] for piece in cut} == {"."}


def test_headings_begin_pieces_after_a_long_line_of_code() -> None:
    sections = "".join(f"# Head {n}\n\n{'some words ' * 30}\n\n" for n in range(30))
    for code in ("x=1;" * 20_000, "# no heading\n" * 5000):
        text = f"{sections}```\n{code}\n```\n\n{sections}"
        cut = as_cut(text, "markdown", 500)
        heads = [piece.text.split("\n")[0] for piece in cut if piece.text.startswith("# Head ")]
        assert heads == [f"# Head {n}" for n in range(30)] * 2


def test_each_step_is_short_however_long_the_text_is() -> None:
    found = pieces("x" * 100_000_000)
    assert [len(next(found).text) for _ in range(20)] == [800] * 20


def test_no_line_is_cut_before_it_is_long() -> None:
    assert split("x" * SHORTEST_LINE, chunk_size=SHORTEST_LINE) == [Piece("x" * SHORTEST_LINE, 0)]


# In the event loop


async def test_a_document_is_cut_in_a_worker_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def watched(*args: Any, **more: Any) -> Any:
        threads.append(threading.get_ident())
        return pieces(*args, **more)

    monkeypatch.setattr(documents, "pieces", watched)
    async with VectorStorage(FakePool(), "x", 2) as storage:
        await _added(storage)
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


class Flat:
    name, dimensions = "flat", 2

    async def embed(self, texts: Any) -> Any:
        return [[1.0, 2.0] for _ in texts]


async def _added(storage: VectorStorage, text: str = "text") -> None:
    with pytest.raises(Exception, match=r"."):  # a fake pool has no database
        await ResearchRetriever(storage, Flat()).add("a.md", text)


async def test_a_cancelled_call_leaves_at_once_and_the_thread_that_cuts_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cutting, go_on, ended = anyio.Event(), threading.Event(), threading.Event()

    def slow(text: str, **more: Any) -> Any:
        try:
            yield Piece("x", 0)
            anyio.from_thread.run_sync(cutting.set)
            go_on.wait(20)
            yield Piece("x", 1)
            raise AssertionError("it was not stopped")
        finally:
            ended.set()

    monkeypatch.setattr(documents, "pieces", slow)
    async with VectorStorage(FakePool(), "x", 2) as storage, anyio.create_task_group() as tasks:
        tasks.start_soon(ResearchRetriever(storage, Flat()).add, "a.md", "text")
        await cutting.wait()
        tasks.cancel_scope.cancel()
    assert not ended.is_set()  # it has left, and the thread still works on its piece
    go_on.set()
    assert await anyio.to_thread.run_sync(ended.wait, 10)
