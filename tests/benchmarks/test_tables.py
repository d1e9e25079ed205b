from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from benchmarks.report.layout import Cell, Table
from benchmarks.report.records import Limit, Results, Series
from benchmarks.report.tables import machine, markdown, show, summary, tables
from rich.console import Console


def find(results: Results, name: str) -> Table:
    return next(table for table in tables(results) if table.name == name)


def cell(table: Table, who: str, column: str) -> Cell:
    row = next(row for row in table.rows if row[0].text == who)
    return row[table.columns.index(column)]


def contest(who: str, *samples: float, what: str = "steady", round_trip: float | None = 0.020) -> Series:
    return Series("contest", who, what, "round trips" if what.endswith("round trips") else "ms", samples, round_trip)


def printed(results: Results, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    show(results, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_part_has_its_tables(results):
    assert [table.name for table in tables(results)] == [
        *("contest-0", "contest-5", "contest-20", "ingest", "warming", "callers", "growth"),
        *("parameters-steady", "parameters-cold", "packing-time", "crowd-time", "tls", "costs", "startup", "limits"),
    ]


def test_a_figure_is_its_median_its_quartiles_and_its_ratio_to_the_best_of_preheat(nothing):
    nothing.add([contest("preheat on asyncio", 20, 22, 24, 26, 28), contest("preheat on trio", 30, 30, 30, 30)])
    nothing.add([contest("asyncpg pool", 60, 72, 48, 60), contest("psycopg_pool", 12)])
    table = find(nothing, "contest-20")
    assert cell(table, "preheat on asyncio", "steady") == Cell("24.0", "1.00×", "22.0–26.0")
    assert cell(table, "preheat on trio", "steady") == Cell("30.0", "1.25×", "30.0–30.0")
    assert cell(table, "asyncpg pool", "steady") == Cell("60.0", "2.5×", "57.0–63.0")
    assert cell(table, "psycopg_pool", "steady") == Cell("12.0", "0.50×", "12.0–12.0", "best")


def test_a_result_that_overlaps_with_the_best_counts_as_best(nothing):
    nothing.add([contest("preheat on asyncio", 9, 11), contest("triopg", 10.9, 14), contest("SQLAlchemy", 11.1, 12)])
    tones = [row[-2].tone for row in find(nothing, "contest-20").rows]
    assert tones == ["best", "best", "plain"]


def test_round_trips_are_whole_and_have_no_ratio(results):
    assert cell(find(results, "contest-20"), "asyncpg pool", "cold round trips") == Cell("22")


def test_preheat_comes_first_then_all_in_the_order_of_measuring(nothing):
    nothing.add([contest("triopg", 1), contest("asyncpg pool", 1), contest("preheat on trio", 1)])
    names = [row[0].text for row in find(nothing, "contest-20").rows]
    assert names == ["preheat on trio", "triopg", "asyncpg pool"]


@pytest.mark.parametrize(
    ("name", "who", "column", "base_who", "base_column"),
    [
        ("ingest", "preheat on trio", "1,536", "bare COPY", "1,536"),
        ("growth", "preheat on asyncio, halfvec", "1,000,000", "bare asyncpg", "1,000,000"),
        ("warming", "trio, 20 ms", "100 connections", "trio, 20 ms", "1 connection"),
        ("parameters-steady", "text", "384", "binary, by hand", "384"),
    ],
)
def test_ratios_of_other_tables(results, name, who, column, base_who, base_column):
    table = find(results, name)
    measured, base = cell(table, who, column), cell(table, base_who, base_column)
    assert base.ratio == "1.00×"
    ratio = float(measured.text.replace(",", "")) / float(base.text.replace(",", ""))
    assert float(measured.ratio.removesuffix("×")) == pytest.approx(ratio, abs=0.06)


def test_a_variant_is_compared_with_the_bare_one_of_its_kind(nothing):
    for who, took in (("bare asyncpg", 1), ("bare asyncpg, halfvec", 2), ("preheat on trio, halfvec", 3)):
        nothing.add([Series("growth", who, "steady search", "ms", (took,), at=1000)])
    assert cell(find(nothing, "growth"), "preheat on trio, halfvec", "1,000").ratio == "1.50×"


def test_nothing_measured_is_no_tables(nothing):
    assert tables(nothing) == []
    assert summary(nothing) is None
    assert "made-up" in printed(nothing, 100)


def test_a_missing_result_is_a_dash(results):
    results.series = [
        series
        for series in results.series
        if (series.who, series.round_trip) != ("SQLAlchemy", 0.020) and series.what != "burst of 50"
    ]
    table = find(results, "contest-20")
    assert {shown.text for row in table.rows if row[0].text == "SQLAlchemy" for shown in row[1:]} == {"–"}
    assert {row[-1].text for row in table.rows} == {"–"}


def test_any_series_may_be_missing_or_broken(results):
    """Whatever is taken away, what is left is shown."""
    whole = list(results.series)
    for broken in ((), (math.nan,), (1.0, math.inf)):
        for step in range(2, 6):
            results.series = [
                series if place % step else replace(series, samples=broken) for place, series in enumerate(whole)
            ]
            assert "nan" not in printed(results, 100)
            assert all(map(markdown, tables(results)))


def test_without_preheat_there_is_nothing_to_compare_with(nothing):
    nothing.add([contest("asyncpg pool", 1, what="cold first answer")])
    assert cell(find(nothing, "contest-20"), "asyncpg pool", "cold first answer").ratio == ""


def test_a_result_without_round_trips_is_shown_at_each_latency(nothing):
    nothing.add([contest("triopg", 22, what="cold round trips", round_trip=None), contest("triopg", 5)])
    assert cell(find(nothing, "contest-20"), "triopg", "cold round trips").text == "22"


def test_limits_say_what_was_kept(nothing):
    nothing.limits += [Limit("round trips", 6, "round trips", at_most=6), Limit("ratio", 1.42, "x", at_most=1.3)]
    nothing.limits += [Limit("steady round trips", 1, "round trips", at_most=1, at_least=1)]
    kept, missed, exact = find(nothing, "limits").rows
    assert kept == (Cell("round trips"), Cell("6 round trips"), Cell("at most 6"), Cell("kept", tone="kept"))
    assert missed == (Cell("ratio"), Cell("1.42×"), Cell("at most 1.3"), Cell("missed", tone="missed"))
    assert exact[2] == Cell("1")
    assert "2 of 3 limits kept" in printed(nothing, 100)


def test_more_warm_ups_than_one_would_show(results):
    results.series = [
        replace(series, samples=(1.0, 2.0)) if series.what == "warm-ups" else series for series in results.series
    ]
    assert find(results, "callers").rows[1][1] == Cell("1.5", spread="1–2")


def test_the_summary_is_medians_at_20_ms(results):
    table = summary(results)
    assert table is not None
    assert {row[0].text for row in table.rows} == {series.who for series in results.find("contest", "steady")}
    cold = results.one("contest", "cold first answer", "triopg", round_trip=0.020)
    assert cold is not None
    assert cell(table, "triopg", "first answer, cold").text == f"{cold.median:.0f}"


def test_only_the_name_of_a_path_is_reported(results):
    shown = markdown(machine(results))
    assert "| option output | results.json |" in shown
    assert "/nowhere" not in shown


@pytest.mark.parametrize("width", [100, 130])
def test_the_terminal_cuts_nothing_off(results, width):
    shown = printed(results, width)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    for table in tables(results):
        for row in table.rows:
            for one in row[1:]:
                assert all(line in shown for line in one.lines())


def test_markdown_has_as_many_cells_in_each_line(results):
    for table in [*tables(results), machine(results), summary(results)]:
        assert table is not None
        title, empty, *lines = markdown(table).splitlines()
        assert title == f"**{table.title}**"
        assert empty == ""
        rows = [line for line in lines if line.startswith("|")]
        assert len(rows) == len(table.rows) + 2
        assert {line.count(" | ") for line in rows} == {len(table.columns) - 1}
        assert markdown(table).endswith("\n")


def test_markdown_escapes_what_it_would_take_for_itself():
    table = Table("odd", "a*b", ("", "<x>"), ((Cell("one | two"), Cell("3", "1.00×", "2–4", "best")),))
    assert markdown(table) == (
        "**a\\*b**\n\n|  | \\<x> |\n| --- | ---: |\n"
        '| one \\| two | **3**&nbsp;<small>1.00×</small><br><small style="white-space: nowrap">2–4</small> |\n'
    )
