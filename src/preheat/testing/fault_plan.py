"""The faults of the connections of a :class:`FakePool`, as data.

The `repr` of a plan is the Python expression that makes it, so that a failing case can be pasted into a test.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import anyio

__all__ = ("Fault", "FaultPlan", "Step", "fail", "hang", "succeed")


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """One step in the life of a connection: it takes `delay` seconds, then succeeds or raises."""

    delay: float = 0.0
    """The duration of the step in seconds; infinite for a step that hangs."""
    error: Exception | None = None
    """The exception that it raises at its end; None if it succeeds."""

    async def __call__(self) -> None:
        """Take the step. Always a checkpoint."""
        if self.delay == math.inf:
            await anyio.sleep_forever()
        await anyio.sleep(self.delay)
        if self.error is not None:
            raise copy.copy(self.error)  # a copy each time, so that notes do not pile up on one exception

    def __repr__(self) -> str:
        if self.delay == math.inf:
            return "hang()"
        delay = [repr(self.delay).removesuffix(".0")] if self.delay else []
        return f"succeed({''.join(delay)})" if self.error is None else f"fail({', '.join([repr(self.error), *delay])})"


def succeed(delay: float = 0.0) -> Step:
    """A step that succeeds after `delay` seconds."""
    return Step(delay)


def fail(error: Exception, delay: float = 0.0) -> Step:
    """A step that raises `error` after `delay` seconds."""
    return Step(delay, error)


def hang() -> Step:
    """A step that never ends."""
    return Step(math.inf)


@dataclass(frozen=True, slots=True, repr=False)
class Fault:
    """The steps of one connection; by default all succeed at once."""

    connect: Step = Step()
    """Opening the connection."""
    probe: Step = Step()
    """Each statement on the connection."""
    release: Step = Step()
    """Releasing the connection. After a second the pool gives up and closes it."""
    idle: Literal["kept", "lost", "half-open"] = "kept"
    """What happens to the idle connection. `lost`: the server closes it; the pool notices that before it lends the
    connection again, and opens another one. `half-open`: the server has gone without closing it; the pool does not
    notice, and every statement on the connection hangs, and so does its release, until the pool gives up."""

    def __repr__(self) -> str:
        return f"Fault({', '.join(changed(self))})"


@dataclass(frozen=True, slots=True, repr=False)
class FaultPlan:
    """The faults of the connections of a pool, in the order in which they are opened."""

    connections: tuple[Fault, ...] = ()
    """One fault for each of the first connections."""
    rest: Fault = Fault()
    """The fault of each further connection."""

    def __getitem__(self, number: int) -> Fault:
        """The fault of connection `number`, counted from 0."""
        if number < 0:
            raise IndexError(f"connection {number}: they are counted from 0")
        return self.connections[number] if number < len(self.connections) else self.rest

    __iter__ = None  # a plan has no end

    @classmethod
    def all(
        cls,
        connect: Step = Step(),
        probe: Step = Step(),
        release: Step = Step(),
        idle: Literal["kept", "lost", "half-open"] = "kept",
    ) -> FaultPlan:
        """A plan with the same fault for every connection."""
        return cls(rest=Fault(connect, probe, release, idle))

    def __repr__(self) -> str:
        return f"FaultPlan({', '.join(changed(self))})"


def changed(record: Any) -> list[str]:
    """The arguments that make a record, without those that have their default values."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return [f"{field.name}={values[field.name]!r}" for field in fields(record) if values[field.name] != field.default]
