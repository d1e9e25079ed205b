"""What a warm-up did: one frozen record for each connection, and one for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ..errors import describe

__all__ = ("ConnectionReport", "WarmReport", "joined", "without_frames")

ErrorT = TypeVar("ErrorT", bound=BaseException)


def without_frames(error: ErrorT) -> ErrorT:
    """`error` and its causes, without tracebacks and without the errors that were being handled meanwhile.

    A traceback keeps the variables of every function in it alive: connections, event loops, data of the application.
    The error that was being handled meanwhile may belong to the application, so its traceback stays, and the link to it
    goes.
    """
    seen: set[int] = set()
    left: list[BaseException] = [error]
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            if one.__cause__ is not None:
                left.append(one.__cause__)
            if isinstance(one, BaseExceptionGroup):
                left += one.exceptions
            one.__context__ = None
    return error


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What happened to one connection of a warm-up."""

    status: Literal["hot", "failed", "unfinished"]
    """`hot`: opened and passed its probe. `failed`: an error ended it. `unfinished`: the deadline did."""
    pid: int | None = None
    """The server's process id for the connection; None if it was never opened."""
    connect_seconds: float | None = None
    """Seconds until the connection was there; None if it never was."""
    probe_seconds: float | None = None
    """Seconds that the probe took; None if it did not finish."""
    error: Exception | None = field(default=None, compare=False)
    """What ended a failed connection, or what an unfinished one was waiting for, if the pool knows it."""

    def as_dict(self) -> dict[str, Any]:
        """The record for logs and JSON: times in seconds, the error as `Type: message` without secrets."""
        return {
            "status": self.status,
            "pid": self.pid,
            "connect_seconds": self.connect_seconds,
            "probe_seconds": self.probe_seconds,
            "error": None if self.error is None else describe(self.error),
        }


@dataclass(frozen=True, slots=True)
class WarmReport:
    """What a warm-up did."""

    pool: str
    """The name of the pool."""
    requested: int
    """How many connections were to be made hot."""
    seconds: float
    """Seconds from the start to the last lease put back."""
    timed_out: bool
    """Whether the deadline ended the warm-up; what was hot by then is hot."""
    connections: tuple[ConnectionReport, ...]
    """One record for each connection asked for, in no particular order of time."""
    attempts: int = 1
    """How often it tried to make connections hot: above 1 after transient failures."""

    @property
    def hot(self) -> int:
        """How many connections are hot."""
        return sum(connection.status == "hot" for connection in self.connections)

    @property
    def ok(self) -> bool:
        """True if and only if every requested connection is hot."""
        return self.hot == self.requested

    @property
    def errors(self) -> tuple[Exception, ...]:
        """The errors of the connections that are not hot."""
        return tuple(connection.error for connection in self.connections if connection.error is not None)

    def __str__(self) -> str:
        words = f"{self.hot} of {self.requested} connections hot in {self.seconds:.3f} s"
        if self.attempts > 1:
            words += f" and {self.attempts} attempts"
        if self.timed_out:
            words += ", out of time"
        if causes := dict.fromkeys(describe(error) for error in self.errors):
            words += "; " + "; ".join(causes)
        return words

    def as_dict(self) -> dict[str, Any]:
        """The report for logs and JSON; times in seconds, no secrets."""
        return {
            "pool": self.pool,
            "ok": self.ok,
            "requested": self.requested,
            "hot": self.hot,
            "seconds": self.seconds,
            "timed_out": self.timed_out,
            "attempts": self.attempts,
            "connections": [connection.as_dict() for connection in self.connections],
        }


def joined(reports: Sequence[WarmReport]) -> WarmReport:
    """One report of the warm-ups of several pools, which ran at the same time. It names all of them."""
    if len(reports) == 1:
        return reports[0]
    return WarmReport(
        pool=" and ".join(report.pool for report in reports),
        requested=sum(report.requested for report in reports),
        seconds=max(report.seconds for report in reports),
        timed_out=any(report.timed_out for report in reports),
        connections=tuple(connection for report in reports for connection in report.connections),
        attempts=max(report.attempts for report in reports),
    )
