"""Metrics and spans for OpenTelemetry: pools, warm-ups, and retrievals with their round trips.

Only the API of OpenTelemetry is used. Until the application sets up an SDK, nothing is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider, get_tracer, set_span_in_context

from ..errors import describe
from ..pools import CallerWaited, ConnectionOpened, PoolEvent, PoolStatistics
from ..warming import ConnectionReport, WarmReport
from ..warming import warm as warm_pool

__all__ = ("Telemetry",)

POOL = "db.client.connection.pool.name"
STATE = "db.client.connection.state"
SYSTEM = {"db.system.name": "postgresql"}
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Telemetry:
    """Metrics of pools, and spans of warm-ups and retrievals.

    One object serves a whole application:

    - :meth:`watch` records the metrics of a pool, with the names of OpenTelemetry's semantic conventions.
    - :meth:`warm` and :meth:`record_warm_up` make the spans of a warm-up.
    - :meth:`connect` and :meth:`retrieval` make the span of a retrieval and count its round trips.

    Args:
        meter_provider: by default the global one.
        tracer_provider: by default the global one.
    """

    def __init__(
        self, *, meter_provider: MeterProvider | None = None, tracer_provider: TracerProvider | None = None
    ) -> None:
        self._tracer = get_tracer("preheat", tracer_provider=tracer_provider)
        self._watched: list[Any] = []
        meter = get_meter("preheat", meter_provider=meter_provider)
        self._create_time = meter.create_histogram(
            "db.client.connection.create_time",
            "s",
            "The time it took to create a new connection.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._wait_time = meter.create_histogram(
            "db.client.connection.wait_time",
            "s",
            "The time it took to obtain an open connection from the pool.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.count", [self._counts], "{connection}", "The number of connections by state."
        )
        for name, unit, words, field in (
            ("max", "{connection}", "The maximum number of open connections allowed.", "max"),
            ("pending_requests", "{request}", "The number of pending requests for a connection.", "pending_requests"),
        ):
            name = f"db.client.connection.{name}"
            meter.create_observable_up_down_counter(name, [self._reader(field)], unit, words)
        meter.create_observable_counter(
            "db.client.connection.timeouts",
            [self._reader("timeouts")],
            "{timeout}",
            "The number of connection timeouts that have occurred trying to obtain a connection from the pool.",
        )

    @contextmanager
    def watch(self, pool: Any) -> Generator[None]:
        """Record the metrics of a pool of :func:`preheat.open_pool` in the block, from its statistics and its events.

        Args:
            pool: an open pool, or `storage.pool` of a storage.
        """
        pool.add_hook(self._on_event)
        self._watched.append(pool)
        try:
            yield
        finally:
            self._watched.remove(pool)
            pool.remove_hook(self._on_event)

    def _on_event(self, event: PoolEvent) -> None:
        if isinstance(event, ConnectionOpened):
            self._create_time.record(event.seconds, {POOL: event.pool})
        elif isinstance(event, CallerWaited):
            self._wait_time.record(event.seconds, {POOL: event.pool})

    def _statistics(self) -> Iterable[PoolStatistics]:
        for pool in tuple(self._watched):  # the reader has a thread of its own
            yield pool.statistics()

    def _counts(self, _options: CallbackOptions) -> Iterable[Observation]:
        for one in self._statistics():
            yield Observation(one.idle, {POOL: one.pool, STATE: "idle"})
            yield Observation(one.used, {POOL: one.pool, STATE: "used"})

    def _reader(self, field: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(getattr(one, field), {POOL: one.pool}) for one in self._statistics()]

        return read

    async def warm(self, pool: Any, **options: Any) -> WarmReport:
        """:func:`preheat.warm` with the spans of :meth:`record_warm_up`; the arguments are the same."""
        report = await warm_pool(pool, **options)
        self.record_warm_up(report)
        return report

    def record_warm_up(self, report: WarmReport) -> None:
        """Make the spans of a warm-up that has just ended, such as `storage.warm_report`.

        There is one for the warm-up, one in it for each connection, and in that one for each of its phases, `connect`
        and `probe`. When the warm-up tried several times, the times within it are those of the last try.
        """
        end = time.time_ns()
        start = end - _nanoseconds(report.seconds)
        span = self._tracer.start_span(
            "preheat.warm",
            kind=SpanKind.CLIENT,
            start_time=start,
            attributes={
                **SYSTEM,
                POOL: report.pool,
                "preheat.warm.requested": report.requested,
                "preheat.warm.hot": report.hot,
                "preheat.warm.attempts": report.attempts,
                "preheat.warm.timed_out": report.timed_out,
            },
        )
        if not report.ok:
            span.set_status(StatusCode.ERROR, str(report))
        took = max((_seconds(one) for one in report.connections), default=0.0)
        began = start if report.attempts == 1 else max(start, end - _nanoseconds(took))
        for connection in report.connections:
            self._record_connection(span, connection, began, end)
        span.end(end)

    def _record_connection(self, parent: Span, connection: ConnectionReport, start: int, end: int) -> None:
        attributes: dict[str, str | int] = {**SYSTEM, "preheat.warm.status": connection.status}
        if connection.pid is not None:
            attributes["preheat.connection.pid"] = connection.pid
        within = set_span_in_context(parent)
        span = self._tracer.start_span("preheat.warm.connection", within, SpanKind.CLIENT, attributes, start_time=start)
        if connection.error is not None:
            span.set_attribute("error.type", type(connection.error).__name__)
            span.set_status(StatusCode.ERROR, describe(connection.error))
        elif connection.status == "unfinished":
            span.set_status(StatusCode.ERROR, "out of time")
        at = start
        for phase, seconds in (("connect", connection.connect_seconds), ("probe", connection.probe_seconds)):
            if seconds is not None:
                child = self._tracer.start_span(f"preheat.{phase}", set_span_in_context(span), start_time=at)
                at = min(end, at + _nanoseconds(seconds))
                child.end(at)
        span.end(at if connection.status == "hot" else end)

    async def connect(self, *args: Any, **options: Any) -> Any:
        """What `open_pool(..., connect=telemetry.connect)` opens connections by, so that round trips are counted."""
        from ..pools.asyncpg.watched import watching

        connection: Awaitable[Any] = watching(_Wire)(*args, **options)
        return await connection

    @contextmanager
    def retrieval(self, name: str = "preheat.retrieve", **attributes: str | float | bool) -> Generator[Span]:
        """A span around a retrieval or a search, with its round trips as the attribute `preheat.round_trips`.

        They are counted if the pool was opened with :meth:`connect`. Those of tasks that are started in the block
        count, too.

        Args:
            name: the name of the span.
            attributes: further attributes.
        """
        trips = _Count()
        token = _current.set(trips)
        try:
            with self._tracer.start_as_current_span(name, attributes={**SYSTEM, **attributes}) as span:
                try:
                    yield span
                finally:
                    if trips.is_counted:
                        span.set_attribute("preheat.round_trips", trips.value)
        finally:
            _current.reset(token)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _seconds(connection: ConnectionReport) -> float:
    return (connection.connect_seconds or 0.0) + (connection.probe_seconds or 0.0)


class _Count:
    """The round trips of one retrieval."""

    def __init__(self) -> None:
        self.value = 0
        self.is_counted = False


_current: ContextVar[_Count | None] = ContextVar("preheat round trips", default=None)


class _Wire:
    """Counts turns of the traffic of one connection, for whoever takes them."""

    def __init__(self) -> None:
        self._is_servers_turn = False

    def resolving(self) -> None:
        """Nothing is sent yet."""

    def connecting(self, *, is_socket: bool) -> None:
        """The connect itself is a round trip, except through a Unix socket."""
        self._count(0 if is_socket else 1)

    def said(self, data: bytes) -> None:
        """It is sent at once, encrypted."""

    def sent(self, data: bytes) -> None:
        """What is sent after an answer begins another round trip."""
        if not self._is_servers_turn:
            self._count(1)
        self._is_servers_turn = True

    def received(self, data: bytes) -> None:
        """The answer."""
        self._is_servers_turn = False

    def heard(self, data: bytes) -> None:
        """The same, decrypted."""

    def _count(self, trips: int) -> None:
        count = _current.get()
        if count is not None:
            count.is_counted = True
            count.value += trips
