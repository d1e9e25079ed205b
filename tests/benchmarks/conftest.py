from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks.records import Results
from tests.benchmarks.kit import Ends
from tests.benchmarks.made_up import made_up


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


@pytest.fixture
def results() -> Results:
    """A whole run, that never was."""
    return made_up()


@pytest.fixture
def nothing(results: Results) -> Results:
    """A run that has measured nothing yet."""
    return Results(results.machine, results.versions, results.commit, results.options)
