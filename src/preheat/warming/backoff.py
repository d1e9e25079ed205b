"""When to try again: decisions without a clock, a driver or an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PoolBusyError
from .report import ConnectionReport, WarmReport

__all__ = ("PATIENCE_SECONDS", "Pause", "Retry", "backoff", "is_transient", "next_pause", "next_try")

FIRST_SECONDS = 0.05
"""The longest wait after the first failure; it doubles with each further one."""

LONGEST_SECONDS = 1.0
"""The longest wait between two tries of one warm-up. A server that is back is noticed within this time."""

LONGEST_PAUSE = 5.0
"""The longest wait of a keeper between two warm-ups of a server that is down."""

LONGEST_FATAL_PAUSE = 30.0
"""The same for a failure that is not transient: a password may be corrected at the server, but not in a second."""

PATIENCE_SECONDS = 60.0
"""After how long a keeper logs an error for a server that is down, and again after ten times as long."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How a warm-up goes on."""

    delay: float
    """Seconds to wait first."""
    connections: int
    """How many connections to try then."""


def backoff(failures: int, jitter: float, *, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> float:
    """Seconds to wait after `failures` failures in a row, at least 1: doubled each time, up to `longest`.

    Args:
        jitter: from 0 to 1, drawn at random: it takes away up to half, so that processes that failed together do not
            try again together.
    """
    doublings = min(failures - 1, 60)  # 2.0 ** 1024 overflows
    return min(longest, first * 2.0**doublings) * (1 - jitter / 2)


def is_transient(error: BaseException | None) -> bool:
    """Whether an error says that trying again may help: its `transient` is true, as that of a `ConnectError` can be."""
    return getattr(error, "transient", False) is True


def next_try(tried: Sequence[ConnectionReport], requested: int, failures: int, jitter: float) -> Retry | None:
    """How a warm-up of `requested` connections goes on after it has tried some; None if it has ended.

    After transient failures one connection more than there are hot ones is tried: the prober. When it is hot the others
    follow at once. So a server that is down or full never meets more than one attempt at a time.

    Args:
        tried: what became of each connection of the last try.
        failures: how many tries in a row have failed, this one included.
        jitter: see :func:`backoff`.
    """
    hot = sum(connection.status == "hot" for connection in tried)
    if hot == len(tried):
        return None if hot >= requested else Retry(0.0, requested)
    if not all(connection.status == "hot" or is_transient(connection.error) for connection in tried):
        return None
    if any(isinstance(connection.error, PoolBusyError) for connection in tried):
        return None  # its callers need not wait: other callers are being served
    return Retry(backoff(failures, jitter), hot + 1)


@dataclass(frozen=True, slots=True)
class Pause:
    """How a keeper goes on after a warm-up that has failed."""

    delay: float
    """Seconds to wait before the next warm-up."""
    is_loud: bool
    """Whether to log an error."""


def next_pause(report: WarmReport | None, failures: int, since: float, loud: float | None, jitter: float) -> Pause:
    """How a keeper goes on after a warm-up that has failed.

    Args:
        report: what it did; None if it did not even return.
        failures: how many have failed in a row, this one included.
        since: seconds since the first of them began.
        loud: seconds since an error was logged; None if none was.
        jitter: see :func:`backoff`.
    """
    passes = report is not None and all(one.error is None or is_transient(one.error) for one in report.connections)
    longest, first = (LONGEST_PAUSE, 0.1) if passes else (LONGEST_FATAL_PAUSE, 1.0)
    waited, patience = (since, PATIENCE_SECONDS if passes else 0.0) if loud is None else (loud, 10 * PATIENCE_SECONDS)
    return Pause(backoff(failures, jitter, first=first, longest=longest), waited >= patience)
