"""What was promised, worked out from the medians of one run."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.report.records import Limit, Results, Series

NETWORK = 0.020
CONNECT_AND_SEARCH = 6
OURS = ("preheat on asyncio", "preheat on uvloop", "preheat on trio")


def limits(results: Results) -> list[Limit]:
    """Every promise whose figures were measured, for each of preheat's backends where they have one each."""
    found: list[Limit] = []
    for who in OURS:
        found += _first_answers(results, who)
    found += [*_warming(results), *_trio(results), *_costs(results), *_ingest(results), *_callers(results)]
    found += [*_crowd(results), *_filters(results), *_prefixes(results), *_builds(results), *_near_answers(results)]
    return found


def _first_answers(results: Results, who: str) -> Iterator[Limit]:
    def contest(what: str, round_trip: float) -> Series | None:
        return results.one("contest", what, who, round_trip=round_trip)

    for what, most in (("cold round trips", CONNECT_AND_SEARCH), ("steady round trips", 1)):
        round_trips = [series.median for series in results.find("contest", what, who)]
        if round_trips:
            yield Limit(f"{who}: {what}", max(round_trips), "round trips", at_most=most)
    cold, server = contest("cold first answer", NETWORK), contest("cold first answer", 0.0)
    if cold and server:
        least = 1000 * CONNECT_AND_SEARCH * NETWORK + server.median
        yield Limit(f"{who}: cold first answer / (6 RTT + server), RTT 20", cold.median / least, "x", at_most=1.15)
    for round_trip, most, where in ((NETWORK, 1.05, "RTT 20"), (0.0, 1.3, "loopback")):
        first, steady = contest("first of three after warm-up", round_trip), contest("steady three at once", round_trip)
        if first and steady:
            yield Limit(
                f"{who}: first of three after warm-up / steady, {where}",
                first.median / steady.median,
                "x",
                at_most=most,
            )


def _warming(results: Results) -> Iterator[Limit]:
    for who in OURS:
        ten = results.one("warming", "warm-up", who, round_trip=NETWORK, at=10)
        one = results.one("warming", "warm-up", who, round_trip=NETWORK, at=1)
        if ten and one:
            yield Limit(f"{who}: warming 10 / warming 1, RTT 20", ten.median / one.median, "x", at_most=1.25)


def _trio(results: Results) -> Iterator[Limit]:
    for round_trip, where in ((0.0, "loopback"), (NETWORK, "RTT 20")):
        steady = {
            who: results.one("contest", "steady", who, round_trip=round_trip)
            for who in ("preheat on trio", "preheat on asyncio", "triopg")
        }
        trio, asyncio, triopg = steady.values()
        if trio and asyncio:
            yield Limit(f"steady on trio / on asyncio, {where}", trio.median / asyncio.median, "x", at_most=1.15)
        if trio and triopg:
            yield Limit(f"steady of triopg / preheat on trio, {where}", triopg.median / trio.median, "x", at_least=1.8)


def _costs(results: Results) -> Iterator[Limit]:
    for series in results.find("costs", "guard on a warmed retrieve"):
        yield Limit(f"{series.who}: {series.what}", series.median, "us", at_most=0.2)
    for backend in ("asyncio", "uvloop"):
        ours = results.one("costs", "steady search", f"preheat on {backend}")
        # Strictly the statement and nothing else: the bare connection is spared to write the vector.
        bare = results.one("costs", "steady search, vector given as text", f"bare asyncpg on {backend}")
        if ours and bare:
            yield Limit(
                f"steady search on {backend} / the same SQL on a bare connection",
                ours.median / bare.median,
                "x",
                at_most=1.10,
            )


def _ingest(results: Results) -> Iterator[Limit]:
    bare = results.one("ingest", "ingest", "bare COPY", at=384)
    for who in OURS:
        ours = results.one("ingest", "ingest", who, at=384)
        if ours and bare:
            yield Limit(f"{who}: ingest / bare COPY, 384-d", ours.median / bare.median, "x", at_least=0.85)


def _callers(results: Results) -> Iterator[Limit]:
    for series in results.find("callers", "warm-ups"):
        if series.at == 1000:
            yield Limit(f"{series.who}: warm-ups of 1,000 first callers", max(series.samples), "", at_most=1)
    for series in results.find("callers", "concurrent first callers"):
        if series.at == 1000:
            yield Limit(f"{series.who}: each of 1,000 first callers", median(series.samples), "us", at_most=20)


def _crowd(results: Results) -> Iterator[Limit]:
    """A crowd compared with a single caller; the rest of its time is the client's own work for each caller."""
    for who in OURS:
        crowd, one = (results.one("crowd", "server CPU", who, at=at) for at in (1000, 1))
        if crowd and one:
            yield Limit(
                f"{who}: server CPU of 1,000 callers with one question / of one",
                crowd.median / one.median,
                "x",
                at_most=3,
            )
        if client := results.one("crowd", "client CPU", who, at=1000):
            yield Limit(f"{who}: each of 1,000 callers with one question", client.median, "us", at_most=100)


def _filters(results: Results) -> Iterator[Limit]:
    """A filter that has nothing to do with the vectors, compared with no filter; and what is found."""
    for k in (5, 10):
        spread, plain = (
            results.one("filters", "server CPU", f"{kind}, k={k}", at=50_000) for kind in ("10 %, spread", "no filter")
        )
        if spread and plain:
            yield Limit(
                f"server CPU with a filter that 10 % pass, k={k} / without",
                spread.median / plain.median,
                "x",
                at_most=3,
            )
        for kind, least in (("10 %, spread", 0.95), ("10 %, clusters", 0.95)):
            if recall := results.one("filters", "recall", f"{kind}, k={k}", at=50_000):
                yield Limit(f"recall, {kind}, k={k}", recall.median, "", at_least=least)


def _prefixes(results: Results) -> Iterator[Limit]:
    """Ten documents of many compared with ten of few."""
    sizes = sorted({series.at for series in results.find("prefixes", "server CPU", "preheat") if series.at})
    found = [results.one("prefixes", "server CPU", "preheat", at=at) for at in (*sizes[:1], *sizes[-1:])]
    if len(sizes) > 1 and found[0] and found[1]:
        what = f"server CPU of ten documents by a prefix, {sizes[-1]:,.0f} rows / {sizes[0]:,.0f}"
        yield Limit(what, found[1].median / found[0].median, "x", at_most=3)


def _builds(results: Results) -> Iterator[Limit]:
    ours, small = (results.one("builds", "time", who) for who in ("preheat", "PostgreSQL's 64 MB"))
    if ours and small:
        yield Limit("building an index / with PostgreSQL's 64 MB", ours.median / small.median, "x", at_most=0.8)


def _near_answers(results: Results) -> Iterator[Limit]:
    for series in results.find("near answers", "found", "preheat, by the index"):
        if series.at == 50_000:
            yield Limit("answers to similar questions found among 50,000", series.median, "", at_least=0.99)
    ours, plain = (
        results.one("near answers", "server CPU", who, at=50_000) for who in ("preheat, by the index", "one by one")
    )
    if ours and plain:
        yield Limit("server CPU among 50,000 answers / one by one", ours.median / plain.median, "x", at_most=0.2)
