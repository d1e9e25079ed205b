"""Tools for tests of concurrent code, on asyncio and trio.

- :class:`FakePool` counts what is done to it, and fails as a :class:`FaultPlan` says.
- :func:`run` runs a function on virtual time, and a seed decides the order of the tasks.
- :func:`cancel_everywhere` cancels a function at each of its checkpoints.
- :func:`arrive` runs the calls of several callers, each with its own arrival and timeout.
- Hypothesis strategies generate all of these.
- :class:`FaultyNetwork` stands in front of a real database, and fails when it is told to.

The extra `testing` installs what they need. The library itself imports nothing from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from .calls import Call, Caller, arrive
from .fake_pool import FakeConnection, FakeLease, FakePool
from .fault_plan import Fault, FaultPlan, Step, fail, hang, succeed
from .network import FaultyNetwork
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
    "FaultyNetwork",
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
    """Import a strategy at its first use: the strategies need Hypothesis."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import strategies
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"preheat.testing.{name}", "testing") from error
    return getattr(strategies, name)
