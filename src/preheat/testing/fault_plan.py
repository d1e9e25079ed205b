"""What goes wrong with each connection of a :class:`FakePool`, as data.

A plan prints as a line of Python that makes it again, so that a case that was found can be pasted into a test.
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
    """How one step of a connection's life goes: it takes `delay` seconds, then succeeds or raises."""

    delay: float = 0.0
    """Seconds that the step takes; infinite for one that hangs."""
    error: Exception | None = None
    """What it raises at its end; None if it succeeds."""

    async def __call__(self) -> None:
        """Take the step. Always a checkpoint."""
        if self.delay == math.inf:
            await anyio.sleep_forever()
        await anyio.sleep(self.delay)
        if self.error is not None:
            raise copy.copy(self.error)  # one for each time: what is noted on it stays with that time

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
    """How the steps of one connection go; by default all succeed at once."""

    connect: Step = Step()
    """Opening it."""
    probe: Step = Step()
    """Each statement on it."""
    release: Step = Step()
    """Putting it back. The pool gives it a second, then closes the connection."""
    idle: Literal["kept", "lost", "half-open"] = "kept"
    """What becomes of it once nobody has it. `lost`: the server closes it, and the pool notices when it is next to be
    lent, and opens another. `half-open`: the server has gone without a word, nobody notices, every statement on it
    hangs, and so does putting it back, until the pool gives up."""

    def __repr__(self) -> str:
        return f"Fault({', '.join(changed(self))})"


@dataclass(frozen=True, slots=True, repr=False)
class FaultPlan:
    """How the connections of a pool behave, in the order in which they are opened."""

    connections: tuple[Fault, ...] = ()
    """One fault for each of the first connections."""
    rest: Fault = Fault()
    """How all further ones behave."""

    def __getitem__(self, number: int) -> Fault:
        """How connection `number` behaves, counted from 0."""
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
        """A plan by which every connection behaves alike."""
        return cls(rest=Fault(connect, probe, release, idle))

    def __repr__(self) -> str:
        return f"FaultPlan({', '.join(changed(self))})"


def changed(record: Any) -> list[str]:
    """The arguments that make a record, without those that are as by default."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return [f"{field.name}={values[field.name]!r}" for field in fields(record) if values[field.name] != field.default]
