from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.faults.row import OVERRUN, Row
from tests.support.server import Server


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def row(
    request: pytest.FixtureRequest, server: Server, dsn: str, record_property: Callable[[str, object], None]
) -> Iterator[Row]:
    """The row of a test. Everything that its docstring states has to be seen, and nothing may be left."""
    row = Row(request.function.__doc__ or "", server)
    yield row
    leaks = row.leaks()
    record_property("leaks", leaks)
    record_property("overrun", row.overrun)
    record_property("healed in", row.healed_in)
    assert leaks == 0
    if not getattr(request.node, "has_failed", False):
        assert row.seen == row.stated
        assert row.overrun < OVERRUN


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.when == "call" and report.failed:
        item.has_failed = True  # type: ignore[attr-defined]
    return report
