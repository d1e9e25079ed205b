"""Metrics and spans for OpenTelemetry, and the instrumentation of asyncpg beside them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from tests.support.models import Words
from tests.support.waiting import PATIENCE
from tests.support.watched import chunk

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from preheat import PoolBusyError, ResearchRetriever, VectorStorage, open_pool
from preheat.integrations.opentelemetry import Telemetry
from preheat.testing import FakePool, Fault, FaultPlan, fail, hang

POOL = "db.client.connection.pool.name"


class Sdk:
    """An SDK that keeps everything in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(meter_provider=self.meters, tracer_provider=self.tracers)

    def spans(self) -> list[Any]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: (span.start_time, -(span.end_time or 0)))

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """The points of each metric: attributes, and a value or the count of a histogram."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name.removeprefix("db.client.connection.")] = [
                        (dict(point.attributes), getattr(point, "value", getattr(point, "count", None)))
                        for point in metric.data.data_points
                    ]
        return found


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    sdk = Sdk()
    yield sdk
    sdk.meters.shutdown()
    sdk.tracers.shutdown()


async def test_a_pool_has_the_metrics_of_the_conventions(dsn: str, sdk: Sdk) -> None:
    async with open_pool(dsn, size=2, name="main", max_waiting=0) as pool:
        with sdk.telemetry.watch(pool):
            async with pool.lease(), pool.lease():
                with pytest.raises(PoolBusyError):
                    await pool.fetch("SELECT 1")
            async with pool.lease():
                elsewhere: list[Any] = []
                thread = threading.Thread(target=lambda: elsewhere.append(sdk.metrics()))  # as readers do it
                thread.start()
                thread.join()
        [seen] = elsewhere
        assert "count" not in sdk.metrics(), "a pool that is not watched any more is counted"
    main = {POOL: "main"}
    state = "db.client.connection.state"
    assert sorted(seen["count"], key=str) == [({**main, state: "idle"}, 1), ({**main, state: "used"}, 1)]
    assert (seen["max"], seen["pending_requests"], seen["timeouts"]) == ([(main, 2)], [(main, 0)], [(main, 1)])
    assert (seen["create_time"], seen["wait_time"]) == ([(main, 2)], [(main, 2)])


async def test_a_warm_up_is_a_span_with_its_connections_and_their_phases(sdk: Sdk) -> None:
    pool = FakePool(3, FaultPlan((Fault(), Fault(connect=fail(OSError("refused"))), Fault(probe=hang()))))
    report = await sdk.telemetry.warm(pool, timeout=0.1)
    assert (report.hot, report.timed_out) == (1, True)

    spans = sdk.spans()
    [top] = [span for span in spans if span.parent is None]
    children = [span for span in spans if span.parent is not None and span.parent.span_id == top.context.span_id]
    by_status = {span.attributes["preheat.warm.status"]: span for span in children}
    phases = {
        status: [span.name for span in spans if span.parent and span.parent.span_id == child.context.span_id]
        for status, child in by_status.items()
    }
    assert (top.name, top.attributes[POOL], top.attributes["preheat.warm.hot"]) == ("preheat.warm", "fake", 1)
    assert top.status.status_code == StatusCode.ERROR
    assert [span.name for span in children] == ["preheat.warm.connection"] * 3
    assert {status: sorted(names) for status, names in phases.items()} == {
        "hot": ["preheat.connect", "preheat.probe"],
        "failed": [],
        "unfinished": ["preheat.connect"],
    }
    assert by_status["failed"].attributes["error.type"] == "OSError"
    assert by_status["unfinished"].status.description == "out of time"
    assert all(top.start_time <= span.start_time <= span.end_time <= top.end_time for span in spans)


async def test_a_retrieval_is_a_span_with_its_round_trips(dsn: str, sdk: Sdk, collection: str) -> None:
    telemetry = sdk.telemetry
    async with (
        open_pool(dsn, size=3, connect=telemetry.connect) as pool,
        VectorStorage(pool, collection, 3, warm_timeout=PATIENCE) as storage,
    ):
        await storage.add([chunk(number) for number in range(4)])
        await storage.warm_pool()
        retriever = ResearchRetriever(storage, Words())
        await retriever.retrieve("why?")  # it looks up which model the collection is bound to
        with telemetry.retrieval(collection=collection):
            assert await retriever.retrieve("why is the first query slow?")
        async with anyio.create_task_group() as tasks:

            async def both() -> None:
                with telemetry.retrieval("two"):
                    await storage.search([1.0, 2.0, 3.0])
                    await storage.search([1.0, 2.0, 4.0])

            for _ in range(2):
                tasks.start_soon(both)

    found = [(span.name, span.attributes.get("preheat.round_trips")) for span in sdk.spans()]
    assert sorted(found) == [("preheat.retrieve", 1), ("two", 2), ("two", 2)]


async def test_the_instrumentation_of_asyncpg_keeps_working(dsn: str, sdk: Sdk, collection: str) -> None:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.asyncpg").AsyncPGInstrumentor()
    instrumentation.instrument(tracer_provider=sdk.tracers)
    try:
        async with VectorStorage(dsn, collection, 3, warm_timeout=PATIENCE) as storage:
            await storage.add([chunk(number) for number in range(4)])
            assert await storage.warm_pool()
            sdk.exporter.clear()
            with sdk.telemetry.retrieval():
                assert len(await storage.search([1.0, 2.0, 3.0])) == 4
    finally:
        instrumentation.uninstrument()
    statement, own = sorted(sdk.spans(), key=lambda span: span.name == "preheat.retrieve")
    assert own.name == "preheat.retrieve"
    assert statement.parent.span_id == own.context.span_id
    assert "SELECT" in str(dict(statement.attributes))


def test_without_an_sdk_nothing_is_recorded_and_without_the_extra_nothing_is_imported() -> None:
    code = (
        "import sys, anyio, preheat, preheat.integrations\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)\n"
        "from preheat.integrations.opentelemetry import Telemetry\n"
        "from preheat.testing import FakePool\n"
        "assert anyio.run(Telemetry().warm, FakePool(3)).ok\n"
        "assert not any(name.startswith('opentelemetry.sdk') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
