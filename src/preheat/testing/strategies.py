"""Hypothesis strategies for concurrent code: pools, faults, callers, backends and schedules."""

from __future__ import annotations

import importlib.util
import math
from typing import Literal, cast

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .calls import Caller
from .fault_plan import Fault, FaultPlan, Step, fail, hang, succeed

__all__ = ("backends", "callers", "fault_plans", "faults", "pool_sizes", "seconds", "seeds", "steps")


def backends() -> SearchStrategy[str]:
    """`"asyncio"`, and `"trio"` where it is installed."""
    return st.sampled_from(["asyncio", "trio"] if importlib.util.find_spec("trio") else ["asyncio"])


def seeds() -> SearchStrategy[int]:
    """Seeds for :func:`preheat.testing.run`: each one gives another order of tasks that are ready at the same time."""
    return st.integers(0, 2**16 - 1)


def seconds(longest: float = 5.0) -> SearchStrategy[float]:
    """Times in tenths of a second, so that some of them coincide. They shrink to 0."""
    return st.integers(0, math.floor(longest * 10)).map(lambda tenths: tenths / 10)


def pool_sizes(largest: int = 64) -> SearchStrategy[int]:
    """Numbers of connections, from 1 to `largest`."""
    return st.integers(1, largest)


def steps(*, failures: bool = True, hangs: bool = True, longest: float = 5.0) -> SearchStrategy[Step]:
    """Steps in the life of a connection. They shrink to a step that succeeds at once.

    Args:
        failures: whether some raise an error.
        hangs: whether some never end.
        longest: the maximum duration in seconds of a step that ends.
    """
    error = st.sampled_from([OSError, ValueError, TimeoutError]).map(lambda kind: kind("planned"))
    kinds = [st.just(Step()), seconds(longest).map(succeed)]
    parts = st.tuples(error, seconds(longest))
    if failures:
        kinds.append(parts.map(lambda parts: fail(*parts)))
    if hangs:
        # Drawn from as many choices as a failure: with fewer, Hypothesis would take a hang for the simpler one.
        kinds.append(parts.map(lambda _: hang()))
    return st.one_of(kinds)


def faults(*, failures: bool = True, hangs: bool = True, longest: float = 5.0) -> SearchStrategy[Fault]:
    """Faults of one connection: when it is opened, probed or released, and while it is idle.

    Args:
        failures: whether some steps raise an error, and some connections are lost while idle.
        hangs: whether some steps never end, and some connections become half-open.
        longest: the maximum duration in seconds of a step that ends.
    """
    step = steps(failures=failures, hangs=hangs, longest=longest)
    idle = ["kept", *(["lost"] if failures else []), *(["half-open"] if hangs else [])]
    kinds = cast("SearchStrategy[Literal['kept', 'lost', 'half-open']]", st.sampled_from(idle))
    # A release mostly succeeds: one that hangs would hide the effects of the other steps.
    release = st.one_of(st.just(Step()), st.just(Step()), step)
    # Mapped tuples, because Hypothesis prints those as the value that they become.
    broken = st.tuples(step, step, release, kinds).map(lambda parts: Fault(*parts))
    return st.one_of(st.just(Fault()), broken)


def fault_plans(
    largest: int = 64, *, failures: bool = True, hangs: bool = True, longest: float = 5.0
) -> SearchStrategy[FaultPlan]:
    """Plans for the connections of a pool. They shrink to the plan in which nothing goes wrong.

    Args:
        largest: the maximum number of connections with a fault of their own; further ones have none.
        failures: as for :func:`faults`.
        hangs: as for :func:`faults`.
        longest: as for :func:`faults`.
    """
    fault = faults(failures=failures, hangs=hangs, longest=longest)
    return st.lists(fault, max_size=largest).map(lambda plan: FaultPlan(tuple(plan)))


def callers(
    most: int = 12,
    *,
    arrivals: SearchStrategy[float] | None = None,
    timeouts: SearchStrategy[float] | None = None,
) -> SearchStrategy[list[Caller]]:
    """Lists of at least one caller for :func:`preheat.testing.arrive`.

    Args:
        most: the maximum number of callers.
        arrivals: the times of arrival in seconds; by default 0 for about half of the callers.
        timeouts: the timeouts in seconds; by default :func:`seconds`, or infinite.
    """
    arrival = st.one_of(st.just(0.0), seconds(3.0)) if arrivals is None else arrivals
    timeout = st.one_of(st.just(math.inf), seconds()) if timeouts is None else timeouts
    how = cast("SearchStrategy[Literal['scope', 'native']]", st.sampled_from(["scope", "native"]))
    caller = st.tuples(arrival, timeout, how).map(lambda parts: Caller(*parts))
    return st.lists(caller, min_size=1, max_size=most)
