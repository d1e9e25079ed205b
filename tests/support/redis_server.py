"""A Redis on loopback, if one is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.needed import missing
from tests.support.server import free_port

__all__ = ("redis_server",)

PROGRAM = shutil.which("redis-server")


@contextmanager
def redis_server() -> Iterator[int]:
    """Run a Redis that keeps nothing, and return its port."""
    if PROGRAM is None:
        missing("Redis is not installed; apt-get install redis-server")
    port = free_port()
    command = [PROGRAM, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            assert process.poll() is None, "Redis did not start"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()
