"""When to try again: decisions without a clock, a driver or an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .report import ConnectionReport

__all__ = ("Retry", "backoff", "is_transient", "next_try")

FIRST_SECONDS = 0.05
"""The longest wait after the first failure; it doubles with each further one."""

LONGEST_SECONDS = 1.0
"""The longest wait between two tries of one warm-up. A server that is back is noticed within this time."""


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
    return Retry(backoff(failures, jitter), hot + 1)
