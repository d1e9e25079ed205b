"""Filters on ids, documents and texts, by patterns and by times, on a real PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.network.round_trip_meter import RoundTripMeter
from tests.support.server import Server

from preheat import ArgumentError, Chunk, F, VectorStorage
from preheat.storage.filters.everything import passes_everything
from preheat.storage.filters.tree import Filter, as_filter

NUMBER = UUID("6f1c0a52-6a3e-4c39-8a0e-0a8f2c1d9b77")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
CHUNKS = [
    Chunk("Warm pools", [1, 0], {"tag": "Hot_1", "at": NOON}, "docs/a.md", 0, "a"),
    Chunk(
        "warm starts",
        [1, 1],
        {"tag": "hotX1", "at": NOON.astimezone(timezone(timedelta(hours=5.5)))},
        "docs/a.md",
        1,
        "b",
    ),
    Chunk("Cold 100% water", [1, 2], {"tag": ["Hot_1"], "at": "2026-11-25T13:00:00.5"}, "docs/b.md", 0, "c"),
    Chunk("ice\\water", [1, 3], {"tag": 5, "at": date(2026, 11, 26)}, "notes.md", 0, NUMBER),
    Chunk("none", [1, 4], {"at": "2026-02-30T00:00:00Z", "tag": None}, "", 0, "e"),
]
EVERY = ["a", "b", "c", str(NUMBER), "e"]
PLUS_TWO = timezone(timedelta(hours=2))

CASES: list[tuple[Any, Any, list[str]]] = [
    (F.document == "docs/a.md", {"$document": "docs/a.md"}, ["a", "b"]),
    (F.document != "docs/a.md", {"$document": {"$ne": "docs/a.md"}}, ["c", str(NUMBER), "e"]),
    (F.document.startswith("docs/"), {"$document": {"$like": "docs/%"}}, ["a", "b", "c"]),
    (F.document.in_(["", "notes.md"]), {"$document": {"$in": ["", "notes.md"]}}, [str(NUMBER), "e"]),
    (F.id.in_(["a", NUMBER]), {"$id": {"$in": ["a", NUMBER]}}, ["a", str(NUMBER)]),
    (F.id.not_in(["a", NUMBER]), {"$id": {"$nin": ["a", str(NUMBER)]}}, ["b", "c", "e"]),
    (F.id.between("b", "d"), {"$id": {"$between": ["b", "d"]}}, ["b", "c"]),
    ((F.id >= "b") & (F.id < "c"), {"$id": {"$gte": "b", "$lt": "c"}}, ["b"]),
    (F.text.includes("warm"), {"$text": {"$like": "%warm%"}}, ["b"]),
    (F.text.includes("WARM", ignore_case=True), {"$text": {"$ilike": "%WARM%"}}, ["a", "b"]),
    (F.text.startswith("warm", ignore_case=True), {"$text": {"$ilike": "warm%"}}, ["a", "b"]),
    (F.text.includes("0% w"), {"$text": {"$like": r"%0\% w%"}}, ["c"]),
    (F.text.includes("\\w"), {"$text": {"$like": r"%\\w%"}}, [str(NUMBER)]),
    (~F.text.includes("w"), {"$not": {"$text": {"$like": "%w%"}}}, ["a", "e"]),
    (F("tag").like("Hot_1"), {"tag": {"$like": "Hot_1"}}, ["a"]),
    (F("tag").ilike("hot_1"), {"tag": {"$ilike": "hot_1"}}, ["a", "b"]),
    (F("tag").startswith("Hot_"), {"tag": {"$like": r"Hot\_%"}}, ["a"]),
    (~F("tag").like("%"), {"tag": {"$not": {"$like": "%"}}}, ["c", str(NUMBER), "e"]),
    (F("tag").between(4, 6), {"tag": {"$between": [4, 6]}}, [str(NUMBER)]),
    (F("at") == NOON, {"at": NOON}, ["a", "b"]),
    (F("at") == NOON.astimezone(PLUS_TWO), {"at": {"$eq": NOON.astimezone(PLUS_TWO)}}, ["a", "b"]),
    (F("at") != NOON, {"at": {"$ne": NOON}}, ["c", str(NUMBER), "e"]),
    (F("at") > NOON, {"at": {"$gt": NOON}}, ["c", str(NUMBER)]),
    (F("at") <= datetime(2026, 11, 25, 13), {"at": {"$lte": datetime(2026, 11, 25, 13)}}, ["a", "b"]),
    (F("at") >= date(2026, 11, 26), {"at": {"$gte": date(2026, 11, 26)}}, [str(NUMBER)]),
    (F("at").in_([NOON, "2026-02-30T00:00:00Z"]), {"at": {"$in": [NOON, "2026-02-30T00:00:00Z"]}}, ["a", "b", "e"]),
    (
        F("at").between(NOON, NOON + timedelta(hours=2)),
        {"at": {"$between": [NOON, NOON + timedelta(hours=2)]}},
        ["a", "b", "c"],
    ),
]


@pytest.mark.parametrize("way", ["", "&TimeZone=Asia/Kolkata&DateStyle=German"])
async def test_each_field_is_compared_as_documented(dsn: str, collection: str, way: str) -> None:
    async with VectorStorage(dsn + way, collection, 2) as storage:
        await storage.add(CHUNKS)
        for expression, words, expected in CASES:
            for filter in (expression, words):
                found = [hit.id for hit in await storage.search([1.0, 0.0], 10, filter=filter)]
                assert found == expected, filter
                assert await storage.count(filter=filter) == len(expected)
        assert await storage.delete(filter=F.document.startswith("docs/")) == 3


async def test_a_search_looks_at_some_ids_and_one_document_in_one_round_trip(
    server: Server, dsn: str, collection: str
) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.add(CHUNKS)
    with RoundTripMeter(server.port) as meter:
        async with VectorStorage(server.dsn("tests", port=meter.port), collection, 2, size=1) as storage:
            for options, expected in (
                ({"ids": ["c", NUMBER]}, ["c", str(NUMBER)]),
                ({"document": "docs/a.md"}, ["a", "b"]),
                ({"document": "docs/a.md", "ids": ["b", "c"]}, ["b"]),
                ({"document": "docs/a.md", "filter": F("tag").like("hot%")}, ["b"]),
                ({"ids": []}, []),
            ):
                for _ in range(2):
                    before = sum(meter.round_trips)
                    hits = await storage.search([1.0, 0.0], 5, **options)
                    assert [hit.id for hit in hits] == expected, options
                assert sum(meter.round_trips) - before == 1
            assert [hit.id for hit in await storage.search(text="water", document="docs/b.md")] == ["c"]
            assert [hit.id for hit in await storage.more_like("a", document="docs/a.md")] == ["b"]
            with pytest.raises(ArgumentError, match="give a list of them"):
                await storage.search([1.0, 0.0], ids="a")


async def test_a_time_is_read_back_as_text(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2) as storage:
        await storage.upsert([CHUNKS[0], Chunk("null", [0, 1], {"at": NOON, "nothing": None, "of": NUMBER}, id="n")])
        assert (await storage.upsert([CHUNKS[0]])).unchanged == 1
        other, one = await storage.get(["a", "n"])
        assert one.metadata["at"] == other.metadata["at"] == "2026-11-25T12:00:00+00:00"
        assert other.metadata["of"] == str(NUMBER)
        assert datetime.fromisoformat(str(one.metadata["at"])) == NOON


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_property_patterns_and_times_never_fail_and_mean_what_they_say(dsn: str, backend: str) -> None:
    """Whatever string lies in the metadata, a pattern is one of SQL, and a time is one in ISO 8601 or none."""
    letters = st.text(st.sampled_from("aB%_\\.*(\n"), max_size=4)
    times = st.one_of(
        st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.none() | st.just(PLUS_TWO)).map(str),
        st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9])?(Z|[+-][01][0-9])?)?\Z"),
        st.sampled_from(["now", "infinity", "epoch", "today", "0000-01-01", "2024-02-29", "2023-02-29", "BC", ""]),
    )

    @asynccontextmanager
    async def opened() -> AsyncGenerator[VectorStorage]:
        async with VectorStorage(dsn, f"patterns_{backend}", 1, size=1, warm="never") as storage:
            yield storage

    with start_blocking_portal(backend) as portal, portal.wrap_async_context_manager(opened()) as storage:

        async def compare(value: str, pattern: str, limit: datetime) -> None:
            await storage.clear()
            await storage.add([Chunk(value, [1.0], {"a": value}, "d", id="1")])
            for filter, expected in (
                (F("a").like(pattern), matches(pattern, value)),
                (F.text.like(pattern), matches(pattern, value)),
                (F("a").startswith(pattern), value.startswith(pattern)),
                (F.text.includes(pattern), pattern in value),
                (F("a") >= limit, (instant(value) or datetime.min.replace(tzinfo=UTC)) >= limit),
                (F("a") == limit, instant(value) == limit),
            ):
                assert await storage.count(filter=filter) == expected, (filter, value)

        @settings(max_examples=max(10, settings.default.max_examples // 6))
        @given(letters | times, letters.filter(lambda text: (len(text) - len(text.rstrip("\\"))) % 2 == 0), st.data())
        def look(value: str, pattern: str, data: st.DataObject) -> None:
            own = instant(value)
            limit = data.draw(st.sampled_from([NOON, *([own] if own else [])]))
            portal.call(compare, value, pattern, limit)

        look()


def matches(pattern: str, value: str) -> bool:
    """Whether a pattern of SQL matches a value."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    special = {"%": ".*", "_": "."}
    written = "".join(special.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(written, value, re.DOTALL) is not None


def instant(value: str) -> datetime | None:
    """The time that a string stands for; None if it stands for none."""
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return None
    try:
        told = datetime.fromisoformat(value)
    except ValueError:
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("filter", "everything"),
    [
        (F.document.like("%"), True),
        (F.document >= "", True),
        ((F.id < "a") | (F.id >= "a"), True),
        (F.text.in_(["x"]) | ~(F.text == "x"), True),
        (F.text.like("%x%") | ~F.text.like("%x%"), True),
        (F.document == "", False),
        (F.document.like(""), False),
        (F.document > "", False),
        (F.text.like("%x%"), False),
        (F("a").like("%"), False),
        ((F("at") < NOON) | (F("at") >= NOON), False),
    ],
)
def test_a_filter_that_passes_every_chunk_is_known_by_fields_too(filter: Filter, everything: bool) -> None:
    assert passes_everything(filter) == everything


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: F.document == 5, "F.document is compared with 5; give a string"),
        (lambda: F.text.like("a\\"), "ends with a backslash"),
        (lambda: F("a").like(None), "the pattern of a filter is None; give a string"),
        (lambda: F("a").startswith("\0"), "NUL"),
        (lambda: as_filter({"a": {"$between": [1]}}), r"give a list of the least and the greatest"),
        (lambda: as_filter({"$document": {"$contains": "x"}}), r"'\$contains' does not apply to F.document"),
        (lambda: as_filter({"$id": {"$exists": True}}), r"'\$exists' does not apply to F.id"),
        (lambda: as_filter({"$nor": []}), r"use \$and, \$or or \$not, \$id, \$document, \$text for"),
        (lambda: F("a") < [1], "a number, a string or a datetime"),
    ],
)
def test_an_invalid_comparison_is_refused_in_a_sentence(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
