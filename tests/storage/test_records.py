"""Chunks, documents and hits as values."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from preheat import Chunk, Document, Hit, Hits

METADATA = {"tags": ["a", "b"], "nested": {"n": 1}}


def hit(**changed: Any) -> Hit:
    return replace(Hit("a", "t", 0.5, 0.5, "d", 0, METADATA), **changed)


PAIRS: list[tuple[Any, Any, Any]] = [
    (Chunk("t", [1.0], METADATA), Chunk("t", np.ones(3), dict(METADATA)), Chunk("t", None, {"other": 1})),
    (Chunk("t", np.ones(3), METADATA), Chunk("t", np.zeros(3), METADATA), Chunk("u", np.ones(3), METADATA)),
    (Document("k", "t", METADATA), Document("k", "t", dict(METADATA)), Document("k", "t", {"other": 1})),
    (hit(), hit(metadata=dict(METADATA)), hit(metadata={"other": 1})),
]


@pytest.mark.parametrize(("one", "same", "other"), PAIRS)
def test_equal_ones_are_one_in_a_set(one: Any, same: Any, other: Any) -> None:
    assert one == same != other
    assert hash(one) == hash(same)
    assert {one, same, other} == {one, other}
    assert len({one, same, other}) == 2
    assert {one: 1}[same] == 1


def test_hits_are_a_list_that_says_whether_it_is_complete() -> None:
    hits = Hits([hit()], is_complete=False)
    assert hits == [hit()]
    for again in (pickle.loads(pickle.dumps(hits)), copy.deepcopy(hits)):
        assert type(again) is Hits
        assert again == hits
        assert not again.is_complete
