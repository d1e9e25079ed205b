from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import pytest
from tests.support.server import Server
from tests.support.watched import Watched

_numbers = itertools.count()


@pytest.fixture
def watched(server: Server) -> Iterator[Watched]:
    name = f"watched_{next(_numbers)}"
    server.create_database(name, vector=True)
    server.sql(f"ALTER DATABASE {name} SET log_min_messages = 'log'")
    server.sql(f"ALTER DATABASE {name} SET log_statement = 'all'")
    yield Watched(server, name)
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def role(server: Server) -> Iterator[str]:
    """The name of a role that may log in and no more."""
    name = f"role_{next(_numbers)}"
    server.sql(f"CREATE ROLE {name} LOGIN PASSWORD 's3cret/p@ss'")
    yield name
    for row in server.sql("SELECT datname FROM pg_database WHERE datallowconn"):
        server.sql(f"DROP OWNED BY {name};", row["datname"])
    server.sql(f"DROP ROLE {name}")


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "asyncio")  # it tells of each event loop
    return caplog
