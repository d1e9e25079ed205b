from __future__ import annotations

import pytest
from benchmarks.records import Results
from tests.benchmarks.made_up import made_up


@pytest.fixture
def results() -> Results:
    """A whole run, that never was."""
    return made_up()


@pytest.fixture
def nothing(results: Results) -> Results:
    """A run that has measured nothing yet."""
    return Results(results.machine, results.versions, results.commit, results.options)
