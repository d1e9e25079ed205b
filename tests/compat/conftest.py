"""Frameworks' own suites, each of which runs in an environment that has the framework: `just compat`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from preheat import VectorStorage
from preheat.integrations import Background

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before Haystack is imported


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "asyncio: how the suite of Haystack marks tests, which anyio's plugin runs here")


@pytest.fixture(params=["asyncio", "trio"])
def storage(request: pytest.FixtureRequest, dsn: str, collection: str) -> Iterator[VectorStorage]:
    """An empty storage of six dimensions in an event loop of its own."""
    made: Any = VectorStorage(dsn, f"{collection}_compat", 6, size=2)
    with Background(made, backend=request.param) as storage:
        yield storage
