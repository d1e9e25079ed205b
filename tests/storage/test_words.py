"""The words of a chunk are found in whatever form they are written, on a real PostgreSQL."""

# ruff: noqa: RUF001

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Sequence
from typing import Any

import anyio
import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.server import Server

from preheat import ArgumentError, Chunk, VectorStorage
from preheat.storage.text_query import LOOKED_AT, exclusion_query, separated, separated_sql, text_query
from preheat.testing import FakePool


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


FOUND = {
    "composed": ("Résumé of the café", ["résumé", decomposed("café"), "CAFÉ", "RÉSUMÉ"]),
    "decomposed": (decomposed("Brücke der Straße"), ["brücke", "BRÜCKE", "strasse", "STRASSE", "Straße"]),
    "Vietnamese": (decomposed("Tiếng Việt"), ["tiếng việt", "VIỆT"]),
    "a ligature": ("the con\ufb01guration of an o\ufb03ce", ["configuration", "office", "con\ufb01guration"]),
    "a soft hyphen": ("hy\u00adphen\u00ad\n  ation", ["hyphenation", "hyphen\u00adation"]),
    "what is not seen": ("foo\u200bbar\u2060baz \ufeffbegun می\u200cخواهم", ["foobarbaz", "begun", "میخواهم"]),
    "full width": ("ＡＢＣ１２３ model", ["ABC123", "abc123", "ＡＢＣ１２３"]),
    "a capital I with a dot": ("İstanbul", ["istanbul", "İSTANBUL"]),
    "Arabic with vowels": ("كِتَابٌ كـــبير", ["كتاب", "كبير", "كِتَاب"]),
    "Hebrew with points": ("שָׁלוֹם", ["שלום"]),
    "a path": ("edit /etc/postgresql/pg_hba.conf now", ["pg_hba.conf", "/etc/postgresql/pg_hba.conf", "postgresql"]),
    "a path of Windows": (r"open C:\Program Files\App\settings.ini", ["settings.ini", "app"]),
    "a version": ("fixed in v2.10.3-rc1", ["v2.10.3", "V2.10", "v2.10.3-rc1", "rc1", "2.10.3", "v2"]),
    "a version without its v": ("released as 3.12.1", ["v3.12.1", "V3.12", "3.12.1"]),
    "a version that letters touch": ("out now: v7.8.9rc1 (8.0.0b2)", ["v7.8.9rc1", "7.8.9", "v7.8.9", "rc1", "8.0.0"]),
    "measures": ("3.5mm at 2.4GHz since 2026-11-25T10:00Z", ["3.5", "3.5mm", "2.4 GHz", "2026-11-25"]),
    "a version in a path": ("/v4/users of x_v5.6.7", ["/v4/users", "5.6.7", "v5.6"]),
    "a version beside Chinese": ("版本v6.7.8发布", ["v6.7.8", "6.7.8", "版本", "发布"]),
    "a host": ("ask db-1.eu.example.com:5432 first", ["example.com", "db-1.eu.example.com", "5432"]),
    "an address": ("write to jane.doe@mail.example.com", ["jane.doe@mail.example.com", "jane.doe", "mail.example.com"]),
    "a URL": ("https://example.com/a/page.html?id=17&q=tea", ["page.html", "example.com", "id=17", "tea"]),
    "a call": ("use pool.acquire() or self._lend_now(n=1)", ["pool.acquire()", "acquire", "_lend_now", "lend"]),
    "snake case": ("set max_parallel_workers", ["max_parallel_workers", "parallel workers", "MAX_PARALLEL_WORKERS"]),
    "camel case": ("raise InterfaceError", ["interfaceerror", "InterfaceError"]),
    "a hyphen": ("one round-trip, a well\u2011known fact", ["round trip", "round-trip", "well-known"]),
    "quotation marks": ("“smart” quotes of ‘words’—and dashes", ["smart", "words", "dashes", '"smart"']),
    "options": ("tar -xzf a.tgz; gcc --std=c99", ["-xzf", "xzf", "--std", "what does tar -xzf do"]),
    "Chinese": (
        "保修期为两年，包括水泵。",
        ["水泵", "保修期", "两年", "期", "泵", "保", "保修期是多久？", "水泵在保修范围内吗"],
    ),
    "Japanese": ("ポンプの保証期間は二年です。", ["ポンプ", "保証", "ﾎﾟﾝﾌﾟ", decomposed("ポンプ"), "保証期間"]),
    "half width": ("ﾎﾟﾝﾌﾟﾉ ｶﾞｲﾄﾞ", ["ポンプ", "ガイド", "ｶﾞｲﾄﾞ"]),
    "Korean": ("보증은 펌프를 2년 동안 보장합니다", ["펌프", decomposed("펌프"), "보증", "동안"]),
    "Korean in its letters": (decomposed("펌프를 보장"), ["펌프", decomposed("보장")]),
    "Thai": ("การรับประกันปั๊มน้ำสองปี", ["ปั๊มน้ำ", "ประกัน", "สองปี"]),
    "Lao and Khmer": ("ປະເທດລາວ ភាសាខ្មែរ", ["ລາວ", "ខ្មែរ"]),
    "mixed scripts": ("AB公司12 と東京Tower", ["AB公司12", "公司", "ab", "东京 東京", "tower"]),
    "Greek and Russian": ("Αθήνα и Москва", ["αθήνα", "ΑΘΉΝΑ", "МОСКВА", "москва"]),
}
"""A text, and what finds it."""


