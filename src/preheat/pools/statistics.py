"""What can be seen of a pool: its counters, and what happens to its connections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from ..errors import describe

__all__ = (
    "CallerWaited",
    "ConnectionClosed",
    "ConnectionLost",
    "ConnectionOpened",
    "ConnectionWarmed",
    "PoolEvent",
    "PoolHook",
    "PoolStatistics",
    "notify",
)

logger: logging.Logger = logging.getLogger("preheat")


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The state of a pool at one moment, and what it has done since it was opened.

    The fields correspond to the metrics `db.client.connection.*` of OpenTelemetry's semantic conventions.
    """

    pool: str
    """The pool's name: the attribute `db.client.connection.pool.name`."""
    max: int
    """The most connections that the pool ever has open: `db.client.connection.max`."""
    idle: int
    """Connections that are not in use: `db.client.connection.count` with state `idle`."""
    used: int
    """Connections that are in use, or being reset or closed: `db.client.connection.count` with state `used`."""
    connecting: int
    """Connection attempts that are under way."""
    pending_requests: int
    """Callers who wait for a connection: `db.client.connection.pending_requests`."""
    timeouts: int
    """Callers who did not get one in time, or found the queue full: `db.client.connection.timeouts`."""
    opened: int
    """Connections that were opened."""
    closed: int
    """Connections that the pool has closed by itself."""
    lost: int
    """Connections that died while the pool had them."""
    failed: int
    """Connection attempts that failed."""
    create_seconds: float
    """Seconds that opening all of `opened` took: the sum of `db.client.connection.create_time`."""
    waits: int
    """Callers who had to wait for a connection."""
    wait_seconds: float
    """Seconds that all of `waits` waited: the sum of `db.client.connection.wait_time`."""

    @property
    def open(self) -> int:
        """Connections that are open, idle or in use."""
        return self.idle + self.used

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for logs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A connection was opened."""

    pool: str
    """The pool's name."""
    pid: int | None
    """The server's process id for the connection."""
    seconds: float
    """How long that took."""


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The pool has closed a connection by itself."""

    pool: str
    """The pool's name."""
    pid: int | None
    """The server's process id for the connection."""
    reason: str
    """Why, such as `"the pool is closed"`."""


@dataclass(frozen=True, slots=True)
class ConnectionWarmed:
    """A connection has passed the probe of a warm-up."""

    pool: str
    """The pool's name."""
    pid: int | None
    """The server's process id for the connection."""
    seconds: float
    """How long the probe took."""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """A connection has died, idle or in use."""

    pool: str
    """The pool's name."""
    pid: int | None
    """The server's process id for the connection."""


@dataclass(frozen=True, slots=True)
class CallerWaited:
    """A caller has waited for a connection, because none was idle."""

    pool: str
    """The pool's name."""
    seconds: float
    """For how long."""
    served: bool
    """Whether it got one."""


PoolEvent: TypeAlias = ConnectionOpened | ConnectionClosed | ConnectionWarmed | ConnectionLost | CallerWaited
"""What happens in a pool."""

PoolHook: TypeAlias = Callable[[PoolEvent], object]
"""A function that is called with each event of a pool. It must neither wait nor use the pool; if it raises, that is
logged and changes nothing."""


def notify(hooks: Sequence[PoolHook], event: PoolEvent) -> None:
    """Call each hook with an event."""
    for hook in hooks:
        try:
            hook(event)
        except Exception as error:
            logger.warning("pool %s: a hook failed: %s", event.pool, describe(error), extra={"pool": event.pool})
