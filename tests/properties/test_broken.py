"""The properties catch every guard and every engine that is broken on purpose."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable

import pytest
from hypothesis import Phase, settings
from tests.properties import tally, test_machines
from tests.properties.broken import BROKEN, Broken
from tests.properties.subject import using

pytestmark = pytest.mark.slow

HUNT = settings(max_examples=400, deadline=None, database=None, phases=[Phase.generate], report_multiple_bugs=False)
"""Look for one failure, and do not shrink it."""


def catchers(test: Callable[..., None]) -> set[str]:
    """On which backends a property fails, with any of its other parameters."""
    marks = {mark.args[0]: mark.args[1] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"}
    failed = set()
    for values in itertools.product(*(reversed(list(values)) for values in marks.values())):
        arguments = dict(zip(marks, values, strict=True))
        backend = arguments.get("backend", "any")
        if backend not in failed:
            try:
                test(**arguments)
            except (AssertionError, ExceptionGroup, pytest.fail.Exception) as error:
                if any(isinstance(leaf, (NameError, AttributeError, TypeError)) for leaf in leaves(error)):
                    raise  # a slip in the mistake is not the mistake
                failed.add(backend)
    return failed


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, or the one exception."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


CASES = [
    pytest.param(broken, test, id=f"{broken.name}-{test.__name__.removeprefix('test_')}")
    for broken in BROKEN
    for test in broken.caught_by
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # broken ones leave things behind
@pytest.mark.parametrize(("broken", "test"), CASES)
def test_the_properties_catch_a_broken_library(
    broken: Broken, test: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The property named fails, on both backends if it has a backend as its parameter."""
    monkeypatch.setattr(tally, "tallies", {"asyncio": tally.Tally(), "trio": tally.Tally()})  # these do not count
    monkeypatch.setattr(test_machines, "how_to_look", lambda: HUNT)
    monkeypatch.setattr(test, "_hypothesis_internal_use_settings", HUNT, raising=False)
    with using(broken.subject()):
        caught_on = catchers(test)
    gc.collect()

    assert caught_on in ({"asyncio", "trio"}, {"any"}), f"{broken.name} got through {test.__name__}"
