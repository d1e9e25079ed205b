"""What the words of a command line stand for: files, folders, globs and standard input."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat import ArgumentError
from preheat.cli.files import sources
from preheat.cli.files.sources import Source, Sources, find_sources
from preheat.cli.files.sync import Folder
from preheat.cli.files.walking import matching
from preheat.retrieval import Extracted

FILES = (
    "a.md",
    "b.txt",
    "photo.png",
    "notes[1].md",
    "deep/b.md",
    "deep/c.HTML",
    "deep/er/d.pdf",
    "deep/er/e.md",
    "z.rst",
    ".hidden.md",
    ".git/f.md",
    "deep/.cache/g.md",
)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(*words: str) -> list[str]:
    return [source.key for source in find_sources(words)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("b.txt", "a.md"), ["b.txt", "a.md"]),
        (("./a.md", "a.md"), ["a.md"]),
        (("photo.png",), ["photo.png"]),
        (
            (".",),
            ["a.md", "b.txt", "deep/b.md", "deep/c.HTML", "deep/er/d.pdf", "deep/er/e.md", "notes[1].md", "z.rst"],
        ),
        (("deep", "a.md", "deep/er"), ["deep/b.md", "deep/c.HTML", "deep/er/d.pdf", "deep/er/e.md", "a.md"]),
        ((".git",), [".git/f.md"]),
        (("*.md",), ["a.md", "notes[1].md"]),
        (("?.*",), ["a.md", "b.txt", "z.rst"]),
        (("*",), ["a.md", "b.txt", "notes[1].md", "photo.png", "z.rst"]),
        (("**/*.md",), ["a.md", "deep/b.md", "deep/er/e.md", "notes[1].md"]),
        (("deep/**",), ["deep/b.md", "deep/c.HTML", "deep/er/d.pdf", "deep/er/e.md"]),
        (("deep/**/*.md",), ["deep/b.md", "deep/er/e.md"]),
        (("**/er/*.md",), ["deep/er/e.md"]),
        (("deep/*/*",), ["deep/er/d.pdf", "deep/er/e.md"]),
        (("*/[bc].*",), ["deep/b.md", "deep/c.HTML"]),
        ((".*.md",), [".hidden.md"]),
        (("*/.cache/*",), ["deep/.cache/g.md"]),
        (("deep/../*.txt",), ["b.txt"]),
        (("notes[1].md",), ["notes[1].md"]),
        (("-", "a.md", "-"), ["stdin", "a.md"]),
    ],
)
def test_words_stand_for_files(tree: Path, words: tuple[str, ...], found: list[str]) -> None:
    assert keys(*words) == found


@pytest.mark.parametrize(
    "typed",
    [
        "deep/b.md",
        "./deep/b.md",
        "deep//b.md",
        "deep/er/../b.md",
        "link/b.md",
        "link/../deep/b.md",
        "{tree}/deep/b.md",
        "{tree}/link/b.md",
        "../{name}/deep/b.md",
        "dee[p]/b.md",
        "{tree}/*/b.md",
    ],
)
def test_one_file_has_one_key_however_its_path_is_typed(tree: Path, typed: str) -> None:
    (tree / "link").symlink_to("deep", target_is_directory=True)

    assert keys(typed.format(tree=tree, name=tree.name)) == ["deep/b.md"]
    assert keys("deep/b.md", typed.format(tree=tree, name=tree.name)) == ["deep/b.md"]


def test_a_folder_a_glob_and_a_file_give_the_same_key(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for typed in ("deep", "deep/", "./deep/.", f"{tree}/deep", "."):
        assert "deep/er/e.md" in keys(typed)
    (tree / "link").symlink_to(tree, target_is_directory=True)
    monkeypatch.chdir(tree / "link")
    assert keys(f"{tree}/deep/b.md", "deep/b.md") == ["deep/b.md"]


def test_a_file_outside_of_the_current_folder_has_an_absolute_key(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "deep" / "er")
    here = tree.resolve().as_posix()

    assert keys("../b.md", f"{tree}/deep/b.md", "../../a.md") == [f"{here}/deep/b.md", f"{here}/a.md"]
    monkeypatch.chdir("/")
    assert keys(f"{tree}/a.md", f"{tree}/a.md".lstrip("/")) == [f"{here}/a.md"]


def test_letters_that_are_composed_in_two_ways_are_one_key(tree: Path) -> None:
    (tree / "u\u0308ber.md").write_text("x")
    assert keys("u\u0308ber.md") == ["\u00fcber.md"]
    (tree / "\u00fcber.md").write_text("another file, where a file system tells them apart")
    assert len(keys("*ber.md")) == len(list(tree.glob("*ber.md")))


@pytest.mark.parametrize("word", ["*.nothing", "none/**", "a.md/*", "[", "n" * 5000 + "*", "a\0*"])
def test_a_glob_that_matches_nothing_is_an_error(tree: Path, word: str) -> None:
    with pytest.raises(ArgumentError, match="matches no file; check the pattern"):
        keys("a.md", word)


def test_a_folder_without_files_is_an_error(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(ArgumentError, match="there is no file that can be read"):
        keys("empty")


def test_links_that_go_in_circles_are_not_followed(tree: Path) -> None:
    for name in ("x", "y"):
        (tree / "deep" / name).symlink_to(tree, target_is_directory=True)
    (tree / "link.md").symlink_to(tree / "a.md")
    (tree / "broken.md").symlink_to(tree / "nowhere")

    assert keys("**/*.md") == ["a.md", "deep/b.md", "deep/er/e.md", "link.md", "notes[1].md"]
    assert keys("deep") == keys("deep/**")


def test_a_folder_that_cannot_be_looked_into_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "er":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    problems = {source.key: source.problem for source in find_sources(["deep"])}

    assert problems == {"deep/b.md": "", "deep/c.HTML": "", "deep/er": "cannot be looked into: Permission denied"}


def test_the_format_of_a_name_is_known_and_that_of_others_is_given(tree: Path) -> None:
    (tree / "README").write_text("x")
    found = find_sources(["README", "deep/c.HTML", "b.txt", "-"], name="x.pdf", format="markdown")

    assert [source.format for source in found] == ["markdown", "html", "text", "markdown"]
    assert next(find_sources(["-"], name="x.pdf")) == Source("x.pdf", None, "pdf")


async def test_each_document_is_read_when_it_is_asked_for(tree: Path) -> None:
    skipped: list[tuple[str, str]] = []
    found = Sources(["deep", "photo.png", "a.md"], lambda *told: skipped.append(told), metadata={"lang": "en"})
    assert await found.find() == 6
    (tree / "deep" / "b.md").unlink()
    (tree / "deep" / "c.HTML").write_bytes(b"<title>C</title><p>c")
    (tree / "photo.png").write_bytes(b"\x89PNG")

    assert await anext(found) == Extracted("deep/c.HTML", "c", {"title": "C", "lang": "en"}, "markdown")
    (tree / "a.md").write_text("changed meanwhile")
    assert [each.text async for each in found] == ["text of deep/er/e.md", "changed meanwhile"]
    assert skipped == [
        ("deep/b.md", "cannot be read: No such file or directory"),
        ("deep/er/d.pdf", "is not a PDF, or a damaged one"),
        ("photo.png", "is a picture; have its text recognized (OCR), and store that"),
    ]


async def test_a_name_that_is_no_text_is_skipped(tree: Path) -> None:
    (tree / os.fsdecode(b"caf\xe9.md")).write_text("x")
    skipped: list[tuple[str, str]] = []
    found = Sources(["caf*"], lambda *told: skipped.append(told))

    assert await found.find() == 1
    assert [each async for each in found] == []
    assert skipped == [("caf?.md", "has a name that is not UTF-8")]


class Pipe(io.RawIOBase):
    """A standard input on which nothing comes until it is let go."""

    def __init__(self) -> None:
        self.is_read = threading.Event()
        self.may_end = threading.Event()

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        self.is_read.set()
        self.may_end.wait(30)
        return b""

    def read(self, size: int = -1) -> bytes:
        return self.readall()


async def test_waiting_for_standard_input_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(pipe)))
    found = Sources(["-"], print)
    await found.find()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anext, found)
            await anyio.to_thread.run_sync(pipe.is_read.wait)
            group.cancel_scope.cancel()
        assert not pipe.may_end.is_set()
    finally:
        pipe.may_end.set()


async def test_without_a_standard_input_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    skipped: list[tuple[str, str]] = []
    found = Sources(["-"], lambda *told: skipped.append(told))
    await found.find()

    assert [each async for each in found] == []
    assert skipped == [("stdin", "cannot be read: there is no standard input")]


@given(st.text(max_size=20) | st.text("ab*?[]!-./~\0\\", max_size=12))
def test_any_word_is_understood_or_reported_in_a_sentence(word: str) -> None:
    """Whatever stands on the command line, there is no other error than one that says what to do."""
    if Path(word).is_absolute() or ".." in word:
        return
    try:
        for source in find_sources([word]):
            assert source.key
    except ArgumentError as caught:
        sentence = str(caught)
    else:
        return
    assert sentence.encode()


@given(st.lists(st.sampled_from(["**", "*", "a", "?", "[", "[!a]", "*.md"]), min_size=1, max_size=8).map("/".join))
def test_any_pattern_ends(pattern: str) -> None:
    """A pattern is matched, or not, in bounded time."""
    if any(sign in pattern for sign in "*?["):
        assert list(matching(f"no-such-folder/{pattern}")) == []


def test_a_document_that_is_not_read_is_named_and_other_files_of_a_folder_are_counted(tree: Path) -> None:
    for name in ("old.doc", "logo.PNG", "deep/sums.ods", "Makefile"):
        (tree / name).write_bytes(b"x")
    folders: list[Folder] = []
    problems = {source.key: source.problem for source in find_sources(["."], folders=folders) if source.problem}

    assert set(problems) == {"old.doc", "deep/sums.ods"}
    assert problems["old.doc"].endswith("save it as .docx or PDF first")
    assert folders[0].others == {".png": 2, "Makefile": 1}
    (named,) = find_sources(["logo.PNG"])
    assert named.problem.startswith("is a picture")
    (forced,) = find_sources(["logo.PNG"], format="text")
    assert (forced.problem, forced.format) == ("", "text")


def test_nothing_is_read_before_it_is_asked_for(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "extract", None)
    assert len(list(find_sources(["."]))) == 8