@pytest.fixture(params=["english", "simple", "german"], scope="module")
def texts(request: pytest.FixtureRequest, dsn: str) -> tuple[str, str]:
    """A database and a collection with all texts."""
    name = f"words_{request.param}"

    async def store() -> None:
        async with VectorStorage(dsn, name, 1, language=request.param, size=1, warm="never") as storage:
            await storage.add([Chunk(text, [1], id=kind) for kind, (text, _) in FOUND.items()])

    anyio.run(store)
    return dsn, name


async def test_a_word_is_found_in_any_form(texts: tuple[str, str]) -> None:
    dsn, name = texts
    missed = []
    async with VectorStorage(dsn, name, size=1, warm="never") as storage:
        for kind, (_, queries) in FOUND.items():
            for query in queries:
                hits = await storage.search([1], 100, text=query)
                if kind not in {hit.id for hit in hits if hit.text_rank is not None}:
                    missed.append((kind, query, text_query(query)))
    assert missed == []


async def test_other_words_are_not_found(texts: tuple[str, str]) -> None:
    dsn, name = texts
    async with VectorStorage(dsn, name, size=1, warm="never") as storage:
        for query in (
            "泵水",
            "v2.10.4",
            "2.10.4",
            "2.1",
            "v3",
            "v12.2",
            "pg_hba.toml",
            "hba_pg",
            "프펌",
            "resume",
            "example.org",
            "v2.1",
            "🚀",
            "。",
        ):
            hits = await storage.search([1], 100, text=query)
            assert [hit.id for hit in hits if hit.text_rank is not None] == [], query


async def test_an_excluded_phrase_matches_every_inflection_and_only_as_a_whole(texts: tuple[str, str]) -> None:
    dsn, name = texts

    async def left(*without: str) -> set[str]:
        return set(FOUND) - {hit.id for hit in await storage.search([1], 100, without=without)}

    async with VectorStorage(dsn, name, size=1, warm="never") as storage:
        assert await left("pg_hba.conf") == {"a path"}
        assert await left("水泵", decomposed("RÉSUMÉ")) == {"Chinese", "composed"}
        assert await left("保修期为一年") == set()
        assert await left("-xzf") == {"options"}
        assert await left("parallel workers", "workers parallel") == {"snake case"}


UNCERTAIN = st.text(
    st.one_of(
        st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cn"]),
        st.sampled_from("av12V..é\u00ad\n -_.'\"()ß İ\u200bﬁ①水泵펌프ｶﾞปั๊มน้ำ\u0301\u3099"),
    ),
    max_size=40,
)


EVERY_CHARACTER = [
    f"a{character}b {character}{character}"
    for character in map(chr, range(1, 0x110000))
    if unicodedata.category(character) not in ("Cn", "Co", "Cs")  # Python's Unicode may be older than the server's
]


async def compare(dsn: str, texts: list[str]) -> None:
    """Both forms of the rule, made of some texts."""
    connection = await asyncpg.connect(dsn)
    try:
        separate = f"SELECT {separated_sql('text')} AS words FROM unnest($1::text[]) WITH ORDINALITY AS t (text, n)"
        rows = await connection.fetch(f"{separate} ORDER BY n", texts)
    finally:
        await connection.close()
    for text, row in zip(texts, rows, strict=True):
        assert ascii(row["words"].split()) == ascii(separated(text).split()), ascii(text)


