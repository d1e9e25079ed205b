from __future__ import annotations

from pathlib import Path

import numpy as np
from benchmarks.data.mixture import PARTS, mixture
from benchmarks.report.layout import markdown
from benchmarks.scenarios.recall import EF_SEARCH, by_candidates, by_kind, draw, measure

ROWS, DIMENSIONS = 2000, 8


def test_data_are_the_same_each_time_and_filters_keep_what_they_say() -> None:
    data, again = mixture(ROWS, DIMENSIONS, 5), mixture(ROWS, DIMENSIONS, 5)
    assert np.array_equal(data.rows, again.rows)
    assert np.array_equal(data.questions, again.questions)
    for name in ("spread", "apart"):
        for parts in PARTS.values():
            for _, passes in (data.equal(name, parts, 3), data.below(name, parts)):
                assert passes.sum() == ROWS // parts
    (chunks,) = data.chunks()
    _, passes = data.equal("apart", 10, 3)
    assert [chunk.metadata["apart_10"] == 3 for chunk in chunks] == passes.tolist()


def test_the_nearest_are_those_at_the_least_angle() -> None:
    data = mixture(ROWS, DIMENSIONS, 1)
    cosines = data.rows @ data.questions[0] / np.linalg.norm(data.rows, axis=1)
    assert data.nearest(0, 1) == {str(np.argmax(cosines))}
    _, passes = data.below("spread", 100)
    assert data.nearest(0, 100, passes) == set(map(str, np.flatnonzero(passes)))


async def test_recall_is_measured_and_shown(dsn: str, folder: Path, collection: str) -> None:
    data = mixture(ROWS, DIMENSIONS, 3)
    found, more = await measure(dsn, data, collection, DIMENSIONS)
    table = markdown(by_kind(found, ROWS, DIMENSIONS))
    assert "| no filter | 1.000 | 10 |" in table
    assert "by their index" in table
    assert list(more) == list(EF_SEARCH)
    assert "| 100, the default |" in markdown(by_candidates({DIMENSIONS: more}, ROWS))
    folder.mkdir()
    draw({DIMENSIONS: more}, folder)
    assert (folder / "candidates.svg").read_text().startswith("<?xml")
