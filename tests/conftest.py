from __future__ import annotations

import gc
import itertools
import re
import signal
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from tests.support.backends import BACKENDS
from tests.support.server import OTHER_VERSION, WITH_VECTOR, Server, database_folder, running_server
from trio._core import _thread_cache

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would the programs that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_thread_cache.IDLE_TIMEOUT = 0.01
"""Seconds that trio keeps an idle thread; by default ten, into the next tests, which may count threads."""

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", parent=settings.get_profile("default"), max_examples=20)
settings.register_profile("campaign", parent=settings.get_profile("default"), max_examples=1000, print_blob=True)
settings.register_profile(
    "mutation",
    parent=settings.get_profile("default"),
    max_examples=30,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("default")


def pytest_collection_finish() -> None:
    """What was collected stays to the end: a full collection of garbage, which some tests ask for, passes it over."""
    gc.freeze()


LACKING = re.compile(r"this needs pgvector (\S+) or later, and the database \S+ has pgvector ([\d.]+)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With an earlier version of pgvector skip each test that is refused because the server lacks a feature."""
    report = yield
    if OTHER_VERSION and report.failed and call.excinfo is not None:
        lacking = LACKING.search("".join(traceback.format_exception(call.excinfo.value)))
        if lacking and as_numbers(lacking[2]) < as_numbers(lacking[1]):
            report.outcome, report.longrepr = "skipped", (str(item.path), item.reportinfo()[1] or 0, lacking[0])
    return report


def as_numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


@pytest.fixture(params=BACKENDS, scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Every async test runs on each of these backends."""
    return request.param


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend, for tests that run an event loop themselves."""
    return request.param


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL with TCP and passwords; tests keep out of each other's way by their own collections."""
    with database_folder() as folder, running_server(folder) as server:
        server.sql(f"CREATE DATABASE {WITH_VECTOR}")
        server.sql("CREATE EXTENSION vector;", WITH_VECTOR)
        yield server


@pytest.fixture(scope="session")
def dsn(server: Server) -> str:
    """The DSN of a database with pgvector."""
    server.create_database("tests", vector=True)
    return server.dsn("tests")


_numbers = itertools.count()


@pytest.fixture
def collection() -> str:
    """A name that no other test uses."""
    return f"test_{next(_numbers)}"


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The name of an empty database without pgvector."""
    name = f"empty_{next(_numbers)}"
    server.create_database(name)
    yield name
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def vector_database(server: Server) -> Iterator[str]:
    """The name of an empty database with pgvector."""
    name = f"empty_{next(_numbers)}"
    server.create_database(name, vector=True)
    yield name
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("PREHEAT_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for an embedded server. (pytest closes its own temporary folders to other users, at any moment.)"""
    with database_folder() as folder:
        yield folder
