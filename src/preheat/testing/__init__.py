"""For tests of concurrent code, on asyncio and trio.

A pool that fails as planned and counts; a clock that never makes you wait, with an order of tasks that a seed decides;
a cancellation at every point; crowds of callers; and Hypothesis strategies for all of these. The extra `testing` brings
what they need; nothing here is imported by the library itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from .crowd import Call, Caller, arrive
from .fake_pool import FakeConnection, FakeLease, FakePool
from .fault_plan import Fault, FaultPlan, Step, fail, hang, succeed
from .sweep import Sweep, cancel_everywhere
from .virtual_time import DeadlockError, Trace, VirtualTimeLoop, backend_options, run

if TYPE_CHECKING:
    from .strategies import backends, callers, fault_plans, faults, pool_sizes, seconds, seeds, steps

__all__ = (
    "Call",
    "Caller",
    "DeadlockError",
    "FakeConnection",
    "FakeLease",
    "FakePool",
    "Fault",
    "FaultPlan",
    "Step",
    "Sweep",
    "Trace",
    "VirtualTimeLoop",
    "arrive",
    "backend_options",
    "backends",
    "callers",
    "cancel_everywhere",
    "fail",
    "fault_plans",
    "faults",
    "hang",
    "pool_sizes",
    "run",
    "seconds",
    "seeds",
    "steps",
    "succeed",
)


def __getattr__(name: str) -> Any:
    """The strategies, as soon as somebody wants one: they need Hypothesis."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import strategies
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"preheat.testing.{name}", "testing") from error
    return getattr(strategies, name)
