"""The event loops that async tests run on."""

from __future__ import annotations

import sys
from typing import Any

import pytest


def _eager_loop() -> Any:
    import asyncio

    loop = asyncio.SelectorEventLoop()  # not new_event_loop(), which trio-asyncio has its own mind about
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


BACKENDS = [
    pytest.param(("asyncio", {}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.version_info >= (3, 12):
    BACKENDS.append(pytest.param(("asyncio", {"loop_factory": _eager_loop}), id="asyncio-eager"))
if sys.platform != "win32":
    BACKENDS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))
