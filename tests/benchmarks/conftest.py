from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.report.records import Results
from tests.benchmarks.made_up import made_up

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What measures does not depend on the lowest versions that the library allows."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def results() -> Results:
    """A whole run, that never was."""
    return made_up()


@pytest.fixture
def nothing(results: Results) -> Results:
    """A run that has measured nothing yet."""
    return Results(results.machine, results.versions, results.commit, results.options)
