from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_idle_threads() -> Iterator[None]:
    """Threads of trio's that no test needs any more end before the next test, which may count threads."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("Trio thread"):
            thread.join(5)
