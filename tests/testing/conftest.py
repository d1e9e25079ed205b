from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_idle_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trio keeps the threads that it no longer needs for ten seconds, into the next tests."""
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.001)
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("Trio thread"):
            thread.join(5)