@pytest.mark.slow
def test_the_server_separates_every_character_as_the_library_does(dsn: str) -> None:
    asyncio.run(compare(dsn, EVERY_CHARACTER))


@settings(max_examples=20)
@given(st.lists(UNCERTAIN, min_size=100, max_size=100))
def test_property_the_server_separates_words_as_the_library_does(dsn: str, texts: list[str]) -> None:
    """The rule is there twice, for chunks and for questions, and is one: for whatever both take for a character."""
    asyncio.run(compare(dsn, texts))


def test_nothing_in_a_question_is_an_operator() -> None:
    """What is looked for is in quotation marks, joined by `or`, and that is all there is to it."""
    for text in ('-cold "a phrase" OR', "a & b | !c <-> (d) :*", '"unbalanced', "\\ ' - --force", "or", "and not"):
        phrases = text_query(text).split(" or ")
        assert all(phrase[0] == phrase[-1] == '"' and '"' not in phrase[1:-1] for phrase in phrases)
    assert text_query("warm -cold") == '"warm" or "cold" or "-cold"'
    assert text_query("v2.10") == '"v 2 10" or "2 10" or "v2.10"'
    assert text_query("3.14rc1") == '"3 14 rc1" or "3.14rc1"'
    assert text_query("v2") == '"v 2" or "v2"'
    assert text_query("warm warm pool") == '"warm" or "pool"'
    assert text_query("") == text_query(" \n") == ""
    assert text_query("水泵坏了") == '"水泵" or "泵坏" or "坏了" or "水泵坏了"'
    assert len(text_query("a " * LOOKED_AT)) < LOOKED_AT


async def test_an_exclusion_without_a_word_is_refused_before_anything_is_sent() -> None:
    pool = FakePool()
    refused: list[tuple[Any, str]] = [
        ("word", "give a list"),
        (5, "give a list"),
        ([""], "has no word in it"),
        (["a", "?!"], "has no word in it"),
        (["🚀"], "has no word in it"),
        ([5], "word in without"),
        (["a\0"], "word in without"),
        (["word"] * LOOKED_AT, "exclude fewer words"),
    ]
    async with VectorStorage(pool, "x", 1) as storage:
        for without, told in refused:
            for call in (storage.search([1], without=without), storage.explain([1], without=without)):
                with pytest.raises(ArgumentError, match=told):
                    await call
            with pytest.raises(ArgumentError, match=told):
                await storage.more_like("a", without=without)
    assert pool.opens == 0
    assert exclusion_query(["a phrase", "a.b"]) == '"a phrase" or "a b" or "a.b"'
    assert exclusion_query(["水泵坏", "AB公司"]) == '"水泵" "泵坏" or "AB" "公司" or "水泵坏" or "AB公司"'


async def test_the_words_are_made_in_a_schema_of_any_name(dsn: str, collection: str) -> None:
    schema = "a $words$ 'b\" \\ $words_$"
    async with VectorStorage(dsn, collection, 1, schema=schema, size=1, warm="never") as storage:
        await storage.add([Chunk("see pg_hba.conf", [1])])
        assert [hit.text_rank for hit in await storage.search([1], text="pg_hba.conf")] == [1]


ENCODINGS: Sequence[tuple[str, str, list[str], str]] = [
    ("LATIN1", "Résumé of pg_hba.conf", ["résumé", "pg_hba.conf"], "水"),
    ("SQL_ASCII", "résumé of pg_hba.conf", ["résumé", "pg_hba.conf"], "泵"),
    ("EUC_JP", "ポンプ pump /etc/pump.conf", ["pump", "/etc/pump.conf"], "€"),
]


@pytest.mark.parametrize(("encoding", "text", "queries", "unknown"), ENCODINGS)
async def test_a_database_of_another_encoding_stores_and_finds(
    server: Server, encoding: str, text: str, queries: list[str], unknown: str
) -> None:
    database = f"encoded_{encoding.lower()}"
    server.sql(f"CREATE DATABASE {database} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        async with VectorStorage(server.dsn(database), "x", 1, size=1, warm="never") as storage:
            await storage.add([Chunk(text, [1]), Chunk("another", [1])])
            for query in queries:
                hits = await storage.search([1], text=query)
                assert [hit.text for hit in hits if hit.text_rank is not None] == [text]
            await storage.create_index()
            assert [hit.text for hit in await storage.search([1], without=queries)] == ["another"]
    finally:
        server.sql(f"DROP DATABASE {database} WITH (FORCE)")
