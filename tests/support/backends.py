"""The event loops that async tests run on. `just test` leaves out the variants of asyncio's."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def _eager_loop() -> Any:
    import asyncio

    loop = asyncio.SelectorEventLoop()  # trio-asyncio replaces new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


BACKENDS = [
    pytest.param(("asyncio", {}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.version_info >= (3, 12):
    EAGER = ("asyncio", {"loop_factory": _eager_loop})
    BACKENDS.append(pytest.param(EAGER, id="asyncio-eager", marks=pytest.mark.slow))
if sys.platform != "win32":
    BACKENDS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=pytest.mark.slow))
