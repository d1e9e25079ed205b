"""For tests of concurrent code: a pool that fails on purpose, and a clock that never makes you wait.

The extra `trio` is needed for the trio backend; nothing here is imported by the library itself.
"""

from __future__ import annotations

from .fake_pool import FakeConnection, FakeLease, FakePool
from .faults import Fault, FaultPlan, Step, fail, hang, succeed
from .virtual_time import VirtualTimeLoop, backend_options, run

__all__ = (
    "FakeConnection",
    "FakeLease",
    "FakePool",
    "Fault",
    "FaultPlan",
    "Step",
    "VirtualTimeLoop",
    "backend_options",
    "fail",
    "hang",
    "run",
    "succeed",
)
