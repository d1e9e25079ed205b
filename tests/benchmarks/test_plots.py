"""What is drawn; `just test` has matplotlib by the group `plots`, and where it is missing these are skipped."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.benchmarks.made_up import made_up

pytest.importorskip("matplotlib")

from benchmarks.report.marks import apart, round_numbers
from benchmarks.report.plots import PLOTS, draw
from benchmarks.report.records import Series

SVG = "{http://www.w3.org/2000/svg}"


def title(folder, name: str) -> str:
    found = ET.parse(folder / f"{name}.svg").find(f"{SVG}title")
    assert found is not None
    return found.text or ""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> list[Path]:
    """The plots of a whole run."""
    return draw(made_up(), tmp_path_factory.mktemp("plots"))


def test_all_plots_are_drawn_small_and_with_text(drawn):
    assert [path.name for path in drawn] == [f"{name}.svg" for name in PLOTS]
    for path in drawn:
        assert path.stat().st_size < 60_000
        words = [element.text or "" for element in ET.parse(path).iter(f"{SVG}text")]
        assert any("preheat on trio" in word or "trio, 20 ms" in word for word in words)


def test_the_same_results_are_the_same_files(results, drawn, tmp_path):
    assert [path.read_bytes() for path in draw(results, tmp_path)] == [path.read_bytes() for path in drawn]


def test_files_tell_neither_when_nor_where(drawn):
    for path in drawn:
        text = path.read_text(encoding="utf-8")
        assert "<dc:date>" not in text
        assert not re.search(r"(?<![\w:/.])/(home|tmp|root|usr|work)\b", text)
        assert "Verdana" in text


def test_titles_are_worked_out_from_the_results(results, tmp_path):
    results.series = [
        replace(series, samples=(20.0,)) if series.part == "callers" and series.at == 1000 else series
        for series in results.series
    ]
    draw(results, tmp_path)
    assert "6 times with preheat, 12 to 41 times with others" in title(tmp_path, "round-trips")
    # twenty warm-ups are not one
    assert title(tmp_path, "callers") == "What each of 1,000 first callers pays for the warm-up that they share"


def test_missing_results_are_not_drawn(nothing, tmp_path):
    assert draw(nothing, tmp_path) == []
    nothing.add([Series("contest", "triopg", "steady", "ms", (3.0,), 0.005)])
    assert [path.name for path in draw(nothing, tmp_path)] == ["first-answer.svg"]


@pytest.mark.parametrize(("step", "broken"), [(2, ()), (3, (math.nan,))])
def test_any_series_may_be_missing(results, tmp_path, step, broken):
    results.series = [
        series if place % step else replace(series, samples=broken) for place, series in enumerate(results.series)
    ]
    assert draw(results, tmp_path)


def test_a_cost_of_zero_is_drawn_without_a_logarithm(nothing, tmp_path):
    for at, cost in ((1, 0.0), (1000, 5.0)):
        nothing.add([Series("callers", "preheat on trio", "concurrent first callers", "us", (cost,), at=at)])
    (path,) = draw(nothing, tmp_path)
    assert "µs per caller<" in path.read_text(encoding="utf-8")


def test_one_of_each_is_enough(results, tmp_path):
    seen: dict[tuple[str, str], Series] = {}
    for series in results.series:
        seen.setdefault((series.part, series.what), replace(series, samples=series.samples[:1]))
    results.series = list(seen.values())
    assert len(draw(results, tmp_path)) == len(PLOTS)


def test_labels_keep_apart_and_in_order():
    assert apart([], 1) == []
    assert apart([0, 10], 1) == [0, 10]
    assert apart([5, 5], 2) == [4, 6]
    assert apart([3, 1, 2], 2) == [4, 0, 2]


@pytest.mark.parametrize(("low", "high"), [(21, 60), (20, 3000), (13, 600), (1, 1e6)])
def test_an_axis_has_some_round_numbers(low, high):
    assert 3 <= len(round_numbers(low, high)) <= 8
