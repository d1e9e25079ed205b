"""The asyncio loop on top of trio in which a driver lives."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("first", "loop"), [("preheat", "_UnixSelectorEventLoop"), ("trio_asyncio", "SyncTrioEventLoop")]
)
def test_asyncio_keeps_its_event_loop_after_a_pool_on_trio(first: str, loop: str) -> None:
    """A program that imported trio-asyncio itself keeps the loop that this gives to asyncio."""
    program = f"""
import asyncio, warnings
import {first}
import preheat.pools.trio.pool
async def main():
    print(type(asyncio.get_running_loop()).__name__)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == loop
